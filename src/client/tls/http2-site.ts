import type { TLSSocket } from 'node:tls'
import { DEFAULT_HTTP_LIMITS } from '../../config/index.ts'
import type { TunnelError } from '../../errors.ts'
import {
  ChangesOf,
  type ExchangeLimits,
  isRepeatable,
  type Problem,
  type Refusal,
  type Upstream,
  type VisitorFacts,
} from '../../http/index.ts'
import type { Http2Exchange, Http2Site } from '../../http2/index.ts'
import { isAmong } from '../hello-gate.ts'
import { connectionFor, type DecryptedService, factsOf, problemOfLoss, type VisitorOfTls } from './site.ts'
import { TargetUpstream } from './target-pool.ts'

/**
 * One visitor's HTTP/2 inside TLS, where it ends: each of its requests goes to the service's one target, on a connection
 * of the pool that it has alone meanwhile, or as a stream of one that is shared where the target speaks HTTP/2.
 */
export class DecryptedHttp2Visitor implements Http2Site {
  readonly limits: ExchangeLimits = DEFAULT_HTTP_LIMITS
  readonly origins: readonly string[]
  readonly #service: DecryptedService
  readonly #visitor: VisitorOfTls
  readonly #socket: TLSSocket
  readonly #facts: VisitorFacts
  readonly #changes = new ChangesOf()

  constructor(service: DecryptedService, socket: TLSSocket, visitor: VisitorOfTls) {
    this.#service = service
    this.#visitor = visitor
    this.#socket = socket
    this.#facts = factsOf(visitor)
    this.origins = service.settings.hosts
      .filter((host) => !host.startsWith('*'))
      .map((host) => `https://${host}`)
  }

  get hsts(): string | undefined {
    return this.#service.transportSecurity
  }

  begin({ head }: Http2Exchange): Refusal | undefined {
    return isAmong(head.host, this.#service.settings.hosts) ? undefined : { problem: 'misdirected' }
  }

  seek(exchange: Http2Exchange): void {
    const { sessions, settings } = this.#service
    const answer = this.#service.local(exchange.head, this.#socket)
    if (answer !== undefined) {
      const { status, type, body } = answer
      const fields = ['content-type', type, 'content-length', `${Buffer.byteLength(body)}`]
      exchange.answer(status, [...fields, 'cache-control', 'no-store'], Buffer.from(body))
    } else if (sessions === undefined) this.#seek(exchange, false)
    // It may wait for a place, and what it says must stay as it is.
    else exchange.relay(sessions, { ...this.#changes.of(exchange, settings, this.#facts) })
  }

  lost(exchange: Http2Exchange, upstream: Upstream, reason: TunnelError): void {
    const { settings } = this.#service
    const { head, replayable, tries } = exchange
    // One that was used before may have died of age; one that was new died of this request.
    if (upstream.requests > 1 && tries === 1 && replayable && isRepeatable(head, settings.retry)) {
      this.#service.count('retried')
      this.#seek(exchange, true)
    } else exchange.refuse(problemOfLoss(this.#service, reason))
  }

  done({ problem, upstream }: Http2Exchange, now: number): void {
    if (problem !== undefined) this.#service.count(problem)
    if (upstream instanceof TargetUpstream && upstream.usable) this.#service.pool.put(upstream, now)
  }

  malformed(problem: Problem): void {
    this.#service.count(problem)
  }

  closed(error: TunnelError | undefined): void {
    if (error !== undefined) this.#service.count(error.code)
  }

  #seek(exchange: Http2Exchange, again: boolean): void {
    if (exchange.closed) return
    const now = performance.now()
    const { settings } = this.#service
    const upstream = connectionFor(this.#service, this.#visitor, exchange.head, { now, again })
    if (upstream === undefined) {
      this.#service.count('overloaded')
      exchange.refuse('overloaded')
    } else exchange.use(upstream, this.#changes.of(exchange, settings, this.#facts), now)
  }
}
