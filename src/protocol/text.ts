import { PEER_TEXT_CHARACTERS } from '../limits.ts'

/**
 * What a terminal, a log viewer or an editor obeys or hides: C0, DEL and C1 controls, the bidi controls, the
 * line and paragraph separators, the byte order mark, and halves of surrogate pairs.
 */
const UNSAFE =
  // oxlint-disable-next-line no-control-regex -- finding control characters is what this is for
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\p{Surrogate}/u

/**
 * Text from a peer or a visitor, safe to print: unsafe characters become `\x1b` or `\u202e`, and the whole is
 * at most `max` characters (code points), the last one `…` if something was cut. Looks at no more of the text
 * than it prints. Printing what is printable already changes nothing but its length.
 */
export function printable(text: string, max: number = PEER_TEXT_CHARACTERS): string {
  if (text.length <= max && !UNSAFE.test(text)) return text
  let out = ''
  let length = 0
  // Where to cut if what follows does not fit: the last place with room left for the `…`.
  let cut = ''
  for (const character of text) {
    const shown = UNSAFE.test(character) ? escaped(character) : character
    length += shown === character ? 1 : shown.length
    if (length > max) return max < 1 ? '' : `${cut}…`
    out += shown
    if (length < max) cut = out
  }
  return out
}

function escaped(character: string): string {
  const hex = character.charCodeAt(0).toString(16)
  return hex.length <= 2 ? `\\x${hex.padStart(2, '0')}` : `\\u${hex.padStart(4, '0')}`
}
