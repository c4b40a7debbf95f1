import { OWN_ADDRESSES_MS } from '../limits.ts'
import { addressClass, isOwnAddress, ownAddresses, plainAddress } from '../net/index.ts'
import type { Endpoint, ProxyHeader } from '../protocol/index.ts'

/** Addresses that a target may trust for being near, and that no visitor from the internet has. */
const IMPOSSIBLE: ReadonlySet<string | undefined> = new Set([
  undefined,
  'loopback',
  'unspecified',
  'multicast',
  'link-local',
])

/**
 * The visitor's address as far as a gateway's word is taken for it: a gateway that says
 * `127.0.0.1`, or an address of this very machine, would speak with its trust.
 */
export class VisitorAddresses {
  readonly #own: () => readonly string[]
  #known: readonly string[] = []
  #knownAt = Number.NEGATIVE_INFINITY

  constructor(own: () => readonly string[] = ownAddresses) {
    this.#own = own
  }

  /** Undefined: unknown. */
  of({ source }: ProxyHeader, now: number = performance.now()): Endpoint | undefined {
    if (source === undefined) return undefined
    const address = plainAddress(source.address)
    if (IMPOSSIBLE.has(addressClass(address))) return undefined
    if (now - this.#knownAt >= OWN_ADDRESSES_MS) {
      this.#known = this.#own()
      this.#knownAt = now
    }
    return isOwnAddress(address, this.#known) ? undefined : { address, port: source.port }
  }
}
