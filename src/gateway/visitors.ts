import type { Socket } from 'node:net'
import type { Logger } from 'pino'
import { VISITORS, VISITORS_PER_ADDRESS } from '../limits.ts'
import type { MemoryBudget } from '../mux/index.ts'
import { addressClass, addressKey, gatewayDescriptors, plainAddress } from '../net/index.ts'
import type { Apology } from './apology.ts'
import type { Authority } from './authority.ts'
import type { ConnectedClient } from './connected-client.ts'
import type { Route } from './route.ts'
import type { Routes } from './routes.ts'
import { Shares } from './shares.ts'
import { type Lobby, Visitor } from './visitor.ts'
import { WaitingRoom } from './waiting.ts'

export interface VisitorsOptions {
  authority: Authority
  routes: Routes<ConnectedClient>
  memory: MemoryBudget
  holdMs: number
  /** Sockets of visitors at once; by default what the process may have, less what tunnels need. */
  capacity?: number | undefined
  /** The same for one address. */
  perAddress?: number | undefined
  log: Logger
}

/** All visitors: lets them in within bounds, keeps those who wait, and counts. */
export class Visitors implements Lobby {
  readonly routes: Routes<ConnectedClient>
  readonly errors = new Map<string, number>()
  total = 0

  readonly #options: VisitorsOptions
  /** Each with the name whose share it counts in. */
  readonly #all = new Map<Visitor, string>()
  readonly #shares: Shares
  /** Sockets of those who get an answer from here, until it has left. */
  readonly #lingering = new Set<Socket>()
  /** Of those who have gone. */
  readonly #bytes = { in: 0, out: 0 }
  readonly #perAddress = new Map<string, number>()
  readonly #waiting: WaitingRoom<Visitor>
  readonly #capacity: number
  /** Routes whose held visitors are being let go, some per loop turn. */
  readonly #releasing = new Set<Route>()
  readonly #whenEmpty = new Set<() => void>()
  /** Of those who come by loopback and wait: each is somebody. */
  #turn = 0
  #closed = false
  #timer: NodeJS.Timeout | undefined

  constructor(options: VisitorsOptions) {
    this.#options = options
    this.routes = options.routes
    this.#capacity = options.capacity ?? Math.min(VISITORS, gatewayDescriptors().visitors)
    this.#shares = new Shares(this.#capacity, () => options.authority.severalNames)
    this.#waiting = new WaitingRoom<Visitor>({ holdMs: options.holdMs })
  }

  get size(): number {
    return this.#all.size
  }

  /** From and to visitors since the start, while they move and not only at the end. */
  get bytes(): { in: number; out: number } {
    const sum = { ...this.#bytes }
    for (const { bytes } of this.#all.keys()) {
      sum.in += bytes.in
      sum.out += bytes.out
    }
    return sum
  }

  /** Those that a client serves now. */
  get served(): number {
    return this.#all.size - this.#waiting.size
  }

  get heldAll(): number {
    return this.#waiting.size
  }

  held(route: Route): number {
    return this.#waiting.waiting(route)
  }

  /** A visitor has connected; `socket` is paused, and owned from now on. */
  arrive(socket: Socket, route: Route): void {
    this.total++
    const address = plainAddress(socket.remoteAddress ?? '')
    const key = addressKey(address)
    const same = (this.#perAddress.get(key) ?? 0) + 1
    // Behind loopback stands a proxy of the operator's, or the operator: one address there is not one visitor.
    const crowd =
      same > Math.min(this.#options.perAddress ?? VISITORS_PER_ADDRESS, Math.ceil(this.#capacity / 8)) &&
      addressClass(address) !== 'loopback'
    const full = this.size + this.#lingering.size >= this.#capacity
    const name = this.#options.authority.ownerOf(route) ?? ''
    if (this.#closed || crowd || full || address === '' || !this.#shares.take(name)) {
      this.#count(crowd ? 'address_full' : 'busy')
      socket.on('error', () => {})
      socket.resetAndDestroy()
      return
    }
    this.#perAddress.set(key, same)
    const visitor = new Visitor(this, socket, route)
    this.#all.set(visitor, name)
    if (this.#options.memory.full) visitor.dismiss('busy')
    else visitor.seek()
  }

  hold(visitor: Visitor): boolean {
    const { authority } = this.#options
    const { route } = visitor
    const name = authority.ownerOf(route)
    // A route that nobody owns or is granted, or whose client left long ago, is worth no wait.
    if (this.#closed || name === undefined || !authority.covers(name, route)) return false
    if (!authority.recent(route, Date.now())) return false
    const now = performance.now()
    visitor.waitingSince ??= now
    const address =
      addressClass(visitor.address) === 'loopback'
        ? `${visitor.address}#${this.#turn++}`
        : addressKey(visitor.address)
    const answer = this.#waiting.hold(visitor, { route, name, address, now, since: visitor.waitingSince })
    if (!answer.held) {
      this.#count(`held_${answer.why}`)
      return false
    }
    answer.evicted?.dismiss('absent')
    this.#arm()
    return true
  }

  leave(visitor: Visitor): void {
    this.#waiting.leave(visitor)
  }

  linger(socket: Socket): void {
    if (socket.closed) return
    this.#lingering.add(socket)
    socket.once('close', () => this.#lingering.delete(socket))
  }

  done(visitor: Visitor, bytes: { in: number; out: number }, code: string | undefined): void {
    const name = this.#all.get(visitor)
    if (name === undefined) return
    this.#all.delete(visitor)
    this.#shares.give(name)
    this.#waiting.leave(visitor)
    const key = addressKey(visitor.address)
    const same = (this.#perAddress.get(key) ?? 0) - 1
    if (same > 0) this.#perAddress.set(key, same)
    else this.#perAddress.delete(key)
    this.#bytes.in += bytes.in
    this.#bytes.out += bytes.out
    if (code !== undefined) {
      this.#count(code)
      this.#options.log.debug({ route: visitor.route, address: visitor.address, code }, 'visitor gone')
    }
    if (this.served === 0) for (const empty of this.#whenEmpty) empty()
  }

  /** There is a client for this route: those who wait are let go, some per loop turn, longest waiting first. */
  release(route: Route): void {
    if (this.#waiting.waiting(route) === 0 || this.#releasing.has(route)) return
    this.#releasing.add(route)
    setImmediate(() => {
      this.#releasing.delete(route)
      let room = true
      for (const visitor of this.#waiting.release(route)) room = visitor.seek() && room
      // One that had to be held again found no room; the client's next sign brings it back here.
      if (room) this.release(route)
    })
  }

  /** Nobody is to wait for this route any more. */
  dismiss(route: Route): void {
    for (const visitor of this.#waiting.release(route, Number.POSITIVE_INFINITY)) visitor.dismiss('absent')
  }

  /** Lets nobody in, sends away who waits, and resolves when the others have ended, at the latest after `ms`. */
  async drained(ms: number): Promise<void> {
    this.#closed = true
    for (const visitor of Array.from(this.#all.keys()))
      if (this.#waiting.since(visitor) !== undefined) visitor.dismiss('absent')
    if (this.served === 0) return
    await new Promise<void>((resolve) => {
      const empty = (): void => {
        clearTimeout(timer)
        this.#whenEmpty.delete(empty)
        resolve()
      }
      const timer = setTimeout(empty, ms)
      this.#whenEmpty.add(empty)
    })
  }

  /** Resets everybody. */
  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    for (const visitor of Array.from(this.#all.keys())) visitor.cut()
    for (const socket of this.#lingering) socket.destroy()
  }

  #arm(): void {
    const next = this.#waiting.nextDeadline
    if (this.#timer !== undefined || next === undefined || this.#closed) return
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        const gone: Apology = 'absent'
        for (const visitor of this.#waiting.expire(performance.now())) visitor.dismiss(gone)
        this.#arm()
      },
      Math.max(1, next - performance.now()),
    )
    this.#timer.unref()
  }

  #count(code: string): void {
    this.errors.set(code, (this.errors.get(code) ?? 0) + 1)
  }
}
