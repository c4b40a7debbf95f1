import { constants, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { TunnelError } from '../errors.ts'
import { nextRequestId, pageOf, problemOf, type SweepMember, sweep } from '../http/index.ts'
import { HttpFault } from '../http1/index.ts'
import {
  APOLOGY_LINGER_MS,
  H2_EMPTY_BYTES_BURST,
  H2_EMPTY_BYTES_PER_SECOND,
  H2_HELD_BYTES,
  H2_RESETS_BURST,
  H2_RESETS_PER_SECOND,
  H2_SESSION_WINDOW_BYTES,
  STALLED_MS,
} from '../limits.ts'
import { stopSending } from './answer.ts'
import { Http2Exchange, type Http2Host } from './exchange.ts'
import { headersOf, lowered } from './fields.ts'
import { readRequest } from './head.ts'
import type { Http2Site } from './site.ts'

const { NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_REFUSED_STREAM, NGHTTP2_FLAG_END_STREAM } = constants

/** Bytes that lie between visitors and targets, of many connections, as of their last sweeps. */
export class Held {
  bytes = 0
  /** Past it who stands still is reset. */
  readonly most: number

  constructor(most: number = H2_HELD_BYTES) {
    this.most = most
  }
}

/** A visitor's HTTP/2 connection: makes an exchange of each of its streams, and ends it when it is idle, or a flood. */
export class Http2Connection implements Http2Host, SweepMember {
  readonly site: Http2Site
  /** Requests so far. */
  requests = 0
  readonly #session: ServerHttp2Session
  readonly #socket: Duplex & { bytesRead?: number }
  readonly #ended: (connection: Http2Connection) => void
  readonly #exchanges = new Set<Http2Exchange>()
  #last: { hostText: string; host: string } | undefined
  /** Since when it waits for a request. */
  #since = performance.now()
  #greeted = false
  #draining = false
  #over = false
  #error: TunnelError | undefined
  /** Its part of what all hold. */
  #held = 0
  readonly #allHeld: Held
  /** Requests that it may take back, and bytes without meaning that it may send. */
  #resets = H2_RESETS_BURST
  #empty = H2_EMPTY_BYTES_BURST
  #sweptAt = performance.now()
  #bytesRead = 0
  /** Bytes of heads and bodies, of exchanges that are over and in all. */
  #meant = 0
  #meantBefore = 0

  constructor(
    session: ServerHttp2Session,
    socket: Duplex,
    site: Http2Site,
    held: Held,
    ended: (connection: Http2Connection) => void,
  ) {
    this.#session = session
    this.#socket = socket
    this.site = site
    this.#allHeld = held
    this.#ended = ended
    if (!session.destroyed) {
      session.setLocalWindowSize(H2_SESSION_WINDOW_BYTES)
      if (site.origins.length > 0) session.origin(...site.origins)
    }
    session.on('stream', this.#onStream as never)
    session.on('remoteSettings', () => (this.#greeted = true))
    session.on('error', this.#onError)
    session.once('close', this.#onClose)
    // HTTP/2 has no half of a connection. Node waits for the streams that are open, whose visitor is gone.
    socket.once('end', () => this.#destroy())
    sweep.add(this)
    // Its close is over, and Node would tell nobody.
    if (socket.destroyed) queueMicrotask(this.#onClose)
  }

  /** Requests that are under way. */
  get active(): number {
    return this.#exchanges.size
  }

  /** Since when it waits for a request (ms); undefined while it has one. */
  get idleSince(): number | undefined {
    return this.#exchanges.size === 0 ? this.#since : undefined
  }

  /** Takes no further request: ends when those that are under way are over. */
  drain(): void {
    if (this.#draining || this.#over) return
    this.#draining = true
    if (this.#exchanges.size === 0) this.#since = performance.now()
    this.#session.close()
  }

  /** Ends it at once, and all that is under way. */
  cut(reason: TunnelError): void {
    this.#error ??= reason
    this.#destroy()
  }

  /** From an exchange. */
  over(exchange: Http2Exchange, takenBack: boolean): void {
    this.#exchanges.delete(exchange)
    this.#meant += exchange.bytesIn
    if (this.#exchanges.size === 0) this.#since = performance.now()
    if (takenBack && !this.#over && !this.#session.destroyed && --this.#resets < 0)
      this.#flood('requests that it takes back')
  }

  // ── The session speaks ────────────────────────────────────────────────────────────────────────────────

  readonly #onStream = (
    stream: ServerHttp2Stream,
    _headers: unknown,
    flags: number,
    raw: readonly string[],
  ): void => {
    this.requests++
    // Before all else: an error of the connection is one of each of its streams, and of the process if nobody listens.
    stream.on('error', ignore)
    if (stream.destroyed || stream.closed) return this.#tookBack()
    if (this.#draining || this.#over) {
      stream.close(NGHTTP2_REFUSED_STREAM)
      return
    }
    const ended = (flags & NGHTTP2_FLAG_END_STREAM) !== 0
    const { site } = this
    try {
      const asking = readRequest(raw, ended, site.limits.headBytes, this.#last)
      const { hostText, host } = asking.head
      if (hostText !== this.#last?.hostText) this.#last = { hostText, host }
      const exchange = new Http2Exchange(
        this,
        stream,
        asking,
        ended,
        asking.head.requestId ?? nextRequestId(),
      )
      this.#exchanges.add(exchange)
      const refusal = site.begin(exchange)
      if (refusal !== undefined) exchange.refuse(refusal.problem, refusal)
      else site.seek(exchange)
    } catch (error) {
      if (!(error instanceof HttpFault)) throw error
      this.#refuse(stream, error, ended)
    }
  }

  /** It was reset before it was looked at. */
  #tookBack(): void {
    if (--this.#resets < 0) this.#flood('requests that it takes back')
  }

  /** It is no proper request: its sender is told, and no site is asked. */
  #refuse(stream: ServerHttp2Stream, fault: HttpFault, ended: boolean): void {
    const problem = problemOf(fault)
    const requestId = nextRequestId()
    const { status, fields, body } = pageOf({ problem, requestId, detail: fault.message, accept: undefined })
    stream.respond(headersOf({ ':status': status }, lowered(fields)))
    if (!stream.writableEnded) stream.end(body)
    if (!ended) stopSending(stream)
    this.site.malformed(problem, requestId)
  }

  readonly #onError = (cause: NodeJS.ErrnoException): void => {
    const detail = `the visitor's connection broke (${cause.code ?? cause.message})`
    this.#error ??= new TunnelError('reset', { scope: 'visitor', remote: true, detail, cause })
  }

  readonly #onClose = (): void => {
    if (this.#over) return
    this.#over = true
    sweep.delete(this)
    this.#allHeld.bytes -= this.#held
    this.#held = 0
    for (const each of this.#exchanges) each.gone()
    if (!this.#socket.destroyed) this.#socket.destroy()
    this.#ended(this)
    this.site.closed(this.#error)
  }

  // ── Time ──────────────────────────────────────────────────────────────────────────────────────────────

  sweep(now: number): void {
    const seconds = (now - this.#sweptAt) / 1000
    this.#sweptAt = now
    this.#resets = Math.min(H2_RESETS_BURST, this.#resets + seconds * H2_RESETS_PER_SECOND)
    this.#sweepExchanges(now)
    this.#sweepEmpty(seconds)
    if (this.#over || this.#exchanges.size > 0) return
    const { headMs, idleMs } = this.site.limits
    const waited = now - this.#since
    // Node ends one that drains by itself, unless a frame waits when its last stream closes: then it forgets. And it waits
    // for the visitor to close its side, however long.
    if (this.#draining) {
      if (waited > APOLOGY_LINGER_MS) this.#socket.destroy()
    } else if (waited > (this.#greeted ? idleMs : headMs)) this.drain()
  }

  /** Of those that stand still the connection may not keep what others need. */
  #sweepExchanges(now: number): void {
    let held = 0
    for (const each of this.#exchanges) {
      const quiet = each.sweep(now)
      if (this.#allHeld.bytes > this.#allHeld.most && quiet > STALLED_MS && each.held > 0)
        each.reset(NGHTTP2_ENHANCE_YOUR_CALM, 'out_of_memory')
      held += each.held
    }
    this.#allHeld.bytes += held - this.#held
    this.#held = held
  }

  #sweepEmpty(seconds: number): void {
    const { bytesRead } = this.#socket
    if (bytesRead === undefined) return
    let meant = this.#meant
    for (const each of this.#exchanges) meant += each.bytesCame
    const came = bytesRead - this.#bytesRead
    const empty = came - 2 * (meant - this.#meantBefore)
    this.#bytesRead = bytesRead
    this.#meantBefore = meant
    this.#empty = Math.min(H2_EMPTY_BYTES_BURST, this.#empty - empty + seconds * H2_EMPTY_BYTES_PER_SECOND)
    if (this.#empty < 0) this.#flood('bytes that mean nothing')
  }

  #flood(of: string): void {
    const detail = `the visitor sends a flood of ${of}`
    this.#error ??= new TunnelError('flood', { scope: 'visitor', remote: true, detail })
    this.#destroy(NGHTTP2_ENHANCE_YOUR_CALM)
  }

  /** Ends it with a GOAWAY, which a visitor that reads nothing may never take: the sweep sees to that. */
  #destroy(code?: number): void {
    this.#draining = true
    this.#since = performance.now()
    this.#session.destroy(undefined, code)
  }
}

function ignore(): void {}
