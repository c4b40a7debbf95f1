import { DEALT_ADDRESSES } from '../limits.ts'

/** What is known of one source address: where its connections are, and when each worker got one last. */
interface Address {
  readonly live: Map<number, number>
  readonly dealt: Map<number, number>
}

/**
 * Deals tunnels among workers, so that a client meets all of them in few dials though it cannot choose: to a worker with
 * the fewest live connections from the same address, of those to the one whose turn is longest ago, of those by lot.
 *
 * A lone client meets n workers in n dials. Of several behind one address each counts for all: a second connection of a
 * client to the same worker is ended by the client, whereby that worker is short of one again and the others are not
 * thought to be. By turns alone, two that dial in step could meet half of the workers each, for ever.
 *
 * Pure. It remembers so many addresses, and forgets the one that dialled longest ago.
 */
export class Dealer {
  readonly #random: () => number
  readonly #most: number
  /** In the order of their last dials. */
  readonly #addresses = new Map<string, Address>()
  #turn = 0

  constructor(random: () => number, most: number = DEALT_ADDRESSES) {
    this.#random = random
    this.#most = most
  }

  get size(): number {
    return this.#addresses.size
  }

  /** One of `workers`, who counts for the address until `left`; undefined if there is none. */
  deal(key: string, workers: readonly number[]): number | undefined {
    const address = this.#addresses.get(key) ?? { live: new Map(), dealt: new Map() }
    const live = least(workers, (worker) => address.live.get(worker) ?? 0)
    const waiting = least(live, (worker) => address.dealt.get(worker) ?? 0)
    const chosen = waiting[Math.floor(this.#random() * waiting.length)]
    if (chosen === undefined) return undefined
    this.#addresses.delete(key)
    this.#addresses.set(key, address)
    for (const oldest of this.#addresses.keys()) {
      if (this.#addresses.size <= this.#most) break
      this.#addresses.delete(oldest)
    }
    this.#turn += 1
    address.dealt.set(chosen, this.#turn)
    address.live.set(chosen, (address.live.get(chosen) ?? 0) + 1)
    return chosen
  }

  /** A connection that was dealt has ended. */
  left(key: string, worker: number): void {
    const live = this.#addresses.get(key)?.live
    const count = live?.get(worker) ?? 0
    if (count > 1) live?.set(worker, count - 1)
    else live?.delete(worker)
  }

  /** A worker has ended, with all that it had. */
  gone(worker: number): void {
    for (const { live, dealt } of this.#addresses.values()) {
      live.delete(worker)
      dealt.delete(worker)
    }
  }
}

function least(workers: readonly number[], of: (worker: number) => number): number[] {
  let best: number[] = []
  let fewest = Number.POSITIVE_INFINITY
  for (const worker of workers) {
    const value = of(worker)
    if (value > fewest) continue
    if (value < fewest) best = []
    fewest = value
    best.push(worker)
  }
  return best
}
