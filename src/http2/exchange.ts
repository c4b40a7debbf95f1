import { constants, type ServerHttp2Stream } from 'node:http2'
import type { TunnelError } from '../errors.ts'
import {
  BodyPace,
  type ExchangeLimits,
  type Meter,
  PAGES,
  type Problem,
  pageOf,
  type Upstream,
} from '../http/index.ts'
import { Field, type FieldList, fieldText, type RequestChanges, trailerFields } from '../http1/index.ts'
import { REPLAY_BYTES } from '../limits.ts'
import { Keep } from '../net/index.ts'
import { Answer, stopSending } from './answer.ts'
import type { Carrier } from './carrier.ts'
import { lowered } from './fields.ts'
import type { Asking } from './head.ts'
import { Http1Carrier } from './http1-carrier.ts'
import { Http2Carrier } from './http2-carrier.ts'
import type { Http2Site } from './site.ts'
import type { TargetSessions } from './target-sessions.ts'

const { NGHTTP2_NO_ERROR, NGHTTP2_INTERNAL_ERROR, NGHTTP2_PROTOCOL_ERROR, NGHTTP2_CANCEL } = constants

/** What an exchange asks of the connection that it came by. */
export interface Http2Host {
  readonly site: Http2Site
  /** Its stream is closed. */
  over(exchange: Http2Exchange, takenBack: boolean): void
}

/**
 * One request by HTTP/2 and its answer: the visitor's side of it. A carrier has the other. Owns the visitor's stream.
 *
 * Nothing is read of a body before there is a target, and then as fast as that takes it; a byte of the answer is
 * consumed from its stream when it has left. So what lies here is bounded by the windows of both sides.
 */
export class Http2Exchange {
  readonly head: Asking['head']
  readonly requestId: string
  /** Milliseconds on the clock of `performance.now()`. */
  readonly begunAt: number
  requestDoneAt = 0
  /** When it was last given a target. */
  sentAt = 0
  firstByteAt = 0
  /** Set by the site in `begin`. */
  limits: ExchangeLimits
  meter: Meter | undefined
  /** Bytes of the request and of the answer, heads too, uncompressed. */
  bytesIn: number
  bytesOut = 0
  /** Of the answer, once it has begun; 0 before. */
  status = 0
  /** Why there was no answer from a target, or only part of one. */
  problem: Problem | undefined
  /** Why it was over before it was whole: a code of `TunnelError`. */
  cut: string | undefined
  /** The stream that carries it, or carried it last, to an HTTP/1.1 target. */
  upstream: Upstream | undefined
  /** Times that it was given a target. */
  tries = 0
  /** It ended with its head. */
  readonly bare: boolean
  /** `te: trailers`. */
  readonly wantsTrailers: boolean

  readonly #host: Http2Host
  readonly #stream: ServerHttp2Stream
  #carrier: Carrier | undefined
  #requestDone: boolean
  #received = 0
  #trailers: FieldList = []
  #reading = false
  #blocked = false
  #continued = false
  /** Body, while it may have to be sent again; undefined once it is too much, or the answer has begun. */
  #replay: Keep | undefined = new Keep()
  readonly #answer: Answer
  /** The answer is whole, or there will be none. */
  #answered = false
  /** We closed the stream, for a reason of ours. */
  #closed = false
  #over = false
  readonly #pace = new BodyPace()
  #moved = 0
  #movedAt: number

  /** `stream` has somebody for its errors: its end says why. */
  constructor(host: Http2Host, stream: ServerHttp2Stream, asking: Asking, ended: boolean, requestId: string) {
    this.#host = host
    this.#stream = stream
    this.#answer = new Answer(stream, this.#onWritten)
    this.head = asking.head
    this.wantsTrailers = asking.trailers
    this.requestId = requestId
    this.begunAt = performance.now()
    this.#movedAt = this.begunAt
    this.#pace.begin(this.begunAt)
    this.limits = host.site.limits
    this.bytesIn = asking.head.bytes.length
    this.#requestDone = ended
    if (ended) this.requestDoneAt = this.begunAt
    stream.on('close', this.#onClose)
    stream.on('aborted', this.#onAborted)
    this.bare = ended
    if (ended) return
    // The end of an empty body is told to whoever is there, read or not.
    stream.on('end', this.#onEnd)
    stream.on('trailers', this.#onTrailers)
  }

  /** The whole request has come. */
  get requestDone(): boolean {
    return this.#requestDone
  }

  /** The answer is whole, or there will be none. */
  get answered(): boolean {
    return this.#answered
  }

  /** Its stream is closed: nothing can come of it. */
  get closed(): boolean {
    return this.#over || this.#stream.closed
  }

  /** All of it that was sent is at hand, to be sent again. */
  get replayable(): boolean {
    return this.#replay !== undefined
  }

  /** Bytes of the body so far. */
  get bodyBytes(): number {
    return this.#received
  }

  /** Bytes that lie here: of a body that its target does not take, of an answer that the visitor does not. */
  get held(): number {
    return this.#stream.readableLength + this.#stream.writableLength
  }

  /** Bytes of the request that came, also those that nobody has looked at. */
  get bytesCame(): number {
    return this.bytesIn + this.#stream.readableLength
  }

  /** The visitor waits to be told to send its body. */
  get #unasked(): boolean {
    return this.head.expects && !this.#continued && this.#received === 0
  }

  // ── The site speaks ───────────────────────────────────────────────────────────────────────────────────

  /** Sends the request by this stream, all that has come of it, and its answer to the visitor. */
  use(upstream: Upstream, changes: RequestChanges, now: number = performance.now()): void {
    if (this.#stream.closed || this.#answered) return upstream.discard()
    const carrier = new Http1Carrier(this, upstream)
    this.upstream = upstream
    this.#carry(carrier, now)
    const room = carrier.begin(changes)
    this.ready(room)
  }

  /** Sends it to a target of HTTP/2, when there is a place for it. */
  relay(sessions: TargetSessions, changes: RequestChanges, now: number = performance.now()): void {
    if (this.#stream.closed || this.#answered) return
    const carrier = new Http2Carrier(this, sessions, changes)
    this.#carry(carrier, now)
    carrier.begin()
  }

  /** The site's own answer. Names in lower case and values in turn. */
  answer(status: number, fields: FieldList, body: Uint8Array): void {
    if (this.#answered || this.status !== 0) return
    this.#drop(NGHTTP2_CANCEL)
    this.respond(status, fields)
    if (this.head.method !== 'HEAD' && body.length > 0) this.deliver(body)
    this.responded([])
    this.flush()
  }

  /** Answers in the target's place, with the page of a problem. For one whose answer has not begun. */
  refuse(
    problem: Problem,
    options: {
      detail?: string | undefined
      retryAfter?: number | undefined
      location?: string | undefined
    } = {},
  ): void {
    if (this.#answered || this.status !== 0) return
    this.problem = problem
    const accept = fieldText(this.head.bytes, Field.accept)
    const page = pageOf({ problem, requestId: this.requestId, accept, ...options })
    this.answer(PAGES[problem].status, lowered(page.fields), page.body)
  }

  /** Resets the stream, and lets go of the target. */
  reset(code: number, cut: string): void {
    if (this.#over) return
    this.cut ??= cut
    this.#answered = true
    this.#closed = true
    this.#drop(code)
    // One that its visitor has closed by code 0 while a piece waited is closed to Node 20, and never over.
    if (this.#stream.closed) this.#stream.destroy()
    else this.#stream.close(code)
  }

  /** Its connection is gone. */
  gone(): void {
    this.#onClose()
  }

  // ── The carrier speaks ────────────────────────────────────────────────────────────────────────────────

  /** It takes the body: what has come of it, then what comes. `room` as `write` returns it. */
  ready(room: boolean): void {
    const carrier = this.#carrier
    if (carrier === undefined) return
    let more = room
    for (const piece of this.#replay?.chunks ?? []) more = carrier.write(piece)
    if (this.#requestDone) carrier.end(this.#trailers)
    else if (more) this.#read()
    else this.#block()
  }

  interim(status: number, fields: FieldList): void {
    if (status === 100) this.#continued = true
    this.#answer.interim(status, fields)
  }

  /** The head of the answer. */
  respond(status: number, fields: FieldList): void {
    this.status = status
    this.firstByteAt = performance.now()
    this.#replay = undefined
    const { hsts } = this.#host.site
    const all = hsts === undefined || has(fields, HSTS) ? fields : [...fields, HSTS, hsts]
    for (const text of all) this.#count(text.length)
    this.#answer.begin(status, all, this.#carrier instanceof Http2Carrier)
  }

  deliver(piece: Uint8Array): void {
    this.#count(piece.length)
    this.#answer.deliver(piece)
  }

  /** The answer is whole. */
  responded(trailers: FieldList): void {
    this.#answered = true
    this.#answer.finish(trailers)
  }

  /** Passes on what came of the answer. Returns how many bytes of it have not left. */
  flush(): number {
    if (!this.#answer.flush()) {
      this.problem = 'bad_response'
      this.reset(NGHTTP2_INTERNAL_ERROR, 'bad_message')
    } else if (this.#answered && !this.#requestDone) stopSending(this.#stream)
    return this.#answer.waiting
  }

  /** Reads no more of the body, until its carrier is `ready` again or another is. */
  pause(): void {
    this.#blocked = false
    if (this.#reading && !this.#requestDone) this.#stream.pause()
  }

  drained(): void {
    this.#blocked = false
    if (this.#carrier !== undefined && this.#reading && !this.#requestDone) {
      // The time that others took is not the visitor's.
      this.#pace.resume(performance.now(), this.#received)
      this.#stream.resume()
    }
  }

  /** Its target is gone without a byte of an answer. */
  lost(upstream: Upstream, reason: TunnelError): void {
    this.pause()
    this.#carrier = undefined
    this.#host.site.lost(this, upstream, reason)
  }

  /** Its target is gone, or speaks no proper HTTP. `code` is what a reset says of it. */
  broken(problem: Problem, code: number = NGHTTP2_INTERNAL_ERROR): void {
    this.pause()
    this.#carrier = undefined
    if (this.status === 0) this.refuse(problem)
    else if (!this.#answered) {
      this.problem = problem
      this.reset(code, 'reset')
    }
  }

  // ── The visitor speaks ────────────────────────────────────────────────────────────────────────────────

  #read(): void {
    const stream = this.#stream
    if (!this.#reading) {
      this.#reading = true
      this.#pace.begin(performance.now())
      stream.on('data', this.#onData)
    } else stream.resume()
  }

  readonly #onData = (piece: Uint8Array): void => {
    const { head, limits, meter } = this
    // It was refused, or answered: the rest is for nobody.
    if (this.#answered) return
    const { length } = piece
    this.#received += length
    this.bytesIn += length
    if (meter !== undefined) meter.in += length
    if (limits.bodyBytes > 0 && this.#received > limits.bodyBytes) return this.#giveUp('body_too_large')
    if (head.framing !== 'chunked' && this.#received > head.length) return this.#malformed()
    if (this.#replay !== undefined) {
      this.#replay.push(piece)
      if (this.#replay.bytes > REPLAY_BYTES) this.#replay = undefined
    }
    if (this.#carrier?.write(piece) === false) this.#block()
  }

  readonly #onTrailers = (_headers: unknown, _flags: number, raw: readonly string[]): void => {
    if (!this.#answered) this.#trailers = trailerFields(raw)
  }

  readonly #onEnd = (): void => {
    // Half a request has an end too when its stream is closed, by whomever.
    if (this.#requestDone || this.#answered || this.#stream.aborted || this.#stream.rstCode !== 0) return
    const { head } = this
    if (head.framing === 'length' && this.#received < head.length) return this.#malformed()
    this.#requestDone = true
    this.requestDoneAt = performance.now()
    this.#carrier?.end(this.#trailers)
  }

  /** One that its visitor closes by code 0 is over to Node when all of it was read, which nobody may ever do. */
  readonly #onAborted = (): void => {
    if (!this.#closed) setImmediate(() => this.#stream.destroy())
  }

  readonly #onClose = (): void => {
    if (this.#over) return
    this.#over = true
    const { rstCode } = this.#stream
    const takenBack = !this.#answered && !this.#closed
    if (takenBack) this.cut ??= 'reset'
    const carrier = this.#carrier
    this.#carrier = undefined
    carrier?.release(
      this.#answered && this.#requestDone,
      rstCode === NGHTTP2_NO_ERROR ? NGHTTP2_CANCEL : rstCode,
    )
    this.#replay = undefined
    this.#answer.drop()
    this.#host.over(this, takenBack)
    this.#host.site.done(this, performance.now())
  }

  readonly #onWritten = (): void => {
    this.#carrier?.passed(this.#answer.waiting)
  }

  // ── Time ──────────────────────────────────────────────────────────────────────────────────────────────

  /** From the connection's sweep: ends what waits too long. Returns how long nothing has moved, in ms. */
  sweep(now: number): number {
    const { limits } = this
    const waiting = this.#answer.waiting
    const moved = this.bytesIn + this.bytesOut - waiting + (this.#carrier?.bytesOut ?? 0)
    if (moved !== this.#moved) {
      this.#moved = moved
      this.#movedAt = now
    }
    const quiet = now - this.#movedAt
    if (waiting > 0 || this.#answered) {
      if (quiet > limits.stallMs) this.reset(NGHTTP2_CANCEL, 'idle')
    } else if (!this.#requestDone) this.#sweepRequest(now, quiet)
    else if (this.#tooLate(now, this.requestDoneAt)) this.#giveUp('response_timeout')
    return quiet
  }

  #sweepRequest(now: number, quiet: number): void {
    const { limits } = this
    if (this.#carrier === undefined || !this.#reading || this.#unasked) {
      // It waits for a target, or for its word, which is not its own slowness.
      this.#pace.resume(now, this.#received)
      if (this.#unasked && this.#tooLate(now, this.begunAt)) this.#giveUp('response_timeout')
    } else if (this.#blocked) {
      if (quiet > limits.stallMs) this.#giveUp('response_timeout')
    } else if (
      this.status === 0 &&
      !this.#converses &&
      this.#pace.tooSlow(now, this.#received, limits.bodyRate)
    )
      this.#giveUp('body_timeout')
  }

  #tooLate(now: number, since: number): boolean {
    return (
      this.#carrier !== undefined &&
      this.status === 0 &&
      !this.#converses &&
      now - Math.max(since, this.sentAt) > this.limits.responseMs
    )
  }

  /** A call of gRPC, which may be silent for as long as its caller wants: that says so itself (`grpc-timeout`). */
  get #converses(): boolean {
    return this.#carrier instanceof Http2Carrier && this.wantsTrailers
  }

  // ── What all lead to ──────────────────────────────────────────────────────────────────────────────────

  #carry(carrier: Carrier, now: number): void {
    this.#carrier = carrier
    this.tries++
    this.sentAt = now
  }

  #block(): void {
    this.#blocked = true
    this.#stream.pause()
  }

  #count(bytes: number): void {
    this.bytesOut += bytes
    if (this.meter !== undefined) this.meter.out += bytes
  }

  #drop(code: number): void {
    const carrier = this.#carrier
    this.#carrier = undefined
    carrier?.release(false, code)
  }

  /** RFC 9113, 8.1.1: a body that is not as long as it said. */
  #malformed(): void {
    this.problem = 'bad_request'
    this.reset(NGHTTP2_PROTOCOL_ERROR, 'bad_message')
  }

  /** An answer that has not begun is refused, one that has is cut. */
  #giveUp(problem: Problem): void {
    this.#drop(NGHTTP2_CANCEL)
    if (this.status === 0) this.refuse(problem)
    else {
      this.problem = problem
      this.reset(NGHTTP2_INTERNAL_ERROR, 'idle')
    }
  }
}

const HSTS = 'strict-transport-security'

function has(fields: FieldList, name: string): boolean {
  for (let at = 0; at < fields.length; at += 2) if (fields[at] === name) return true
  return false
}
