import { TunnelError } from '../errors.ts'
import { SERVICES_PER_TUNNEL } from '../limits.ts'
import { printable, type ServiceOffer } from '../protocol/index.ts'
import type { Route } from './route.ts'

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
}

export interface RoutesOptions<T> {
  /** False for a tunnel that gets no new streams (silent, draining, closing). Asked on each `pick`: keep it cheap. */
  isLive(tunnel: T): boolean
  /** A route got its first usable replica: visitors held for it may go. Called when the table is whole again. */
  onLive?(route: Route): void
  /** A route lost its last usable replica: visitors are held from now on. */
  onGone?(route: Route): void
}

interface Entry<T> {
  readonly route: Route
  readonly replicas: Slot<T>[]
  /** Where the next pick starts looking, so that equally busy replicas take turns. */
  next: number
  /** What `onLive` and `onGone` last said. */
  usable: boolean
}

/** Streams of one service of one tunnel: its replicas on several routes share it. */
interface Load {
  active: number
}

class Slot<T> implements Replica<T> {
  readonly tunnel: T
  readonly route: Route
  readonly name: string
  offer: ServiceOffer
  readonly load: Load

  constructor(tunnel: T, route: Route, name: string, offer: ServiceOffer, load: Load) {
    this.tunnel = tunnel
    this.route = route
    this.name = name
    this.offer = offer
    this.load = load
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
    return this.load.active
  }
}

/**
 * Which tunnels serve which routes now. Who may is not decided here (`Authority`), nor how a visitor gets there.
 *
 * Replicas of a route have the same name, service, type and TLS mode; anything else on a route that has a usable
 * replica is a conflict. A replica that is not usable keeps nobody out: a client must never meet its own ghost.
 * Pure; work per call depends on one tunnel's services or one route's replicas, never on all of them.
 */
export class Routes<T> {
  readonly #options: RoutesOptions<T>
  readonly #routes = new Map<Route, Entry<T>>()
  readonly #tunnels = new Map<T, Map<Route, Slot<T>>>()

  constructor(options: RoutesOptions<T>) {
    this.#options = options
  }

  /**
   * Adds `tunnel` as a replica of `route`; the same again replaces its offer. Returns the unusable replicas of another
   * service that had to go: their tunnels, should they wake up, are to be told `withdrawn`.
   * Throws `route_taken` (another name serves it), `route_conflict` (another service does) or `too_many_services`.
   */
  register(tunnel: T, name: string, offer: ServiceOffer, route: Route): Replica<T>[] {
    // Whoever forgot to `refresh` is caught up with, so that `onLive` is never left out when visitors wait.
    this.#tell([this.#routes.get(route) ?? []].flat())
    const wanted: Served = { name, service: offer.name, type: offer.type, tls: offer.tls }
    const own = this.#tunnels.get(tunnel)
    const mine = own?.get(route)
    const others = (this.#routes.get(route)?.replicas ?? []).filter((slot) => !alike(slot, wanted))
    const inTheWay = others.find((slot) => slot === mine || this.#options.isLive(slot.tunnel))
    if (inTheWay !== undefined) throw conflict(route, inTheWay, wanted)
    if (mine !== undefined) {
      mine.offer = offer
      return []
    }
    if ((own?.size ?? 0) >= SERVICES_PER_TUNNEL) throw tooMany(offer)

    for (const slot of others) this.#remove(slot)
    const slot = new Slot(tunnel, route, name, offer, this.#loadOf(own, offer.name))
    const slots = own ?? new Map<Route, Slot<T>>()
    this.#tunnels.set(tunnel, slots.set(route, slot))
    const entry = this.#routes.get(route) ?? { route, replicas: [], next: 0, usable: false }
    this.#routes.set(route, entry)
    entry.replicas.push(slot)
    this.#tell([entry])
    return others
  }

  /** Takes back services of a tunnel, by their names; returns the replicas that are gone. */
  unregister(tunnel: T, services: readonly string[]): Replica<T>[] {
    const names = new Set(services)
    return this.#removeAll([...this.#slotsOf(tunnel)].filter((slot) => names.has(slot.service)))
  }

  /** Takes back everything of a tunnel that ended; returns the replicas that are gone. */
  drop(tunnel: T): Replica<T>[] {
    return this.#removeAll([...this.#slotsOf(tunnel)])
  }

  /** Empties a route (released, revoked, no longer granted); returns the replicas that are gone, to be told. */
  withdraw(route: Route): Replica<T>[] {
    return this.#removeAll([...(this.#routes.get(route)?.replicas ?? [])])
  }

  /** To be called whenever `isLive(tunnel)` has changed its answer: tells what that means for its routes. */
  refresh(tunnel: T): void {
    this.#tell([...this.#slotsOf(tunnel)].flatMap((slot) => this.#routes.get(slot.route) ?? []))
  }

  /**
   * The usable replica with the fewest active streams, in turn among equals; undefined when there is none.
   * Tunnels in `exclude` (one that just answered `refused`, or is full) are passed over.
   * Counts nothing: call `begin` when the stream is open.
   */
  pick(route: Route, exclude?: ReadonlySet<T>): Replica<T> | undefined {
    const entry = this.#routes.get(route)
    if (entry === undefined) return undefined
    const { replicas, next } = entry
    let best: Slot<T> | undefined
    let bestAt = 0
    for (let i = 0; i < replicas.length; i++) {
      const at = (next + i) % replicas.length
      const slot = replicas[at]
      if (slot === undefined || (best !== undefined && slot.active >= best.active)) continue
      if (exclude?.has(slot.tunnel) === true || !this.#options.isLive(slot.tunnel)) continue
      best = slot
      bestAt = at
    }
    if (best !== undefined) entry.next = bestAt + 1
    return best
  }

  /** A stream to this replica was opened. Each `begin` is paid back by one `end`, also after the replica is gone. */
  begin(replica: Replica<T>): void {
    if (replica instanceof Slot) replica.load.active++
  }

  /** A stream to this replica has ended. */
  end(replica: Replica<T>): void {
    if (replica instanceof Slot && replica.load.active > 0) replica.load.active--
  }

  /** True while a pick without exclusions would find something. */
  usable(route: Route): boolean {
    return this.#routes.get(route)?.replicas.some((slot) => this.#options.isLive(slot.tunnel)) ?? false
  }

  /** The replicas of a route, usable or not. A copy. */
  replicas(route: Route): Replica<T>[] {
    return [...(this.#routes.get(route)?.replicas ?? [])]
  }

  /** What a tunnel serves. A copy. */
  of(tunnel: T): Replica<T>[] {
    return [...this.#slotsOf(tunnel)]
  }

  /** Routes that have a replica, usable or not. */
  get size(): number {
    return this.#routes.size
  }

  /** Tunnels that serve something. */
  get tunnels(): number {
    return this.#tunnels.size
  }

  /** The whole table, for `status`. */
  snapshot(): { route: Route; name: string; service: string; usable: boolean; replicas: Replica<T>[] }[] {
    return [...this.#routes.values()].flatMap(({ route, replicas, usable }) => {
      const [first] = replicas
      if (first === undefined) return []
      return [{ route, name: first.name, service: first.service, usable, replicas: [...replicas] }]
    })
  }

  #slotsOf(tunnel: T): Iterable<Slot<T>> {
    return this.#tunnels.get(tunnel)?.values() ?? []
  }

  #loadOf(own: ReadonlyMap<Route, Slot<T>> | undefined, service: string): Load {
    for (const slot of own?.values() ?? []) if (slot.service === service) return slot.load
    return { active: 0 }
  }

  #removeAll(slots: Slot<T>[]): Slot<T>[] {
    const entries = slots.flatMap((slot) => this.#remove(slot) ?? [])
    this.#tell(entries)
    return slots
  }

  #remove(slot: Slot<T>): Entry<T> | undefined {
    const own = this.#tunnels.get(slot.tunnel)
    own?.delete(slot.route)
    if (own?.size === 0) this.#tunnels.delete(slot.tunnel)
    const entry = this.#routes.get(slot.route)
    const at = entry?.replicas.indexOf(slot) ?? -1
    if (entry === undefined || at < 0) return undefined
    entry.replicas.splice(at, 1)
    if (at < entry.next) entry.next--
    if (entry.replicas.length === 0) this.#routes.delete(entry.route)
    return entry
  }

  /** After the change, so that whoever hears of it may ask and change the table. */
  #tell(entries: readonly Entry<T>[]): void {
    for (const entry of entries) {
      const usable = this.usable(entry.route)
      if (usable === entry.usable) continue
      entry.usable = usable
      if (usable) this.#options.onLive?.(entry.route)
      else this.#options.onGone?.(entry.route)
    }
  }
}

function alike(one: Served, other: Served): boolean {
  return (
    one.name === other.name &&
    one.service === other.service &&
    one.type === other.type &&
    one.tls === other.tls
  )
}

function conflict(route: Route, there: Served, wanted: Served): TunnelError {
  const ends = { scope: 'stream', remote: true } as const
  if (there.name !== wanted.name) {
    const detail = `route ${route} is served under another name: choose another`
    return new TunnelError('route_taken', { ...ends, detail })
  }
  const how =
    there.service === wanted.service
      ? `as ${there.type} with other settings: offer it the same way everywhere`
      : `by service "${printable(there.service)}": stop that one, or offer yours under that name to be its replica`
  return new TunnelError('route_conflict', { ...ends, detail: `route ${route} is already served ${how}` })
}

function tooMany(offer: ServiceOffer): TunnelError {
  const detail = `service "${printable(offer.name)}" is one too many: a tunnel carries ${SERVICES_PER_TUNNEL}`
  return new TunnelError('too_many_services', { scope: 'stream', remote: true, detail })
}
