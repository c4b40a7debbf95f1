import type { Readable, Writable } from 'node:stream'
import { userError } from '../errors.ts'
import { INVITE_TEXT_CHARACTERS } from '../limits.ts'

/** All of a stream, at most `most` characters of it; what is more is an error, not a wait without end. */
export async function readAll(input: Readable, most: number): Promise<string> {
  let text = ''
  for await (const chunk of input.setEncoding('utf8') as AsyncIterable<string>) {
    text += chunk
    if (text.length > most)
      throw userError('invite_invalid', 'this is too long for an invite: pipe only the invite')
  }
  return text
}

/** A terminal's input. */
export interface HiddenInput extends Readable {
  setRawMode(on: boolean): unknown
}

/**
 * Asks for one line that the terminal does not show. Understands what people press: Backspace, Ctrl-U, Ctrl-C and
 * Ctrl-D; a pasted line ends with its line break. Rejects with `closed` when they give up.
 */
export function askHidden(question: string, input: HiddenInput, output: Writable): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const finish = (result: () => void): void => {
      input.off('data', read)
      input.off('end', gaveUp)
      input.setRawMode(false)
      input.pause()
      output.write('\n')
      result()
    }
    const gaveUp = (): void =>
      finish(() => reject(userError('closed', 'no invite was given: nothing has changed')))
    const read = (chunk: string): void => {
      for (const character of chunk) {
        if (character === '\r' || character === '\n') {
          // A paste may begin with a line break.
          if (text.trim() === '') continue
          return finish(() => resolve(text))
        }
        if (character === '\u0003' || (character === '\u0004' && text === '')) return gaveUp()
        if (character === '\u007f' || character === '\b') text = text.slice(0, -1)
        else if (character === '\u0015') text = ''
        else if (character >= ' ' && text.length < INVITE_TEXT_CHARACTERS) text += character
      }
      return undefined
    }
    // Nothing that is pasted at sight of the question may be shown.
    input.setRawMode(true)
    output.write(question)
    input.setEncoding('utf8')
    input.on('data', read)
    input.on('end', gaveUp)
    input.resume()
  })
}
