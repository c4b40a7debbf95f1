import type { ErrorCode } from '../errors.ts'
import { BACKOFF_BASE_MS, BACKOFF_MAX_MS, BACKOFF_RESET_MS, RETRY_AFTER_SECONDS_MAX } from '../limits.ts'
import type { Millis } from '../mux/index.ts'

/**
 * How long to wait before a gateway is dialled again: exponential with full jitter, so that the clients of a
 * gateway that restarts do not come back all at the same moment.
 *
 * Pure: what happened and the lot (`random`, 0 ≤ x < 1) come in, a wait in ms goes out.
 */
export class Backoff {
  readonly #random: () => number
  #failures = 0
  /** The last that happened was a dial that led to a tunnel. */
  #progressed = false

  constructor(random: () => number) {
    this.#random = random
  }

  /** After a dial that led to no tunnel worth keeping. `retryAfter`: seconds that the gateway asks for at least. */
  afterFailure(retryAfter = 0): Millis {
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** this.#failures)
    if (ceiling < BACKOFF_MAX_MS) this.#failures += 1
    this.#progressed = false
    // The jitter comes on top of what a gateway asks for: it asks everybody for the same.
    const least = Math.min(RETRY_AFTER_SECONDS_MAX, Math.max(0, retryAfter)) * 1000
    return least + this.#random() * ceiling
  }

  /**
   * After a dial that led to a tunnel, where more are wanted: at once, unless earlier ones came to nothing. The second in a
   * row counts for something, and half of that is forgotten with each: a client that had to wait for a gateway of many
   * workers would have to wait for each of them.
   */
  afterProgress(): Millis {
    if (!this.#progressed) {
      const wait = this.#failures === 0 ? 0 : this.afterFailure()
      this.#progressed = true
      return wait
    }
    this.#failures = Math.floor(this.#failures / 2)
    return this.#failures === 0 ? 0 : this.#random() * BACKOFF_BASE_MS * 2 ** (this.#failures - 1)
  }

  reset(): void {
    this.#failures = 0
  }

  /**
   * After a tunnel ended that had lasted `lasted` ms. One that lasted shows that the gateway works, so it is
   * dialled at once; so does one that fell silent, whose discovery took its time already.
   */
  afterTunnel(lasted: Millis, reason: ErrorCode): Millis {
    if (lasted >= BACKOFF_RESET_MS) {
      this.reset()
      return 0
    }
    return reason === 'silent' ? 0 : this.afterFailure()
  }
}
