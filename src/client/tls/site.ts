import type { Socket } from 'node:net'
import { DEFAULT_HTTP_LIMITS, type ServiceSettings } from '../../config/index.ts'
import { TunnelError, UNREACHED_CODES } from '../../errors.ts'
import {
  ChangesOf,
  type Exchange,
  type ExchangeLimits,
  HttpConnection,
  type HttpSite,
  isPlain,
  isRepeatable,
  type LocalAnswer,
  type Problem,
  type Refusal,
  type Upstream,
  type UpstreamKeeper,
  type VisitorFacts,
} from '../../http/index.ts'
import type { RequestHead } from '../../http1/index.ts'
import { KEPT_STREAM_SURE_MS } from '../../limits.ts'
import type { ClientHello } from '../../protocol/index.ts'
import { isAmong } from '../hello-gate.ts'
import type { TargetPool, TargetUpstream } from './target-pool.ts'

/** What a visitor's requests need of the service whose TLS has ended. */
export interface DecryptedService {
  readonly settings: ServiceSettings
  readonly pool: TargetPool
  /** Of each answer; undefined: none. */
  readonly transportSecurity: string | undefined
  /** What we answer ourselves; undefined: the target does. */
  local(head: RequestHead, socket: Socket): LocalAnswer | undefined
  /** What each new connection to the target begins with, of this visitor; undefined: nothing. */
  preface(visitor: VisitorOfTls): Uint8Array | undefined
  count(code: string): void
  /** A target that could not be reached. */
  unreached(error: TunnelError): void
}

/** A visitor whose handshake is whole. */
export interface VisitorOfTls {
  /** As the gateway claims; undefined: unknown. */
  readonly address: string | undefined
  readonly port: number | undefined
  /** As it asked for it, by our own reading. */
  readonly serverName: string
  readonly alpn: ClientHello['alpnBytes']
}

/**
 * One visitor's HTTP/1.1 inside TLS, where it ends: its requests go to the service's one target, on a connection that it
 * keeps between them. Owns the socket, by its connection.
 */
export class DecryptedVisitor implements HttpSite, UpstreamKeeper {
  readonly connection: HttpConnection
  readonly limits: ExchangeLimits = DEFAULT_HTTP_LIMITS
  readonly #service: DecryptedService
  readonly #visitor: VisitorOfTls
  readonly #facts: VisitorFacts
  readonly #changes = new ChangesOf()
  #kept: TargetUpstream | undefined
  #upstream: TargetUpstream | undefined
  #repeated = false

  constructor(service: DecryptedService, socket: Socket, visitor: VisitorOfTls) {
    const address = visitor.address ?? ''
    this.#service = service
    this.#visitor = visitor
    this.#facts = { peer: address, address, proto: 'https', trusted: false }
    this.connection = new HttpConnection(socket, this)
  }

  begin(exchange: Exchange): Refusal | undefined {
    const { settings, transportSecurity } = this.#service
    const { head } = exchange
    this.#repeated = false
    exchange.transportSecurity = transportSecurity
    if (!isAmong(head.host, settings.hosts)) return { problem: 'misdirected' }
    if (head.bytes.length > this.limits.headBytes) return { problem: 'head_too_large' }
    return undefined
  }

  seek(exchange: Exchange): void {
    const answer = this.#service.local(exchange.head, this.connection.socket)
    if (answer === undefined) this.#seek(exchange, exchange.begunAt)
    else exchange.answer(answer)
  }

  lost(exchange: Exchange, upstream: Upstream, reason: TunnelError): void {
    this.#upstream = undefined
    const { settings } = this.#service
    const first = upstream.requests === 1
    if (isUnreached(reason.code)) {
      this.#service.unreached(reason)
      exchange.refuse(reason.code)
      return
    }
    // One that was used before may have died of age; one that was new died of this request.
    const again =
      !first && !this.#repeated && exchange.replayable && isRepeatable(exchange.head, settings.retry)
    if (again) {
      this.#repeated = true
      this.#service.count('retried')
      this.#seek(exchange, performance.now())
    } else exchange.refuse(reason.code === 'closed' ? 'no_answer' : 'lost')
  }

  left(): boolean {
    return true
  }

  done(exchange: Exchange, now: number): void {
    const upstream = this.#upstream
    this.#upstream = undefined
    if (exchange.problem !== undefined) this.#service.count(exchange.problem)
    if (upstream === undefined) return
    if (upstream.usable) {
      upstream.keeper = this
      upstream.idleSince = now
      this.#kept = upstream
    }
  }

  rests(): void {
    if (this.#kept?.personal !== true) this.#giveBack()
  }

  malformed(problem: Problem): void {
    this.#service.count(problem)
  }

  closed(): void {
    this.#giveBack()
  }

  gone(upstream: Upstream, why: 'ended' | 'reset' | 'desync'): void {
    if (why === 'desync') this.#service.count('desync')
    if (this.#kept === upstream) this.#kept = undefined
  }

  // ── Connections to the target ─────────────────────────────────────────────────────────────────────────

  #seek(exchange: Exchange, now: number): void {
    const { settings } = this.#service
    const upstream = this.#connection(exchange.head, now)
    if (upstream === undefined) {
      this.#service.count('overloaded')
      exchange.refuse('overloaded')
      return
    }
    upstream.keeper = this
    this.#upstream = upstream
    exchange.use(upstream, this.#changes.of(exchange, settings, this.#facts), now)
  }

  #connection(head: RequestHead, now: number): TargetUpstream | undefined {
    const { pool, settings } = this.#service
    const kept = this.#kept
    this.#kept = undefined
    if (kept?.usable === true) {
      // A target closes connections that rest. What cannot be repeated does not go where it may be lost to that.
      const sure =
        kept.personal || isRepeatable(head, settings.retry) || now - kept.idleSince < KEPT_STREAM_SURE_MS
      if (now - kept.idleSince < kept.silenceMs) kept.shareable = false
      if (sure) return kept
      pool.put(kept, now)
    }
    const preface = this.#service.preface(this.#visitor)
    const shareable = preface === undefined && isPlain(head)
    const pooled = shareable && !this.#repeated ? pool.take(now) : undefined
    return pooled ?? pool.dial(shareable, preface)
  }

  #giveBack(): void {
    const kept = this.#kept
    if (kept === undefined) return
    this.#kept = undefined
    this.#service.pool.put(kept, performance.now())
  }
}

function isUnreached(code: string): code is (typeof UNREACHED_CODES)[number] {
  return (UNREACHED_CODES as readonly string[]).includes(code)
}
