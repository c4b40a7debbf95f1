import { HTTP_METHOD_CHARACTERS } from '../limits.ts'
import { NAME, SPACE, TARGET } from './characters.ts'
import { bad, HttpFault } from './fault.ts'
import { normalizeHost } from './host.ts'
import { Field, plainName } from './names.ts'
import type { HeadScanner } from './scanner.ts'
import { contentLength, isText, latin1, tokensOf, trimmed } from './values.ts'

/**
 * Protocols that are not switched to, wherever in the list they stand: they would carry requests that nobody here has
 * looked at.
 */
const NOT_SWITCHED_TO = /(?:^|[\s,])(?:h2|h3|http|tls)/i

/** Methods whose bodies are usual; the rest of the common ones are recognised without making a string. */
const METHODS = ['GET', 'POST', 'HEAD', 'PUT', 'OPTIONS', 'DELETE', 'PATCH'] as const
const METHOD_BYTES = METHODS.map((method) => Buffer.from(method, 'latin1'))

/**
 * A request's head (RFC 9112, sections 2 to 3, 6; RFC 9110, 7.2 to 7.8): what it says about the message, checked.
 * What it says about the resource is not looked at, and is passed on as it came. `bytes` is the head as it came, a view.
 */
export class RequestHead {
  readonly bytes: Uint8Array
  readonly method: string
  /** `1.0` or `1.1`. */
  readonly version: '1.0' | '1.1'
  /** Where the request target stands in `bytes`; for absolute-form its path, with the `/` that it may have left out. */
  readonly targetStart: number
  readonly targetEnd: number
  /** Written as `http://host/path`, or with its path left out: the target that leaves is made anew. */
  readonly absolute: boolean
  /** The Host field as it came. */
  readonly hostText: string
  /** The same as hosts are compared. */
  readonly host: string
  readonly framing: 'none' | 'length' | 'chunked'
  /** Bytes of a body of framing `length`. */
  readonly length: number
  /** The protocol that it asks to switch to, as it came; none for those that we do not switch to. */
  readonly upgrade: string | undefined
  /** `Expect: 100-continue`. */
  readonly expects: boolean
  /** Its sender wants the connection closed after the answer; a 1.0 one always gets that. */
  readonly close: boolean
  /** NTLM or Negotiate, which log in a connection and not a request. */
  readonly connectionLogin: boolean
  /** `X-Request-Id`, if there is one of the form that is kept, and it is meant for more than this connection. */
  readonly requestId: string | undefined
  /** Names that `Connection` nominates, lower case, besides those that are dropped anyway. */
  readonly nominated: readonly string[]

  /**
   * `scanner` has just found this head in `bytes`. `last` spares the work for a host that is the same again; `secure`: it came
   * inside TLS.
   */
  constructor(
    bytes: Uint8Array,
    scanner: HeadScanner,
    last?: { hostText: string; host: string },
    secure = false,
  ) {
    this.bytes = bytes
    const { lineStart, lineEnd } = scanner
    const methodEnd = endOfMethod(bytes, lineStart, lineEnd)
    this.method = methodOf(bytes, lineStart, methodEnd)
    const targetEnd = endOfTarget(bytes, methodEnd + 1, lineEnd)
    this.version = versionOf(bytes, targetEnd + 1, lineEnd)

    let hostField = -1
    let lengthField = -1
    let codings = 0
    let codingField = -1
    let upgradeField = -1
    let expectField = -1
    let connections = 0
    let connectionField = -1
    let connectionLogin = false
    let requestId: string | undefined
    let requestIds = 0
    for (let field = 0; field < scanner.count; field++) {
      const id: number = scanner.id(field)
      switch (id) {
        case Field.host:
          if (hostField >= 0) throw bad('two Host fields')
          hostField = field
          break
        case Field.contentLength:
          if (lengthField >= 0) throw bad('two Content-Length fields')
          lengthField = field
          break
        case Field.transferEncoding:
          codings++
          codingField = field
          break
        case Field.connection:
          connections++
          connectionField = field
          break
        case Field.upgrade:
          if (upgradeField >= 0) throw bad('two Upgrade fields')
          upgradeField = field
          break
        case Field.expect:
          if (expectField >= 0) throw new HttpFault(417, 'two Expect fields')
          expectField = field
          break
        case Field.authorization:
          if (isConnectionLogin(latin1(bytes, scanner.valueStart(field), scanner.valueEnd(field))))
            connectionLogin = true
          break
        case Field.requestId:
          requestIds++
          requestId = latin1(bytes, scanner.valueStart(field), scanner.valueEnd(field))
          break
        default:
          break
      }
    }
    this.connectionLogin = connectionLogin
    if (hostField < 0) throw bad('no Host field')
    const hostStart = scanner.valueStart(hostField)
    const hostEnd = scanner.valueEnd(hostField)
    if (last !== undefined && isText(bytes, hostStart, hostEnd, last.hostText)) {
      this.hostText = last.hostText
      this.host = last.host
    } else {
      const hostText = latin1(bytes, hostStart, hostEnd)
      this.hostText = hostText
      const host = normalizeHost(hostText)
      if (host === undefined) throw bad('a Host field that is no host')
      this.host = host
    }

    const about = { method: this.method, hostText: this.hostText, secure }
    const pathStart = startOfPath(bytes, methodEnd + 1, targetEnd, about)
    this.targetStart = pathStart
    this.targetEnd = targetEnd
    this.absolute = pathStart > methodEnd + 1

    const http10 = this.version === '1.0'
    const length =
      lengthField < 0
        ? undefined
        : contentLength(bytes, scanner.valueStart(lengthField), scanner.valueEnd(lengthField))
    if (codings > 0) {
      if (length !== undefined) throw bad('both Content-Length and Transfer-Encoding')
      if (http10) throw bad('Transfer-Encoding in an HTTP/1.0 request')
      checkCodings(
        codings > 1
          ? undefined
          : latin1(bytes, scanner.valueStart(codingField), scanner.valueEnd(codingField)),
      )
      this.framing = 'chunked'
      this.length = 0
    } else {
      this.framing = length === undefined || length === 0 ? 'none' : 'length'
      this.length = length ?? 0
    }

    const tokens = tokensOf(bytes, scanner, connections, connectionField)
    this.nominated = tokens.others
    if (tokens.others.length > 0) checkNominated(tokens.others)
    const keeps =
      requestIds === 1 && REQUEST_ID.test(requestId ?? '') && !tokens.others.includes('x-request-id')
    this.requestId = keeps ? requestId : undefined
    this.close = http10 || tokens.close
    const upgrade =
      upgradeField < 0 || !tokens.upgrade || http10
        ? undefined
        : latin1(bytes, scanner.valueStart(upgradeField), scanner.valueEnd(upgradeField))
    this.upgrade =
      upgrade === undefined || upgrade === '' || NOT_SWITCHED_TO.test(upgrade) ? undefined : upgrade
    if (this.upgrade !== undefined && this.framing !== 'none') throw bad('an upgrade with a body')

    // Before HTTP/1.1 there is no such field (RFC 9110, 10.1.1).
    this.expects = expectField >= 0 && !http10
    if (this.expects) {
      const value = latin1(bytes, scanner.valueStart(expectField), scanner.valueEnd(expectField))
      if (value.toLowerCase() !== '100-continue')
        throw new HttpFault(417, 'an expectation other than 100-continue')
    }
  }

  /** Origin-form, `/path?query`, or `*`. Made on each call. */
  get target(): string {
    const text = latin1(this.bytes, this.targetStart, this.targetEnd)
    // RFC 9112, 3.2.4: a URL without a path asks about the server as a whole.
    if (text === '' && this.method === 'OPTIONS') return '*'
    return text === '' || text.startsWith('?') ? `/${text}` : text
  }
}

const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/

/** Of a start line, `METHOD SP target SP HTTP/1.x` with one space each (RFC 9112, section 3). */
function endOfMethod(bytes: Uint8Array, start: number, end: number): number {
  let at = start
  while (at < end && bytes[at] !== SPACE) at++
  if (at === end) throw bad('a start line without a target')
  return at
}

function endOfTarget(bytes: Uint8Array, start: number, end: number): number {
  let at = start
  while (at < end && TARGET[bytes[at] as number] === 1) at++
  if (at === start) throw bad('more than one space in the start line, or no target')
  if (at === end) throw bad('a start line without a version')
  if (bytes[at] !== SPACE) throw bad('a request target with a character that it may not have')
  if (bytes[at + 1] === SPACE) throw bad('more than one space in the start line')
  return at
}

function methodOf(bytes: Uint8Array, start: number, end: number): string {
  if (end === start) throw bad('a space before the method')
  if (end - start > HTTP_METHOD_CHARACTERS) throw new HttpFault(501, 'a method that is too long')
  for (let index = 0; index < METHODS.length; index++) {
    if (equals(bytes, start, end, METHOD_BYTES[index] as Uint8Array)) return METHODS[index] as string
  }
  for (let at = start; at < end; at++)
    if (NAME[bytes[at] as number] === 0) throw bad('a method with a character that it may not have')
  const method = latin1(bytes, start, end)
  if (method === 'CONNECT') throw new HttpFault(501, 'CONNECT: this is no forward proxy')
  // Its answer is the request as the target got it, with what was added on the way: nobody's but the target's.
  if (method === 'TRACE') throw new HttpFault(501, 'TRACE: what targets are told is not shown')
  return method
}

const VERSION = Buffer.from('HTTP/1.', 'latin1')

function versionOf(bytes: Uint8Array, start: number, end: number): '1.0' | '1.1' {
  if (end - start === VERSION.length + 1 && equals(bytes, start, end - 1, VERSION)) {
    const minor = bytes[end - 1]
    if (minor === 0x31) return '1.1'
    if (minor === 0x30) return '1.0'
  }
  const text = latin1(bytes, start, end)
  if (/^HTTP\/[0-9]\.[0-9]$/.test(text)) throw new HttpFault(505, 'a version other than HTTP/1.0 and 1.1')
  throw bad('a start line that does not end with a version')
}

function equals(bytes: Uint8Array, start: number, end: number, other: Uint8Array): boolean {
  if (end - start !== other.length) return false
  for (let index = 0; index < other.length; index++) if (bytes[start + index] !== other[index]) return false
  return true
}

const SLASH = 0x2f
const ASTERISK = 0x2a

/** Where the path of a target begins. The forms are those of RFC 9112, section 3.2, less CONNECT's. */
function startOfPath(
  bytes: Uint8Array,
  start: number,
  end: number,
  { method, hostText, secure }: { method: string; hostText: string; secure: boolean },
): number {
  const first = bytes[start]
  if (first === SLASH) return start
  if (first === ASTERISK && end - start === 1) {
    if (method !== 'OPTIONS') throw bad('the target * without OPTIONS')
    return start
  }
  const text = latin1(bytes, start, end)
  const [, scheme, authority = ''] = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?]*)/.exec(text) ?? []
  if (scheme === undefined) throw bad('a request target that is neither a path nor a URL')
  if (!/^https?$/i.test(scheme)) throw bad('a URL that is not http')
  if (/s$/i.test(scheme) !== secure)
    throw new HttpFault(
      421,
      `an ${scheme.toLowerCase()} URL on a connection ${secure ? 'with' : 'without'} TLS`,
    )
  // Who routes by the one and who routes by the other must not differ.
  if (authority.toLowerCase() !== hostText.toLowerCase())
    throw bad('a URL whose host is not that of the Host field')
  return start + scheme.length + 3 + authority.length
}

/** RFC 9112, 6.1 and 6.3: what is not understood is a 501, what cannot end a body a 400. */
function checkCodings(value: string | undefined): void {
  if (value?.toLowerCase() === 'chunked') return
  const codings = (value ?? '').split(',').map((coding) => trimmed(coding).toLowerCase())
  if (value === undefined || codings.filter((coding) => coding === 'chunked').length > 1)
    throw bad('Transfer-Encoding more than once')
  if (codings.at(-1) !== 'chunked') throw bad('a Transfer-Encoding that does not end with chunked')
  throw new HttpFault(501, 'a Transfer-Encoding other than chunked')
}

/** Fields that a sender may not have removed on the way: who takes away Host or a length changes the message. */
const NEVER_NOMINATED =
  /^(?:host|content-length|transfer-encoding|authorization|cookie|forwarded|x-real-ip|x-forwarded-.*)$/

function checkNominated(names: readonly string[]): void {
  for (const name of names) {
    if (NEVER_NOMINATED.test(plainName(name)))
      throw bad('Connection names a field that is not for this connection alone')
  }
}

export function isConnectionLogin(value: string): boolean {
  return /(?:^|[\s,])(?:ntlm|negotiate)(?:$|[\s,])/i.test(value)
}
