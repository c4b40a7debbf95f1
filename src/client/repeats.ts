import { REPEATED_LOG_MS } from '../limits.ts'
import type { Millis } from '../mux/index.ts'

/**
 * Says when something that happens again and again is worth a line: the first time or times, then at most once a minute
 * with the count. Pure: the time comes in. Keys are the caller's to bound.
 */
export class Repeats {
  readonly #said = new Map<string, { at: Millis; since: number; first: number }>()
  readonly #first: number

  /** `first`: so many times are said each by itself. */
  constructor(first = 1) {
    this.#first = first
  }

  /** How often it happened since it was last said, this time included; undefined: not now. */
  note(key: string, now: Millis): number | undefined {
    const said = this.#said.get(key)
    if (said === undefined) {
      this.#said.set(key, { at: now, since: 0, first: 1 })
      return 1
    }
    if (said.first < this.#first) {
      said.first += 1
      said.at = now
      return 1
    }
    said.since += 1
    if (now - said.at < REPEATED_LOG_MS) return undefined
    const times = said.since
    said.at = now
    said.since = 0
    return times
  }

  /** It went well: the next time is a first time. */
  forget(key: string): void {
    this.#said.delete(key)
  }
}
