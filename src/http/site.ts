import type { TunnelError } from '../errors.ts'
import type { Exchange } from './exchange.ts'
import type { Problem } from './pages.ts'
import type { Upstream } from './upstream.ts'

/** What a visitor may do; 0 for `bodyBytes` and `bodyRate` stands for no bound. Times in ms. */
export interface ExchangeLimits {
  readonly headBytes: number
  readonly bodyBytes: number
  /** From the first byte of a head to its last. */
  readonly headMs: number
  /** Between two requests. */
  readonly idleMs: number
  /** From a request's last byte to the first of its answer. */
  readonly responseMs: number
  /** Bytes wait for one side, and it takes none. */
  readonly stallMs: number
  /** Bytes per second of a body, while nothing but the visitor delays it. */
  readonly bodyRate: number
}

/** Why a request gets no answer from a target. `retryAfter` in seconds. */
export interface Refusal {
  readonly problem: Problem
  readonly retryAfter?: number | undefined
  /** What was wrong, in words of ours. */
  readonly detail?: string | undefined
  /** Where to ask instead. */
  readonly location?: string | undefined
}

/** Bytes of visitors, counted while they move. */
export interface Meter {
  in: number
  out: number
}

/**
 * What the proxy asks of the side that it runs on, for one visitor's connection. It decides where requests go; how they
 * get there is the proxy's. All calls are synchronous; `Exchange` says what may be answered, then or later.
 */
export interface HttpSite {
  /** Before a route is known. */
  readonly limits: ExchangeLimits
  /** A request's head is whole. Sets what the exchange needs (`limits`, `meter`); a refusal ends it. */
  begin(exchange: Exchange): Refusal | undefined
  /** The exchange has begun and needs a stream: `exchange.use` gives it one, `exchange.refuse` says why not, now or later. */
  seek(exchange: Exchange): void
  /**
   * The stream was lost before any byte of a response came. Leads to `use` or `refuse`, as `seek` does; the same request
   * is then sent again, as far as `exchange.replayable` says that it can be.
   */
  lost(exchange: Exchange, upstream: Upstream, reason: TunnelError): void
  /** The visitor sends no more, and its request waits for a stream. True: it is taken for one who has left. */
  left(exchange: Exchange): boolean
  /**
   * The exchange is over, whatever its end. The stream that it had last is the site's again: if it is `usable` another request
   * may follow on it, else it has ended already. Called before the next request of the connection is looked at. `now` is in ms.
   */
  done(exchange: Exchange, now: number): void
  /** The connection has asked for nothing for KEPT_STREAM_REST_MS, and may go on so for a while. May be called again. */
  rests(): void
  /** Bytes came that are no request; the visitor has been told, its connection ends. */
  malformed(problem: Problem, requestId: string): void
  /** The connection is over. An exchange that was under way has been `done` before. */
  closed(error: TunnelError | undefined): void
}
