import { TunnelError } from '../errors.ts'
import { SERVICES_PER_TUNNEL } from '../limits.ts'
import { printable, type ServiceOffer } from '../protocol/index.ts'
import { alike, type Millis, Offered, type Replica, type Served, Slot } from './replica.ts'
import type { Route } from './route.ts'

export type { Replica } from './replica.ts'

export interface RoutesOptions<T> {
  /** False for a tunnel that gets no new streams (silent, draining, closing). Asked on each `pick`: keep it cheap. */
  isLive(tunnel: T): boolean
  /** A route got its first usable replica: visitors held for it may go. Called when the table is whole again. */
  onLive?(route: Route): void
  /** A route lost its last usable replica: visitors are held from now on. */
  onGone?(route: Route): void
  /** A tunnel serves a route no more, whatever the reason. Called while the table changes: it is not to be asked then. */
  onLeft?(tunnel: T, route: Route): void
}

interface Entry<T> {
  readonly route: Route
  readonly replicas: Slot<T>[]
  /** Where the next pick starts looking, so that equally busy replicas take turns. */
  next: number
  /** What `onLive` and `onGone` last said. */
  usable: boolean
}

/**
 * Which tunnels serve which routes now. Who may is not decided here (`Authority`), nor how a visitor gets there.
 *
 * Replicas of a route have the same name, service, type and TLS mode; anything else on a route that a live tunnel has
 * is a conflict. A tunnel that is not live keeps nobody out: a client must never meet its own ghost.
 * A replica is usable while its tunnel is live and its client does not call its target down.
 * Pure; work per call depends on one tunnel's services or one route's replicas, never on all of them.
 */
export class Routes<T> {
  readonly #options: RoutesOptions<T>
  readonly #routes = new Map<Route, Entry<T>>()
  /** Each with its services by name. */
  readonly #tunnels = new Map<T, Map<string, Offered<T>>>()

  constructor(options: RoutesOptions<T>) {
    this.#options = options
  }

  /**
   * Adds `tunnel` as a replica of all these routes, each named once, or of none; where it is one already its offer is
   * replaced, and what is known of its health stays. Returns the replicas of other services that had to go, their
   * tunnels not being live: should they wake up, they are to be told `withdrawn`.
   * Throws `route_taken` (another name serves one), `route_conflict` (another service does) or `too_many_services`.
   */
  register(tunnel: T, name: string, offer: ServiceOffer, routes: readonly Route[]): Replica<T>[] {
    // Whoever forgot to `refresh` is caught up with, so that `onLive` is never left out when visitors wait.
    this.#tell(routes.flatMap((route) => this.#routes.get(route) ?? []))
    const wanted: Served = { name, service: offer.name, type: offer.type, tls: offer.tls }
    const ghosts = routes.flatMap((route) => this.#ghosts(tunnel, route, wanted))
    const services = this.#tunnels.get(tunnel) ?? new Map<string, Offered<T>>()
    const offered = services.get(offer.name) ?? new Offered<T>()
    if (!services.has(offer.name) && services.size >= SERVICES_PER_TUNNEL) throw tooMany(offer)

    for (const slot of ghosts) this.#remove(slot)
    this.#tunnels.set(tunnel, services.set(offer.name, offered))
    const entries: Entry<T>[] = []
    for (const route of routes) {
      const mine = offered.slots.get(route)
      if (mine !== undefined) mine.offer = offer
      else entries.push(this.#add(new Slot(tunnel, route, name, offer, offered)))
    }
    this.#tell(entries)
    return ghosts
  }

  /** Takes back services of a tunnel, by their names; returns the replicas that are gone. */
  unregister(tunnel: T, services: readonly string[]): Replica<T>[] {
    const own = this.#tunnels.get(tunnel)
    const slots = [...new Set(services)].flatMap((service) => [...(own?.get(service)?.slots.values() ?? [])])
    return this.#removeAll(slots)
  }

  /** Takes back everything of a tunnel that ended; returns the replicas that are gone. */
  drop(tunnel: T): Replica<T>[] {
    return this.#removeAll(this.#slotsOf(tunnel))
  }

  /** Empties a route (released, revoked, no longer granted); returns the replicas that are gone, to be told. */
  withdraw(route: Route): Replica<T>[] {
    return this.#removeAll([...(this.#routes.get(route)?.replicas ?? [])])
  }

  /** To be called whenever `isLive(tunnel)` has changed its answer: tells what that means for its routes. */
  refresh(tunnel: T): void {
    this.#tell(this.#slotsOf(tunnel).flatMap((slot) => this.#routes.get(slot.route) ?? []))
  }

  /** The client's word on the target of a service; true when it is news. A service that is not offered has none. */
  setHealth(tunnel: T, service: string, up: boolean): boolean {
    const offered = this.#tunnels.get(tunnel)?.get(service)
    if (offered === undefined || offered.down !== up) return false
    offered.down = !up
    this.#tell([...offered.slots.values()].flatMap((slot) => this.#routes.get(slot.route) ?? []))
    return true
  }

  /**
   * A replica answered nothing, or not in time: others are preferred for a while, which doubles while it goes on
   * failing. Failures within that time only begin it anew, since those of one moment have one cause.
   */
  failed(replica: Replica<T>, now: Millis): void {
    if (replica instanceof Slot) replica.offered.failed(now)
  }

  /** A replica answered: its failures are forgotten. */
  worked(replica: Replica<T>): void {
    if (replica instanceof Slot) replica.offered.worked()
  }

  /**
   * The usable replica with the fewest active streams, in turn among equals; undefined when there is none.
   * Those that failed lately are passed over at the time `now`, without which nobody is; when all of them are, it is
   * the one whose time is over soonest. Tunnels in `exclude` (one that just answered `refused`, or is full) are out.
   * Counts nothing: call `begin` when the stream is open.
   */
  pick(
    route: Route,
    exclude?: ReadonlySet<T>,
    now: Millis = Number.POSITIVE_INFINITY,
  ): Replica<T> | undefined {
    const entry = this.#routes.get(route)
    if (entry === undefined) return undefined
    const { replicas, next } = entry
    let best: Slot<T> | undefined
    let bestAt = 0
    /** While nobody better is found. */
    let until: Millis = Number.POSITIVE_INFINITY
    for (let i = 0; i < replicas.length; i++) {
      const at = (next + i) % replicas.length
      const slot = replicas[at]
      if (slot === undefined) continue
      const { active, passedOver, down } = slot.offered
      const over = passedOver > now
      if (over ? passedOver >= until : until === 0 && best !== undefined && active >= best.active) continue
      if (down || exclude?.has(slot.tunnel) === true || !this.#options.isLive(slot.tunnel)) continue
      best = slot
      bestAt = at
      until = over ? passedOver : 0
    }
    if (best !== undefined) entry.next = bestAt + 1
    return best
  }

  /** A stream to this replica was opened. Each `begin` is paid back by one `end`, also after the replica is gone. */
  begin(replica: Replica<T>): void {
    if (replica instanceof Slot) replica.offered.active++
  }

  /** A stream to this replica has ended. */
  end(replica: Replica<T>): void {
    if (replica instanceof Slot && replica.offered.active > 0) replica.offered.active--
  }

  /** The same service of the same tunnel on another of its routes, or on the same one, while it is registered and not down. */
  replicaOf(route: Route, known: Replica<T>): Replica<T> | undefined {
    if (!(known instanceof Slot)) return undefined
    const { down, slots } = (known as Slot<T>).offered
    return down ? undefined : slots.get(route)
  }

  /** True while a pick without exclusions would find something. */
  usable(route: Route): boolean {
    const replicas = this.#routes.get(route)?.replicas ?? []
    return replicas.some((slot) => !slot.offered.down && this.#options.isLive(slot.tunnel))
  }

  /** The replicas of a route, usable or not. A copy. */
  replicas(route: Route): Replica<T>[] {
    return [...(this.#routes.get(route)?.replicas ?? [])]
  }

  /** What a tunnel serves. A copy. */
  of(tunnel: T): Replica<T>[] {
    return this.#slotsOf(tunnel)
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

  #slotsOf(tunnel: T): Slot<T>[] {
    const services = this.#tunnels.get(tunnel)?.values() ?? []
    return Array.from(services, ({ slots }) => [...slots.values()]).flat()
  }

  /** The replicas of a route that are not as `wanted` and may be removed. Throws when one may not. */
  #ghosts(tunnel: T, route: Route, wanted: Served): Slot<T>[] {
    const others = (this.#routes.get(route)?.replicas ?? []).filter((slot) => !alike(slot, wanted))
    const inTheWay = others.find((slot) => slot.tunnel === tunnel || this.#options.isLive(slot.tunnel))
    if (inTheWay !== undefined) throw conflict(route, inTheWay, wanted)
    return others
  }

  #add(slot: Slot<T>): Entry<T> {
    const { route } = slot
    slot.offered.slots.set(route, slot)
    const entry = this.#routes.get(route) ?? { route, replicas: [], next: 0, usable: false }
    this.#routes.set(route, entry)
    entry.replicas.push(slot)
    return entry
  }

  #removeAll(slots: Slot<T>[]): Slot<T>[] {
    const entries = slots.flatMap((slot) => this.#remove(slot) ?? [])
    this.#tell(entries)
    return slots
  }

  #remove(slot: Slot<T>): Entry<T> | undefined {
    const { offered } = slot
    offered.slots.delete(slot.route)
    if (offered.slots.size === 0) {
      const services = this.#tunnels.get(slot.tunnel)
      services?.delete(slot.service)
      if (services?.size === 0) this.#tunnels.delete(slot.tunnel)
    }
    const entry = this.#routes.get(slot.route)
    const at = entry?.replicas.indexOf(slot) ?? -1
    if (entry === undefined || at < 0) return undefined
    entry.replicas.splice(at, 1)
    if (at < entry.next) entry.next--
    if (entry.replicas.length === 0) this.#routes.delete(entry.route)
    this.#options.onLeft?.(slot.tunnel, slot.route)
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
