/**
 * Classes of bytes, as tables: one look-up per byte of a head. RFC 9110, section 5.6.2 (tokens) and 5.5 (values);
 * RFC 9112, section 3.2 (targets).
 */

export const HYPHEN = 0x2d

const TOKEN_MARKS = "!#$%&'*+-.^_`|~"

function table(fill: (byte: number) => number): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, byte) => fill(byte))
}

function isAlphanumeric(byte: number): boolean {
  return (byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a)
}

/**
 * A byte of a field name in the form in which names are compared: lower case, every mark as `-`; 0 for what no name holds.
 * What speaks CGI makes one variable of `X-Real-IP` and `X_Real_IP`, and lighttpd of `X.Real.IP` too, so to us they are one
 * name.
 */
export const NAME = table((byte) => {
  const character = String.fromCharCode(byte)
  if (isAlphanumeric(byte)) return character.toLowerCase().charCodeAt(0)
  return byte < 0x80 && TOKEN_MARKS.includes(character) ? HYPHEN : 0
})

/** 1 for what a field value, a reason phrase or a chunk extension may hold: visible ASCII, space, tab, and bytes over 0x7f. */
export const VALUE = table((byte) => (byte === 0x09 || (byte >= 0x20 && byte !== 0x7f) ? 1 : 0))

/** 1 for what a request target may hold: visible ASCII without `#`, since a fragment is never sent. */
export const TARGET = table((byte) => (byte > 0x20 && byte < 0x7f && byte !== 0x23 ? 1 : 0))

/** The value of a hex digit, 255 for all else. */
export const HEX = table((byte) => {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : 255
})

export const TAB = 0x09
export const LF = 0x0a
export const CR = 0x0d
export const SPACE = 0x20
export const COLON = 0x3a
export const SEMICOLON = 0x3b
