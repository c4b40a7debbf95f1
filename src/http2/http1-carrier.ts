import type { TunnelError } from '../errors.ts'
import type { Upstream, UpstreamUser } from '../http/index.ts'
import {
  HttpFault,
  type RequestChanges,
  type ResponseHead,
  responseFields,
  writeRequest,
} from '../http1/index.ts'
import type { Carrier } from './carrier.ts'
import type { Http2Exchange } from './exchange.ts'

const CRLF = Buffer.from('\r\n', 'latin1')
const LAST_CHUNK = Buffer.from('0\r\n\r\n', 'latin1')

/** Carries a request to a target that speaks HTTP/1.1. Owns the stream from `begin` until it is released. */
export class Http1Carrier implements Carrier, UpstreamUser {
  readonly #exchange: Http2Exchange
  readonly #upstream: Upstream
  readonly #chunked: boolean
  /** Received and not consumed: what it became has not left. */
  #owed = 0
  #released = false

  constructor(exchange: Http2Exchange, upstream: Upstream) {
    this.#exchange = exchange
    this.#upstream = upstream
    this.#chunked = exchange.head.framing === 'chunked'
  }

  /** Sends the request's head. False as `write`. */
  begin(changes: RequestChanges): boolean {
    const { head } = this.#exchange
    this.#upstream.begin(this, head, false)
    return this.#upstream.stream.write(writeRequest(head, changes))
  }

  get bytesOut(): number {
    return this.#upstream.stream.bytesOut
  }

  write(piece: Uint8Array): boolean {
    const { stream } = this.#upstream
    if (!this.#chunked) return stream.write(piece)
    stream.write(Buffer.from(`${piece.length.toString(16)}\r\n`, 'latin1'))
    stream.write(piece)
    return stream.write(CRLF)
  }

  /** Trailer fields of a request go to no HTTP/1.1 target: some count them among its header fields. */
  end(): void {
    if (this.#chunked) this.#upstream.stream.write(LAST_CHUNK)
  }

  passed(waiting: number): void {
    const passed = this.#owed - waiting
    if (passed <= 0) return
    this.#owed = waiting
    this.#upstream.stream.consume(passed)
  }

  release(whole: boolean): void {
    if (this.#released) return
    this.#released = true
    const upstream = this.#upstream
    // What has not left never will, or its stream has no part in it any more.
    upstream.stream.consume(this.#owed)
    this.#owed = 0
    if (whole) upstream.release()
    else upstream.discard()
  }

  // ── The stream speaks ─────────────────────────────────────────────────────────────────────────────────

  received(bytes: number): void {
    this.#owed += bytes
  }

  settled(): void {
    if (!this.#released) this.passed(this.#exchange.flush())
  }

  interim(head: ResponseHead): void {
    this.#exchange.interim(head.status, responseFields(head))
  }

  respond(head: ResponseHead): void {
    this.#exchange.respond(head.status, responseFields(head))
  }

  deliver(piece: Uint8Array): void {
    this.#exchange.deliver(piece)
  }

  responded(): void {
    this.#exchange.responded([])
  }

  /** A stream that switched protocols: no request by HTTP/2 asks for that. */
  finished(): void {}

  lost(reason: TunnelError): void {
    this.#released = true
    this.#exchange.lost(this.#upstream, reason)
  }

  broken(reason: TunnelError): void {
    this.#released = true
    this.#exchange.broken(reason instanceof HttpFault ? 'bad_response' : 'lost')
  }

  drained(): void {
    this.#exchange.drained()
  }
}
