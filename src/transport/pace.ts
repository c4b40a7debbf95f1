import type { Millis } from '../mux/index.ts'

/** So many at once, and so many per second after that. Pure: the time comes in. */
export class Pace {
  readonly #perSecond: number
  readonly #burst: number
  #left: number
  #at: Millis | undefined

  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond
    this.#burst = burst
    this.#left = burst
  }

  /** Takes `count` of them; false, and nothing is taken, when that is too many. */
  take(now: Millis, count = 1): boolean {
    const refill = ((now - (this.#at ?? now)) * this.#perSecond) / 1000
    this.#left = Math.min(this.#burst, this.#left + refill)
    this.#at = now
    if (this.#left < count) return false
    this.#left -= count
    return true
  }
}
