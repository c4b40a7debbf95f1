import { HEALTH_FAILURES, HEALTH_SUCCESSES } from '../limits.ts'

/**
 * Whether a target counts as working, by what it answered: it begins as up, and a few answers in a row that say
 * otherwise change that, so that one lost answer sends nobody away and one good one brings nobody back.
 *
 * Pure: results come in, the state comes out.
 */
export class Health {
  #up = true
  /** Results in a row that say otherwise. */
  #against = 0

  get up(): boolean {
    return this.#up
  }

  /** Takes the next result; true if this changes the state. */
  note(good: boolean): boolean {
    this.#against = good === this.#up ? 0 : this.#against + 1
    if (this.#against < (this.#up ? HEALTH_FAILURES : HEALTH_SUCCESSES)) return false
    this.#up = good
    this.#against = 0
    return true
  }
}
