import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type ClientSessionRequestOptions,
  connect,
  type OutgoingHttpHeaders,
} from 'node:http2'
import type { Duplex } from 'node:stream'
import { type Problem, type SweepMember, sweep } from '../http/index.ts'
import {
  H2_EXTRA_FIELDS,
  H2_SESSION_WINDOW_BYTES,
  H2_STREAM_WINDOW_BYTES,
  H2_STREAMS,
  H2C_CLOSING_MS,
  H2C_IDLE_MS,
  H2C_SESSIONS,
  H2C_WAITING,
  HTTP_FIELDS,
  HTTP_RESPONSE_HEAD_BYTES,
  TARGET_CONNECT_MS,
} from '../limits.ts'

/** Room for one stream on a connection to the target. */
export interface Place {
  request(headers: OutgoingHttpHeaders, options: ClientSessionRequestOptions): ClientHttp2Stream
  /** The stream is closed. */
  leave(): void
  /** What became of the connection, if it did not end in order. */
  lost(): Problem | undefined
}

/** Whoever waits for a place. */
export interface Applicant {
  given(place: Place): void
  denied(problem: Problem): void
}

/**
 * Connections to one target that speaks HTTP/2 without TLS, shared by all its visitors. One is dialled when there is no
 * place on those at hand, one at a time; a target says how many streams it takes (RFC 9113, 5.1.2), and what is
 * more waits here, so many and so long.
 */
export class TargetSessions implements SweepMember {
  readonly #dial: () => Duplex | undefined
  readonly #sessions = new Set<TargetSession>()
  /** When each came. */
  readonly #waiting = new Map<Applicant, number>()
  #closed = false

  /** `dial` begins a connection to the target, which is ours from then on; undefined: there are too many. */
  constructor(dial: () => Duplex | undefined) {
    this.#dial = dial
  }

  /** Connections, streams on them, and requests that wait for one. */
  get size(): { sessions: number; streams: number; waiting: number } {
    let streams = 0
    for (const each of this.#sessions) streams += each.streams
    return { sessions: this.#sessions.size, streams, waiting: this.#waiting.size }
  }

  /** Calls one of the applicant's two, now or later, unless it is forgotten before. */
  want(applicant: Applicant): void {
    if (this.#closed) return applicant.denied('draining')
    const session = this.#free()
    if (session !== undefined) return session.admit(applicant)
    if (this.#waiting.size >= H2C_WAITING) return applicant.denied('overloaded')
    this.#waiting.set(applicant, performance.now())
    this.#grow()
  }

  forget(applicant: Applicant): void {
    this.#waiting.delete(applicant)
  }

  /** Takes no further request, and ends the connections when theirs are over. */
  close(): void {
    this.#closed = true
    this.#deny('draining')
    for (const each of this.#sessions) each.close()
  }

  sweep(now: number): void {
    for (const [applicant, since] of this.#waiting) {
      if (now - since <= TARGET_CONNECT_MS) break
      this.#waiting.delete(applicant)
      applicant.denied('timeout')
    }
    for (const each of this.#sessions) each.sweep(now)
  }

  // ── A connection speaks ───────────────────────────────────────────────────────────────────────────────

  /** There is room, or may be. */
  serve(): void {
    for (const [applicant] of this.#waiting) {
      const session = this.#free()
      if (session === undefined) break
      this.#waiting.delete(applicant)
      session.admit(applicant)
    }
    this.#grow()
  }

  /** `problem`: it never came to be one. */
  gone(session: TargetSession, problem: Problem | undefined): void {
    this.#sessions.delete(session)
    if (this.#sessions.size === 0) sweep.delete(this)
    // Nobody else is asked in its place: whoever waited would wait for the same again.
    if (problem !== undefined) this.#deny(problem)
    else this.#grow()
  }

  #free(): TargetSession | undefined {
    for (const each of this.#sessions) if (each.free) return each
    return undefined
  }

  #grow(): void {
    if (this.#waiting.size === 0 || this.#closed || this.#sessions.size >= H2C_SESSIONS) return
    for (const each of this.#sessions) if (each.begins) return
    const socket = this.#dial()
    if (socket === undefined) {
      // With a connection at hand there will be a place on it; without one nothing would tell of a later one.
      if (this.#sessions.size === 0) this.#deny('overloaded')
      return
    }
    if (this.#sessions.size === 0) sweep.add(this)
    this.#sessions.add(new TargetSession(this, socket))
  }

  #deny(problem: Problem): void {
    const waiting = [...this.#waiting.keys()]
    this.#waiting.clear()
    for (const each of waiting) each.denied(problem)
  }
}

/** One connection to the target. */
class TargetSession {
  readonly #owner: TargetSessions
  readonly #session: ClientHttp2Session
  readonly #socket: Duplex
  readonly #since = performance.now()
  streams = 0
  #max = 0
  #idleSince = 0
  #lost: Problem | undefined
  #leaving = false
  readonly #open = new Set<ClientHttp2Stream>()
  /** Streams that we have closed, and since when they have not ended. */
  readonly #closing = new Map<ClientHttp2Stream, number>()

  constructor(owner: TargetSessions, socket: Duplex) {
    this.#owner = owner
    this.#socket = socket
    const session = connect('http://target', {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: H2_STREAM_WINDOW_BYTES },
      maxHeaderListPairs: HTTP_FIELDS + H2_EXTRA_FIELDS,
      maxSendHeaderBlockLength: 2 * HTTP_RESPONSE_HEAD_BYTES,
    })
    this.#session = session
    session.on('remoteSettings', ({ maxConcurrentStreams = H2_STREAMS }) => {
      // Events of Node's come a moment later, when it may be over.
      if (session.destroyed) return
      if (this.#max === 0) session.setLocalWindowSize(H2_SESSION_WINDOW_BYTES)
      this.#max = Math.min(maxConcurrentStreams, H2_STREAMS)
      owner.serve()
    })
    session.on('goaway', () => this.close())
    session.on('error', (error: NodeJS.ErrnoException) => {
      this.#lost = this.#max === 0 ? (PROBLEMS[error.code ?? ''] ?? 'bad_response') : 'lost'
    })
    session.once('close', () => {
      const never = this.#max === 0 ? (this.#lost ?? 'no_answer') : undefined
      this.#lost ??= 'lost'
      owner.gone(this, never)
    })
  }

  /** It is not known yet to be a connection to a target that speaks HTTP/2. */
  get begins(): boolean {
    return this.#max === 0 && !this.#leaving
  }

  get free(): boolean {
    return this.streams < this.#max && !this.#leaving && !this.#session.closed && !this.#session.destroyed
  }

  admit(applicant: Applicant): void {
    this.streams++
    applicant.given({
      request: (headers, options) => this.#request(headers, options),
      leave: () => this.#left(),
      lost: () => (this.#session.destroyed ? (this.#lost ?? 'lost') : undefined),
    })
  }

  close(): void {
    if (this.#leaving) return
    this.#leaving = true
    if (!this.#session.closed) this.#session.close()
    if (this.streams === 0) this.#end()
  }

  sweep(now: number): void {
    if (this.begins && now - this.#since > TARGET_CONNECT_MS) {
      this.#lost = 'timeout'
      this.#session.destroy()
    } else if (this.#isDead(now)) {
      this.#lost = 'lost'
      this.#session.destroy()
    } else if (this.streams === 0 && this.#max > 0 && now - this.#idleSince > H2C_IDLE_MS) this.close()
  }

  #request(headers: OutgoingHttpHeaders, options: ClientSessionRequestOptions): ClientHttp2Stream {
    const stream = this.#session.request(headers, options)
    this.#open.add(stream)
    stream.once('close', () => {
      this.#open.delete(stream)
      this.#closing.delete(stream)
    })
    return stream
  }

  /**
   * A target that broke the protocol is told so, and nothing is sent or read after that; Node says it to nobody. Its
   * streams would keep their places, and new ones get no answer, until it closes the connection. Nor does one that takes
   * no bytes.
   */
  #isDead(now: number): boolean {
    for (const stream of this.#open)
      if (stream.closed && !this.#closing.has(stream)) this.#closing.set(stream, now)
    for (const since of this.#closing.values()) return now - since > H2C_CLOSING_MS
    return false
  }

  /**
   * Node does so by itself, unless a frame still waits when the last stream closes: then it forgets. And it waits for the target
   * to close its side, however long. The last frames leave before.
   */
  #end(): void {
    setImmediate(() => {
      this.#session.destroy()
      const socket = this.#socket
      if (socket.writableFinished) socket.destroy()
      else socket.once('finish', () => socket.destroy())
    })
  }

  #left(): void {
    this.streams--
    if (this.streams === 0) this.#idleSince = performance.now()
    if (!this.#leaving) this.#owner.serve()
    else if (this.streams === 0) this.#end()
  }
}

/** Of a connection that never was one. */
const PROBLEMS: Readonly<Record<string, Problem>> = {
  ECONNREFUSED: 'refused',
  ENOENT: 'refused',
  ECONNRESET: 'no_answer',
  ETIMEDOUT: 'timeout',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  ENOTFOUND: 'unreachable',
  EAI_AGAIN: 'unreachable',
}
