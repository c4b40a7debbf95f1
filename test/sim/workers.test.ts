import { describe, expect, it } from 'vitest'
import { Backoff } from '../../src/client/backoff.ts'
import { Dealer } from '../../src/gateway/dealer.ts'
import { BACKOFF_MAX_MS, TUNNELS_PER_GATEWAY } from '../../src/limits.ts'
import { Clock } from './clock.ts'
import { random } from './random.ts'

/**
 * How clients meet all workers of a gateway, in virtual time: the real dealer, the real back-off, and the rule of the
 * client's connector, which dials while an id that it knows is without a tunnel, one dial at a time; at once after one that
 * led to a new id, and with its back-off of repeats after one that did not. The seed decides everything.
 */

const RUNS = 40
const ADDRESS = '192.0.2.1'

class Gateway {
  readonly clock = new Clock()
  readonly random: () => number
  readonly dealer: Dealer
  /** Numbers of workers, by what clients know them as. */
  ids = new Map<number, string>()
  readonly clients: Client[] = []
  readonly dialledAt: number[] = []

  constructor(seed: number, workers: number) {
    this.random = random(seed)
    this.dealer = new Dealer(this.random)
    for (let number = 1; number <= workers; number += 1) this.ids.set(number, `worker ${number}`)
  }

  dial(): { worker: number; id: string } {
    this.dialledAt.push(this.clock.now)
    const worker = this.dealer.deal(ADDRESS, [...this.ids.keys()])
    const id = worker === undefined ? undefined : this.ids.get(worker)
    if (worker === undefined || id === undefined) throw new Error('there is a worker')
    return { worker, id }
  }

  /** One dies, and another takes its place at once. */
  replace(number: number): void {
    const old = this.ids.get(number) ?? ''
    this.dealer.gone(number)
    this.ids.set(number, `${old}, again`)
    for (const client of this.clients) client.lost(old)
  }

  /** The most dials of any second. */
  get most(): number {
    let most = 0
    let from = 0
    for (const [to, at] of this.dialledAt.entries()) {
      while ((this.dialledAt[from] ?? 0) < at - 1_000) from += 1
      most = Math.max(most, to - from + 1)
    }
    return most
  }
}

class Client {
  readonly live = new Map<string, number>()
  dials = 0
  /** When it had a tunnel to every id, last. */
  wholeAt = 0
  readonly #gateway: Gateway
  readonly #backoff: Backoff
  readonly #repeats: Backoff
  readonly #roundTrip: () => number
  #busy = false

  constructor(gateway: Gateway, roundTrip: () => number) {
    this.#gateway = gateway
    this.#backoff = new Backoff(gateway.random)
    this.#repeats = new Backoff(gateway.random)
    this.#roundTrip = roundTrip
    gateway.clients.push(this)
  }

  get whole(): boolean {
    return [...this.#gateway.ids.values()].every((id) => this.live.has(id))
  }

  plan(wait: number): void {
    if (this.#busy || this.whole) return
    this.#busy = true
    this.#gateway.clock.after(wait, () => this.#dial())
  }

  lost(id: string): void {
    if (this.live.delete(id)) this.plan(this.#backoff.afterTunnel(60_000, 'closed'))
  }

  #dial(): void {
    const { clock, dealer } = this.#gateway
    this.dials += 1
    const { worker, id } = this.#gateway.dial()
    // TCP, TLS, hello and welcome.
    clock.after(3 * this.#roundTrip(), () => {
      this.#busy = false
      const died = this.#gateway.ids.get(worker) !== id
      if (died) return this.plan(this.#backoff.afterFailure())
      if (this.live.has(id)) {
        dealer.left(ADDRESS, worker)
        return this.plan(this.#repeats.afterFailure())
      }
      this.live.set(id, worker)
      this.#repeats.reset()
      if (this.whole) this.wholeAt = clock.now
      this.plan(this.#backoff.afterProgress())
    })
  }
}

/** So many clients behind one address; `lockstep`: they begin together, over lines that are alike. */
function meet(
  seed: number,
  workers: number,
  clients: number,
  lockstep: boolean,
  meanwhile: (gateway: Gateway) => void = () => {},
): Gateway {
  const gateway = new Gateway(seed, workers)
  for (let n = 0; n < clients; n += 1) {
    const client = new Client(gateway, () => (lockstep ? 20 : 5 + gateway.random() * 40))
    client.plan(lockstep ? 0 : gateway.random() * 100)
  }
  meanwhile(gateway)
  gateway.clock.run()
  return gateway
}

function seeds(run: (seed: number) => void): void {
  for (let seed = 1; seed <= RUNS; seed += 1) {
    try {
      run(seed)
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error })
    }
  }
}

describe('64 workers', () => {
  const ALL = TUNNELS_PER_GATEWAY

  it('are met by a client in 64 dials, one after another', () => {
    seeds((seed) => {
      const { clients } = meet(seed, ALL, 1, false)
      expect(clients.map(({ whole, dials }) => [whole, dials])).toEqual([[true, ALL]])
    })
  })

  it.each([
    { clients: 2, lockstep: false, times: 2 },
    { clients: 2, lockstep: true, times: 2 },
    { clients: 5, lockstep: false, times: 4 },
    { clients: 5, lockstep: true, times: 4 },
    { clients: 20, lockstep: false, times: 6 },
  ])(
    'are met by each of $clients clients behind one address in $times · 64 dials (lockstep: $lockstep)',
    (row) => {
      seeds((seed) => {
        const { clients, most, dialledAt } = meet(seed, ALL, row.clients, row.lockstep)
        expect(clients.every(({ whole }) => whole)).toBe(true)
        expect(Math.max(...clients.map(({ dials }) => dials))).toBeLessThanOrEqual(row.times * ALL)
        // No storm: a second has no more than what new tunnels take, one at a time, and a few repeats each.
        expect(most).toBeLessThanOrEqual(row.clients * 30)
        // And it is over: the last is met after a while, of pauses of a few seconds each.
        expect(dialledAt.at(-1)).toBeLessThan(row.times * ALL * BACKOFF_MAX_MS)
      })
    },
  )

  it('are met in few dials though another client of the address wants only one of them', () => {
    seeds((seed) => {
      const { clients } = meet(seed, ALL, 1, false, (gateway) => gateway.dial())
      expect(clients[0]?.whole).toBe(true)
      expect(clients[0]?.dials).toBeLessThanOrEqual(ALL + 2)
    })
  })

  it('of which some die meanwhile are met all the same: each death costs each client a dial or a few', () => {
    seeds((seed) => {
      const { clients, most } = meet(seed, ALL, 5, false, (gateway) => {
        for (let n = 0; n < 10; n += 1) {
          gateway.clock.after(gateway.random() * 20_000, () =>
            gateway.replace(1 + Math.floor(gateway.random() * ALL)),
          )
        }
      })
      expect(clients.every(({ whole }) => whole)).toBe(true)
      expect(Math.max(...clients.map(({ dials }) => dials))).toBeLessThanOrEqual(4 * ALL + 10 * 6)
      expect(most).toBeLessThanOrEqual(150)
    })
  })
})
