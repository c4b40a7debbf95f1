import type { Millis } from '../mux/index.ts'

/** So many at once, and so many per second after that. Pure: the time comes in. */
export class Pace {
  readonly #perSecond: number
  readonly #burst: number
  #left: number
  #at: Millis = 0

  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond
    this.#burst = burst
    this.#left = burst
  }

  /** False: too many. */
  take(now: Millis): boolean {
    this.#left = Math.min(this.#burst, this.#left + ((now - this.#at) * this.#perSecond) / 1000)
    this.#at = now
    if (this.#left < 1) return false
    this.#left -= 1
    return true
  }
}
