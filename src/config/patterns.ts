import { isIPv4, isIPv6 } from 'node:net'
import { domainToASCII } from 'node:url'
import { userError } from '../errors.ts'
import { isHostName } from './address.ts'
import { quoted } from './units.ts'

/** Ports of a grant, both ends in it. */
export interface PortRange {
  from: number
  to: number
}

/** `2222` or `8000-8100`. Throws `config_invalid`. */
export function parsePortRange(text: string): PortRange {
  const [, first = '', last = first] = /^([0-9]{1,5})(?:-([0-9]{1,5}))?$/.exec(text) ?? []
  const range = { from: Number(first), to: Number(last) }
  if (first === '' || range.from < 1 || range.to > 65_535) {
    throw userError(
      'config_invalid',
      `${quoted(text)} is not a port or a range of 1 to 65535: write "2222" or "8000-8100"`,
    )
  }
  if (range.from > range.to) {
    throw userError('config_invalid', `range ${quoted(text)} runs backwards: write "${last}-${first}"`)
  }
  return range
}

/**
 * What an exact host or a `*.` pattern is about, in its one spelling; `*` stands for the default route. Names are in
 * lower case and in the letters that DNS has (`bücher.example` becomes `xn--bcher-kva.example`, as browsers send it);
 * IPv6 is in brackets, as in a Host header. Throws `config_invalid`.
 */
export function parseHostPattern(text: string): string {
  if (text === '*') return text
  const wildcard = text.startsWith('*.')
  const said = wildcard ? text.slice(2) : text
  if (said.includes('*')) {
    throw userError(
      'config_invalid',
      `${quoted(text)}: a * stands for the whole first label: write "*.example.com" or "*"`,
    )
  }
  const literal = wildcard ? undefined : addressLiteral(said)
  if (literal !== undefined) return literal
  const host = /[\u{80}-\u{10ffff}]/u.test(said) ? domainToASCII(said) : said.toLowerCase()
  if (host.endsWith('.') && isHostName(host.slice(0, -1))) {
    throw userError('config_invalid', `${quoted(text)} ends with a dot: leave it out`)
  }
  if (isIPv6(said)) {
    throw userError('config_invalid', `${quoted(text)}: put brackets around IPv6, as in [2001:db8::1]`)
  }
  if (!isHostName(host)) {
    throw userError(
      'config_invalid',
      `${quoted(text)} is not a host: write a DNS name, "*." and a DNS name, an IP address, or "*"`,
    )
  }
  return wildcard ? `*.${host}` : host
}

/** An IP address as it stands in a URL, where IPv6 has brackets and the spelling of RFC 5952; never with a zone. */
function addressLiteral(text: string): string | undefined {
  if (isIPv4(text)) return text
  const inside = /^\[([^%]*)\]$/.exec(text)?.[1]
  return inside !== undefined && isIPv6(inside) ? new URL(`http://${text}`).hostname : undefined
}

/** One DNS label, as names of tenants and services are, since hosts are made of them. Throws `config_invalid`. */
export function parseLabel(text: string): string {
  if (/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(text)) return text
  throw userError(
    'config_invalid',
    `${quoted(text)} cannot be a name: use 1 to 63 of a-z, 0-9 and -, with no - at the ends`,
  )
}

/** `sha256:` and 43 characters of standard base64 that stand for exactly 32 bytes. Throws `config_invalid`. */
export function parseKey(text: string): `sha256:${string}` {
  const base64 = text.startsWith('sha256:') ? text.slice(7) : ''
  if (/^[A-Za-z0-9+/]{43}$/.test(base64)) {
    // The last character has two bits to spare: one spelling per key, or a comparison of texts would miss.
    if (Buffer.from(base64, 'base64').toString('base64') === `${base64}=`) return `sha256:${base64}`
  }
  throw userError(
    'config_invalid',
    `${quoted(text)} is not a key: copy it whole, "sha256:" and 43 characters`,
  )
}
