import type { TunnelError } from '../errors.ts'
import type { ExchangeLimits, Problem, Refusal, Upstream } from '../http/index.ts'
import type { Http2Exchange } from './exchange.ts'

/**
 * What an HTTP/2 connection asks of the side that it runs on, for one visitor: what `HttpSite` is to an HTTP/1.1 one. It
 * decides where requests go. All calls are synchronous; many requests are under way at once.
 */
export interface Http2Site {
  readonly limits: ExchangeLimits
  /** `https://HOST` of each host that this connection is for, and no other (RFC 8336); hosts with a wildcard cannot be said. */
  readonly origins: readonly string[]
  /** Value of Strict-Transport-Security, for answers that do not say it themselves. Read for each. */
  readonly hsts: string | undefined
  /**
   * A request's head is whole. Sets what the exchange needs (`limits`, `meter`); a refusal ends it, and one whose host is not
   * the service's is `misdirected`.
   */
  begin(exchange: Http2Exchange): Refusal | undefined
  /**
   * The exchange needs a target: `use` gives it a stream that speaks HTTP/1.1, `relay` a target of HTTP/2, `answer` is the
   * site's own word, `refuse` says why there is none. Now or later.
   */
  seek(exchange: Http2Exchange): void
  /** The stream was lost before any byte of an answer came. As `seek`; the request is sent again as far as it is `replayable`. */
  lost(exchange: Http2Exchange, upstream: Upstream, reason: TunnelError): void
  /**
   * The exchange is over, whatever its end. The stream that it had last is the site's again: if it is `usable` another
   * request may follow on it, else it has ended already. `now` is in ms.
   */
  done(exchange: Http2Exchange, now: number): void
  /** What came is no request; the visitor has been told. Its connection goes on. */
  malformed(problem: Problem, requestId: string): void
  /** The connection is over; its exchanges have been `done` before. */
  closed(error: TunnelError | undefined): void
}
