import type { Socket } from 'node:net'
import type { Logger } from 'pino'
import type { HttpLimits } from '../config/index.ts'
import { PAGES, type Problem, type Refusal } from '../http/index.ts'
import { Field, fieldText, type RequestHead } from '../http1/index.ts'
import {
  CHANGES_LOGGED_BURST,
  CHANGES_LOGGED_PER_SECOND,
  IDLE_LOOK_MS,
  IDLE_SHARE,
  IDLE_SPARED_MS,
  VISITORS,
  VISITORS_PER_ADDRESS,
} from '../limits.ts'
import type { MemoryBudget } from '../mux/index.ts'
import { addressClass, addressKey, gatewayDescriptors, plainAddress } from '../net/index.ts'
import { ACME_ALPN, type ClientHello, isOnlyAlpn } from '../protocol/index.ts'
import { Pace } from '../transport/index.ts'
import type { AccessLog } from './access-log.ts'
import type { Authority } from './authority.ts'
import type { ChallengeDesk } from './challenge-desk.ts'
import type { ConnectedClient } from './connected-client.ts'
import type { HostTable } from './hosts.ts'
import { HttpVisitor } from './http-visitor.ts'
import type { LimitsOf } from './limits-of.ts'
import type { Answered, Guest, HttpLobby } from './lobby.ts'
import { Rates, type Seat } from './rate.ts'
import type { Route } from './route.ts'
import type { Replica, Routes } from './routes.ts'
import { Shares } from './shares.ts'
import { StreamPool } from './stream-pool.ts'
import { TcpVisitor } from './tcp-visitor.ts'
import { type RouteTraffic, Traffic } from './traffic.ts'
import type { TrustedProxies } from './trusted.ts'
import { WaitingRoom } from './waiting.ts'

export interface VisitorsOptions {
  authority: Authority
  routes: Routes<ConnectedClient>
  challenges: ChallengeDesk
  memory: MemoryBudget
  holdMs: number
  /** Asked for each connection or request, so that a reload counts at once. */
  limits: () => LimitsOf
  trusted: () => TrustedProxies
  access: AccessLog | undefined
  /** Where `https` services are reached. */
  tlsPort: () => number
  /** Sockets of visitors at once; by default what the process may have, less what tunnels need. */
  capacity?: number | undefined
  /** The same for one address. */
  perAddress?: number | undefined
  log: Logger
}

/** All visitors: lets them in within bounds, keeps those who wait, and counts. */
export class Visitors implements HttpLobby {
  readonly routes: Routes<ConnectedClient>
  readonly pool = new StreamPool(() => this.count('desync'))
  readonly errors = new Map<string, number>()
  total = 0

  readonly #options: VisitorsOptions
  /** Each with the name whose share it counts in; nobody's before the first request. */
  readonly #all = new Map<Guest, string>()
  readonly #shares: Shares
  readonly #rates = new Rates()
  readonly #traffic = new Traffic()
  /** Anybody can have as many requests refused as they like. */
  readonly #problemLines = new Pace(CHANGES_LOGGED_PER_SECOND, CHANGES_LOGGED_BURST)
  /** Of those who have gone. */
  readonly #bytes = { in: 0, out: 0 }
  readonly #perAddress = new Map<string, number>()
  readonly #waiting: WaitingRoom<Guest>
  readonly #capacity: number
  /** Routes whose held visitors are being let go, some per loop turn. */
  readonly #releasing = new Set<Route>()
  readonly #whenEmpty = new Set<() => void>()
  /** Of those who come by loopback and wait: each is somebody. */
  #turn = 0
  #closed = false
  /** Nobody was idle who could make room: not looked again before (ms). */
  #nextLook = 0
  #timer: NodeJS.Timeout | undefined

  constructor(options: VisitorsOptions) {
    this.#options = options
    this.routes = options.routes
    this.#capacity = options.capacity ?? Math.min(VISITORS, gatewayDescriptors().visitors)
    this.#shares = new Shares(this.#capacity, () => options.authority.severalNames)
    this.#waiting = new WaitingRoom<Guest>({ holdMs: options.holdMs })
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

  /** Those that do not wait: a client serves them, or they may ask for something. */
  get served(): number {
    return this.#all.size - this.#waiting.size
  }

  /** Those that a client serves now. */
  get active(): number {
    let active = -this.#waiting.size
    for (const guest of this.#all.keys()) if (guest.idleSince === undefined) active++
    return active
  }

  get heldAll(): number {
    return this.#waiting.size
  }

  held(route: Route): number {
    return this.#waiting.waiting(route)
  }

  /** Of each route, with what moves just now. */
  get trafficNow(): ReadonlyMap<Route, RouteTraffic> {
    for (const guest of this.#all.keys()) guest.tally?.()
    this.#traffic.keep((route) => this.#options.authority.ownerOf(route) !== undefined)
    return this.#traffic.all
  }

  /** A visitor has connected to a port of its own route; `socket` is paused, and owned from now on. */
  arrive(socket: Socket, route: Route): void {
    const name = this.#options.authority.ownerOf(route) ?? ''
    if (!this.#letIn(socket, name)) return
    const visitor = new TcpVisitor(this, socket, route, this.traffic(route))
    this.#all.set(visitor, name)
    if (this.#options.memory.full) visitor.dismiss('busy')
    else visitor.seek()
  }

  /** A visitor has connected to the http port: where it goes, its requests will say. */
  arriveHttp(socket: Socket): void {
    if (this.#letIn(socket, NOBODY)) this.#all.set(new HttpVisitor(this, socket), NOBODY)
  }

  /** A visitor has said hello by TLS, `first` being all that it said. `socket` is paused, and owned from now on. */
  arriveTls(socket: Socket, hello: ClientHello, first: readonly Uint8Array[]): void {
    const route = hello.serverName === undefined ? undefined : this.hosts.find(hello.serverName)?.tls
    const name = route === undefined ? NOBODY : (this.#options.authority.ownerOf(route) ?? NOBODY)
    if (!this.#letIn(socket, name)) return
    const only = isOnlyAlpn(hello, ACME_ALPN) ? this.#answererOf(hello.serverName ?? '', route) : undefined
    const traffic = route === undefined ? NO_TRAFFIC : this.traffic(route)
    const tls = only === undefined ? { hello, first } : { hello, first, only: only.replica }
    const visitor = new TcpVisitor(this, socket, route ?? NO_ROUTE, traffic, tls)
    this.#all.set(visitor, name)
    if (route === undefined || (only !== undefined && only.replica === undefined)) visitor.dismiss('no_route')
    else if (this.#options.memory.full) visitor.dismiss('busy')
    else visitor.seek()
  }

  /**
   * Whom an authority that comes for a challenge may be sent to, and nobody else. Undefined: it is a visitor like any other,
   * since the target speaks TLS itself, and may order certificates by itself.
   */
  #answererOf(
    host: string,
    route: Route | undefined,
  ): { replica: Replica<ConnectedClient> | undefined } | undefined {
    const replica = this.#options.challenges.tlsAlpn(host)
    const through =
      route !== undefined && this.routes.replicas(route).some(({ tls }) => tls === 'passthrough')
    return replica === undefined && through ? undefined : { replica }
  }

  /** Counts it, or resets it. */
  #letIn(socket: Socket, name: string): boolean {
    this.total++
    const address = plainAddress(socket.remoteAddress ?? '')
    const key = addressKey(address)
    const same = (this.#perAddress.get(key) ?? 0) + 1
    // Behind loopback stands a proxy of the operator's, or the operator: one address there is not one visitor.
    const crowd =
      same > Math.min(this.#options.perAddress ?? VISITORS_PER_ADDRESS, Math.ceil(this.#capacity / 8)) &&
      addressClass(address) !== 'loopback' &&
      !this.trusted.has(address)
    if (this.#closed || crowd || address === '' || !this.#take(name)) {
      this.count(crowd ? 'address_full' : 'busy')
      socket.on('error', () => {})
      socket.resetAndDestroy()
      return false
    }
    this.#perAddress.set(key, same)
    return true
  }

  #take(name: string): boolean {
    return this.#shares.take(name) || (this.#makeRoom(name) && this.#shares.take(name))
  }

  #move(from: string, to: string): boolean {
    return this.#shares.move(from, to) || (this.#makeRoom(to) && this.#shares.move(from, to))
  }

  /**
   * Lets go of those who have been idle longest: whoever opens connections and asks for nothing on them would keep
   * everybody else out. Many at a time, since all are looked at. False: there are none.
   */
  #makeRoom(name: string): boolean {
    const now = performance.now()
    if (now < this.#nextLook) return false
    const full = this.size >= this.#capacity
    const idle: { guest: Guest; since: number }[] = []
    for (const [guest, of] of this.#all) {
      const since = guest.idleSince
      if (since !== undefined && now - since > IDLE_SPARED_MS && (full || of === name))
        idle.push({ guest, since })
    }
    if (idle.length === 0) this.#nextLook = now + IDLE_LOOK_MS
    idle.sort((one, other) => one.since - other.since)
    for (const { guest } of idle.slice(0, Math.ceil(this.#capacity / IDLE_SHARE))) guest.giveWay?.()
    return idle.length > 0
  }

  // ── What visitors ask ─────────────────────────────────────────────────────────────────────────────────

  get hosts(): HostTable {
    return this.#options.authority.hosts
  }

  get trusted(): TrustedProxies {
    return this.#options.trusted()
  }

  answererOf(head: RequestHead): Replica<ConnectedClient> | undefined {
    return this.#options.challenges.http(head)
  }

  limitsOf(route: Route | undefined): HttpLimits {
    return this.#options.limits().of(route)
  }

  traffic(route: Route): RouteTraffic {
    return this.#traffic.of(route)
  }

  /** To that literal host, which has an owner here, and nowhere else. */
  toTls(head: RequestHead): Refusal {
    const port = this.#options.tlsPort()
    const target = head.target === '*' ? '/' : head.target
    return { problem: 'moved', location: `https://${head.host}${port === 443 ? '' : `:${port}`}${target}` }
  }

  visitorOf(peer: string, { bytes }: RequestHead): string {
    return this.trusted.visitorOf(peer, fieldText(bytes, Field.forwardedFor) ?? '')
  }

  enter(guest: Guest, address: string, route: Route): Seat | Refusal {
    const name = this.#options.authority.ownerOf(route) ?? NOBODY
    const before = this.#all.get(guest)
    if (before !== undefined && !this.#move(before, name)) return { problem: 'busy' }
    this.#all.set(guest, name)
    return this.#rates.connect(route, addressKey(address), this.limitsOf(route)) ?? TOO_MANY
  }

  admit(_guest: Guest, address: string, route: Route, now: number): Refusal | undefined {
    if (this.#options.memory.full) return { problem: 'busy' }
    const taken = this.#rates.take(route, addressKey(address), this.limitsOf(route), now)
    return taken.ok ? undefined : { problem: 'too_many_requests', retryAfter: taken.retryAfter }
  }

  hold(guest: Guest, route: Route): boolean {
    const { authority } = this.#options
    const name = authority.ownerOf(route)
    // A route that nobody owns or is granted, or whose client left long ago, is worth no wait.
    if (this.#closed || name === undefined || !authority.covers(name, route)) return false
    if (!authority.recent(route, Date.now())) return false
    const now = performance.now()
    guest.waitingSince ??= now
    const address =
      addressClass(guest.address) === 'loopback'
        ? `${guest.address}#${this.#turn++}`
        : addressKey(guest.address)
    const answer = this.#waiting.hold(guest, { route, name, address, now, since: guest.waitingSince })
    if (!answer.held) {
      this.count(`held_${answer.why}`)
      return false
    }
    answer.evicted?.dismiss('absent')
    this.#arm()
    return true
  }

  leave(guest: Guest): void {
    this.#waiting.leave(guest)
  }

  draining(client: ConnectedClient): void {
    client.draining = true
    this.clientLeaves(client)
    this.routes.refresh(client)
  }

  /** A client wants no more requests: streams that carry none are ended, so that it need not wait for them. */
  clientLeaves(client: ConnectedClient): void {
    this.pool.drop(client)
    for (const carried of Array.from(client.carried.values())) carried.leave?.()
  }

  answered({ exchange, traffic, route, address, replica }: Answered): void {
    const { problem, status, head, requestId } = exchange
    traffic?.answered(status)
    if (problem !== undefined) {
      this.count(problem)
      const about = { route, address, problem, status, requestId }
      const level = status >= 500 && this.#problemLines.take(performance.now()) ? 'info' : 'debug'
      this.#options.log[level](about, `request not answered by its target: ${problem}`)
    }
    const { access } = this.#options
    if (access === undefined) return
    const totalMs = performance.now() - exchange.begunAt
    access.note({
      time: Date.now() - totalMs,
      address,
      route,
      service: replica?.service,
      replica: replica?.tunnel.key,
      method: head.method,
      target: head.target,
      host: head.hostText,
      version: head.version,
      status,
      bytesIn: exchange.bytesIn,
      bytesOut: exchange.bytesOut,
      firstByteMs: exchange.firstByteAt === 0 ? undefined : exchange.firstByteAt - exchange.begunAt,
      totalMs,
      requestId,
      referer: fieldText(head.bytes, Field.referer),
      userAgent: fieldText(head.bytes, Field.userAgent),
      error: problem ?? exchange.cut,
    })
  }

  malformed(problem: Problem, requestId: string, address: string): void {
    this.count(problem)
    this.#options.log.debug({ address, problem, requestId }, `no proper request: ${problem}`)
    this.#options.access?.note({
      time: Date.now(),
      address,
      route: '',
      method: '-',
      target: '-',
      host: '',
      version: '1.1',
      status: PAGES[problem].status,
      bytesIn: 0,
      bytesOut: 0,
      totalMs: 0,
      requestId,
      error: problem,
    })
  }

  done(guest: Guest, bytes: { in: number; out: number }, code: string | undefined): void {
    const name = this.#all.get(guest)
    if (name === undefined) return
    this.#all.delete(guest)
    this.#shares.give(name)
    this.#waiting.leave(guest)
    const key = addressKey(guest.address)
    const same = (this.#perAddress.get(key) ?? 0) - 1
    if (same > 0) this.#perAddress.set(key, same)
    else this.#perAddress.delete(key)
    this.#bytes.in += bytes.in
    this.#bytes.out += bytes.out
    if (code !== undefined) {
      this.count(code)
      this.#options.log.debug({ address: guest.address, code }, 'visitor gone')
    }
    if (this.served === 0) for (const empty of this.#whenEmpty) empty()
  }

  // ── What the gateway asks ─────────────────────────────────────────────────────────────────────────────

  /** There is a client for this route: those who wait are let go, some per loop turn, longest waiting first. */
  release(route: Route): void {
    if (this.#waiting.waiting(route) === 0 || this.#releasing.has(route)) return
    this.#releasing.add(route)
    setImmediate(() => {
      this.#releasing.delete(route)
      let room = true
      for (const guest of this.#waiting.release(route)) room = guest.seek() && room
      // One that had to be held again found no room; the client's next sign brings it back here.
      if (room) this.release(route)
    })
  }

  /** Nobody is to wait for this route any more. */
  dismiss(route: Route): void {
    for (const guest of this.#waiting.release(route, Number.POSITIVE_INFINITY)) guest.dismiss('absent')
  }

  /** Lets nobody in, sends away who waits, and resolves when the others have ended, at the latest after `ms`. */
  async drained(ms: number): Promise<void> {
    this.#closed = true
    for (const guest of Array.from(this.#all.keys())) {
      guest.drain?.()
      if (this.#waiting.since(guest) !== undefined) guest.dismiss('absent')
    }
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
    for (const guest of Array.from(this.#all.keys())) guest.cut()
    this.pool.close()
  }

  count(code: string): void {
    this.errors.set(code, (this.errors.get(code) ?? 0) + 1)
  }

  #arm(): void {
    const next = this.#waiting.nextDeadline
    if (this.#timer !== undefined || next === undefined || this.#closed) return
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        for (const guest of this.#waiting.expire(performance.now())) guest.dismiss('absent')
        this.#arm()
      },
      Math.max(1, next - performance.now()),
    )
    this.#timer.unref()
  }
}

const TOO_MANY: Refusal = { problem: 'too_many_connections' }

/** Of visitors that have none. */
const NO_ROUTE: Route = ''
const NO_TRAFFIC = { in: 0, out: 0 }

/** No name has it: whose share a visitor counts in that has not said where it goes. */
const NOBODY = ''
