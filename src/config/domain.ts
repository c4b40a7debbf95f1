import { domainToASCII } from 'node:url'
import { userError } from '../errors.ts'
import { isHostName } from './address.ts'
import { quoted } from './units.ts'

/** A DNS name as DNS has it: lower case, in its `xn--` form. A label and a dot fit before it. Throws `config_invalid`. */
export function parseDomain(text: string): string {
  // The converter is a URL parser's, which takes what follows a slash for a path.
  const ascii = /[\s/\\?#@%:[\]]/.test(text) ? '' : domainToASCII(text)
  if (ascii.endsWith('.') && isHostName(ascii.slice(0, -1))) {
    throw userError('config_invalid', `${quoted(text)} ends with a dot: leave it out`)
  }
  if (ascii.startsWith('*.')) {
    throw userError(
      'config_invalid',
      `${quoted(text)} is a pattern: write the domain alone, ${quoted(text.slice(2))}`,
    )
  }
  if (!isHostName(ascii)) {
    throw userError(
      'config_invalid',
      `${quoted(text)} is not a domain: write a DNS name, as in "example.com"`,
    )
  }
  if (ascii.length > 253 - 64) {
    throw userError(
      'config_invalid',
      `${quoted(text)} is too long: a service's name and it must fit into 253 characters`,
    )
  }
  return ascii
}
