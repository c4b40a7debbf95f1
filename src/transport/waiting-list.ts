import type { Millis } from '../mux/index.ts'

export interface WaitingListOptions {
  total: number
  perAddress: number
  patience: Millis
}

interface Entry<C> {
  connection: C
  address: string
  deadline: Millis
}

/**
 * Connections that have not proved themselves: bounded in all, per address and in time, oldest dropped first,
 * so that silence never keeps out who comes next.
 *
 * Pure: the time comes in; whoever is to be dropped comes out, and the caller closes it.
 */
export class WaitingList<C> {
  readonly #options: WaitingListOptions
  // Insertion order is age, in both maps.
  readonly #all = new Map<C, Entry<C>>()
  readonly #byAddress = new Map<string, Set<C>>()

  constructor(options: WaitingListOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#all.size
  }

  /** When `expire` has somebody to give; undefined while nobody waits. */
  get next(): Millis | undefined {
    for (const entry of this.#all.values()) return entry.deadline
    return undefined
  }

  /** Adds one; returns the one that must go instead, if there is no room. */
  add(connection: C, address: string, now: Millis): C | undefined {
    const same = this.#byAddress.get(address)
    let evicted: C | undefined
    if (same !== undefined && same.size >= this.#options.perAddress) evicted = first(same)
    else if (this.#all.size >= this.#options.total) evicted = first(this.#all.keys())
    if (evicted !== undefined) this.remove(evicted)
    this.#all.set(connection, { connection, address, deadline: now + this.#options.patience })
    const peers = this.#byAddress.get(address)
    if (peers === undefined) this.#byAddress.set(address, new Set([connection]))
    else peers.add(connection)
    return evicted
  }

  remove(connection: C): void {
    const entry = this.#all.get(connection)
    if (entry === undefined) return
    this.#all.delete(connection)
    const peers = this.#byAddress.get(entry.address)
    peers?.delete(connection)
    if (peers?.size === 0) this.#byAddress.delete(entry.address)
  }

  /** Removes and returns everybody whose time is over. */
  expire(now: Millis): C[] {
    const over: C[] = []
    for (const entry of this.#all.values()) {
      if (entry.deadline > now) break
      over.push(entry.connection)
    }
    for (const connection of over) this.remove(connection)
    return over
  }

  /** Removes and returns everybody. */
  clear(): C[] {
    const everybody = [...this.#all.keys()]
    this.#all.clear()
    this.#byAddress.clear()
    return everybody
  }
}

function first<T>(items: Iterable<T>): T | undefined {
  for (const item of items) return item
  return undefined
}
