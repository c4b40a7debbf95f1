import type { Socket } from 'node:net'
import { TunnelError } from '../../errors.ts'
import { Upstream, type UpstreamKeeper } from '../../http/index.ts'
import {
  BODILESS_SILENCE_MS,
  REUSED_STREAM_IDLE_MS,
  REUSED_STREAMS_PER_SERVICE,
  TARGET_CONNECT_MS,
} from '../../limits.ts'
import type { StreamSink } from '../../mux/index.ts'
import { SocketStream } from '../../net/index.ts'
import { Patience } from '../patience.ts'

/** Nothing is told before the turn ends, and by then an `Upstream` listens. */
const NOBODY: StreamSink = { data() {}, end() {}, reset() {}, drain() {} }

/** A connection to a target that carries visitors' requests. */
export class TargetUpstream extends Upstream {
  readonly socket: SocketStream

  constructor(socket: SocketStream, shareable: boolean) {
    super(socket, shareable)
    this.socket = socket
  }

  /** As of streams at the gateway: a target that answers 204 or 304 with a body does so at once, or never. */
  get silenceMs(): number {
    return this.bodiless ? BODILESS_SILENCE_MS : 0
  }
}

interface Idle {
  readonly upstream: TargetUpstream
  readonly since: number
  /** Nobody gets it before. */
  readonly from: number
}

export interface TargetPoolOptions {
  /** A connection that is being made; undefined: there are too many, or too many were made just now. */
  dial(): Socket | undefined
  /** A byte that nobody had asked for came on a connection that waited; it is gone. */
  desync(): void
}

/**
 * Connections to one service's target. Those whose visitor has gone wait here for another's request, under the rule of
 * `Upstream.shareable`: nothing on them can be owed to anybody, and a byte that comes while one waits ends it.
 */
export class TargetPool implements UpstreamKeeper {
  readonly #options: TargetPoolOptions
  readonly #idle: Idle[] = []
  readonly #dials = new Patience<TargetUpstream>(TARGET_CONNECT_MS, late)
  #timer: NodeJS.Timeout | undefined

  constructor(options: TargetPoolOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#idle.length
  }

  /** A connection that waits, the one that was used last; undefined: there is none that may be had. */
  take(now: number): TargetUpstream | undefined {
    for (let at = this.#idle.length - 1; at >= 0; at--) {
      const { upstream, from } = this.#idle[at] as Idle
      if (from > now) continue
      this.#idle.splice(at, 1)
      if (upstream.usable) return upstream
    }
    return undefined
  }

  /** A new connection, begun with `first`. Undefined: overloaded. */
  dial(shareable: boolean, first?: Uint8Array): TargetUpstream | undefined {
    const socket = this.#options.dial()
    if (socket === undefined) return undefined
    const upstream = new TargetUpstream(new SocketStream(socket, NOBODY), shareable && first === undefined)
    if (first !== undefined) upstream.stream.write(first)
    this.#dials.add(upstream)
    const known = (): void => this.#dials.delete(upstream)
    upstream.socket.whenReady = known
    socket.once('close', known)
    return upstream
  }

  /** Takes over a connection that carries nothing; one that cannot be shared, or is one too many, is ended. */
  put(upstream: TargetUpstream, now: number): void {
    if (!upstream.shareable || !upstream.usable || this.#idle.length >= REUSED_STREAMS_PER_SERVICE) {
      upstream.close()
      return
    }
    this.#idle.push({ upstream, since: now, from: now + upstream.silenceMs })
    upstream.keeper = this
    this.#timer ??= setInterval(() => this.expire(performance.now()), REUSED_STREAM_IDLE_MS / 4).unref()
  }

  gone(upstream: Upstream, why: 'ended' | 'reset' | 'desync'): void {
    if (why === 'desync') this.#options.desync()
    const at = this.#idle.findIndex((idle) => idle.upstream === upstream)
    if (at >= 0) this.#idle.splice(at, 1)
  }

  /** Ends those that nobody wanted for REUSED_STREAM_IDLE_MS. */
  expire(now: number): void {
    while (this.#idle[0] !== undefined && now - this.#idle[0].since >= REUSED_STREAM_IDLE_MS) {
      const [{ upstream }] = this.#idle.splice(0, 1) as [Idle]
      upstream.close()
    }
    if (this.#idle.length === 0) this.#stop()
  }

  close(): void {
    for (const { upstream } of this.#idle) upstream.close()
    this.#idle.length = 0
    this.#stop()
  }

  #stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

function late(upstream: TargetUpstream): void {
  const detail = `no connection within ${TARGET_CONNECT_MS / 1000} s`
  upstream.socket.abort(new TunnelError('timeout', { scope: 'stream', remote: true, detail }))
}
