import { type ClientHttp2Stream, constants } from 'node:http2'
import type { Problem } from '../http/index.ts'
import { type RequestChanges, requestFields, trailerFields, writeRequest } from '../http1/index.ts'
import { H2_ANSWER_AHEAD_BYTES } from '../limits.ts'
import type { Carrier } from './carrier.ts'
import type { Http2Exchange } from './exchange.ts'
import { headersOf, joined, sendTrailers, withoutPseudo } from './fields.ts'
import type { Place, TargetSessions } from './target-sessions.ts'

const { NGHTTP2_NO_ERROR, NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM, NGHTTP2_FLAG_END_STREAM } = constants

/** Carries a request to a target that speaks HTTP/2: fields, bodies, trailers and resets as they come, both ways. */
export class Http2Carrier implements Carrier {
  readonly #exchange: Http2Exchange
  readonly #sessions: TargetSessions
  readonly #changes: RequestChanges
  #place: Place | undefined
  #stream: ClientHttp2Stream | undefined
  #trailers: string[] = []
  #released = false
  #responded = false
  #bytesOut = 0
  /** What the target sent has ended: in order, or not. */
  #ended: boolean | undefined
  /** It had a stream that its target said it never looked at. */
  #refused = false

  constructor(exchange: Http2Exchange, sessions: TargetSessions, changes: RequestChanges) {
    this.#exchange = exchange
    this.#sessions = sessions
    this.#changes = changes
  }

  get bytesOut(): number {
    return this.#bytesOut - (this.#stream?.writableLength ?? 0)
  }

  /** Waits for a place on a connection to the target. */
  begin(): void {
    this.#sessions.want(this)
  }

  /** There is a place. */
  given(place: Place): void {
    const { head, wantsTrailers, bare } = this.#exchange
    const fields = requestFields(writeRequest(head, this.#changes))
    const host = fields.indexOf('host')
    const [, authority = ''] = fields.splice(host, 2)
    if (wantsTrailers) fields.push('te', 'trailers')
    const pseudo = {
      ':method': head.method,
      ':scheme': 'http',
      ':authority': authority,
      ':path': this.#changes.target ?? head.target,
    }
    this.#place = place
    const options = { endStream: bare, waitForTrailers: true }
    const stream = place.request(joined(headersOf(pseudo, fields)), options)
    this.#stream = stream
    this.#watchEnd(stream)
    stream.on('error', ignore)
    stream.on('headers', this.#onInterim)
    stream.on('response', this.#onResponse)
    stream.on('trailers', this.#onTrailers)
    stream.on('data', this.#onData)
    stream.on('end', this.#onEnd)
    stream.on('close', this.#onClose)
    stream.on('drain', this.#onDrain)
    stream.on('wantTrailers', this.#onWantTrailers)
    this.#exchange.ready(true)
  }

  /** There will be none. */
  denied(problem: Problem): void {
    if (this.#released) return
    this.#released = true
    this.#exchange.broken(problem)
  }

  write(piece: Uint8Array): boolean {
    this.#bytesOut += piece.length
    return this.#stream?.write(piece) ?? true
  }

  end(trailers: string[]): void {
    this.#trailers = trailers
    const stream = this.#stream
    if (stream !== undefined && !stream.writableEnded) stream.end()
  }

  passed(waiting: number): void {
    if (waiting < H2_ANSWER_AHEAD_BYTES) this.#stream?.resume()
  }

  release(_whole: boolean, code: number): void {
    if (this.#released) return
    this.#released = true
    const stream = this.#stream
    if (stream === undefined) this.#sessions.forget(this)
    else if (!this.#responded || !stream.writableFinished) {
      // One that its target has closed by code 0 while a piece waited is closed to Node 20, and never over.
      if (stream.closed) stream.destroy()
      else stream.close(code)
    }
  }

  // ── The target speaks ─────────────────────────────────────────────────────────────────────────────────

  readonly #onInterim = (_headers: unknown, _flags: number, raw: readonly string[]): void => {
    if (!this.#released) this.#exchange.interim(statusOf(raw), withoutPseudo(raw))
  }

  readonly #onResponse = (_headers: unknown, flags: number, raw: readonly string[]): void => {
    if (this.#released) return
    this.#exchange.respond(statusOf(raw), withoutPseudo(raw))
    if ((flags & NGHTTP2_FLAG_END_STREAM) !== 0) this.#whole([])
    this.#exchange.flush()
  }

  readonly #onData = (piece: Uint8Array): void => {
    if (this.#released) return
    this.#exchange.deliver(piece)
    if (this.#exchange.flush() >= H2_ANSWER_AHEAD_BYTES) this.#stream?.pause()
  }

  readonly #onTrailers = (_headers: unknown, _flags: number, raw: readonly string[]): void => {
    this.#trailersIn = trailerFields(raw)
  }
  #trailersIn: string[] = []

  readonly #onEnd = (): void => {
    const stream = this.#stream
    if (this.#released || this.#responded || stream === undefined) return
    if (!this.#ended || stream.rstCode !== NGHTTP2_NO_ERROR || this.#exchange.status === 0) return
    this.#whole(this.#trailersIn)
    this.#exchange.flush()
  }

  readonly #onDrain = (): void => {
    this.#exchange.drained()
  }

  readonly #onWantTrailers = (): void => {
    if (this.#stream !== undefined) sendTrailers(this.#stream, this.#trailers)
  }

  readonly #onClose = (): void => {
    const code = this.#stream?.rstCode ?? NGHTTP2_CANCEL
    const place = this.#place
    this.#place = undefined
    place?.leave()
    if (this.#released || this.#responded) return
    const exchange = this.#exchange
    const lost = place?.lost()
    if (exchange.status === 0 && lost !== undefined) {
      this.#released = true
      exchange.broken(lost)
    } else if (code === NGHTTP2_REFUSED_STREAM && exchange.replayable && !this.#refused) {
      // It was never looked at (RFC 9113, 8.7): a connection that goes away says so of those that came too late.
      this.#refused = true
      this.#stream = undefined
      this.#ended = undefined
      exchange.pause()
      this.begin()
    } else {
      this.#released = true
      exchange.problem = 'lost'
      exchange.reset(code === NGHTTP2_NO_ERROR ? constants.NGHTTP2_INTERNAL_ERROR : code, 'reset')
    }
  }

  /**
   * Node ends what is read of a stream in the same way after its last byte and after a reset by code 0, which is what a
   * server of Node's sends that is closed in the midst of an answer. Only the stream is closed first then.
   */
  #watchEnd(stream: ClientHttp2Stream): void {
    const push = stream.push.bind(stream)
    stream.push = (chunk, encoding) => {
      if (chunk === null) this.#ended ??= !stream.closed
      return push(chunk, encoding)
    }
  }

  #whole(trailers: string[]): void {
    this.#responded = true
    this.#exchange.responded(trailers)
  }
}

function statusOf(raw: readonly string[]): number {
  return Number(raw[raw.indexOf(':status') + 1])
}

function ignore(): void {}
