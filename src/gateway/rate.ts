import type { HttpLimits } from '../config/index.ts'
import { RATE_ENTRIES } from '../limits.ts'
import type { Route } from './route.ts'

export type Taken = { ok: true } | { ok: false; retryAfter: number }

/** A connection that counts until it leaves. */
export interface Seat {
  /** A second call does nothing. */
  readonly leave: () => void
}

type RequestLimits = Pick<HttpLimits, 'requests' | 'requestBurst' | 'routeRequests' | 'routeRequestBurst'>
type ConnectionLimits = Pick<HttpLimits, 'connections' | 'routeConnections'>

const TAKEN: Taken = { ok: true }
/** A microsecond: sums of fractions miss by less, and who comes at the right moment is not refused for that. */
const ROUNDING_MS = 0.001
const UNCOUNTED: Seat = { leave: () => undefined }

/**
 * How much the visitors of a route ask for: requests per second with a burst, and connections at once, of one address
 * and of all together. Addresses are as `addressKey` gives them. Limits come with each call, so that a reload
 * changes them; those that are 0 cost nothing. Pure: the time comes in.
 *
 * Requests are remembered for at most RATE_ENTRIES addresses. When a flood from more comes, addresses that asked longest
 * ago are forgotten: they have their burst anew, which is what any of the flood's other addresses has, and nobody is
 * kept out because others are many. An address that goes on asking is never among them. What holds a flood is the
 * limit of all addresses together.
 */
export class Rates {
  /**
   * When each bucket is full again. That one number is a whole token bucket (the generic cell rate algorithm): a request
   * moves it on by 1/rate, and may not move it past burst/rate from now.
   *
   * In two generations of half the capacity: what is used moves to the young one, and when that is full, or nothing
   * in the old one matters any more, the old one goes as a whole and the young one is old. One map in the order of last
   * use took 57 µs per request once it was full, for it steps over the holes that the moved ones leave; this takes 1.
   */
  #young: Generation = { fullAt: new Map(), until: 0 }
  #old: Generation = { fullAt: new Map(), until: 0 }
  readonly #seats = new Map<string, number>()
  readonly #capacity: number

  constructor(capacity: number = RATE_ENTRIES) {
    this.#capacity = capacity
  }

  /** Buckets and counts that are remembered. */
  get size(): number {
    return this.#young.fullAt.size + this.#old.fullAt.size + this.#seats.size
  }

  /** One request. Nothing is taken when one of the limits says no; `retryAfter` is in whole seconds. `now` is in ms. */
  take(route: Route, address: string, limits: RequestLimits, now: number): Taken {
    const { requests, requestBurst, routeRequests, routeRequestBurst } = limits
    if (requests === 0 && routeRequests === 0) return TAKEN
    // Buckets that are full again are as good as none.
    if (this.#old.until <= now) this.#grow()
    const own =
      requests === 0 ? undefined : this.#asked(ofAddress(route, address), requests, requestBurst, now)
    // One that is over its own limit takes nothing from the others.
    if (own !== undefined && own.waitMs > 0) return this.#refused(own)
    const all = routeRequests === 0 ? undefined : this.#asked(route, routeRequests, routeRequestBurst, now)
    if (all !== undefined && all.waitMs > 0) {
      if (own !== undefined && own.fullAt > now) this.#note(own.key, own.fullAt)
      return this.#refused(all)
    }
    if (own !== undefined) this.#note(own.key, own.fullAt + own.step)
    if (all !== undefined) this.#note(all.key, all.fullAt + all.step)
    return TAKEN
  }

  /** A connection that comes, or the route's first request on it; undefined: one of the limits says no. */
  connect(route: Route, address: string, limits: ConnectionLimits): Seat | undefined {
    const { connections, routeConnections } = limits
    if (connections === 0 && routeConnections === 0) return UNCOUNTED
    const counted: string[] = []
    if (connections !== 0) {
      const key = ofAddress(route, address)
      if ((this.#seats.get(key) ?? 0) >= connections) return undefined
      counted.push(key)
    }
    if (routeConnections !== 0) {
      if ((this.#seats.get(route) ?? 0) >= routeConnections) return undefined
      counted.push(route)
    }
    for (const key of counted) this.#seats.set(key, (this.#seats.get(key) ?? 0) + 1)
    // It remembers what it was counted as: the limits may be others when it leaves.
    return {
      leave: () => {
        for (const key of counted.splice(0)) this.#give(key)
      },
    }
  }

  #give(key: string): void {
    const left = (this.#seats.get(key) ?? 1) - 1
    if (left === 0) this.#seats.delete(key)
    else this.#seats.set(key, left)
  }

  #asked(key: string, perSecond: number, burst: number, now: number): Asked {
    const step = 1_000 / perSecond
    const most = step * Math.max(1, burst)
    // No bucket is emptier than empty, though a slower limit may have emptied it before a reload.
    const before = this.#young.fullAt.get(key) ?? this.#old.fullAt.get(key) ?? now
    const owed = Math.min(Math.max(before - now, 0), most)
    const waitMs = owed + step - most
    return { key, fullAt: now + owed, step, waitMs: waitMs > ROUNDING_MS ? waitMs : 0 }
  }

  /** Who is refused has asked all the same, so that whoever floods is not the one to be forgotten. */
  #refused({ key, fullAt, waitMs }: Asked): Taken {
    this.#note(key, fullAt)
    return { ok: false, retryAfter: Math.max(1, Math.ceil(waitMs / 1_000)) }
  }

  #note(key: string, fullAt: number): void {
    if (this.#young.fullAt.size * 2 >= this.#capacity && !this.#young.fullAt.has(key)) this.#grow()
    this.#young.fullAt.set(key, fullAt)
    this.#young.until = Math.max(this.#young.until, fullAt)
  }

  #grow(): void {
    if (this.#young.fullAt.size + this.#old.fullAt.size === 0) return
    this.#old = this.#young
    this.#young = { fullAt: new Map(), until: 0 }
  }
}

interface Generation {
  fullAt: Map<string, number>
  /** From then on every bucket in it is full. */
  until: number
}

interface Asked {
  key: string
  /** When the bucket is full again if nothing is taken, and how much later if something is. */
  fullAt: number
  step: number
  /** Above 0: it is too early by so much. */
  waitMs: number
}

/** No route has a space in it. */
function ofAddress(route: Route, address: string): string {
  return `${address} ${route}`
}
