import { PASSED_OVER_MAX_MS, PASSED_OVER_MS } from '../limits.ts'
import type { ServiceOffer } from '../protocol/index.ts'
import type { Route } from './route.ts'

/** Monotonic milliseconds. */
export type Millis = number

/** What replicas of one route have in common. */
export interface Served {
  /** The tenant. */
  readonly name: string
  readonly service: string
  readonly type: ServiceOffer['type']
  readonly tls: ServiceOffer['tls']
}

/** One tunnel's offer on one route. Made and kept by `Routes`; `T` is the caller's handle of a tunnel. */
export interface Replica<T> extends Served {
  readonly tunnel: T
  readonly route: Route
  readonly offer: ServiceOffer
  /** Streams of this service that the tunnel carries now, over all of the service's routes. */
  readonly active: number
  /** Its client says that its target is down: it gets no visitors. */
  readonly down: boolean
  /** It failed, and until then others are preferred; 0 when it did not. */
  readonly passedOver: Millis
}

/** One service of one tunnel. Its replicas on several routes lead to one target, so what is known of that is theirs together. */
export class Offered<T> {
  /** By route. */
  readonly slots = new Map<Route, Slot<T>>()
  active = 0
  down = false
  /** In a row, those of one time being one. */
  #failures = 0
  passedOver: Millis = 0

  /** As `Routes.failed`. */
  failed(now: Millis): void {
    if (this.#failures === 0 || now >= this.passedOver) this.#failures++
    const doubled = PASSED_OVER_MS * 2 ** Math.min(this.#failures - 1, 16)
    this.passedOver = now + Math.min(PASSED_OVER_MAX_MS, doubled)
  }

  /** As `Routes.worked`. */
  worked(): void {
    this.#failures = 0
    this.passedOver = 0
  }
}

/** What `Routes` keeps of a replica. */
export class Slot<T> implements Replica<T> {
  readonly tunnel: T
  readonly route: Route
  readonly name: string
  offer: ServiceOffer
  readonly offered: Offered<T>

  constructor(tunnel: T, route: Route, name: string, offer: ServiceOffer, offered: Offered<T>) {
    this.tunnel = tunnel
    this.route = route
    this.name = name
    this.offer = offer
    this.offered = offered
  }

  get service(): string {
    return this.offer.name
  }

  get type(): ServiceOffer['type'] {
    return this.offer.type
  }

  get tls(): ServiceOffer['tls'] {
    return this.offer.tls
  }

  get active(): number {
    return this.offered.active
  }

  get down(): boolean {
    return this.offered.down
  }

  get passedOver(): Millis {
    return this.offered.passedOver
  }
}

/** True for replicas that may stand on one route. */
export function alike(one: Served, other: Served): boolean {
  return (
    one.name === other.name &&
    one.service === other.service &&
    one.type === other.type &&
    one.tls === other.tls
  )
}
