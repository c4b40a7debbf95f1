import { MEMORY_SCAN_MS, STALLED_MS } from '../limits.ts'
import type { MuxStream } from './stream.ts'
import type { Millis } from './window.ts'

/** A session, as the budget sees it. */
export interface MemoryUser {
  liveStreams(): Iterable<MuxStream>
}

/** A stream that may go, and the bytes for which it would. */
interface Candidate {
  stream: MuxStream
  bytes: number
}

/**
 * What all sessions of a process may hold: bytes received and unread, and bytes written and unsent. Past
 * `limit` windows stop growing, and streams are reset until the rest fits, those with most bytes first:
 *
 * 1. Stalled ones: for STALLED_MS their owner took nothing of what is unread, or the peer gave no window for
 *    what is queued. However little of its window such a stream fills, it must not outlive one that moves.
 * 2. Slow ones: half a window unread, or a writer that waits because the peer does not keep up.
 *
 * When there are neither, `full` asks that new visitors be refused.
 */
export class MemoryBudget {
  readonly limit: number
  #unread = 0
  #queued = 0
  #granted = 0
  readonly #users = new Set<MemoryUser>()
  readonly #clock: (() => Millis) | undefined
  #told: Millis = 0
  #relieving = false
  /**
   * Looked, and what was found did not do: not again before this time or this many bytes, or a flood would pay
   * a scan of all streams per frame.
   */
  #nextScanMs: Millis = -Infinity
  #nextScanBytes = 0

  /** `limit` in bytes. `clock`: the one whose time `receive` is told; without it the last time told counts. */
  constructor(limit: number, clock?: () => Millis) {
    this.limit = limit
    this.#clock = clock
  }

  /** Bytes received and not consumed, over all sessions. */
  get unread(): number {
    return this.#unread
  }

  /** Bytes written and not taken, over all sessions. */
  get queued(): number {
    return this.#queued
  }

  /** Both. */
  get held(): number {
    return this.#unread + this.#queued
  }

  /** Window granted beyond the streams' first ones, over all sessions. */
  get granted(): number {
    return this.#granted
  }

  /** New visitors should be refused: the limit is passed, and no stream could be reset for them, which is tried first. */
  get full(): boolean {
    this.relieve()
    return this.held > this.limit
  }

  /** For sessions: one more, until `leave`. */
  join(user: MemoryUser): void {
    this.#users.add(user)
  }

  leave(user: MemoryUser): void {
    this.#users.delete(user)
  }

  /** For sessions: a call brought the time. */
  tell(now: Millis): void {
    if (now > this.#told) this.#told = now
  }

  get now(): Millis {
    return this.#clock === undefined ? this.#told : this.#clock()
  }

  /** For sessions: may windows grow by `extra`? */
  allows(extra: number): boolean {
    return this.held + this.#granted + extra <= this.limit
  }

  grant(bytes: number): void {
    this.#granted += bytes
  }

  /** Unread bytes came, or went. */
  hold(bytes: number): void {
    this.#unread += bytes
  }

  /** Queued bytes came, or went. */
  holdQueued(bytes: number): void {
    this.#queued += bytes
  }

  /** For sessions, after bytes came: resets streams until the rest fits, or none may go. `writer` stays: it is in a call. */
  relieve(writer?: MuxStream): void {
    if (this.held <= this.limit || this.#relieving) return
    const now = this.now
    const step = this.limit / 64
    if (now < this.#nextScanMs && this.held < this.#nextScanBytes) return
    this.#relieving = true
    // Stalled ones go until there is some room, or the next chunk would look through all streams again.
    this.#evict(stalledBytes, this.limit - step, now, writer)
    if (this.held > this.limit) this.#evict(slowBytes, this.limit, now, writer)
    this.#relieving = false
    const vain = this.held > this.limit
    this.#nextScanMs = vain ? now + MEMORY_SCAN_MS : -Infinity
    this.#nextScanBytes = vain ? this.held + step : 0
  }

  #evict(
    measure: (stream: MuxStream, now: Millis) => number,
    target: number,
    now: Millis,
    writer?: MuxStream,
  ): void {
    const candidates: Candidate[] = []
    for (const user of this.#users) {
      for (const stream of user.liveStreams()) {
        const bytes = stream === writer ? 0 : measure(stream, now)
        if (bytes > 0) candidates.push({ stream, bytes })
      }
    }
    candidates.sort((a, b) => b.bytes - a.bytes)
    for (const { stream } of candidates) {
      if (this.held <= target) return
      // An owner that hears of a reset may act on its other streams.
      if (!stream.closed && measure(stream, now) > 0) stream.host.evict(stream)
    }
  }
}

function stalledBytes(stream: MuxStream, now: Millis): number {
  const { window, queue } = stream
  const unread = now - window.touchedAt >= STALLED_MS ? window.unread : 0
  const queued = stream.sendWindow === 0 && now - stream.movedAt >= STALLED_MS ? queue.bytes : 0
  return unread + queued
}

function slowBytes(stream: MuxStream, now: Millis): number {
  const { window, queue } = stream
  // Less than half a window unread: its peer is not being held back, so it is not slow.
  const unread = window.unread * 2 >= window.size ? window.unread : 0
  const blocked = stream.drainWanted && (stream.sendWindow === 0 || now - stream.movedAt >= STALLED_MS)
  return unread + (blocked ? queue.bytes : 0)
}
