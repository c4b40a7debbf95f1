import { HTTP_NOMINATED_FIELDS } from '../limits.ts'
import { SPACE, TAB } from './characters.ts'
import { bad } from './fault.ts'
import { Field } from './names.ts'
import type { HeadScanner } from './scanner.ts'

/** Text of bytes, one character each: what a head holds is in no better known encoding. */
export function latin1(bytes: Uint8Array, start: number, end: number): string {
  if (Buffer.isBuffer(bytes)) return bytes.toString('latin1', start, end)
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1', start, end)
}

/** Whether bytes are those of a text, without making one. */
export function isText(bytes: Uint8Array, start: number, end: number, text: string): boolean {
  if (end - start !== text.length) return false
  for (let index = 0; index < text.length; index++)
    if (bytes[start + index] !== text.charCodeAt(index)) return false
  return true
}

/** Without the blanks around it. `trim` would take more than HTTP calls blank, such as a no-break space. */
export function trimmed(text: string): string {
  let start = 0
  let end = text.length
  while (start < end && isBlank(text.charCodeAt(start))) start++
  while (start < end && isBlank(text.charCodeAt(end - 1))) end--
  return text.slice(start, end)
}

export function isBlank(byte: number): boolean {
  return byte === SPACE || byte === TAB
}

/** 15 digits stay exact in a number, and are a petabyte. */
const LENGTH_DIGITS = 15

/** Digits and nothing else (RFC 9110, 8.6): no sign, no space, no list, no base. */
export function contentLength(bytes: Uint8Array, start: number, end: number): number {
  if (start === end) throw bad('an empty Content-Length')
  if (end - start > LENGTH_DIGITS) throw bad('a Content-Length that is too large')
  let length = 0
  for (let at = start; at < end; at++) {
    const digit = (bytes[at] as number) - 0x30
    if (digit < 0 || digit > 9) throw bad('a Content-Length that is not a number')
    length = length * 10 + digit
  }
  return length
}

/** What `Connection` says (RFC 9110, 7.6.1). `others` are names of fields, lower case, that end with this connection. */
export interface ConnectionTokens {
  readonly close: boolean
  readonly keepAlive: boolean
  readonly upgrade: boolean
  readonly others: readonly string[]
}

const NONE: ConnectionTokens = { close: false, keepAlive: false, upgrade: false, others: [] }
/** One field that says this and nothing else. */
export const KEEP_ALIVE: ConnectionTokens = { close: false, keepAlive: true, upgrade: false, others: [] }
const CLOSE: ConnectionTokens = { close: true, keepAlive: false, upgrade: false, others: [] }

/** What the `count` Connection fields of a head say, `last` being the last of them. */
export function tokensOf(
  bytes: Uint8Array,
  scanner: HeadScanner,
  count: number,
  last: number,
): ConnectionTokens {
  if (count === 0) return NONE
  const start = scanner.valueStart(last)
  const end = scanner.valueEnd(last)
  if (count === 1) {
    // What nearly all say, in the spelling of nearly all.
    if (isText(bytes, start, end, 'keep-alive')) return KEEP_ALIVE
    if (isText(bytes, start, end, 'close')) return CLOSE
    return connectionTokens(latin1(bytes, start, end))
  }
  const values: string[] = []
  for (let field = 0; field <= last; field++)
    if (scanner.id(field) === Field.connection)
      values.push(latin1(bytes, scanner.valueStart(field), scanner.valueEnd(field)))
  return connectionTokens(values.join(','))
}

function connectionTokens(value: string): ConnectionTokens {
  let close = false
  let keepAlive = false
  let upgrade = false
  const others: string[] = []
  for (const part of value.split(',')) {
    const token = trimmed(part).toLowerCase()
    if (token === '') continue
    if (token === 'close') close = true
    else if (token === 'keep-alive') keepAlive = true
    else if (token === 'upgrade') upgrade = true
    else if (!DROPPED_ANYWAY.has(token)) others.push(token)
  }
  // Each field of the head is compared with each of them.
  if (others.length > HTTP_NOMINATED_FIELDS) throw bad('Connection names too many fields')
  return { close, keepAlive, upgrade, others }
}

const DROPPED_ANYWAY: ReadonlySet<string> = new Set([
  'te',
  'http2-settings',
  'proxy-connection',
  'connection',
])
