import { HELD_PER_ADDRESS, HELD_PER_ROUTE, HELD_VISITORS, RELEASE_PER_TURN } from '../limits.ts'
import type { Route } from './route.ts'

/** Monotonic milliseconds. */
export type Millis = number

/** Why a visitor is not held: the whole room, its route, its address, its name's share is full, or its time is over. */
export type NotHeld = 'full' | 'route_full' | 'address_full' | 'name_full' | 'too_late'

export interface HoldOptions {
  route: Route
  /** The owner of the route. */
  name: string
  /** As `addressKey` gives it: an IPv6 /64 is one. */
  address: string
  now: Millis
  /** When this visitor was first held, if it comes back from a try that failed: it does not wait anew. */
  since?: Millis
}

export interface WaitingRoomOptions {
  /** How long a visitor waits; 0 holds nobody. */
  holdMs: Millis
  capacity?: number
  perRoute?: number
  perAddress?: number
}

interface Held<V> {
  readonly visitor: V
  readonly route: Route
  readonly name: string
  readonly address: string
  readonly since: Millis
  /** Decides between visitors of the same millisecond. */
  readonly turn: number
}

/**
 * Visitors of routes whose client is away. It owns none of them: whoever gets a visitor back,
 * from `release`, `expire` or as `evicted`, decides what becomes of it.
 *
 * Bounded in all, per route and per address. While several names hold, none takes more than a quarter of the whole;
 * a name alone may fill it, and then gives way, newest visitor first, to others that arrive.
 * Pure; the lines are sorted arrays of at most `capacity`, which at 1 024 cost less than cleverer structures.
 */
export class WaitingRoom<V> {
  readonly #holdMs: Millis
  readonly #capacity: number
  readonly #perRoute: number
  readonly #perAddress: number
  readonly #held = new Map<V, Held<V>>()
  readonly #all = new Line<V>()
  readonly #byRoute = new Map<Route, Line<V>>()
  readonly #byName = new Map<string, Line<V>>()
  readonly #byAddress = new Map<string, number>()
  #turn = 0

  constructor(options: WaitingRoomOptions) {
    this.#holdMs = options.holdMs
    this.#capacity = options.capacity ?? HELD_VISITORS
    this.#perRoute = options.perRoute ?? HELD_PER_ROUTE
    this.#perAddress = options.perAddress ?? HELD_PER_ADDRESS
  }

  get size(): number {
    return this.#held.size
  }

  /** Visitors held for one route. */
  waiting(route: Route): number {
    return this.#byRoute.get(route)?.length ?? 0
  }

  /** Since when a visitor is held; undefined when it is not. */
  since(visitor: V): Millis | undefined {
    return this.#held.get(visitor)?.since
  }

  /** When `expire` next has something to do. */
  get nextDeadline(): Millis | undefined {
    const first = this.#all.first
    return first === undefined ? undefined : first.since + this.#holdMs
  }

  /**
   * Holds a visitor, or says why not. `evicted` is a visitor of a name that had more than its quarter: it is no longer
   * held, and gets the answer of one that could not be. A visitor that is held already stays as it is.
   */
  hold(visitor: V, options: HoldOptions): { held: true; evicted?: V } | { held: false; why: NotHeld } {
    if (this.#held.has(visitor)) return { held: true }
    const { route, name, address, now } = options
    const since = options.since ?? now
    const why = this.#refusal(route, name, address)
    if (since + this.#holdMs <= now) return { held: false, why: 'too_late' }
    if (why !== undefined) return { held: false, why }

    let evicted: Held<V> | undefined
    if (this.#held.size >= this.#capacity) {
      evicted = this.#greedy(name)?.last
      if (evicted === undefined) return { held: false, why: 'full' }
      this.#remove(evicted)
    }
    const entry: Held<V> = { visitor, route, name, address, since, turn: this.#turn++ }
    this.#held.set(visitor, entry)
    this.#all.insert(entry)
    lineOf(this.#byRoute, route).insert(entry)
    lineOf(this.#byName, name).insert(entry)
    this.#byAddress.set(address, (this.#byAddress.get(address) ?? 0) + 1)
    return evicted === undefined ? { held: true } : { held: true, evicted: evicted.visitor }
  }

  /** The visitor has gone, or is served: false when it was not held. */
  leave(visitor: V): boolean {
    const entry = this.#held.get(visitor)
    if (entry === undefined) return false
    this.#remove(entry)
    return true
  }

  /** Lets go at most `max` visitors of a route, oldest first. The caller paces: one call per loop turn. */
  release(route: Route, max: number = RELEASE_PER_TURN): V[] {
    return this.#take(this.#byRoute.get(route)?.oldest(max) ?? [])
  }

  /** Lets go those that have waited `holdMs`, oldest first. */
  expire(now: Millis): V[] {
    return this.#take(this.#all.until(now - this.#holdMs))
  }

  #refusal(route: Route, name: string, address: string): NotHeld | undefined {
    if (this.waiting(route) >= this.#perRoute) return 'route_full'
    if ((this.#byAddress.get(address) ?? 0) >= this.#perAddress) return 'address_full'
    const own = this.#byName.get(name)?.length ?? 0
    if (own >= this.#quarter && own < this.#held.size) return 'name_full'
    return undefined
  }

  get #quarter(): number {
    return Math.floor(this.#capacity / 4)
  }

  /** The name, other than `name`, that has the most above its quarter. At most four have. */
  #greedy(name: string): Line<V> | undefined {
    let most: Line<V> | undefined
    for (const [other, line] of this.#byName) {
      if (other !== name && line.length > (most?.length ?? this.#quarter)) most = line
    }
    return most
  }

  #take(entries: Held<V>[]): V[] {
    for (const entry of entries) this.#remove(entry)
    return entries.map((entry) => entry.visitor)
  }

  #remove(entry: Held<V>): void {
    this.#held.delete(entry.visitor)
    this.#all.remove(entry)
    removeFrom(this.#byRoute, entry.route, entry)
    removeFrom(this.#byName, entry.name, entry)
    const same = (this.#byAddress.get(entry.address) ?? 0) - 1
    if (same > 0) this.#byAddress.set(entry.address, same)
    else this.#byAddress.delete(entry.address)
  }
}

/** Held visitors, longest waiting first. Nearly all come in that order already. */
class Line<V> {
  readonly #entries: Held<V>[] = []

  get length(): number {
    return this.#entries.length
  }

  get first(): Held<V> | undefined {
    return this.#entries[0]
  }

  get last(): Held<V> | undefined {
    return this.#entries.at(-1)
  }

  insert(entry: Held<V>): void {
    this.#entries.splice(this.#place(entry), 0, entry)
  }

  remove(entry: Held<V>): void {
    const at = this.#place(entry)
    if (this.#entries[at] === entry) this.#entries.splice(at, 1)
  }

  oldest(max: number): Held<V>[] {
    return this.#entries.slice(0, Math.max(0, max))
  }

  /** Those held since `time` or earlier. */
  until(time: Millis): Held<V>[] {
    const end = this.#entries.findIndex((entry) => entry.since > time)
    return this.#entries.slice(0, end < 0 ? this.#entries.length : end)
  }

  /** Where an entry is, or would be: the first place that is not before it. */
  #place(entry: Held<V>): number {
    let low = 0
    let high = this.#entries.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const there = this.#entries[middle]
      if (there !== undefined && before(there, entry)) low = middle + 1
      else high = middle
    }
    return low
  }
}

function before<V>(one: Held<V>, other: Held<V>): boolean {
  return one.since < other.since || (one.since === other.since && one.turn < other.turn)
}

function lineOf<V>(lines: Map<string, Line<V>>, key: string): Line<V> {
  const line = lines.get(key) ?? new Line<V>()
  lines.set(key, line)
  return line
}

function removeFrom<V>(lines: Map<string, Line<V>>, key: string, entry: Held<V>): void {
  const line = lines.get(key)
  line?.remove(entry)
  if (line?.length === 0) lines.delete(key)
}
