import { userError } from '../errors.ts'

/** A tenant's name is one DNS label (RFC 1123), lower case: hosts are made of it. */
const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

export function isName(text: string): boolean {
  return NAME.test(text)
}

/** Gives the name back, or throws `config_invalid` for people. */
export function checkName(text: string): string {
  if (isName(text)) return text
  throw userError(
    'config_invalid',
    `${JSON.stringify(text.slice(0, 80))} cannot be a name: use 1 to 63 of a-z, 0-9 and -, with no - at the ends`,
  )
}
