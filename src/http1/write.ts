import { SPACE } from './characters.ts'
import { Field, isForwarding, plainName } from './names.ts'
import { rescan } from './reader.ts'
import type { RequestHead } from './request.ts'
import type { ResponseHead } from './response.ts'
import type { HeadScanner } from './scanner.ts'
import { contentLength, latin1 } from './values.ts'

/** What is changed in a request's head besides what must be. */
export interface RequestChanges {
  /** Lines that are added, each with its CRLF: ours come last, and stand alone. As bytes where many requests have the same. */
  readonly added: string | Uint8Array
  /** And one more: its X-Request-Id. */
  readonly requestId?: string | undefined
  /** Names of further fields to drop, as `plainName` has them: those that `added` sets. */
  readonly dropped?: ReadonlySet<string> | undefined
  /** What a proxy in front says of the visitor is believed, and passed on. `added` must not say it then. */
  readonly keepForwarding?: boolean | undefined
  /** Instead of the Host field's value. */
  readonly host?: string | undefined
  /** Instead of the request target. */
  readonly target?: string | undefined
}

/**
 * A request's head as it goes to a target: HTTP/1.1 in origin-form, without what was for the visitor's connection
 * alone (RFC 9110, 7.6.1), everything else in its order and spelling. Body and framing stay as they are: a chunked
 * body must follow in chunks.
 */
export function writeRequest(head: RequestHead, changes: RequestChanges): Buffer {
  const scanner = rescan(head.bytes)
  const { bytes } = head
  const added =
    typeof changes.added === 'string' ? Buffer.from(oneByte(changes.added), 'latin1') : changes.added
  const { requestId } = changes
  const host = changes.host === undefined ? undefined : oneByte(changes.host)
  const out = new Run(
    bytes,
    scanner.end +
      added.length +
      128 +
      (requestId?.length ?? 0) +
      (host?.length ?? 0) +
      (changes.target?.length ?? 0),
  )
  if (head.absolute || head.version !== '1.1' || changes.target !== undefined) {
    out.text(`${head.method} ${changes.target ?? head.target} HTTP/1.1\r\n`)
    out.from(scanner.lineEnd + 2)
  } else out.from(scanner.lineStart)

  const names = changes.dropped !== undefined || head.nominated.length > 0
  for (let field = 0; field < scanner.count; field++) {
    const id = scanner.id(field)
    if (id === Field.other) {
      if (names && isNamed(bytes, scanner, field, head.nominated, changes.dropped)) out.skip(scanner, field)
    } else if (id === Field.host) {
      if (host !== undefined) {
        out.skip(scanner, field)
        out.text(`Host: ${host}\r\n`)
      }
    } else if (id === Field.contentLength) {
      if (!isPlainLength(bytes, scanner, field)) out.length(scanner, field, head.length)
    } else if (
      dropsRequest(id, head, changes) ||
      (names && isNamed(bytes, scanner, field, head.nominated, changes.dropped))
    )
      out.skip(scanner, field)
  }
  out.upTo(scanner.end - 2)
  if (head.framing === 'chunked') out.text(CHUNKED)
  if (head.upgrade !== undefined) out.text(upgradeLines(head.upgrade))
  out.add(added)
  if (requestId !== undefined) {
    out.add(REQUEST_ID)
    out.text(requestId)
    out.add(CRLF)
  }
  out.add(CRLF)
  return out.done()
}

const REQUEST_ID = Buffer.from('X-Request-Id: ', 'latin1')
const CRLF = Buffer.from('\r\n', 'latin1')

const CHUNKED = 'Transfer-Encoding: chunked\r\n'

function upgradeLines(protocol: string): string {
  return `Connection: upgrade\r\nUpgrade: ${protocol}\r\n`
}

function dropsRequest(id: number, head: RequestHead, changes: RequestChanges): boolean {
  switch (id) {
    case Field.hop:
    case Field.connection:
    case Field.transferEncoding:
    case Field.upgrade:
    case Field.disguised:
      return true
    case Field.expect:
      return !head.expects
    case Field.requestId:
      return head.requestId === undefined
    default:
      return isForwarding(id) && changes.keepForwarding !== true
  }
}

/** How a response's head is to leave. */
export interface ResponseChanges {
  /** The connection is closed after this response. */
  readonly close: boolean
  /** A chunked body is passed on without its chunks: for an HTTP/1.0 visitor. */
  readonly dechunked?: boolean | undefined
  /** The value of a Strict-Transport-Security field (RFC 6797), unless the target says one itself. */
  readonly transportSecurity?: string | undefined
}

/**
 * A response's head as it goes to a visitor, without what was for the target's connection alone. Where nothing is to
 * be changed it is the head that came; a target's `Connection: keep-alive`, which is as true of the visitor's connection,
 * is then left as well: many servers say it each time, and a head of theirs need not be written anew.
 */
export function writeResponse(head: ResponseHead, changes: ResponseChanges): Uint8Array {
  const scanner = rescan(head.bytes)
  const { bytes, status } = head
  const unframed = status < 200 || status === 204
  // An interim response says nothing of the connection: to some readers nothing may follow one that closes.
  const close = changes.close && !head.interim
  const { transportSecurity } = changes
  let secured = transportSecurity === undefined || head.interim
  let changed = close || !secured || head.upgrade !== undefined || head.version !== '1.1'
  for (let field = 0; field < scanner.count && !changed; field++) {
    const id = scanner.id(field)
    changed =
      (dropsResponse(id, unframed) && !(id === Field.connection && head.keepAlive)) ||
      head.nominated.length > 0 ||
      (id === Field.contentLength && !isPlainLength(bytes, scanner, field))
  }
  if (!changed) return bytes

  // The protocol may be the one that was asked for, and not in these bytes.
  const out = new Run(
    bytes,
    scanner.end + 128 + (head.upgrade?.length ?? 0) + (transportSecurity?.length ?? 0),
  )
  if (head.version === '1.1') out.from(scanner.lineStart)
  else {
    out.text('HTTP/1.1')
    out.from(scanner.lineStart + 8)
  }
  for (let field = 0; field < scanner.count; field++) {
    if (scanner.id(field) === Field.transportSecurity) secured = true
    if (
      dropsResponse(scanner.id(field), unframed) ||
      (head.nominated.length > 0 && isNamed(bytes, scanner, field, head.nominated, undefined))
    )
      out.skip(scanner, field)
    else if (scanner.id(field) === Field.contentLength && !isPlainLength(bytes, scanner, field))
      out.length(scanner, field, contentLength(bytes, scanner.valueStart(field), scanner.valueEnd(field)))
  }
  out.upTo(scanner.end - 2)
  const framing = head.framing === 'chunked' && changes.dechunked !== true ? CHUNKED : ''
  const connection =
    head.upgrade !== undefined ? upgradeLines(head.upgrade) : close ? 'Connection: close\r\n' : ''
  const security = secured ? '' : `Strict-Transport-Security: ${transportSecurity}\r\n`
  out.text(`${framing}${connection}${security}`)
  out.add(CRLF)
  return out.done()
}

function dropsResponse(id: number, unframed: boolean): boolean {
  switch (id) {
    case Field.hop:
    case Field.connection:
    case Field.transferEncoding:
    case Field.upgrade:
      return true
    case Field.contentLength:
      // RFC 9110, 8.6: not in a 1xx or a 204, where some reader may wait for a body.
      return unframed
    default:
      return false
  }
}

/**
 * Whether a Content-Length is as everybody writes it: to some readers a tab or a space after the number, or a zero
 * before it, makes it another number or none.
 */
function isPlainLength(bytes: Uint8Array, scanner: HeadScanner, field: number): boolean {
  const start = scanner.valueStart(field)
  const end = scanner.valueEnd(field)
  const spaces = start - scanner.nameEnd(field) - 1
  return (
    (spaces === 0 || (spaces === 1 && bytes[start - 1] === SPACE)) &&
    scanner.fieldEnd(field) === end + 2 &&
    (bytes[start] !== DIGIT_ZERO || end === start + 1)
  )
}

const DIGIT_ZERO = 0x30

/** Text whose characters are bytes: one that has others, which would lose half of each, as UTF-8. */
function oneByte(text: string): string {
  return /[^\0-\xff]/.test(text) ? Buffer.from(text, 'utf8').toString('latin1') : text
}

/** Whether a field's name is in one of two lists: of names in lower case, and of names as `plainName` has them. */
function isNamed(
  bytes: Uint8Array,
  scanner: HeadScanner,
  field: number,
  nominated: readonly string[],
  dropped: ReadonlySet<string> | undefined,
): boolean {
  const name = latin1(bytes, scanner.nameStart(field), scanner.nameEnd(field)).toLowerCase()
  return nominated.includes(name) || dropped?.has(plainName(name)) === true
}

/** Copies a head in as few pieces as what is left out makes of it. */
class Run {
  readonly #bytes: Uint8Array
  readonly #out: Buffer
  #at = 0
  #from = 0

  /** `size`: no less than what will be written. */
  constructor(bytes: Uint8Array, size: number) {
    this.#bytes = bytes
    this.#out = Buffer.allocUnsafe(size)
  }

  add(bytes: Uint8Array): void {
    this.#out.set(bytes, this.#at)
    this.#at += bytes.length
  }

  text(text: string): void {
    if (text !== '') this.#at += this.#out.write(text, this.#at, 'latin1')
  }

  /** What is copied next begins here. */
  from(at: number): void {
    this.#from = at
  }

  upTo(at: number): void {
    if (at <= this.#from) return
    this.#out.set(this.#bytes.subarray(this.#from, at), this.#at)
    this.#at += at - this.#from
    this.#from = at
  }

  /** All up to the field, and not the field. */
  skip(scanner: HeadScanner, field: number): void {
    this.upTo(scanner.nameStart(field))
    this.#from = scanner.fieldEnd(field)
  }

  /** A Content-Length in place of the field. */
  length(scanner: HeadScanner, field: number, length: number): void {
    this.upTo(scanner.nameEnd(field))
    this.#from = scanner.fieldEnd(field)
    this.text(`: ${length}\r\n`)
  }

  done(): Buffer {
    return this.#out.subarray(0, this.#at)
  }
}
