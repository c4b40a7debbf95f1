import { bad } from './fault.ts'
import { Field, plainName } from './names.ts'
import { isConnectionLogin } from './request.ts'
import type { HeadScanner } from './scanner.ts'
import { contentLength, KEEP_ALIVE, latin1, tokensOf, trimmed } from './values.ts'

/** What a response answers, as far as its framing depends on it. */
export interface Asked {
  readonly method: string
  /** The protocol that the request asked to switch to. */
  readonly upgrade: string | undefined
}

/**
 * A response's head (RFC 9112, sections 4 and 6.3), checked as a request's is: a target that is not understood by
 * everybody in the same way could answer one visitor with another's words. `bytes` is the head as it came, a view.
 */
export class ResponseHead {
  readonly bytes: Uint8Array
  readonly status: number
  readonly version: '1.0' | '1.1'
  /** Another response to the same request follows (1xx, but for 101). */
  readonly interim: boolean
  readonly framing: 'none' | 'length' | 'chunked' | 'close'
  /** Bytes of a body of framing `length`. */
  readonly length: number
  /** No message follows this one on its connection. */
  readonly close: boolean
  /** Of a 101: the protocol that it switches to. */
  readonly upgrade: string | undefined
  /** It asks for NTLM or Negotiate, which log in a connection and not a request. */
  readonly connectionLogin: boolean
  /** Names that `Connection` nominates, lower case. */
  readonly nominated: readonly string[]
  /** `Connection: keep-alive`, in one field and with nothing else: on HTTP/1.1 it says what is so anyway. */
  readonly keepAlive: boolean

  /** `scanner` has just found this head in `bytes`. Throws an `HttpFault`; to the visitor it is a 502, whatever it says. */
  constructor(bytes: Uint8Array, scanner: HeadScanner, asked: Asked) {
    this.bytes = bytes
    const { lineStart, lineEnd } = scanner
    // Empty lines are skipped before a request only (RFC 9112, 2.2); here they are bytes that no response accounts for.
    if (lineStart > 0) throw bad('an empty line before a response')
    if (lineEnd - lineStart < 12 || !isHttp1(bytes, lineStart))
      throw bad('a response that does not begin with HTTP/1.x')
    this.version = bytes[lineStart + 7] === 0x30 ? '1.0' : '1.1'
    const status = statusOf(bytes, lineStart + 9)
    if (lineEnd - lineStart > 12 && bytes[lineStart + 12] !== 0x20)
      throw bad('a status that is not three digits')
    this.status = status

    let lengthField = -1
    let codings = 0
    let codingField = -1
    let upgradeField = -1
    let upgrades = 0
    let connections = 0
    let connectionField = -1
    let connectionLogin = false
    for (let field = 0; field < scanner.count; field++) {
      const id: number = scanner.id(field)
      switch (id) {
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
          upgrades++
          upgradeField = field
          break
        case Field.authenticate:
          if (isConnectionLogin(latin1(bytes, scanner.valueStart(field), scanner.valueEnd(field))))
            connectionLogin = true
          break
        default:
          break
      }
    }
    this.connectionLogin = connectionLogin

    const length =
      lengthField < 0
        ? undefined
        : contentLength(bytes, scanner.valueStart(lengthField), scanner.valueEnd(lengthField))
    if (codings > 0) {
      if (length !== undefined) throw bad('both Content-Length and Transfer-Encoding')
      if (this.version === '1.0') throw bad('Transfer-Encoding in an HTTP/1.0 response')
      const coding = latin1(bytes, scanner.valueStart(codingField), scanner.valueEnd(codingField))
      if (codings > 1 || coding.toLowerCase() !== 'chunked')
        throw bad('a Transfer-Encoding other than chunked')
    }

    this.interim = status < 200 && status !== 101
    const tokens = tokensOf(bytes, scanner, connections, connectionField)
    this.nominated = tokens.others
    this.keepAlive = tokens === KEEP_ALIVE
    // Removed as told, the message would go on without its length. Some servers name Transfer-Encoding, which is of
    // the connection, and is written anew anyway.
    if (this.nominated.some((name) => plainName(name) === 'content-length'))
      throw bad('Connection names Content-Length')
    this.upgrade = undefined
    if (status === 101) {
      if (asked.upgrade === undefined) throw bad('a 101 that nobody asked for')
      if (upgrades > 1) throw bad('two Upgrade fields')
      this.upgrade =
        upgradeField < 0
          ? asked.upgrade
          : latin1(bytes, scanner.valueStart(upgradeField), scanner.valueEnd(upgradeField))
      if (!offers(asked.upgrade, this.upgrade)) throw bad('a 101 to a protocol that nobody asked for')
    }

    if (status < 200 || status === 204 || status === 304 || asked.method === 'HEAD') this.framing = 'none'
    else if (codings > 0) this.framing = 'chunked'
    else if (length === undefined) this.framing = 'close'
    else this.framing = length === 0 ? 'none' : 'length'
    this.length = this.framing === 'length' ? (length ?? 0) : 0
    this.close = this.framing === 'close' || tokens.close || (this.version === '1.0' && !tokens.keepAlive)
  }
}

/** Whether a list of protocols has all of another (RFC 9110, 7.8: a server switches to what was offered). */
function offers(asked: string, chosen: string): boolean {
  const offered = protocols(asked)
  return protocols(chosen).every((protocol) => offered.includes(protocol))
}

function protocols(value: string): string[] {
  return value.toLowerCase().split(',').map(trimmed)
}

const HTTP1 = Buffer.from('HTTP/1.', 'latin1')

function isHttp1(bytes: Uint8Array, start: number): boolean {
  for (let index = 0; index < HTTP1.length; index++) if (bytes[start + index] !== HTTP1[index]) return false
  const minor = bytes[start + 7]
  return (minor === 0x30 || minor === 0x31) && bytes[start + 8] === 0x20
}

function statusOf(bytes: Uint8Array, start: number): number {
  let status = 0
  for (let at = start; at < start + 3; at++) {
    const digit = (bytes[at] as number) - 0x30
    if (digit < 0 || digit > 9) throw bad('a status that is not three digits')
    status = status * 10 + digit
  }
  if (status < 100 || status > 599) throw bad('a status that is not within 100 to 599')
  return status
}
