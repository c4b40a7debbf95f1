import { ACME_ORDER_MS, ACME_POLL_MS, ACME_POLL_MS_MAX, ACME_POLL_MS_MIN, ACME_POLLS } from '../../limits.ts'
import type { Millis } from '../../mux/index.ts'
import { AcmeError } from './acme-error.ts'
import { acmeProblem } from './problem.ts'

/** RFC 8555, 7.1.6. */
export const ORDER_STATUSES = ['pending', 'ready', 'processing', 'valid', 'invalid'] as const
export type OrderStatus = (typeof ORDER_STATUSES)[number]

/** An order as its CA tells of it, as far as the next step depends on it. */
export interface OrderState {
  status: OrderStatus
  /** Where its certificate is, once it is valid. */
  certificate?: string | undefined
  /** A problem document. */
  error?: unknown
}

export type OrderStep =
  | { do: 'authorize' }
  | { do: 'finalize' }
  | { do: 'wait'; ms: Millis }
  | { do: 'download'; url: string }

/**
 * The waits between looks at something at the CA that is to become something else. Bounded by count and by time: one
 * that stays as it is must not be looked at for ever.
 */
export class Looks {
  readonly #what: string
  readonly #end: Millis
  #left = ACME_POLLS

  /** `what` does not change, as in `the order of ca.example`. */
  constructor(what: string, now: Millis) {
    this.#what = what
    this.#end = now + ACME_ORDER_MS
  }

  /** Until the next look. Throws when there were enough. */
  next(retryAfterMs: Millis | undefined, now: Millis): Millis {
    this.#left -= 1
    if (this.#left < 0 || now >= this.#end) {
      throw new AcmeError('overloaded', `${this.#what} does not come to an end`)
    }
    return Math.min(Math.max(ACME_POLL_MS_MIN, retryAfterMs ?? ACME_POLL_MS), ACME_POLL_MS_MAX)
  }
}

/**
 * One order on its way to a certificate. Pure: what the CA says of it and the time come in, the next step goes out.
 * It authorizes and finalizes once each; all else is waiting, which has an end.
 */
export class OrderRun {
  readonly #ca: string
  readonly #looks: Looks
  #authorized = false
  #finalized = false

  /** `ca`: its host, for what is said of it. */
  constructor(ca: string, now: Millis) {
    this.#ca = ca
    this.#looks = new Looks(`the order at ${ca}`, now)
  }

  next(order: OrderState, retryAfterMs: Millis | undefined, now: Millis): OrderStep {
    return this.#STATES[order.status](order) ?? { do: 'wait', ms: this.#looks.next(retryAfterMs, now) }
  }

  /** What stands next in each state; undefined: nothing but to wait for another. */
  readonly #STATES: Readonly<Record<OrderStatus, (order: OrderState) => OrderStep | undefined>> = {
    pending: () => {
      if (this.#authorized) return undefined
      this.#authorized = true
      return { do: 'authorize' }
    },
    ready: () => {
      if (this.#finalized) return undefined
      this.#finalized = true
      return { do: 'finalize' }
    },
    processing: () => undefined,
    valid: ({ certificate }) =>
      certificate === undefined ? undefined : { do: 'download', url: certificate },
    invalid: ({ error }) => {
      throw acmeProblem(`${this.#ca} gave up the order`, { status: 403, problem: error })
    },
  }
}
