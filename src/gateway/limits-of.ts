import type { GatewaySettings, HttpLimits } from '../config/index.ts'
import type { Route } from './route.ts'

/** What the visitors of each route may do. One object per route that is named in the settings, one for all others. Pure. */
export class LimitsOf {
  readonly #general: HttpLimits
  readonly #own: ReadonlyMap<Route, HttpLimits>
  /** A head is read before it says where it goes: it may be as large as any route takes. */
  readonly #unknown: HttpLimits

  constructor({ limits, routeLimits }: Pick<GatewaySettings, 'limits' | 'routeLimits'>) {
    this.#general = limits
    this.#own = new Map(Array.from(routeLimits, ([route, own]) => [route, { ...limits, ...own }]))
    const heads = Array.from(this.#own.values(), ({ headBytes }) => headBytes)
    this.#unknown = { ...limits, headBytes: Math.max(limits.headBytes, ...heads) }
  }

  /** Undefined: no route is known yet. */
  of(route: Route | undefined): HttpLimits {
    return route === undefined ? this.#unknown : (this.#own.get(route) ?? this.#general)
  }
}
