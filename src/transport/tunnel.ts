import type { TLSSocket } from 'node:tls'
import { TunnelError } from '../errors.ts'
import {
  CONTROL_MESSAGES_BURST,
  CONTROL_MESSAGES_PER_SECOND,
  CONTROL_QUEUE_BYTES,
  KEEPALIVE_SECONDS,
  KEEPALIVE_SECONDS_MAX,
  KEEPALIVE_SECONDS_MIN,
  ORDERLY_CLOSE_MS,
  RTT_FIRST_PINGS_MS,
  STREAM_WINDOW_BYTES,
  STREAMS_PER_TUNNEL,
  TUNNEL_WRITE_BYTES,
  UNAUTHENTICATED_BYTES,
  YAMUX_WINDOW_BYTES,
} from '../limits.ts'
import { type MemoryBudget, type Millis, Session, type Stream, type StreamSink } from '../mux/index.ts'
import { plainAddress, readShared } from '../net/index.ts'
import { type ClientMessage, ControlReader, encodeControl, type GatewayMessage } from '../protocol/index.ts'
import { Liveness } from './liveness.ts'
import { Pace } from './pace.ts'

/** How a tunnel's owner hears of it. Calls are synchronous; after `closed` there are none. */
export interface TunnelHandler {
  message(message: ClientMessage | GatewayMessage): void
  /** The peer opened a stream: set `stream.sink` before returning, or reset it. */
  stream(stream: Stream): void
  /** Once, at the end; every stream has been reset before. Code `closed` when both sides meant it. */
  closed(reason: TunnelError): void
  /** `open` has room again after it returned undefined. */
  openable?(): void
  /** The ids of this tunnel run low: replace it. */
  idsLow?(): void
}

export interface TunnelOptions {
  role: 'client' | 'gateway'
  memory?: MemoryBudget | undefined
  idDrain?: number | undefined
}

/**
 * One tunnel: a TLS socket, the yamux session in it, the control stream (id 1) and the question whether the
 * other side still lives. Owns the socket: it is destroyed when the tunnel ends, whatever the reason.
 *
 * All frames that one event-loop turn produces leave in one write.
 */
export class Tunnel {
  readonly role: 'client' | 'gateway'
  readonly remoteAddress: string
  readonly session: Session
  readonly since: number = Date.now()
  handler: TunnelHandler

  readonly #socket: TLSSocket
  readonly #reader: ControlReader
  readonly #liveness: Liveness
  readonly #out: Uint8Array[] = []
  #control: Stream | undefined
  #timer: NodeJS.Timeout | undefined
  #closeTimer: NodeJS.Timeout | undefined
  #measureTimer: NodeJS.Timeout | undefined
  #flushScheduled = false
  #established = false
  #ending = false
  /** The first reason to end, while the end is under way. */
  #why: TunnelError | undefined
  #closed: TunnelError | undefined
  #suspect = false
  #peerLeft = false
  #probes = new Set<(alive: boolean) => void>()
  readonly #pace = new Pace(CONTROL_MESSAGES_PER_SECOND, CONTROL_MESSAGES_BURST)

  constructor(socket: TLSSocket, handler: TunnelHandler, options: TunnelOptions) {
    this.role = options.role
    this.handler = handler
    this.#socket = readShared(socket)
    this.remoteAddress = plainAddress(socket.remoteAddress ?? 'unknown')
    const now = performance.now()
    this.#liveness = new Liveness(KEEPALIVE_SECONDS * 1000, now)
    this.#reader = new ControlReader(options.role === 'gateway' ? 'fromClient' : 'fromGateway')
    this.session = new Session({
      role: options.role === 'client' ? 'client' : 'server',
      // The control stream is opened before either side has said what it grants, so it has yamux's own window.
      receiveWindow: YAMUX_WINDOW_BYTES,
      sendWindow: YAMUX_WINDOW_BYTES,
      maxStreams: STREAMS_PER_TUNNEL,
      ...(options.memory === undefined ? {} : { memory: options.memory }),
      ...(options.idDrain === undefined ? {} : { idDrain: options.idDrain }),
      events: {
        stream: this.#onStream,
        wake: this.#scheduleFlush,
        goAway: this.#onGoAway,
        opened: () => this.handler.openable?.(),
        idsLow: () => this.handler.idsLow?.(),
      },
    })
    if (options.role === 'client') this.#control = this.session.open(this.#controlSink)

    socket.on('data', this.#onData)
    socket.on('end', () => this.#finish(this.#endReason()))
    socket.on('error', (cause: NodeJS.ErrnoException) =>
      this.#finish(
        new TunnelError('reset', {
          scope: 'tunnel',
          remote: true,
          detail: `the connection broke (${cause.code ?? cause.message})`,
          cause,
        }),
      ),
    )
    socket.on('close', () => this.#finish(this.#endReason()))
    this.#arm()
  }

  get closed(): boolean {
    return this.#closed !== undefined
  }

  /** The peer's GoAway(0) came. It is a peer's last frame: a stream that it had not acknowledged by then, it never took. */
  get peerLeft(): boolean {
    return this.#peerLeft
  }

  /** Its end is under way, or over: nothing is opened, nothing the peer says is heard any more. */
  get ending(): boolean {
    return this.#ending || this.#closed !== undefined
  }

  /** Asked for a sign of life by `probe` and silent since: gets no new streams. */
  get suspect(): boolean {
    return this.#suspect
  }

  /** After `welcome`: the bound on unauthenticated bytes ends, and the windows are as both sides stated. */
  establish(options: { peerStreamWindow: number | undefined; keepaliveSeconds: number }): void {
    this.#established = true
    // A peer that states no window is a plain yamux peer, in both directions (wire protocol, point 2).
    this.session.sendWindow = options.peerStreamWindow ?? YAMUX_WINDOW_BYTES
    this.session.receiveWindow =
      options.peerStreamWindow === undefined ? YAMUX_WINDOW_BYTES : STREAM_WINDOW_BYTES
    const seconds = Math.min(KEEPALIVE_SECONDS_MAX, Math.max(KEEPALIVE_SECONDS_MIN, options.keepaliveSeconds))
    this.#liveness.setKeepalive(seconds * 1000)
    this.#arm()
    this.#measure(0)
  }

  /**
   * Pings a few times while the tunnel is young. The round trip decides how far windows grow, and the first answer
   * alone is far too long: both processes are still busy with their start.
   */
  #measure(index: number): void {
    const wait = RTT_FIRST_PINGS_MS[index]
    if (wait === undefined || this.#closed) return
    this.#measureTimer = setTimeout(() => {
      this.session.ping(performance.now())
      this.#measure(index + 1)
    }, wait)
    this.#measureTimer.unref()
  }

  get established(): boolean {
    return this.#established
  }

  send(message: ClientMessage | GatewayMessage): void {
    const control = this.#control
    if (this.#closed || control === undefined || control.writeEnded) return
    control.write(encodeControl(message))
    if (control.queued > CONTROL_QUEUE_BYTES) {
      this.destroy(
        new TunnelError('flood', {
          scope: 'tunnel',
          remote: true,
          detail: 'the other side does not read its control messages',
        }),
      )
    }
  }

  /** Undefined: no room just now (`openable` tells when), or the tunnel is going away. */
  open(sink: StreamSink): Stream | undefined {
    return this.#closed || this.#ending ? undefined : this.session.open(sink)
  }

  /**
   * Asks for a sign of life. Resolves to false, and marks the tunnel suspect, when `ms` pass without a byte;
   * any later byte lifts the suspicion.
   */
  probe(ms: Millis): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false)
    this.session.ping(performance.now())
    return new Promise((resolve) => {
      const answer = (alive: boolean): void => {
        clearTimeout(timer)
        this.#probes.delete(answer)
        if (!alive) this.#suspect = true
        resolve(alive)
      }
      const timer = setTimeout(answer, ms, false)
      timer.unref()
      this.#probes.add(answer)
    })
  }

  /**
   * Orderly: what is queued leaves, then GoAway(0), or (1) with a `reason`, then the connection closes. Streams still
   * open are reset. A peer that does not take all this within `patience` is cut.
   */
  end(reason?: TunnelError, patience: Millis = ORDERLY_CLOSE_MS): void {
    if (this.#closed || this.#ending) return
    this.#ending = true
    this.session.goAway(reason === undefined ? 0 : 1)
    this.#closeTimer = setTimeout(() => this.#finish(this.#endReason()), patience)
    this.#closeTimer.unref()
    this.#why ??= reason ?? new TunnelError('closed', { scope: 'tunnel', detail: 'the tunnel was closed' })
    this.#scheduleFlush()
  }

  /** At once: streams are reset, the socket is destroyed. */
  destroy(reason: TunnelError): void {
    this.#finish(reason)
  }

  #onData = (chunk: Buffer): void => {
    if (this.#closed) return
    const now = performance.now()
    this.#liveness.heard(now)
    if (this.#suspect) {
      this.#suspect = false
      this.handler.openable?.()
    }
    if (this.#probes.size > 0) for (const answer of this.#probes) answer(true)
    try {
      this.session.receive(chunk, now)
      // Counted behind the chunk: the one that ends a long `welcome` may hold what follows it, too.
      if (this.#established || this.session.bytesIn <= UNAUTHENTICATED_BYTES) return
      const detail = `more than ${UNAUTHENTICATED_BYTES} bytes before a welcome`
      throw new TunnelError('protocol_error', { scope: 'tunnel', remote: true, detail })
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error
      this.#refuse(error)
    }
  }

  #onStream = (stream: Stream): void => {
    if (this.role === 'gateway' && this.#control === undefined && stream.id === 1) {
      this.#control = stream
      stream.sink = this.#controlSink
      return
    }
    if (this.role === 'gateway') {
      stream.reset()
      this.#refuse(
        new TunnelError('protocol_error', {
          scope: 'tunnel',
          remote: true,
          detail: `a client opens stream 1 and no other, not ${stream.id}`,
        }),
      )
    } else if (this.#ending || !this.#established) stream.reset()
    else this.handler.stream(stream)
  }

  readonly #controlSink: StreamSink = {
    data: (stream, chunk) => {
      stream.consume(chunk.length)
      if (this.#ending) return
      try {
        const before = this.#reader.received
        const messages = this.#reader.push(chunk)
        // Those of a type that nobody here knows count too.
        this.#countMessages(this.#reader.received - before)
        for (const message of messages) {
          if (this.ending) return
          this.handler.message(message)
        }
      } catch (error) {
        if (!(error instanceof TunnelError)) throw error
        this.#refuse(error)
      }
    },
    end: () => {
      if (!this.#ending) this.end()
    },
    reset: (_stream, reason) => this.#finish(reason),
    drain: () => {},
  }

  #countMessages(count: number): void {
    if (this.#pace.take(performance.now(), count)) return
    throw new TunnelError('flood', { scope: 'tunnel', remote: true, detail: 'too many control messages' })
  }

  /** The peer broke a rule: tell it while there is somebody to tell, then close. */
  #refuse(error: TunnelError): void {
    if (this.#closed || this.#ending) return
    if (this.role === 'gateway') {
      this.send({ type: 'reject', code: 'protocol_error', message: error.message, final: false })
    }
    this.#socket.off('data', this.#onData)
    this.#socket.resume()
    this.end(error)
  }

  #onGoAway = (code: number): void => {
    this.#peerLeft = code === 0
    this.#why ??=
      code === 0
        ? new TunnelError('closed', {
            scope: 'tunnel',
            remote: true,
            detail: 'the other side closed the tunnel',
          })
        : new TunnelError('protocol_error', {
            scope: 'tunnel',
            remote: true,
            detail: `the other side ended the tunnel with code ${code}`,
          })
    // The last frame of the peer: nothing more can come, so nothing is worth waiting for.
    if (!this.#ending) this.end()
  }

  /** Why the connection ended, if it ends now. */
  #endReason(): TunnelError {
    return (
      this.#why ??
      new TunnelError('closed', {
        scope: 'tunnel',
        remote: true,
        detail: 'the other side closed the connection',
      })
    )
  }

  #scheduleFlush = (): void => {
    if (this.#flushScheduled || this.#closed) return
    this.#flushScheduled = true
    setImmediate(this.#flush)
  }

  #flush = (): void => {
    this.#flushScheduled = false
    if (this.#closed) return
    const socket = this.#socket
    const room = TUNNEL_WRITE_BYTES - socket.writableLength
    if (room > 0) {
      const out = this.#out
      this.session.take(out, room)
      const last = out.length - 1
      // Nearly always one. Popped: to set a length is a call into V8 where an array is not a literal's.
      if (last === 0) {
        socket.write(out.pop()!, this.#written)
      } else if (last > 0) {
        socket.cork()
        for (let i = 0; i < last; i++) socket.write(out[i]!)
        socket.write(out[last]!, this.#written)
        socket.uncork()
        out.length = 0
      }
    }
    if (this.#ending && !this.session.pending) socket.end()
  }

  #written = (error?: Error | null): void => {
    if (!error && (this.session.pending || this.#ending)) this.#scheduleFlush()
  }

  #arm(): void {
    clearTimeout(this.#timer)
    const wait = Math.max(1, this.#liveness.next - performance.now())
    this.#timer = setTimeout(this.#tick, wait)
    this.#timer.unref()
  }

  #tick = (): void => {
    // Timers run before sockets are read: a process that slept must see what has arrived before it judges.
    setImmediate(() => {
      if (this.#closed) return
      const verdict = this.#liveness.tick(performance.now())
      if (verdict === 'dead') {
        this.#finish(
          new TunnelError('silent', {
            scope: 'tunnel',
            remote: true,
            detail: 'no sign of life from the other side',
          }),
        )
        return
      }
      if (verdict === 'ping') this.session.ping(performance.now())
      this.#arm()
    })
  }

  #finish(reason: TunnelError): void {
    if (this.#closed) return
    this.#closed = reason
    clearTimeout(this.#timer)
    clearTimeout(this.#closeTimer)
    clearTimeout(this.#measureTimer)
    for (const answer of this.#probes) answer(false)
    this.#socket.destroy()
    this.session.abort(reason)
    this.handler.closed(reason)
  }
}
