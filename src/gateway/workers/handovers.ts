import { HANDOVERS, HANDOVERS_PER_ADDRESS, HANDSHAKE_MS } from '../../limits.ts'
import { addressKey, type Handle } from '../../net/index.ts'
import { WaitingList } from '../../transport/index.ts'
import { Dealer } from '../dealer.ts'
import type { Member } from './member.ts'

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
  over: boolean
}

/**
 * The way of a tunnel's connection to a worker. One at a time goes to each, so that what waits waits here, bounded in all,
 * per address and in time, the oldest dropped first.
 */
export class Handovers {
  readonly #dealer: Dealer
  readonly #members: () => readonly Member[]
  readonly #waiting = new WaitingList<Waiting>({
    total: HANDOVERS,
    perAddress: HANDOVERS_PER_ADDRESS,
    patience: HANDSHAKE_MS,
  })
  readonly #queues = new Map<Member, Waiting[]>()
  /** Of those that were handed over, by worker: whose address they count for. */
  readonly #tunnels = new Map<number, { member: Member; key: string }>()
  #last = 0
  #timer: NodeJS.Timeout | undefined

  constructor(members: () => readonly Member[], random: () => number) {
    this.#members = members
    this.#dealer = new Dealer(random)
  }

  /** Owns it from now on. */
  add(incoming: Incoming): void {
    const waiting = { ...incoming, key: addressKey(incoming.address), over: false }
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
    for (const waiting of queue) if (!waiting.over) this.#deal(waiting)
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
    if (member === undefined) {
      this.#drop(waiting)
      return
    }
    const queue = this.#queues.get(member)
    if (queue !== undefined) queue.push(waiting)
    else {
      this.#queues.set(member, [waiting])
      void this.#hand(member)
    }
  }

  /** Hands over what waits for a worker, until nothing does. */
  async #hand(member: Member): Promise<void> {
    for (let next = this.#next(member); next !== undefined; next = this.#next(member)) {
      if (next.over) {
        this.#dealer.left(next.key, member.number)
        continue
      }
      this.#last += 1
      this.#tunnels.set(this.#last, { member, key: next.key })
      // One that failed shows by the end of the worker.
      await member.line
        .ask('tunnel', { id: this.#last, first: next.first }, next.handle)
        .catch(() => undefined)
      this.#drop(next)
    }
  }

  #next(member: Member): Waiting | undefined {
    const queue = this.#queues.get(member)
    const next = queue?.shift()
    if (next === undefined) this.#queues.delete(member)
    return next
  }

  /** Its own part of the connection is over, whoever has it now. */
  #drop(waiting: Waiting): void {
    if (waiting.over) return
    waiting.over = true
    this.#waiting.remove(waiting)
    waiting.handle.close()
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
