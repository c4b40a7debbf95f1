import { formatIpv6, writeIpv4, writeIpv6 } from '../protocol/index.ts'

/**
 * What a Host field says, in the one spelling by which hosts are compared: lower case, without port and final dot,
 * IPv6 in brackets and shortened as RFC 5952 has it, one that stands for an IPv4 address as that. Undefined for what is
 * no host (RFC 9110, 7.2; RFC 3986, 3.2.2): escapes, user names and letters beyond ASCII are none here. Names in other
 * alphabets come in their `xn--` form.
 */
export function normalizeHost(text: string): string | undefined {
  return isNormal(text) ? text : normalized(text)
}

/** Whether it is a name that is normal as it is, as nearly all are. Expressions and slices took 250 ns of a head's 2 µs. */
function isNormal(text: string): boolean {
  const { length } = text
  let label = 0
  for (let at = 0; at < length; at++) {
    const code = text.charCodeAt(at)
    if (code === DOT) {
      if (at === label || at - label > 63) return false
      label = at + 1
    } else if (!((code >= 0x61 && code <= 0x7a) || (code >= 0x30 && code <= 0x39) || code === HYPHEN))
      return false
  }
  // A last label that begins with a digit may be part of an address.
  return length - label > 0 && length - label <= 63 && length <= 253 && text.charCodeAt(label) > 0x39
}

const DOT = 0x2e
const HYPHEN = 0x2d

function normalized(text: string): string | undefined {
  if (text.startsWith('[')) return normalizeIpv6(text)
  const colon = text.indexOf(':')
  if (colon >= 0 && !isPort(text, colon + 1)) return undefined
  let name = colon < 0 ? text : text.slice(0, colon)
  if (name.endsWith('.')) name = name.slice(0, -1)
  if (name.length === 0 || name.length > 253 || !NAME.test(name)) return undefined
  const last = name.slice(name.lastIndexOf('.') + 1)
  // A name whose last label is a number is an IPv4 address, or a trick with one: 127.1, 0177.0.0.1.
  if (NUMERIC.test(last) && !writeIpv4(name, 0, SCRATCH, 0)) return undefined
  return name.toLowerCase()
}

/** Labels of letters, digits, hyphens and underscores (which DNS has and machines on inner networks use), 1 to 63 each. */
const NAME = /^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/i
const NUMERIC = /^(?:[0-9]+|0x[0-9a-f]*)$/i
const SCRATCH = new Uint8Array(16)

function normalizeIpv6(text: string): string | undefined {
  const close = text.indexOf(']')
  if (close < 0) return undefined
  const rest = text.slice(close + 1)
  if (rest !== '' && !(rest.startsWith(':') && isPort(rest, 1))) return undefined
  const address = text.slice(1, close)
  // A zone means something on the machine that wrote it and nowhere else.
  if (address.includes('%') || !writeIpv6(address, SCRATCH, 0)) return undefined
  const plain = formatIpv6(SCRATCH, 0)
  return plain.includes(':') ? `[${plain}]` : plain
}

/** Digits of a port from `from` on, or none, as RFC 3986 allows. */
function isPort(text: string, from: number): boolean {
  return /^[0-9]{0,5}$/.test(text.slice(from)) && Number(text.slice(from)) <= 65_535
}
