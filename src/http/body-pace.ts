import { BODY_PACE_MS } from '../limits.ts'

/**
 * Whether a body comes fast enough: at least `rate` bytes per second over each BODY_PACE_MS in which nothing but its sender
 * delayed it. Pure: the time (ms) and the bytes so far come in.
 */
export class BodyPace {
  #since = 0
  #bytes = 0

  begin(now: number): void {
    this.#since = now
    this.#bytes = 0
  }

  /** Somebody else had delayed it: the time counts anew. */
  resume(now: number, bytes: number): void {
    this.#since = now
    this.#bytes = bytes
  }

  tooSlow(now: number, bytes: number, rate: number): boolean {
    const waited = now - this.#since
    if (rate === 0 || waited < BODY_PACE_MS) return false
    const slow = (bytes - this.#bytes) * 1000 < rate * waited
    this.resume(now, bytes)
    return slow
  }
}
