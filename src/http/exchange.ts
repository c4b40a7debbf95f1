import { STATUS_CODES } from 'node:http'
import type { TunnelError } from '../errors.ts'
import {
  type Body,
  bodyOf,
  Field,
  fieldText,
  HttpFault,
  type RequestChanges,
  type RequestHead,
  type ResponseHead,
  writeRequest,
  writeResponse,
} from '../http1/index.ts'
import { HELD_BYTES, REPLAY_BYTES } from '../limits.ts'
import { Keep } from '../net/index.ts'
import { PAGES, type Problem, page, problemOf } from './pages.ts'
import type { ExchangeLimits, HttpSite, Meter } from './site.ts'
import type { Upstream, UpstreamUser } from './upstream.ts'

/** An answer of the site's own. `type` is its Content-Type. */
export interface LocalAnswer {
  readonly status: number
  readonly type: string
  readonly body: string
}

/** What an exchange asks of the connection that it came by. */
export interface ExchangeHost {
  readonly site: HttpSite
  /** The visitor has sent its last byte, and no further request of it waits. */
  readonly halfClosed: boolean
  /** No further request is taken on the connection. */
  readonly closing: boolean
  /** Bytes for the visitor. */
  push(chunk: Uint8Array): void
  /** Bytes for the visitor that have not left. */
  readonly waiting: number
  /** Whether to read from the visitor may have changed. */
  flow(): void
  /** The answer is on its way, and what the visitor has sent after the request may be looked at when it has left. */
  answered(): void
  /** Half an answer: the visitor is reset. */
  reset(reason: TunnelError): void
  /** The connection carries another protocol from now on. */
  switched(): void
  /** The other side writes no more. */
  finished(): void
}

/**
 * One request and its answer. The connection feeds it the request's body, its site gives it a stream or refuses it, and
 * the stream's answer goes to the connection. What was sent is kept while it may have to be sent again.
 */
export class Exchange implements UpstreamUser {
  readonly head: RequestHead
  readonly requestId: string
  /** Milliseconds on the clock of `performance.now()`. */
  readonly begunAt: number
  requestDoneAt = 0
  /** When it was last given a stream. */
  sentAt = 0
  firstByteAt = 0
  /** Set by the site in `begin`. */
  limits: ExchangeLimits
  meter: Meter | undefined
  /** Strict-Transport-Security of the answer, where the target says none. Set by the site in `begin`. */
  transportSecurity: string | undefined
  /** Bytes of the request and of the answer, heads too, as they go to the stream and to the visitor. */
  bytesIn = 0
  bytesOut = 0
  /** Of the answer, once it has begun; 0 before. */
  status = 0
  /** Why there was no answer from a target, or only part of one. */
  problem: Problem | undefined
  /** Why its connection was gone before it was over: a code of `TunnelError`. */
  cut: string | undefined
  /** The stream that carries it. */
  upstream: Upstream | undefined
  /** Times that it was given a stream. */
  tries = 0

  readonly #host: ExchangeHost
  readonly #body: Body
  #requestDone: boolean
  /** The answer is whole, or there will be none. */
  #answered = false
  #switched = false
  #continued = false
  #blocked = false
  /** Body as it goes to the stream, while it may have to be sent again; undefined once it is too much. */
  #replay: Keep | undefined
  /** Received from the stream and not consumed: what it became has not left. */
  #owed = 0
  /** The answer, framed by the close of the connection, or told so. */
  #close = false

  constructor(host: ExchangeHost, head: RequestHead, requestId: string, now: number) {
    this.#host = host
    this.head = head
    this.requestId = requestId
    this.begunAt = now
    this.limits = host.site.limits
    this.#body = bodyOf(head, true, false)
    this.#requestDone = this.#body.done
    this.#replay = this.#requestDone ? NOTHING : new Keep()
    if (this.#requestDone) this.requestDoneAt = now
    this.bytesIn = head.bytes.length
  }

  /** The whole request has come. */
  get requestDone(): boolean {
    return this.#requestDone
  }

  /** The answer has left, or is on its way whole. */
  get answered(): boolean {
    return this.#answered
  }

  /** Its connection carries another protocol. */
  get isSwitched(): boolean {
    return this.#switched
  }

  /** No request can follow on its connection. */
  get closes(): boolean {
    return this.#close
  }

  /** The visitor's bytes cannot be passed on just now. */
  get blocked(): boolean {
    if (this.upstream !== undefined) return this.#blocked
    return !this.#answered && (this.#replay?.bytes ?? 0) >= HELD_BYTES
  }

  /** The visitor waits to be told to send its body. One that is told the answer instead may still send it, or not. */
  get unasked(): boolean {
    return this.head.expects && !this.#continued && this.#body.received === 0
  }

  /** All of it that was sent is at hand, to be sent again. */
  get replayable(): boolean {
    return this.#replay !== undefined
  }

  /** Bytes of the body so far. */
  get bodyBytes(): number {
    return this.#body.received
  }

  // ── The connection speaks ─────────────────────────────────────────────────────────────────────────────

  /** Takes what belongs to the request's body; returns where the rest begins. */
  take(chunk: Uint8Array, at: number): number {
    // It was refused, and the rest of it is for nobody.
    if (this.#answered && this.upstream === undefined) return chunk.length
    const { bodyBytes } = this.limits
    let next: number
    try {
      next = this.#body.push(chunk, at, pieces)
      if (bodyBytes > 0 && this.#body.received > bodyBytes) throw new HttpFault(413, 'its body is too large')
    } catch (error) {
      pieces.length = 0
      if (!(error instanceof HttpFault)) throw error
      this.fault(error)
      return chunk.length
    }
    for (const piece of pieces) this.#send(piece)
    pieces.length = 0
    this.bytesIn += next - at
    if (this.meter !== undefined) this.meter.in += next - at
    if (this.#body.done) {
      this.#requestDone = true
      this.requestDoneAt = performance.now()
      // The answer came first, and only the request was being waited for.
      if (this.#answered) this.#host.answered()
    }
    if (this.blocked) this.#host.flow()
    return next
  }

  /** Bytes of the protocol that the connection was switched to. */
  forward(chunk: Uint8Array): void {
    this.bytesIn += chunk.length
    if (this.meter !== undefined) this.meter.in += chunk.length
    if (this.upstream?.stream.write(chunk) === false) {
      this.#blocked = true
      this.#host.flow()
    }
  }

  /** The visitor's bytes have left: those of the stream that they were made of are consumed. */
  passed(bytes: number): void {
    const owed = this.#host.waiting === 0 ? this.#owed : Math.min(bytes, this.#owed)
    if (owed === 0) return
    this.#owed -= owed
    this.upstream?.stream.consume(owed)
  }

  /** Its stream is the caller's, who ends it; nothing more is heard of it. */
  detach(): Upstream | undefined {
    const { upstream } = this
    this.upstream = undefined
    // What has not left never will: its stream has the whole window again.
    upstream?.stream.consume(this.#owed)
    this.#owed = 0
    upstream?.release()
    return upstream
  }

  // ── The site speaks ───────────────────────────────────────────────────────────────────────────────────

  /** Sends the request by this stream, all that has come of it, and its answer to the visitor. */
  use(upstream: Upstream, changes: RequestChanges, now: number = performance.now()): void {
    this.upstream = upstream
    this.tries++
    this.sentAt = now
    upstream.begin(this, this.head)
    const { stream } = upstream
    let room = stream.write(writeRequest(this.head, changes))
    for (const piece of this.#replay?.chunks ?? []) room = stream.write(piece)
    this.#forgetReplay()
    this.#blocked = !room
    this.#host.flow()
  }

  /** Answers in the target's place. For one whose answer has not begun. */
  refuse(
    problem: Problem,
    options: {
      detail?: string | undefined
      retryAfter?: number | undefined
      location?: string | undefined
    } = {},
  ): void {
    if (this.#answered || this.status !== 0) return
    const { head, requestId } = this
    this.problem = problem
    const bytes = page({
      problem,
      requestId,
      detail: options.detail,
      accept: fieldText(head.bytes, Field.accept),
      head: head.method === 'HEAD',
      close: this.#closesBehind(),
      retryAfter: options.retryAfter,
      location: options.location,
    })
    this.#reply(PAGES[problem].status, bytes)
  }

  /** Answers in the target's place, with what the site has to say. For one whose answer has not begun. */
  answer({ status, type, body }: LocalAnswer): void {
    if (this.#answered || this.status !== 0) return
    const lines = [
      `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
      `Content-Type: ${type}`,
      `Content-Length: ${Buffer.byteLength(body)}`,
      'Cache-Control: no-store',
      ...(this.#closesBehind() ? ['Connection: close'] : []),
    ]
    const head = `${lines.join('\r\n')}\r\n\r\n`
    this.#reply(status, Buffer.from(this.head.method === 'HEAD' ? head : head + body))
  }

  #closesBehind(): boolean {
    this.#close ||= !this.#requestDone || this.head.close || this.#host.closing || this.#host.halfClosed
    return this.#close
  }

  #reply(status: number, bytes: Uint8Array): void {
    this.status = status
    this.firstByteAt = performance.now()
    this.#out(bytes)
    this.#finish()
  }

  /** It is no proper request after all. */
  fault(fault: HttpFault): void {
    // Where the next request begins is not known any more.
    this.#close = true
    this.#giveUp(problemOf(fault), fault, fault.message)
  }

  /** It took too long. */
  expire(problem: Problem, reason: TunnelError): void {
    this.#giveUp(problem, reason)
  }

  // ── The stream speaks ─────────────────────────────────────────────────────────────────────────────────

  received(bytes: number): void {
    this.#owed += bytes
  }

  settled(): void {
    if (this.#host.waiting === 0) this.passed(0)
  }

  interim(head: ResponseHead): void {
    if (head.status === 100) this.#continued = true
    // HTTP/1.0 knows no 1xx (RFC 9110, 15.2).
    if (this.head.version === '1.1') this.#out(writeResponse(head, { close: false }))
  }

  respond(response: ResponseHead): void {
    const { head } = this
    const host = this.#host
    this.status = response.status
    this.firstByteAt = performance.now()
    this.#replay = undefined
    if (response.upgrade !== undefined) {
      this.#switched = true
      this.#out(writeResponse(response, { close: false }))
      host.switched()
      return
    }
    this.#close ||=
      head.close ||
      host.closing ||
      host.halfClosed ||
      response.framing === 'close' ||
      // What follows such a request is not known to be another one.
      head.upgrade !== undefined ||
      (!this.#requestDone && (response.close || this.unasked))
    this.#out(
      writeResponse(response, {
        close: this.#close,
        dechunked: head.version === '1.0',
        transportSecurity: this.transportSecurity,
      }),
    )
  }

  deliver(piece: Uint8Array): void {
    this.#out(piece)
  }

  responded(): void {
    this.#finish()
  }

  finished(): void {
    this.#host.finished()
  }

  drained(): void {
    this.#blocked = false
    this.#host.flow()
  }

  lost(reason: TunnelError): void {
    const { upstream } = this
    this.upstream = undefined
    this.#owed = 0
    if (upstream !== undefined) this.#host.site.lost(this, upstream, reason)
    this.#host.flow()
  }

  broken(reason: TunnelError): void {
    this.upstream = undefined
    this.#owed = 0
    if (this.status === 0) this.refuse(reason instanceof HttpFault ? 'bad_response' : 'lost')
    else this.#break(reason instanceof HttpFault ? 'bad_response' : 'lost', reason)
  }

  // ── What both lead to ─────────────────────────────────────────────────────────────────────────────────

  #send(piece: Uint8Array): void {
    if (this.#replay !== undefined) {
      this.#replay.push(piece)
      this.#forgetReplay()
    }
    // An answer that came before the request's end, and whose stream is gone: the rest is for nobody.
    if (this.upstream?.stream.write(piece) === false) this.#blocked = true
  }

  #forgetReplay(): void {
    if (this.upstream !== undefined && (this.#replay?.bytes ?? 0) > REPLAY_BYTES) this.#replay = undefined
  }

  #out(chunk: Uint8Array): void {
    this.bytesOut += chunk.length
    if (this.meter !== undefined) this.meter.out += chunk.length
    this.#host.push(chunk)
  }

  #finish(): void {
    this.#answered = true
    this.#replay = undefined
    // The rest of a request is taken, so that the answer is read; but only where it is sure to come, and to end.
    if (this.upstream === undefined || this.upstream.stream.closed) this.#close ||= !this.#requestDone
    this.#host.answered()
  }

  #dropUpstream(): void {
    const { upstream } = this
    this.upstream = undefined
    this.#owed = 0
    upstream?.discard()
  }

  /** An answer that has not begun is refused, one that has is cut; after a whole one there is only an end to make. */
  #giveUp(problem: Problem, reason: TunnelError, detail?: string): void {
    this.#dropUpstream()
    this.#close ||= !this.#requestDone
    if (this.#answered) this.#host.answered()
    else if (this.status === 0) this.refuse(problem, detail === undefined ? {} : { detail })
    else this.#break(problem, reason)
  }

  #break(problem: Problem, reason: TunnelError): void {
    this.problem = problem
    this.#answered = true
    this.#close = true
    this.#host.reset(reason)
  }
}

/** What is kept of the body of a request that has none. */
const NOTHING = new Keep()

/** Pieces of one call. */
const pieces: Uint8Array[] = []
