import { TunnelError } from '../errors.ts'
import { HOLD_RECENT_MS, ROUTES_PER_NAME } from '../limits.ts'
import { HostTable } from './hosts.ts'
import type { OwnedRoute } from './record.ts'
import { DEFAULT_HOST, parseRoute, type Route, tcpRoute } from './route.ts'

/**
 * Who owns which route. The first name to claim a route owns it, present or absent, until it is released;
 * serving it is another matter (`Routes`). Also when each was last live, which is what visitors are held by.
 *
 * A host belongs to one name on every path, or another could take the `/login` of it. A wildcard keeps other names
 * from the hosts below it that they do not own already.
 */
export class Owners {
  /** The owned routes of hosts, to be found by what visitors ask for. */
  readonly hosts = new HostTable()
  readonly #owned = new Map<Route, OwnedRoute>()
  readonly #routesOf = new Map<string, Set<Route>>()
  /** Ports chosen by the gateway, by `name/service`: a name has no slash. */
  readonly #portOf = new Map<string, number>()

  constructor(owned: readonly OwnedRoute[]) {
    for (const entry of owned) this.#add({ ...entry })
  }

  get all(): Iterable<OwnedRoute> {
    return this.#owned.values()
  }

  /** In the order of their oldest routes. */
  get names(): string[] {
    return [...new Set([...this.#owned.values()].map((owned) => owned.name))]
  }

  /** Whose the oldest route is. */
  get firstName(): string | undefined {
    for (const { name } of this.#owned.values()) return name
    return undefined
  }

  ownerOf(route: Route): string | undefined {
    return this.#owned.get(route)?.name
  }

  /** In the order of their claims. */
  routesOf(name: string): Route[] {
    return [...(this.#routesOf.get(name) ?? [])]
  }

  /**
   * True when a host is another name's: it owns the host on some path, or the wildcard above a host that nobody owns,
   * unless the host is `listed`: in the grant of `name`, as it stands.
   */
  foreign(host: string, name: string, listed: (host: string) => boolean): boolean {
    const owner = this.hosts.ownerOf(host)
    if (owner !== undefined) return owner !== name
    const above = this.hosts.ownerAbove(host)
    return above !== undefined && above !== name && !listed(host)
  }

  /**
   * Makes `name` the owner of all these routes, or of none; returns those that were free until now. `listed` as for
   * `foreign`. Throws `route_taken`, or `too_many_services` when `name` would own more than it may.
   */
  claim(routes: readonly Route[], name: string, listed: (host: string) => boolean): Route[] {
    const free = routes.filter((route) => {
      const owner = this.ownerOf(route)
      if (owner !== undefined && owner !== name) throw taken(route)
      const parsed = parseRoute(route)
      if (parsed.kind !== 'tcp' && this.foreign(parsed.host, name, listed)) throw hostTaken(parsed.host)
      return owner === undefined
    })
    if (free.length > 0 && (this.#routesOf.get(name)?.size ?? 0) + free.length > ROUTES_PER_NAME) {
      const detail = `"${name}" may own ${ROUTES_PER_NAME} routes and would own more: free some with \`blindgate release ROUTE\` on the gateway`
      throw new TunnelError('too_many_services', { scope: 'stream', remote: true, detail })
    }
    for (const route of free) this.#add({ route, name, live: false })
    return free
  }

  /** Claims a port for a service, which then gets it again each time. True when anything changed. */
  keepPort(name: string, service: string, port: number): boolean {
    const route = tcpRoute(port)
    const claimed = this.claim([route], name, () => false).length > 0
    const before = this.#portOf.get(`${name}/${service}`)
    if (before === port) return claimed
    if (before !== undefined) this.#forgetPort(tcpRoute(before))
    this.#forgetPort(route)
    const owned = this.#owned.get(route)
    if (owned !== undefined) owned.service = service
    this.#portOf.set(`${name}/${service}`, port)
    return true
  }

  keptPort(name: string, service: string): number | undefined {
    return this.#portOf.get(`${name}/${service}`)
  }

  /** Frees a route for others; returns whose it was. */
  release(route: Route): string | undefined {
    const owned = this.#owned.get(route)
    if (owned === undefined) return undefined
    this.#forgetPort(route)
    this.#owned.delete(route)
    const parsed = parseRoute(route)
    if (parsed.kind !== 'tcp') this.hosts.remove(parsed)
    const routes = this.#routesOf.get(owned.name)
    routes?.delete(route)
    if (routes?.size === 0) this.#routesOf.delete(owned.name)
    return owned.name
  }

  /** True when that was news. Ignored for a route without an owner. */
  markLive(route: Route): boolean {
    const owned = this.#owned.get(route)
    if (owned === undefined || owned.live) return false
    owned.live = true
    return true
  }

  /** True when that was news. */
  markGone(route: Route, now: number): boolean {
    const owned = this.#owned.get(route)
    if (owned === undefined || !owned.live) return false
    owned.live = false
    owned.leftAt = now
    return true
  }

  /** Every route that was live when this was written is just gone. True when there was one. */
  restarted(now: number): boolean {
    let news = false
    for (const route of this.#owned.keys()) news = this.markGone(route, now) || news
    return news
  }

  /** True while it is live or left at most `HOLD_RECENT_MS` ago. */
  recent(route: Route, now: number): boolean {
    const owned = this.#owned.get(route)
    if (owned === undefined) return false
    return owned.live || (owned.leftAt !== undefined && now - owned.leftAt <= HOLD_RECENT_MS)
  }

  #add(owned: OwnedRoute): void {
    this.#owned.set(owned.route, owned)
    const routes = this.#routesOf.get(owned.name)
    if (routes === undefined) this.#routesOf.set(owned.name, new Set([owned.route]))
    else routes.add(owned.route)
    const parsed = parseRoute(owned.route)
    if (parsed.kind !== 'tcp') this.hosts.add(owned.name, parsed, owned.route)
    else if (owned.service !== undefined) {
      this.#portOf.set(`${owned.name}/${owned.service}`, parsed.port)
    }
  }

  #forgetPort(route: Route): void {
    const owned = this.#owned.get(route)
    if (owned?.service === undefined) return
    this.#portOf.delete(`${owned.name}/${owned.service}`)
    delete owned.service
  }
}

/** Neither whose it is nor on which path: see `taken`. */
function hostTaken(host: string): TunnelError {
  const what = host === DEFAULT_HOST ? 'the default route' : `host ${host}`
  const detail = `${what} belongs to another name: choose another, or have the gateway's operator free all its routes with \`blindgate release ROUTE\``
  return new TunnelError('route_taken', { scope: 'stream', remote: true, detail })
}

/** Does not say whose it is: names do not learn of one another. The operator sees owners in `status`. */
function taken(route: Route): TunnelError {
  const detail = `route ${route} belongs to another name: choose another, or have the gateway's operator free it with \`blindgate release ${route}\``
  return new TunnelError('route_taken', { scope: 'stream', remote: true, detail })
}
