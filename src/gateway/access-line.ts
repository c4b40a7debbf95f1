import type { AccessLogSettings } from '../config/index.ts'
import { ACCESS_LOG_TEXT_CHARACTERS } from '../limits.ts'
import { addressKey, plainAddress } from '../net/index.ts'
import { printable } from '../protocol/index.ts'

/** One request of a visitor, when it is done. */
export interface AccessEntry {
  /** When it came, in ms since 1970. */
  time: number
  address: string
  route: string
  service?: string | undefined
  /** Which client served it: the short pin of its key, or its instance. */
  replica?: string | undefined
  method: string
  /** As the visitor wrote it, one character per byte. */
  target: string
  host: string
  version: '1.0' | '1.1'
  status: number
  /** Of the request and of the answer, heads too. */
  bytesIn: number
  bytesOut: number
  /** From the request's first byte; absent when no answer began. */
  firstByteMs?: number | undefined
  totalMs: number
  requestId: string
  referer?: string | undefined
  userAgent?: string | undefined
  /** The code of what went wrong. */
  error?: string | undefined
}

/** Lines are of one of these forms. */
export type AccessForm = Exclude<AccessLogSettings['access'], 'off'>

/**
 * The line of a request, without its end. Pure. Whatever a visitor sends, it is one line: `combined` is printable
 * ASCII that splits at spaces and quotes, `json` one object that nothing in it turns around. Query strings, which often
 * carry secrets, are there only when they were asked for, those of the referring page too.
 */
export function formatAccess(entry: AccessEntry, settings: AccessLogSettings): string {
  const said = {
    ...entry,
    address: shownAddress(entry.address, settings.address),
    target: settings.query ? entry.target : withoutQuery(entry.target),
    ...(entry.referer === undefined || settings.query ? {} : { referer: withoutQuery(entry.referer) }),
  }
  return settings.access === 'combined' ? combinedLine(said) : jsonLine(said)
}

/** What stands in the log for `count` lines that nobody read in time. */
export function formatDropped(count: number, time: number, form: AccessForm): string {
  if (form === 'json') return JSON.stringify({ time: new Date(time).toISOString(), dropped: count })
  return `# dropped ${count} [${clock(time)}]`
}

/** Undefined values are left out by JSON. */
function jsonLine(entry: AccessEntry): string {
  return JSON.stringify({
    time: new Date(entry.time).toISOString(),
    address: entry.address,
    route: safe(entry.route),
    service: safe(entry.service),
    replica: safe(entry.replica),
    method: safe(entry.method),
    host: safe(entry.host),
    target: safe(entry.target),
    version: entry.version,
    status: entry.status,
    bytesIn: entry.bytesIn,
    bytesOut: entry.bytesOut,
    firstByteMs: rounded(entry.firstByteMs),
    totalMs: rounded(entry.totalMs),
    requestId: safe(entry.requestId),
    referer: safe(entry.referer),
    userAgent: safe(entry.userAgent),
    error: safe(entry.error),
  })
}

function safe(text: string | undefined): string | undefined {
  return text === undefined ? undefined : printable(text, ACCESS_LOG_TEXT_CHARACTERS)
}

/** The format of Apache and nginx, and what it has no place for behind it. */
function combinedLine(entry: AccessEntry): string {
  const request = `"${word(entry.method)} ${word(entry.target)} HTTP/${word(entry.version)}"`
  const apache = [
    `${word(entry.address)} - - [${clock(entry.time)}] ${request}`,
    `${entry.status} ${entry.bytesOut} "${phrase(entry.referer)}" "${phrase(entry.userAgent)}"`,
  ]
  const ours = [
    `"${phrase(entry.route)}" "${phrase(entry.replica)}"`,
    `${rounded(entry.firstByteMs) ?? '-'} ${rounded(entry.totalMs)} ${word(entry.requestId)}`,
  ]
  return [...apache, ...ours].join(' ')
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** `10/Oct/2000:13:55:36 +0000` */
function clock(time: number): string {
  const iso = new Date(time).toISOString()
  return `${iso.slice(8, 10)}/${MONTHS[Number(iso.slice(5, 7)) - 1]}/${iso.slice(0, 4)}:${iso.slice(11, 19)} +0000`
}

/** Text between quotes. */
function phrase(text: string | undefined): string {
  if (text === undefined || text === '') return '-'
  return text.slice(0, ACCESS_LOG_TEXT_CHARACTERS).replace(/[^ !#-[\]-~]/gu, escaped)
}

/** Text between spaces. */
function word(text: string): string {
  return phrase(text).replaceAll(' ', '\\x20')
}

/** Bytes come as characters up to 255; what is above is not from the wire, and is written as its UTF-8. */
function escaped(character: string): string {
  if (character === '"' || character === '\\') return `\\${character}`
  const code = character.codePointAt(0) ?? 0
  const bytes = code <= 0xff ? [code] : Buffer.from(character)
  return Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')
}

function rounded(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.round(ms * 10) / 10
}

function withoutQuery(target: string): string {
  const mark = target.indexOf('?')
  return mark < 0 ? target : target.slice(0, mark)
}

/** Truncated, an address is of a network: a /24 of IPv4, a /48 of IPv6, which is what one household or office has at most. */
function shownAddress(address: string, form: AccessLogSettings['address']): string {
  if (form === 'none') return '-'
  const plain = plainAddress(address)
  if (form === 'full') return printable(plain)
  const dotted = /^([0-9]+\.[0-9]+\.[0-9]+)\.[0-9]+$/.exec(plain)?.[1]
  if (dotted !== undefined) return `${dotted}.0`
  const key = addressKey(plain)
  if (!key.endsWith('::/64')) return '-'
  // RFC 5952: zeros at the end are in the `::`.
  return `${key
    .split(':', 3)
    .join(':')
    .replace(/(?:(?:^|:)0)+$/, '')}::`
}
