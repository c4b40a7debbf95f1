import { ACME_ORDERS_PER_DAY, ACME_ORDERS_PER_HOUR, ACME_PAUSES_MS } from '../../limits.ts'
import type { Millis } from '../../mux/index.ts'
import type { AcmeError } from './acme-error.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

/**
 * How long to wait after an order that failed: by what it failed at, doubling while it goes on, jittered, and never less
 * than the CA asks for.
 *
 * Pure: failures and the lot come in, a wait goes out.
 */
export class Pace {
  readonly #random: () => number
  #failures = 0

  constructor(random: () => number) {
    this.#random = random
  }

  afterFailure({ failing, retryAfterMs = 0 }: Pick<AcmeError, 'failing' | 'retryAfterMs'>): Millis {
    const { first, most } = ACME_PAUSES_MS[failing]
    const ceiling = Math.min(most, first * 2 ** this.#failures)
    if (first * 2 ** this.#failures < most) this.#failures += 1
    // At least half of it: what was refused is not asked again at once by chance. Some of it on top of what the CA asks
    // for, since it asks everybody for the same.
    const lot = 0.5 + this.#random() / 2
    return Math.max(ceiling * lot, retryAfterMs === 0 ? 0 : retryAfterMs + first * lot)
  }

  reset(): void {
    this.#failures = 0
  }
}

/**
 * When the next order may be made, whatever else speaks for one: some time not after `now` if at once. `orders` are the
 * times of those that were made; those of a clock that was ahead do not count.
 */
export function nextOrderAt(orders: readonly Millis[], now: Millis): Millis {
  const past = orders.filter((at) => at <= now).toSorted((a, b) => b - a)
  const after = (count: number, window: Millis): Millis => (past[count - 1] ?? -Infinity) + window
  return Math.max(after(ACME_ORDERS_PER_HOUR, HOUR_MS), after(ACME_ORDERS_PER_DAY, DAY_MS))
}

/** Those that still count. */
export function recentOrders(orders: readonly Millis[], now: Millis): Millis[] {
  return orders.filter((at) => at <= now && at > now - DAY_MS)
}
