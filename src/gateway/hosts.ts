import { DEFAULT_HOST, type Route } from './route.ts'

/** A host, a wildcard or the default, with its routes. Looked up anew for each request: it ends with its last route. */
export interface HostEntry {
  /** The tenant that owns the host, on every path. */
  readonly name: string
  /** True when a route has a path other than `/`: then what a path means decides who answers. */
  readonly byPath: boolean
  /** The route of visitors that come by TLS. */
  readonly tls: Route | undefined
  /** True when it has routes for plain http, on whatever path. */
  readonly plain: boolean
  /** The route with the longest path that `path` is, or is below: `/api` fits `/api` and `/api/x`, and not `/apix`. */
  route(path: string): Route | undefined
}

class Entry implements HostEntry {
  readonly name: string
  tls: Route | undefined
  #root: Route | undefined
  readonly #paths = new Map<string, Route>()
  /** No path here is longer; after a release it may be more than that. */
  #longest = 0

  constructor(name: string) {
    this.name = name
  }

  get byPath(): boolean {
    return this.#paths.size > 0
  }

  get empty(): boolean {
    return this.tls === undefined && !this.plain
  }

  get plain(): boolean {
    return this.#root !== undefined || this.#paths.size > 0
  }

  add(path: string, route: Route): void {
    if (path === '/') this.#root = route
    else {
      this.#paths.set(path, route)
      this.#longest = Math.max(this.#longest, path.length)
    }
  }

  remove(path: string): void {
    if (path === '/') this.#root = undefined
    else this.#paths.delete(path)
  }

  route(path: string): Route | undefined {
    if (this.#paths.size === 0) return this.#root
    // Only as much of a visitor's path as any of ours is long: with thousands of segments it costs no more.
    let end = Math.min(path.length, this.#longest)
    if (end < path.length && path[end] !== '/') end = path.lastIndexOf('/', end)
    while (end > 0) {
      const route = this.#paths.get(path.slice(0, end))
      if (route !== undefined) return route
      end = path.lastIndexOf('/', end - 1)
    }
    return this.#root
  }
}

/**
 * Which hosts have owners, and their routes: where a request's host and path are looked up. Kept by `Owners`, so
 * routes are here whether anybody serves them or not.
 *
 * Hosts and paths are as routes have them. Pure; the work of a call does not grow with the number of hosts.
 */
export class HostTable {
  readonly #exact = new Map<string, Entry>()
  /** Wildcards, by what comes after their `*.`. */
  readonly #below = new Map<string, Entry>()
  #rest: Entry | undefined

  /**
   * Who answers for a host: the exact one, else the wildcard one label above, else the default. The host is in lower
   * case, without port and last dot, IPv6 in brackets.
   *
   * Nothing falls through: what an exact host has no path for is not looked for at the wildcard or the default, since
   * those may be another name's, which must not answer in the name of this one.
   */
  find(host: string): HostEntry | undefined {
    const exact = this.#exact.get(host)
    if (exact !== undefined) return exact
    const dot = this.#below.size === 0 ? -1 : host.indexOf('.')
    return (dot > 0 ? this.#below.get(host.slice(dot + 1)) : undefined) ?? this.#rest
  }

  /** Whose a host, wildcard or default is, by a route of its own. */
  ownerOf(host: string): string | undefined {
    return this.#at(host)?.name
  }

  /** Whose the wildcard above an exact host is. */
  ownerAbove(host: string): string | undefined {
    if (host === DEFAULT_HOST || isWildcard(host)) return undefined
    const dot = host.indexOf('.')
    return dot > 0 ? this.#below.get(host.slice(dot + 1))?.name : undefined
  }

  /** The host is nobody's yet, or `name`'s: the caller has looked. Without a path it is the route of TLS. */
  add(name: string, { host, path }: { host: string; path?: string }, route: Route): void {
    let entry = this.#at(host)
    if (entry === undefined) {
      entry = new Entry(name)
      if (host === DEFAULT_HOST) this.#rest = entry
      else if (isWildcard(host)) this.#below.set(host.slice(2), entry)
      else this.#exact.set(host, entry)
    }
    if (path === undefined) entry.tls = route
    else entry.add(path, route)
  }

  remove({ host, path }: { host: string; path?: string }): void {
    const entry = this.#at(host)
    if (path !== undefined) entry?.remove(path)
    else if (entry !== undefined) entry.tls = undefined
    if (entry?.empty !== true) return
    if (host === DEFAULT_HOST) this.#rest = undefined
    else if (isWildcard(host)) this.#below.delete(host.slice(2))
    else this.#exact.delete(host)
  }

  #at(host: string): Entry | undefined {
    if (host === DEFAULT_HOST) return this.#rest
    return isWildcard(host) ? this.#below.get(host.slice(2)) : this.#exact.get(host)
  }
}

function isWildcard(host: string): boolean {
  return host.startsWith('*.')
}
