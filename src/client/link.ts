import type { TunnelError, UnreachedCode } from '../errors.ts'
import { CONTROL_MESSAGES_BURST, CONTROL_MESSAGES_PER_SECOND, HELLO_BYTES } from '../limits.ts'
import type { Millis, Stream } from '../mux/index.ts'
import type {
  Challenge,
  ChallengeDone,
  ClientMessage,
  GatewayMessage,
  Hello,
  Reject,
  ServiceOffer,
  ServiceResult,
} from '../protocol/index.ts'
import { Pace, type Tunnel, type TunnelHandler } from '../transport/index.ts'
import type { ChallengeLink, Challenges } from './challenges.ts'
import { Offers } from './offers.ts'
import type { Origin, Serving } from './serving.ts'

/** How the connector hears of a link. Synchronous; after `closed` there is nothing. */
export interface LinkOwner {
  /** The gateway answered to these services. */
  answered(link: Link, names: readonly string[]): void
  /** The target of a service is down. */
  isDown(service: string): boolean
  /** The ids behind this address have changed. */
  ids(ids: readonly string[]): void
  /** The gateway wants to be left: another tunnel should take over. */
  leaving(link: Link): void
  rejected(link: Link, message: Reject): void
  closed(link: Link, reason: TunnelError): void
}

/** One tunnel of this client, from its `hello` to its end: what it offers, and the visitors that come by it. */
export class Link implements TunnelHandler, Origin, ChallengeLink {
  readonly gateway: string
  readonly offers = new Offers()
  /** The gateway's id, known by the key that was checked. */
  id = ''
  /** The gateway drains: it serves what it has, and counts no more. */
  leaving = false
  /** We drain: visitors are sent elsewhere. */
  draining = false
  /** Seconds that the gateway asked to be left alone when it rejected us. */
  retryAfter: number | undefined
  /** From `welcome` on; `since` is when that was. */
  tunnel: Tunnel | undefined
  since: Millis = 0

  readonly #owner: LinkOwner
  readonly #serving: Serving
  readonly #challenges: Challenges
  /**
   * A gateway ends a tunnel that says too much. Half of what it may hear: a target that is down under a storm of
   * visitors costs the rest of them a try elsewhere, and not everybody the tunnel.
   */
  readonly #unreached = new Pace(CONTROL_MESSAGES_PER_SECOND / 2, CONTROL_MESSAGES_BURST / 2)
  #streams = 0
  #replaced = false
  #retry: NodeJS.Timeout | undefined
  #deadline: NodeJS.Timeout | undefined

  constructor(gateway: string, owner: LinkOwner, to: { serving: Serving; challenges: Challenges }) {
    this.gateway = gateway
    this.#owner = owner
    this.#serving = to.serving
    this.#challenges = to.challenges
  }

  /** Fills a `hello` with what fits of `offers`; the rest follows after `welcome`. */
  fill(hello: Hello, offers: readonly ServiceOffer[]): Hello {
    this.offers.want(offers)
    return { ...hello, services: this.offers.hello(hello, HELLO_BYTES) }
  }

  /** After `welcome`: takes its answers, and offers what is on the list by now and was not in the `hello`. */
  begin(results: readonly ServiceResult[], offers: readonly ServiceOffer[]): void {
    this.offers.want(offers)
    this.#registered(0, results)
  }

  /** Replaces the list of services; what did not change keeps its registration. */
  want(offers: readonly ServiceOffer[]): void {
    this.offers.want(offers)
    if (this.tunnel !== undefined) this.#challenges.served(this)
    this.#ask()
  }

  /** Tells what has become of a service's target, if the gateway has the service. */
  health(name: string, up: boolean): void {
    if (this.#accepted(name)) this.tunnel?.send({ type: 'health', name, up })
  }

  /** The gateway has the service, by its own word, and sends its visitors here. */
  serves(name: string): boolean {
    return !this.draining && this.#accepted(name)
  }

  #accepted(name: string): boolean {
    const answer = this.offers.answer(name)
    return answer !== undefined && 'urls' in answer
  }

  say(message: Challenge | ChallengeDone): void {
    this.tunnel?.send(message)
  }

  /** Another tunnel has taken over: one that its gateway wants left goes with its last visitor. */
  replaced(): void {
    this.#replaced = true
    this.#endIfLeft()
  }

  /** Visitors that this tunnel carries. */
  get streams(): number {
    return this.#streams
  }

  /** Tells the gateway to send nobody more; streams that are under way towards us are answered `draining`. */
  drain(ms: Millis): void {
    this.draining = true
    if (this.tunnel !== undefined) this.#challenges.served(this)
    this.tunnel?.send({ type: 'drain', deadlineMs: ms })
    this.#serving.drain(this)
  }

  /** Drains, and ends with its last visitor, after `ms` at the latest. */
  retire(ms: Millis): void {
    this.drain(ms)
    this.#replaced = true
    this.#leave(ms)
    this.#endIfLeft()
  }

  // ── The visitors ──────────────────────────────────────────────────────────────────────────────────────

  stream(stream: Stream): void {
    this.#streams += 1
    this.#serving.accept(stream, this)
  }

  has(service: string): boolean {
    return this.offers.has(service)
  }

  unreached(stream: number, code: UnreachedCode): void {
    if (this.#unreached.take(performance.now())) this.tunnel?.send({ type: 'unreached', stream, code })
  }

  ended(): void {
    this.#streams -= 1
    this.#endIfLeft()
  }

  // ── The gateway's messages ────────────────────────────────────────────────────────────────────────────

  message(message: ClientMessage | GatewayMessage): void {
    switch (message.type) {
      case 'registered':
        this.#registered(message.seq, message.services)
        break
      case 'unregistered':
        this.offers.unregistered(message.seq)
        this.#ask()
        break
      case 'withdrawn':
        this.#owner.answered(this, this.offers.withdrawn(message.services, performance.now()))
        this.#challenges.served(this)
        this.#ask()
        break
      case 'challenge_ready':
        this.#challenges.ready(this, message)
        break
      case 'gateways':
        this.#owner.ids(message.ids)
        break
      case 'drain':
        this.#leave(message.deadlineMs)
        break
      case 'reject':
        this.#owner.rejected(this, message)
        break
      case 'welcome': // a second one
      case 'hello':
      case 'register':
      case 'unregister':
      case 'unreached':
      case 'health':
      case 'challenge':
      case 'challenge_done':
        break
    }
  }

  #registered(seq: number, results: readonly ServiceResult[]): void {
    const names = this.offers.registered(seq, results, performance.now())
    this.#owner.answered(this, names)
    // A gateway takes every target to be up until it is told.
    for (const name of names) if (this.#owner.isDown(name)) this.health(name, false)
    this.#challenges.served(this)
    this.#ask()
  }

  closed(reason: TunnelError): void {
    clearTimeout(this.#retry)
    clearTimeout(this.#deadline)
    this.#challenges.closed(this)
    this.#owner.closed(this, reason)
  }

  #leave(ms: Millis): void {
    if (this.leaving) return
    this.leaving = true
    // The gateway keeps the time; this is for one that forgets. The tunnel's socket keeps the process alive.
    this.#deadline = setTimeout(() => this.tunnel?.end(), ms)
    this.#deadline.unref()
    this.#serving.drain(this)
    this.#owner.leaving(this)
  }

  #endIfLeft(): void {
    if (this.leaving && this.#replaced && this.#streams === 0) this.tunnel?.end()
  }

  /** Sends the next request; sets the clock for refused services. */
  #ask = (): void => {
    if (this.tunnel === undefined || this.tunnel.closed || this.leaving || this.draining) return
    const now = performance.now()
    const request = this.offers.next(now)
    if (request !== undefined) this.tunnel.send(request)
    clearTimeout(this.#retry)
    const { due } = this.offers
    if (due === undefined) return
    this.#retry = setTimeout(this.#ask, Math.max(1, due - now))
    this.#retry.unref()
  }
}
