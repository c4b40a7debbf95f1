import { isIP, isIPv4, isIPv6 } from 'node:net'
import { userError } from '../errors.ts'
import { quoted } from './units.ts'

/** Where to listen. No host: IPv6 and IPv4, all addresses. Port 0: a free one. IPv6 without brackets. */
export interface Listen {
  host?: string | undefined
  port: number
}

const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/i

/** `host:port`, `:port`, `port`, `[v6]:port`; port 0 for a free one. Throws `config_invalid`. */
export function parseAddress(text: string): Listen {
  const [, host = '', digits = ''] = /^(?:(.*):)?([0-9]{1,5})$/s.exec(text) ?? []
  const port = digits === '' ? Number.NaN : Number(digits)
  if (Number.isNaN(port)) throw notAnAddress(text)
  if (port > 65_535)
    throw userError('config_invalid', `${quoted(text)}: there is no port ${port}: 65535 is the last`)
  if (host === '') return { port }
  return { host: parseHost(host, text), port }
}

/** An address to dial or to tell others, `host:port` with both. Throws `config_invalid`. */
export function parseRemote(text: string): { host: string; port: number } {
  const { host, port } = parseAddress(text)
  if (host === undefined)
    throw userError('config_invalid', `${quoted(text)} names no host: write host:${port}`)
  if (port === 0)
    throw userError('config_invalid', `${quoted(text)}: nobody listens on port 0: give the real one`)
  return { host, port }
}

/** `host:port`, IPv6 in brackets; without a host `:port`. What `parseAddress` reads. */
export function formatAddress({ host, port }: Listen): string {
  if (host === undefined) return `:${port}`
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** A host alone: a DNS name, IPv4, or IPv6 in brackets or bare. Throws `config_invalid`. */
export function parseBareHost(text: string): string {
  return isIPv6(text) ? text : parseHost(text, text)
}

/** `10.0.0.0/8`, `2001:db8::/32`, or one IP address. Throws `config_invalid`. */
export function parseAddressBlock(text: string): string {
  const [, address = '', digits] = /^([0-9a-f.:]+)(?:\/([0-9]{1,3}))?$/i.exec(text) ?? []
  const family = isIP(address)
  const bits = family === 4 ? 32 : 128
  if (family === 0) {
    throw userError(
      'config_invalid',
      `${quoted(text)} is not an IP address or a block of them: write "10.0.0.1" or "10.0.0.0/8"`,
    )
  }
  // Such addresses are shown and compared as IPv4 everywhere, so a block of them would match nothing.
  if (family === 6 && /^::ffff:/i.test(address)) {
    const inside = address.slice(7)
    throw userError(
      'config_invalid',
      `${quoted(text)}: write it as IPv4${isIPv4(inside) ? `, ${quoted(inside)}` : ''}`,
    )
  }
  if (digits !== undefined && Number(digits) > bits) {
    throw userError(
      'config_invalid',
      `${quoted(text)}: an IPv${family} address has ${bits} bits: write fewer`,
    )
  }
  return text.toLowerCase()
}

/** True where only this machine can connect. */
export function isLoopback(host: string): boolean {
  if (host.toLowerCase() === 'localhost' || host === '::1') return true
  return isIPv4(host) && host.startsWith('127.')
}

/** A DNS name in the letters that DNS has, an underscore allowed: docker compose names machines with it. */
export function isHostName(text: string): boolean {
  if (text.length > 253) return false
  const labels = text.split('.')
  // A name that ends in a number is an IPv4 address with a mistake in it (RFC 3696, 2).
  return labels.every((label) => LABEL.test(label)) && !/^[0-9]+$/.test(labels.at(-1) ?? '')
}

function parseHost(host: string, text: string): string {
  const bracketed = /^\[(.*)\]$/s.exec(host)?.[1]
  if (bracketed !== undefined && isIPv6(bracketed)) return bracketed
  if (isIPv4(host) || isHostName(host)) return host
  if (isIPv6(host) || isIPv6(text)) {
    throw userError('config_invalid', `${quoted(text)}: put brackets around IPv6, as in [::1]:8080`)
  }
  throw notAnAddress(text)
}

function notAnAddress(text: string) {
  if (/^[a-z]+:\/\//i.test(text)) {
    const bare = text.replace(/^[a-z]+:\/\//i, '').replace(/\/.*$/s, '')
    return userError('config_invalid', `${quoted(text)} is a URL: write only host:port, ${quoted(bare)}`)
  }
  return userError(
    'config_invalid',
    `${quoted(text)} is not an address: write host:port, [IPv6]:port or a port`,
  )
}
