import type { UpstreamKeeper } from '../http/index.ts'
import { REUSED_STREAM_IDLE_MS, REUSED_STREAMS, REUSED_STREAMS_PER_SERVICE } from '../limits.ts'
import type { ConnectedClient } from './connected-client.ts'
import type { Replica } from './routes.ts'
import type { ServiceStream, StreamHolder } from './service-stream.ts'

interface Idle {
  readonly stream: ServiceStream
  readonly since: number
  /** Nobody gets it before. */
  readonly from: number
}

/**
 * Streams whose visitors have gone and which another visitor's request may follow on, so that a short visit costs no dial
 * to the target. Only those of which `Upstream.shareable` says that nothing on them can be owed to anybody; a byte that
 * comes while one waits here ends it.
 */
export class StreamPool implements UpstreamKeeper {
  /** Lists may be empty, until `expire` comes by. */
  readonly #idle = new Map<ConnectedClient, Map<string, Idle[]>>()
  readonly #onDesync: () => void
  #size = 0
  #timer: NodeJS.Timeout | undefined

  constructor(onDesync: () => void) {
    this.#onDesync = onDesync
  }

  get size(): number {
    return this.#size
  }

  /** Takes over a stream that carries nothing; one that cannot be shared, or is one too many, is ended. */
  put(stream: ServiceStream, now: number): void {
    const { client, offer } = stream
    const list = this.#idle.get(client)?.get(offer.name)
    if (
      !stream.shareable ||
      !stream.usable ||
      !client.usable ||
      (list !== undefined && list.length >= REUSED_STREAMS_PER_SERVICE) ||
      this.#size >= REUSED_STREAMS
    ) {
      stream.retire()
      return
    }
    const idle = { stream, since: now, from: now + stream.silenceMs }
    if (list === undefined) this.#begin(client, offer.name, idle)
    else list.push(idle)
    this.#size++
    stream.keeper = this
    stream.holder = HOLDER
    this.#timer ??= setInterval(() => this.expire(performance.now()), REUSED_STREAM_IDLE_MS / 4).unref()
  }

  /** A stream for a request to this replica, the one that was used last; undefined: open a new one. */
  take(replica: Replica<ConnectedClient>, now: number): ServiceStream | undefined {
    const list = this.#idle.get(replica.tunnel)?.get(replica.service)
    if (list === undefined) return undefined
    for (let at = list.length - 1; at >= 0; at--) {
      const { stream, from } = list[at] as Idle
      if (from > now) continue
      // Nearly always the last.
      if (at === list.length - 1) list.pop()
      else list.splice(at, 1)
      this.#size--
      if (stream.fits(replica)) return stream
      // Of an earlier registration of the service.
      stream.retire()
    }
    return undefined
  }

  gone(stream: ServiceStream, why: 'ended' | 'reset' | 'desync'): void {
    if (why === 'desync') this.#onDesync()
    stream.forget()
    const list = this.#idle.get(stream.client)?.get(stream.offer.name)
    const at = list?.findIndex((idle) => idle.stream === stream) ?? -1
    if (at < 0) return
    list?.splice(at, 1)
    this.#size--
  }

  /** A client wants no more requests. */
  drop(client: ConnectedClient): void {
    for (const list of this.#idle.get(client)?.values() ?? []) {
      for (const { stream } of list) {
        this.#size--
        stream.retire()
      }
    }
    this.#idle.delete(client)
  }

  /** Ends those that nobody wanted for REUSED_STREAM_IDLE_MS. */
  expire(now: number): void {
    for (const [client, byService] of this.#idle) {
      for (const [name, list] of byService) {
        while (list[0] !== undefined && now - list[0].since >= REUSED_STREAM_IDLE_MS) {
          const [{ stream }] = list.splice(0, 1) as [Idle]
          this.#size--
          stream.retire()
        }
        if (list.length === 0) byService.delete(name)
      }
      if (byService.size === 0) this.#idle.delete(client)
    }
    if (this.#size === 0) this.#stop()
  }

  close(): void {
    for (const client of Array.from(this.#idle.keys())) this.drop(client)
    this.#stop()
  }

  #begin(client: ConnectedClient, name: string, idle: Idle): void {
    const byService = this.#idle.get(client) ?? new Map<string, Idle[]>()
    this.#idle.set(client, byService.set(name, [idle]))
  }

  #stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

/** Whose a stream is that waits in the pool: it serves no route, and goes with its tunnel. */
const HOLDER: StreamHolder = { route: '', cut() {}, leave() {} }
