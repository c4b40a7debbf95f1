import type { SecureContext } from 'node:tls'
import type { Logger } from 'pino'
import { parseRemote } from '../config/index.ts'
import { TunnelError } from '../errors.ts'
import { TUNNELS_PER_GATEWAY } from '../limits.ts'
import type { MemoryBudget, Millis } from '../mux/index.ts'
import { printable, type Reject, type ServiceOffer, type Welcome } from '../protocol/index.ts'
import type { Tunnel } from '../transport/index.ts'
import { Backoff } from './backoff.ts'
import type { Challenges } from './challenges.ts'
import type { GatewayEntry } from './gateways.ts'
import { dialInOrder, greet, rejected } from './greeting.ts'
import { helloOf, type Introduction } from './hello.ts'
import { Link, type LinkOwner } from './link.ts'
import type { Serving } from './serving.ts'
import type { Whereabouts } from './urls.ts'

/** How the client hears of a gateway. Synchronous. */
export interface ConnectorOwner {
  /** A first tunnel stands, or stands again. */
  connected(connector: Connector): void
  /** The last tunnel is lost (`had`), or a dial failed; dialled again in `retryMs`, or never. */
  disconnected(connector: Connector, reason: TunnelError, retryMs: Millis | undefined, had: boolean): void
  /** The target of a service is down. */
  isDown(service: string): boolean
  /** The gateway answered to these services. */
  answered(connector: Connector, names: readonly string[]): void
  /** It will never work: not dialled any more. */
  failed(connector: Connector, error: TunnelError): void
}

export interface ConnectorOptions {
  entry: GatewayEntry
  context: SecureContext
  introduction: Introduction
  /** Sent until the gateway has answered it once. */
  secret?: string | undefined
  offers: readonly ServiceOffer[]
  serving: Serving
  challenges: Challenges
  memory: MemoryBudget
  random: () => number
  log: Logger
  owner: ConnectorOwner
}

/**
 * One configured gateway: dials it, and keeps a tunnel to every distinct id behind its address. One dial is under
 * way at a time. The redial timer keeps the process alive: a client that waits must not let it end.
 */
export class Connector implements LinkOwner, Whereabouts {
  readonly entry: GatewayEntry
  /** What the gateway is called in logs and events: its first address. */
  readonly gateway: string
  /** The host that the last tunnel was dialled at; what URLs are made with. */
  host = ''
  /** Hosts of its addresses. */
  readonly hosts: readonly string[]
  /** The gateway's domain, as an invite said it last. */
  domain: string | undefined
  /** The tenant, as the gateway says; printable. */
  name: string | undefined
  /** Final: it is not dialled any more. */
  failure: TunnelError | undefined
  /** Why it is not connected, while it is not. */
  problem: TunnelError | undefined

  readonly #options: ConnectorOptions
  readonly #backoff: Backoff
  /** Counts dials that led to an id which has a tunnel. */
  readonly #repeats: Backoff
  #offers: readonly ServiceOffer[]
  #secret: string | undefined
  /** Every tunnel that is not closed; those that count are in `#live`, by gateway id. */
  readonly #links = new Set<Link>()
  readonly #live = new Map<string, Link>()
  #ids: ReadonlySet<string> = new Set()
  #warnedOfIds = false
  #dialling: AbortController | undefined
  #greeted: Tunnel | undefined
  #timer: NodeJS.Timeout | undefined
  /** When it goes off. */
  #dialAt: Millis = 0
  /** No dial begins before, whoever wants one: a tunnel was lost, while another dial was under way or about to be. */
  #notBefore: Millis = 0
  /** Said by `connected`, and not taken back: a tunnel stands, if only one that its gateway wants left. */
  #connected = false
  #closing = false
  readonly #whenEmpty: (() => void)[] = []

  constructor(options: ConnectorOptions) {
    this.entry = options.entry
    this.gateway = options.entry.addresses[0] ?? ''
    this.hosts = options.entry.addresses.map((address) => parseRemote(address).host)
    this.domain = options.entry.domain
    this.name = options.entry.name
    this.#options = options
    this.#offers = options.offers
    this.#secret = options.secret
    this.#backoff = new Backoff(options.random)
    this.#repeats = new Backoff(options.random)
  }

  start(): void {
    this.#plan(0)
  }

  /** Tunnels that count; others may still carry old visitors. */
  get live(): readonly Link[] {
    return [...this.#live.values()]
  }

  /** There are tunnels, and there are ids that have none. */
  get seeking(): boolean {
    return this.#live.size > 0 && this.#wanting
  }

  /** Whether a service is offered there. */
  offers(name: string): boolean {
    return this.#offers.some((offer) => offer.name === name)
  }

  want(offers: readonly ServiceOffer[]): void {
    this.#offers = offers
    // Also those that are being left: what is not offered any more must not be served there either.
    for (const link of this.#links) link.want(offers)
  }

  /** Tells every tunnel that carries the service what has become of its target. */
  health(name: string, up: boolean): void {
    for (const link of this.#links) link.health(name, up)
  }

  /** Dials no more, and tells the gateway to send nobody. */
  drain(ms: Millis): void {
    this.#stopDialling()
    for (const link of this.#links) link.drain(ms)
  }

  /** As `drain`, and each tunnel ends with its last visitor, after `ms` at the latest. Resolves when all have. */
  async retire(ms: Millis): Promise<void> {
    this.#stopDialling()
    for (const link of this.#links) link.retire(ms)
    await this.#empty()
  }

  /** Ends every tunnel orderly, what is queued first; resolves when they are closed. */
  async close(): Promise<void> {
    this.#stopDialling()
    for (const link of this.#links) link.tunnel?.end()
    await this.#empty()
  }

  #empty(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#links.size === 0) resolve()
      else this.#whenEmpty.push(resolve)
    })
  }

  #stopDialling(): void {
    this.#closing = true
    clearTimeout(this.#timer)
    const closed = new TunnelError('closed', { scope: 'tunnel', detail: 'the client was closed' })
    this.#dialling?.abort(closed)
    this.#greeted?.destroy(closed)
  }

  // ── Dialling ──────────────────────────────────────────────────────────────────────────────────────────

  /** A dial is worth it while an id is without a tunnel, as far as ids are known. */
  get #wanting(): boolean {
    if (this.#closing || this.failure !== undefined || this.#links.size >= TUNNELS_PER_GATEWAY) return false
    if (this.#live.size === 0) return true
    for (const id of this.#ids) if (!this.#live.has(id)) return true
    return false
  }

  /** No dial is under way or planned. */
  get #idle(): boolean {
    return this.#timer === undefined && this.#dialling === undefined
  }

  /** Until the next dial; 0 if one is under way, and nothing forbids another. */
  get #untilDial(): Millis {
    return Math.max(0, (this.#timer === undefined ? this.#notBefore : this.#dialAt) - performance.now())
  }

  /** Dials in `wait` ms at the earliest, unless a dial is under way or planned. */
  #plan(wait: Millis): void {
    if (!this.#idle || !this.#wanting) return
    const now = performance.now()
    this.#dialAt = Math.max(now + wait, this.#notBefore)
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      void this.#dial()
    }, this.#dialAt - now)
  }

  /** As `#plan`, and a dial that is planned, or follows the one under way, comes no sooner either. */
  #planAfterLoss(wait: Millis): void {
    this.#notBefore = Math.max(this.#notBefore, performance.now() + wait)
    if (this.#timer !== undefined && this.#dialAt < this.#notBefore) {
      clearTimeout(this.#timer)
      this.#timer = undefined
    }
    this.#plan(0)
  }

  async #dial(): Promise<void> {
    if (!this.#wanting) return
    const abort = new AbortController()
    this.#dialling = abort
    const wait = await this.#attempt(abort.signal)
    this.#dialling = undefined
    this.#plan(wait)
  }

  /** One dial to its end; gives the ms to wait before another, should one be wanted. Never rejects. */
  async #attempt(signal: AbortSignal): Promise<Millis> {
    const { context, introduction, memory } = this.#options
    const { addresses, pin } = this.entry
    let socket: Awaited<ReturnType<typeof dialInOrder>>
    try {
      socket = await dialInOrder({ addresses, pin, context, signal })
    } catch (error) {
      return this.#missed(asTunnelError(error), 0)
    }
    const link = new Link(this.gateway, this, this.#options)
    // With a tunnel in hand this one may turn out to be a second to the same id, which must take no visitors.
    const first = this.#live.size === 0
    const bare = helloOf(introduction, [], this.#secret)
    let kept = false
    const greeting = await greet({
      socket: socket.socket,
      hello: first ? link.fill(bare, this.#offers) : bare,
      memory,
      gateway: this.gateway,
      opened: (tunnel) => {
        this.#greeted = tunnel
      },
      welcomed: (tunnel, welcome) => {
        this.#greeted = undefined
        this.host = socket.host
        kept = this.#welcome(link, tunnel, welcome)
        return link
      },
    })
    this.#greeted = undefined
    // Lost in the packet that began it: what `closed` has made of that holds.
    if (kept && !this.#links.has(link)) return 0
    // The next id at once; with care where tunnels do not last, and where chance leads to the same one again.
    if (greeting.kind === 'welcome') {
      if (!kept) return this.#repeats.afterFailure()
      // Where no more are wanted it would count against the dial that follows on the loss of this one.
      return this.#wanting ? this.#backoff.afterProgress() : 0
    }
    if (greeting.final) {
      this.#fail(greeting.error)
      return 0
    }
    return this.#missed(greeting.error, greeting.retryAfter)
  }

  /** A dial came to nothing. */
  #missed(error: TunnelError, retryAfter: number): Millis {
    if (this.#closing) return 0
    if (error.code === 'wrong_pin') {
      this.#fail(error)
      return 0
    }
    const wait = this.#backoff.afterFailure(retryAfter)
    if (!this.#connected) {
      this.problem = error
      this.#options.owner.disconnected(this, error, wait, false)
    }
    return wait
  }

  /** True if the tunnel is one to keep. */
  #welcome(link: Link, tunnel: Tunnel, welcome: Welcome): boolean {
    const { log, owner } = this.#options
    const { id, ids } = welcome.gateway
    const again = !this.#connected
    this.#links.add(link)
    link.tunnel = tunnel
    link.id = id
    link.since = performance.now()
    this.#secret = undefined
    this.name = printable(welcome.name)
    this.ids([id, ...ids])
    if (this.#live.has(id)) {
      log.debug({ gateway: this.gateway }, 'reached a gateway that has a tunnel already')
      tunnel.end()
      return false
    }
    this.#live.set(id, link)
    this.#connected = true
    this.problem = undefined
    this.#repeats.reset()
    if (again) owner.connected(this)
    link.begin(welcome.services, this.#offers)
    for (const other of this.#links) if (other.leaving) other.replaced()
    return true
  }

  #fail(error: TunnelError): void {
    if (this.#closing || this.failure !== undefined) return
    this.failure = error
    this.problem = error
    clearTimeout(this.#timer)
    this.#timer = undefined
    const connected = this.#connected
    this.#connected = false
    for (const link of this.#links) link.tunnel?.destroy(error)
    if (connected) this.#options.owner.disconnected(this, error, undefined, true)
    this.#options.owner.failed(this, error)
  }

  // ── What the links say ────────────────────────────────────────────────────────────────────────────────

  isDown(service: string): boolean {
    return this.#options.owner.isDown(service)
  }

  answered(link: Link, names: readonly string[]): void {
    if (this.#live.get(link.id) === link) this.#options.owner.answered(this, names)
  }

  ids(ids: readonly string[]): void {
    const distinct = [...new Set(ids)]
    if (distinct.length > TUNNELS_PER_GATEWAY && !this.#warnedOfIds) {
      this.#warnedOfIds = true
      this.#options.log.warn(
        { gateway: this.gateway },
        `gateway ${this.gateway} names ${distinct.length} gateways behind its address: ${TUNNELS_PER_GATEWAY} get a tunnel`,
      )
    }
    this.#ids = new Set(distinct.slice(0, TUNNELS_PER_GATEWAY))
    this.#plan(0)
  }

  leaving(link: Link): void {
    if (this.#live.get(link.id) !== link) return
    this.#live.delete(link.id)
    this.#planAfterLoss(this.#backoff.afterTunnel(lastedMs(link), 'closed'))
  }

  rejected(link: Link, message: Reject): void {
    const error = rejected(message, this.gateway)
    if (message.final) this.#fail(error)
    else {
      link.retryAfter = message.retryAfter ?? 0
      link.tunnel?.destroy(error)
    }
  }

  closed(link: Link, reason: TunnelError): void {
    this.#links.delete(link)
    if (this.#links.size === 0) for (const resolve of this.#whenEmpty.splice(0)) resolve()
    const counted = this.#live.get(link.id) === link
    if (counted) this.#live.delete(link.id)
    if (this.#closing || this.failure !== undefined) return
    this.#lost(link, counted, reason)
    if (!this.#connected || this.#live.size > 0) return
    for (const { leaving } of this.#links) if (leaving) return
    this.#connected = false
    this.problem = reason
    this.#options.owner.disconnected(this, reason, this.#untilDial, true)
  }

  /** Plans what is to follow on a tunnel that is gone. */
  #lost(link: Link, counted: boolean, reason: TunnelError): void {
    const asked = link.retryAfter !== undefined
    // Many that are lost at once are one failure, and their dial is planned with care already.
    if (!asked && this.#notBefore > performance.now()) this.#plan(0)
    // Also while a dial is under way or planned: a gateway that welcomes and drops could have dial after dial otherwise.
    else if (counted || (this.#wanting && (asked || this.#idle)))
      this.#planAfterLoss(this.#waitAfter(link, counted, reason))
  }

  #waitAfter(link: Link, counted: boolean, reason: TunnelError): Millis {
    // One that did not count was one too many: now another may be dialled.
    if (!counted || link.retryAfter !== undefined) return this.#backoff.afterFailure(link.retryAfter)
    return this.#backoff.afterTunnel(lastedMs(link), reason.code)
  }
}

function lastedMs(link: Link): Millis {
  return performance.now() - link.since
}

function asTunnelError(error: unknown): TunnelError {
  if (error instanceof TunnelError) return error
  return new TunnelError('dial_failed', { scope: 'tunnel', detail: String(error), cause: error })
}
