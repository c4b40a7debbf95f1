/**
 * IP addresses between text and bytes, in place: the PROXY header needs both directions once per visitor, and
 * Node offers only tests of the text. Text is what Node's sockets give: dotted IPv4, RFC 5952 IPv6.
 */

/** Where the dotted part of `::ffff:192.0.2.1` or `192.0.2.1` starts; -1 for other IPv6 addresses. */
export function ipv4Start(text: string): number {
  if (!text.includes(':')) return 0
  const mapped = text.length > 7 && text.includes('.') && text.slice(0, 7).toLowerCase() === '::ffff:'
  return mapped ? 7 : -1
}

/** Writes the four bytes of the dotted address that is `text` from index `from`. False if it is none. */
export function writeIpv4(text: string, from: number, out: Uint8Array, at: number): boolean {
  let value = -1
  let part = 0
  for (let index = from; index <= text.length; index += 1) {
    const code = index === text.length ? DOT : text.charCodeAt(index)
    if (code === DOT) {
      if (value < 0 || part > 3) return false
      out[at + part] = value
      part += 1
      value = -1
    } else {
      const digit = code - 0x30
      // 010 is octal to some and decimal to others: it is nothing here.
      if (digit < 0 || digit > 9 || value === 0) return false
      value = value < 0 ? digit : value * 10 + digit
      if (value > 255) return false
    }
  }
  return part === 4
}

/** Writes the sixteen bytes of an IPv6 address, its zone (`%eth0`) left out. False if it is none. */
export function writeIpv6(text: string, out: Uint8Array, at: number): boolean {
  const zone = text.indexOf('%')
  const end = zone < 0 ? text.length : zone
  let index = 0
  let filled = 0
  let gap = -1
  if (text.startsWith('::')) {
    gap = 0
    index = 2
  }
  while (index < end) {
    let value = 0
    let digits = 0
    while (index + digits < end) {
      const digit = hexDigit(text.charCodeAt(index + digits))
      if (digit < 0) break
      value = value * 16 + digit
      digits += 1
      if (digits > 4) return false
    }
    const next = index + digits < end ? text.charCodeAt(index + digits) : -1
    if (next === DOT) {
      if (filled > 12 || !writeIpv4(text.slice(0, end), index, out, at + filled)) return false
      filled += 4
      index = end
      break
    }
    if (digits === 0 || filled > 14) return false
    out[at + filled] = value >> 8
    out[at + filled + 1] = value & 0xff
    filled += 2
    index += digits
    if (next === -1) break
    if (next !== COLON) return false
    index += 1
    if (index < end && text.charCodeAt(index) === COLON) {
      if (gap >= 0) return false
      gap = filled
      index += 1
    } else if (index === end) return false
  }
  if (gap < 0) return filled === 16
  if (filled > 14) return false
  const tail = filled - gap
  out.copyWithin(at + 16 - tail, at + gap, at + filled)
  out.fill(0, at + gap, at + 16 - tail)
  return true
}

const DOT = 0x2e
const COLON = 0x3a

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30
  const letter = code | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1
}

export function formatIpv4(bytes: Uint8Array, at: number): string {
  return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`
}

/** RFC 5952; an IPv4 address that came mapped is given as IPv4. */
export function formatIpv6(bytes: Uint8Array, at: number): string {
  const group = (index: number) => ((bytes[at + 2 * index] ?? 0) << 8) | (bytes[at + 2 * index + 1] ?? 0)
  // The longest run of two or more zero groups, the first of equals, becomes `::`.
  let start = -1
  let length = 1
  for (let index = 0; index < 8; ) {
    let run = 0
    while (index + run < 8 && group(index + run) === 0) run += 1
    if (run > length) {
      start = index
      length = run
    }
    index += run + 1
  }
  if (start === 0 && length === 5 && group(5) === 0xffff) return formatIpv4(bytes, at + 12)
  let out = ''
  for (let index = 0; index < 8; index += 1) {
    if (index === start) {
      out += '::'
      index += length - 1
    } else {
      if (out !== '' && !out.endsWith(':')) out += ':'
      out += group(index).toString(16)
    }
  }
  return out
}
