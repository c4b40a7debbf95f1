import type { TunnelError } from '../../errors.ts'
import { HANDOVERS, HANDOVERS_PER_ADDRESS, HANDSHAKE_MS } from '../../limits.ts'
import { addressKey, gatewayDescriptors, type Handle } from '../../net/index.ts'
import { WaitingList } from '../../transport/index.ts'
import { Dealer } from '../dealer.ts'
import { type Member, within } from './member.ts'

/** A tunnel's connection, which this process does not read. */
export interface Incoming {
  handle: Handle
  /** Of the other side. */
  address: string
  /** What was read from it elsewhere. */
  first: Uint8Array
}

interface Waiting extends Incoming {
  key: string
  /** For whom it waits, and counts. */
  member: Member | undefined
}

/**
 * The way of a tunnel's connection to a worker. One at a time goes to each, so that what waits waits here, bounded in all,
 * per address and in time, the oldest dropped first.
 */
export class Handovers {
  readonly #dealer: Dealer
  readonly #members: () => readonly Member[]
  readonly #waiting: WaitingList<Waiting>
  /** Of each worker that is being handed one, those that come after it. */
  readonly #queues = new Map<Member, Set<Waiting>>()
  /** Of those that were handed over, by worker: whose address they count for. */
  readonly #tunnels = new Map<number, { member: Member; key: string }>()
  readonly #hung: (member: Member) => void
  #last = 0
  #timer: NodeJS.Timeout | undefined

  /** Ends, in `hung`, a worker that does not take what it is handed in time: it would have its part of all tunnels, and serve nobody. */
  constructor(options: {
    members: () => readonly Member[]
    random: () => number
    hung: (member: Member) => void
  }) {
    const { members, random, hung } = options
    this.#members = members
    this.#hung = hung
    this.#dealer = new Dealer(random)
    // The record is written with descriptors too: strangers may not have them all.
    const total = Math.min(HANDOVERS, gatewayDescriptors().unauthenticated)
    const perAddress = Math.min(HANDOVERS_PER_ADDRESS, Math.ceil(total / 2))
    this.#waiting = new WaitingList({ total, perAddress, patience: HANDSHAKE_MS })
  }

  /** Owns it from now on. */
  add(incoming: Incoming): void {
    const waiting = { ...incoming, key: addressKey(incoming.address), member: undefined }
    const evicted = this.#waiting.add(waiting, waiting.key, performance.now())
    if (evicted !== undefined) this.#drop(evicted)
    this.#arm()
    this.#deal(waiting)
  }

  /** A tunnel has ended. */
  left(id: number): void {
    const tunnel = this.#tunnels.get(id)
    if (tunnel === undefined) return
    this.#tunnels.delete(id)
    this.#dealer.left(tunnel.key, tunnel.member.number)
  }

  /** A worker has ended; who waited for it goes to another one. */
  gone(member: Member): void {
    const queue = this.#queues.get(member) ?? []
    this.#queues.delete(member)
    this.#dealer.gone(member.number)
    for (const [id, tunnel] of this.#tunnels) if (tunnel.member === member) this.#tunnels.delete(id)
    for (const waiting of queue) this.#deal(waiting)
  }

  close(): void {
    clearTimeout(this.#timer)
    for (const waiting of this.#waiting.clear()) this.#drop(waiting)
  }

  #deal(waiting: Waiting): void {
    const members = this.#members()
    const number = this.#dealer.deal(
      waiting.key,
      members.map((member) => member.number),
    )
    const member = members.find((one) => one.number === number)
    waiting.member = member
    if (member === undefined) {
      this.#waiting.remove(waiting)
      waiting.handle.close()
      return
    }
    const queue = this.#queues.get(member)
    if (queue !== undefined) queue.add(waiting)
    else {
      this.#queues.set(member, new Set())
      void this.#hand(member, waiting)
    }
  }

  /** Hands over one, and what waits for that worker behind it, until nothing does. */
  async #hand(member: Member, first: Waiting): Promise<void> {
    for (let next: Waiting | undefined = first; next !== undefined; next = this.#next(member)) {
      this.#waiting.remove(next)
      this.#last += 1
      this.#tunnels.set(this.#last, { member, key: next.key })
      const taken = member.line.ask('tunnel', { id: this.#last, first: next.first }, next.handle)
      await within(taken, HANDSHAKE_MS).catch(({ code }: TunnelError) => {
        if (code === 'timeout') this.#hung(member)
      })
      // Never before: a handle that is closed while it is being sent is the end of all words to that worker.
      await taken.catch(() => undefined)
      next.handle.close()
    }
  }

  #next(member: Member): Waiting | undefined {
    const queue = this.#queues.get(member)
    for (const next of queue ?? []) {
      queue?.delete(next)
      return next
    }
    this.#queues.delete(member)
    return undefined
  }

  /** It waited too long, or others need its room. */
  #drop(waiting: Waiting): void {
    const { member, key, handle } = waiting
    if (member !== undefined) {
      this.#queues.get(member)?.delete(waiting)
      this.#dealer.left(key, member.number)
    }
    handle.close()
  }

  #arm(): void {
    const { next } = this.#waiting
    if (this.#timer !== undefined || next === undefined) return
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        for (const waiting of this.#waiting.expire(performance.now())) this.#drop(waiting)
        this.#arm()
      },
      Math.max(1, next - performance.now()),
    )
    this.#timer.unref()
  }
}
