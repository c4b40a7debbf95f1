import { EMPTY_FRAMES_BURST, EMPTY_FRAMES_PER_SECOND } from '../limits.ts'
import type { Millis } from './window.ts'

/** How many things that cost the peer nothing it may send: a burst, and so many per second. A token bucket. */
export class Allowance {
  #tokens = EMPTY_FRAMES_BURST
  #filledAt: Millis | undefined

  /** False: the peer floods. */
  take(now: Millis): boolean {
    const since = this.#filledAt === undefined ? 0 : Math.max(0, now - this.#filledAt)
    this.#filledAt = now
    this.#tokens = Math.min(EMPTY_FRAMES_BURST, this.#tokens + (since * EMPTY_FRAMES_PER_SECOND) / 1000)
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }
}
