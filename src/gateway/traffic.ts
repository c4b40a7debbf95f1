import type { Meter } from '../http/index.ts'
import { RETRIES_ALWAYS, RETRY_SHARE, RETRY_WINDOW_MS } from '../limits.ts'
import type { Route } from './route.ts'

/** What went over one route, counted while it goes. */
export class RouteTraffic implements Meter {
  in = 0
  out = 0
  /** Answers by the first digit of their status. */
  readonly answers = [0, 0, 0, 0, 0, 0]
  /** Requests of this window and of the one before, and the retries among them. */
  #requests: [number, number] = [0, 0]
  #retries: [number, number] = [0, 0]
  #window = 0

  get requests(): number {
    return this.answers.reduce((sum, count) => sum + count, 0)
  }

  asked(now: number): void {
    this.#turn(now)
    this.#requests[0]++
  }

  answered(status: number): void {
    const kind = Math.floor(status / 100)
    this.answers[kind] = (this.answers[kind] ?? 0) + 1
  }

  /**
   * Whether one more request may be repeated that may have run already: RETRY_SHARE of the recent ones at most, or a
   * request that kills its target would go from replica to replica; and a few on a route that is seldom asked.
   */
  mayRetry(now: number): boolean {
    this.#turn(now)
    const requests = this.#requests[0] + this.#requests[1]
    const retries = this.#retries[0] + this.#retries[1]
    if (retries >= Math.max(RETRIES_ALWAYS, requests * RETRY_SHARE)) return false
    this.#retries[0]++
    return true
  }

  #turn(now: number): void {
    const window = Math.floor(now / RETRY_WINDOW_MS)
    if (window === this.#window) return
    const next = window === this.#window + 1
    this.#requests = [0, next ? this.#requests[0] : 0]
    this.#retries = [0, next ? this.#retries[0] : 0]
    this.#window = window
  }
}

/** The traffic of every route that was asked for. Only routes that have an owner come here. */
export class Traffic {
  readonly #routes = new Map<Route, RouteTraffic>()

  of(route: Route): RouteTraffic {
    let traffic = this.#routes.get(route)
    if (traffic === undefined) this.#routes.set(route, (traffic = new RouteTraffic()))
    return traffic
  }

  get all(): ReadonlyMap<Route, RouteTraffic> {
    return this.#routes
  }

  /** Forgets those of routes that have no owner any more. */
  keep(owned: (route: Route) => boolean): void {
    for (const route of this.#routes.keys()) if (!owned(route)) this.#routes.delete(route)
  }
}
