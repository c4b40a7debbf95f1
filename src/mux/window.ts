import {
  RTT_LOADED_BYTES,
  RTT_PING_MS,
  RTT_SAMPLES,
  RTT_STALE_MS,
  TUNNEL_WINDOW_MAX_BYTES,
  WINDOW_SHARE_OF_MEMORY,
  WINDOW_UPDATE_BYTES,
} from '../limits.ts'
import type { MemoryBudget } from './memory.ts'

export type Millis = number

/**
 * What the peer may send on one stream. At each moment `left` (may still be sent), `unread` (sent, not
 * consumed) and what was consumed and not yet granted again add up to `size`.
 */
export class ReceiveWindow {
  readonly first: number
  size: number
  left: number
  unread = 0
  /** When its owner last took something, or when bytes came to an empty stream. Kept for the memory budget only. */
  touchedAt: Millis = 0
  /** When the half window that is being measured began; -1 before any byte. */
  measuredFrom: Millis = -1
  /** Bytes that arrived since, and bytes that were consumed since. */
  measured = 0
  consumed = 0

  constructor(size: number) {
    this.first = size
    this.size = size
    this.left = size
  }

  /** Bytes that a window update would grant. */
  get grantable(): number {
    return this.size - this.left - this.unread
  }

  /**
   * An update is worth its 12 bytes: half the window, and less of a large one, whose sender would otherwise stand still for
   * a good part of each round trip.
   */
  get due(): boolean {
    const grantable = this.grantable
    return grantable * 2 >= this.size || grantable >= WINDOW_UPDATE_BYTES
  }

  /** Half a window was consumed since: once as much has arrived, the next arrival ends the measurement. */
  get halfConsumed(): boolean {
    return this.consumed * 2 >= this.size
  }
}

/**
 * How the windows of one session grow. A stream that consumes half its window within 1.5 round trips is
 * held back by the window and not by its reader, so the window doubles; it stops between three and six
 * times the bandwidth-delay product, which also covers an owner that hands on in bursts.
 *
 * The measurement ends with the first arrival after the half was consumed, not with the consumption:
 * arrivals are what has a time, and a reader that stalls in between must not look fast. Half a window must have
 * arrived in it too: a reader that takes a long backlog at once was given that earlier, and says nothing of the path.
 */
export class WindowGrowth {
  /** Window granted beyond the streams' first ones. */
  granted = 0
  readonly #maxWindow: number
  readonly #budget: MemoryBudget | undefined

  constructor(maxWindow: number, budget: MemoryBudget | undefined) {
    this.#maxWindow = maxWindow
    this.#budget = budget
  }

  /** Bytes arrived at `now`. True: the window grew, and an update should say so. */
  arrived(window: ReceiveWindow, now: Millis, rtt: Millis | undefined): boolean {
    if (window.measuredFrom < 0) window.measuredFrom = now
    if (!window.halfConsumed || window.measured * 2 < window.size) return false
    window.consumed = 0
    window.measured = 0
    const took = now - window.measuredFrom
    window.measuredFrom = now
    // Under half a millisecond the event loop says more than the network.
    if (rtt === undefined || took > 1.5 * Math.max(rtt, 0.5)) return false
    return this.#grow(window)
  }

  /** The stream needs no more than it has: what it was granted beyond its first window is free for others. */
  release(window: ReceiveWindow): void {
    const extra = window.size - window.first
    if (extra <= 0) return
    window.size = window.first
    this.granted -= extra
    this.#budget?.grant(-extra)
  }

  #grow(window: ReceiveWindow): boolean {
    const budget = this.#budget
    const share =
      budget === undefined ? Infinity : Math.max(window.first, budget.limit / WINDOW_SHARE_OF_MEMORY)
    const size = Math.min(window.size * 2, this.#maxWindow, share)
    const extra = size - window.size
    if (extra <= 0 || this.granted + extra > TUNNEL_WINDOW_MAX_BYTES) return false
    if (budget !== undefined && !budget.allows(extra)) return false
    window.size = size
    this.granted += extra
    budget?.grant(extra)
    return true
  }
}

/**
 * The session's own ping and what it measures. The least of the last samples counts: queues only add to it.
 *
 * While a transfer fills the tunnel every sample has a queue in it, of the very windows that are sized by it, and those
 * would grow until kernels' buffers are full and small answers wait behind them. So a sample under load counts only if it
 * is the least; unless there has been no other for so long that the path may have changed.
 */
export class RoundTrip {
  /** Undefined until a first answer. */
  best: Millis | undefined = undefined
  /** Value of the ping that is under way. */
  outstanding: number | undefined = undefined
  readonly #samples: Millis[] = []
  #next = 0
  #value = 0
  #sentAt: Millis = -Infinity
  /** Bytes that the tunnel had carried by then. */
  #carried = 0
  /** When a sample was taken last that counts. */
  #takenAt: Millis = -Infinity

  /** A transfer would like to know the round trip, and nobody has asked lately. */
  wanted(now: Millis): boolean {
    return this.outstanding === undefined && now - this.#sentAt >= RTT_PING_MS
  }

  /** Begins a ping; returns its value. `carried`: bytes of the tunnel so far, both ways. */
  start(now: Millis, carried: number): number {
    this.#value = (this.#value + 1) >>> 0
    this.#sentAt = now
    this.#carried = carried
    this.outstanding = this.#value
    return this.#value
  }

  /** False: nobody asked for this answer. */
  answered(value: number, now: Millis, carried: number): boolean {
    if (value !== this.outstanding) return false
    this.outstanding = undefined
    const sample = Math.max(0, now - this.#sentAt)
    const loaded = carried - this.#carried > RTT_LOADED_BYTES
    if (loaded && sample > (this.best ?? Infinity) && now - this.#takenAt < RTT_STALE_MS) return true
    this.#takenAt = now
    this.#samples[this.#next] = sample
    this.#next = (this.#next + 1) % RTT_SAMPLES
    this.best = Math.min(...this.#samples)
    return true
  }
}
