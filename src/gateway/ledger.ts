import type { Pin } from '../identity/index.ts'
import type { Redeemed } from './admission.ts'
import type { Route } from './route.ts'
import type { Store } from './store.ts'

/**
 * What those who serve have written into the record, by its one writer: here, or in the process above. When a promise
 * resolves the authority that is read here has the change. **Nobody is told of it before `save` resolves.**
 * They reject as the methods of `Authority` throw.
 */
export interface Ledger {
  redeem(by: { secretHash: string; key: Pin; instance: string }): Promise<Redeemed>
  /** Returns those that nobody owned. */
  claimAll(routes: readonly Route[], name: string): Promise<Route[]>
  /** True when nobody owned it. */
  keepPort(name: string, service: string, port: number): Promise<boolean>
  /** False, and nothing changes, when it is not its owner's, or somebody serves it elsewhere. */
  releaseBy(name: string, route: Route): Promise<boolean>
  /** Resolves when all that was changed until now is on disk. */
  save(): Promise<void>
  // What may be written a little later; nobody waits for it.
  seen(key: Pin, instance: string): void
  markLive(route: Route): void
  markGone(route: Route): void
}

/** Where the record is written by this process, and nobody else serves. */
export function ownLedger(store: Store): Ledger {
  const { authority } = store
  return {
    redeem: async (by) => authority.redeem({ ...by, now: Date.now() }),
    claimAll: async (routes, name) => authority.claimAll(routes, name),
    keepPort: async (name, service, port) => authority.keepPort(name, service, port),
    releaseBy: async (name, route) => authority.releaseBy(name, route),
    save: () => store.save(),
    seen: (key, instance) => authority.seen(key, instance, Date.now()),
    markLive(route) {
      authority.markLive(route)
      store.saveSoon()
    },
    markGone(route) {
      authority.markGone(route, Date.now())
      store.saveSoon()
    },
  }
}
