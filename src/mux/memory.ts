import { STALLED_MS } from '../limits.ts'
import type { MuxStream } from './stream.ts'
import type { Millis } from './window.ts'

/** A session, as the budget sees it. */
export interface MemoryUser {
  liveStreams(): Iterable<MuxStream>
  /** Ends a stream to free what it holds. */
  evict(stream: MuxStream): void
}

/**
 * What the received and unread bytes of all sessions of a process may come to. Past `limit` windows stop
 * growing; then stalled streams are reset, those with most unread bytes first; when nobody is stalled,
 * `full` asks that new visitors be refused.
 */
export class MemoryBudget {
  readonly limit: number
  #unread = 0
  #granted = 0
  readonly #users = new Set<MemoryUser>()
  /** Looked in vain: not again before this many bytes, or a flood would pay a scan of all streams per frame. */
  #nextScanAt = 0

  /** `limit` in bytes. */
  constructor(limit: number) {
    this.limit = limit
  }

  /** Bytes received and not consumed, over all sessions. */
  get unread(): number {
    return this.#unread
  }

  /** Window granted beyond the streams' first ones, over all sessions. */
  get granted(): number {
    return this.#granted
  }

  /** New visitors should be refused. */
  get full(): boolean {
    return this.#unread > this.limit
  }

  /** For sessions: one more, until `leave`. */
  join(user: MemoryUser): void {
    this.#users.add(user)
  }

  leave(user: MemoryUser): void {
    this.#users.delete(user)
  }

  /** For sessions: may windows grow by `extra`? */
  allows(extra: number): boolean {
    return this.#unread + this.#granted + extra <= this.limit
  }

  grant(bytes: number): void {
    this.#granted += bytes
  }

  hold(bytes: number): void {
    this.#unread += bytes
    if (this.#unread <= this.limit) this.#nextScanAt = 0
  }

  /** For sessions, after bytes came: resets stalled streams until the rest fits, or none is stalled. */
  relieve(now: Millis): void {
    while (this.#unread > this.limit && this.#unread >= this.#nextScanAt) {
      let worst: MuxStream | undefined
      let worstQuiet = false
      let worstUser: MemoryUser | undefined
      for (const user of this.#users) {
        for (const stream of user.liveStreams()) {
          const window = stream.window
          // Less than half a window unread: its peer is not being held back, so it is not stalled.
          if (window.unread * 2 < window.size) continue
          const quiet = now - window.touchedAt >= STALLED_MS
          const worse = quiet === worstQuiet ? window.unread > (worst?.window.unread ?? 0) : quiet
          if (!worse) continue
          worst = stream
          worstQuiet = quiet
          worstUser = user
        }
      }
      if (worst === undefined || worstUser === undefined) {
        this.#nextScanAt = this.#unread + this.limit / 64
        return
      }
      this.#nextScanAt = 0
      worstUser.evict(worst)
    }
  }
}
