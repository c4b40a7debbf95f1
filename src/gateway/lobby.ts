import type { Exchange, ExchangeLimits, Problem, Refusal } from '../http/index.ts'
import type { RequestHead } from '../http1/index.ts'
import type { ConnectedClient } from './connected-client.ts'
import type { HostTable } from './hosts.ts'
import type { Seat } from './rate.ts'
import type { Route } from './route.ts'
import type { Replica, Routes } from './routes.ts'
import type { StreamPool } from './stream-pool.ts'
import type { RouteTraffic } from './traffic.ts'
import type { TrustedProxies } from './trusted.ts'

/** A visitor, as the place knows it that it came to. */
export interface Guest {
  readonly address: string
  /** Moved so far at its socket: from the visitor, and to it. */
  readonly bytes: { in: number; out: number }
  /** Since when it has asked for nothing (ms), while that is so; for one that may ask again and again. */
  readonly idleSince?: number | undefined
  /** Since when it waits, in all its tries. */
  waitingSince: number | undefined
  /** There may be a client for it. False: it still waits. */
  seek(): boolean
  /** It waited too long, or cannot be served. */
  dismiss(problem: Problem): void
  /** Brings the counts of its route up to date; for one whose bytes are not counted as they move. */
  tally?(): void
  /** Takes nothing new, and ends when it is done; for one who could go on for ever. */
  drain?(): void
  /** Makes room for others; for one that is idle. */
  giveWay?(): void
  /** Resets it and its stream. */
  cut(): void
}

/** What a visitor asks of the place it came to. */
export interface Lobby {
  readonly routes: Routes<ConnectedClient>
  /** False: it cannot wait. The lobby calls `seek` again when there is somebody, or `dismiss` when it took too long. */
  hold(guest: Guest, route: Route): boolean
  /** It waits no more. */
  leave(guest: Guest): void
  /** It is over: `bytes` are counted at its socket. `code` when it did not end in order. */
  done(guest: Guest, bytes: { in: number; out: number }, code: string | undefined): void
  /** A client said that it goes away. */
  draining(client: ConnectedClient): void
}

/** What became of a request. */
export interface Answered {
  exchange: Exchange
  /** Undefined for one that had no route, or was not let in. */
  traffic: RouteTraffic | undefined
  route: Route
  address: string
  replica: Replica<ConnectedClient> | undefined
}

/** And what one of the http port asks besides. */
export interface HttpLobby extends Lobby {
  readonly hosts: HostTable
  readonly pool: StreamPool
  readonly trusted: TrustedProxies
  /** Who answers a request that an authority makes for a pending challenge; undefined for any other request. */
  answererOf(head: RequestHead): Replica<ConnectedClient> | undefined
  limitsOf(route: Route | undefined): ExchangeLimits
  traffic(route: Route): RouteTraffic
  /** Where a host is reached that has only an `https` service. */
  toTls(head: RequestHead): Refusal
  /** Behind a trusted proxy: whose request it is. */
  visitorOf(peer: string, head: RequestHead): string
  /** Its connection counts on this route from now on, until it leaves the seat. */
  enter(guest: Guest, address: string, route: Route): Seat | Refusal
  /** One more request. */
  admit(guest: Guest, address: string, route: Route, now: number): Refusal | undefined
  answered(what: Answered): void
  malformed(problem: Problem, requestId: string, address: string): void
  count(what: string): void
}
