import type { Route } from '../route.ts'
import type { Store } from '../store.ts'

/** Which routes are served by which workers: a route is live while any of them serves it. */
export class LiveRoutes {
  readonly #store: Store
  readonly #workers = new Map<Route, Set<number>>()

  constructor(store: Store) {
    this.#store = store
  }

  live(route: Route, worker: number): void {
    const { authority } = this.#store
    // One that was released in the same moment is served by nobody for long.
    if (authority.ownerOf(route) === undefined) return
    const workers = this.#workers.get(route)
    if (workers !== undefined) workers.add(worker)
    else this.#workers.set(route, new Set([worker]))
    // It may be another name's by now, while a worker that served the one before has yet to say that it is gone.
    authority.markLive(route)
    this.#store.saveSoon()
  }

  left(route: Route, worker: number): void {
    const workers = this.#workers.get(route)
    if (workers?.delete(worker) !== true || workers.size > 0) return
    this.#workers.delete(route)
    this.#store.authority.markGone(route, Date.now())
    this.#store.saveSoon()
  }

  /** A worker has ended. */
  gone(worker: number): void {
    for (const route of Array.from(this.#workers.keys())) this.left(route, worker)
  }

  /** Another worker serves it. */
  elsewhere(route: Route, worker: number): boolean {
    for (const one of this.#workers.get(route) ?? []) if (one !== worker) return true
    return false
  }
}
