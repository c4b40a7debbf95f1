import { userError } from '../errors.ts'

/** A parser of whole numbers from 1 to `most`; throws `usage`. */
export function wholeNumber(most: number): (text: string) => number {
  return (text) => {
    const number = /^[0-9]{1,15}$/.test(text) ? Number(text) : 0
    if (number >= 1 && number <= most) return number
    throw userError('usage', `${JSON.stringify(text)} is not a whole number from 1 to ${most}`)
  }
}

/** A port that visitors can connect to; throws `usage`. */
export const portNumber = wholeNumber(65_535)

/** For an option of a later version, which help does not show. Throws `usage` when it was given. */
export function refuse(given: unknown, why: string): void {
  if (given !== undefined) throw userError('usage', why)
}
