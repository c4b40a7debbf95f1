import type { UnreachedCode } from '../errors.ts'
import type { Pin } from '../identity/index.ts'
import { HEALTH_BURST, HEALTH_PER_SECOND } from '../limits.ts'
import type { Stream, StreamSink } from '../mux/index.ts'
import { printable, type ServiceOffer } from '../protocol/index.ts'
import { Pace, type Tunnel } from '../transport/index.ts'
import type { Route } from './route.ts'

/** A visitor's connection as its client's tunnel sees it. */
export interface Carried {
  readonly route: Route
  /** Resets the visitor and its stream. */
  cut(): void
  /** The client wants no more requests: ends a stream that carries none just now. */
  leave?(): void
}

/** The key it proved, the name that the key is enrolled under, and what it said of itself in its `hello`. */
export interface Introduction {
  key: Pin
  name: string
  agent: string
  instance: string
  process: string
}

/**
 * A client that has logged in: its tunnel, what it offers, and the visitors it carries. The gateway makes one
 * per tunnel, so that one machine may have several.
 */
export class ConnectedClient {
  readonly tunnel: Tunnel
  readonly key: Pin
  readonly name: string
  readonly agent: string
  readonly instance: string
  readonly process: string
  /** Registered services by name. */
  readonly services = new Map<string, { offer: ServiceOffer; routes: readonly Route[] }>()
  /** Visitors by the id of their stream. */
  readonly carried = new Map<number, Carried>()
  /** Streams of which the client said that no byte reached a target; their resets follow. */
  readonly unreached = new Map<number, UnreachedCode>()
  /** Its `welcome` has been sent: before that it may not get a stream. */
  welcomed = false
  /** It asked for no more streams. */
  draining = false
  /** How often it may say how its targets are. */
  readonly healthPace = new Pace(HEALTH_PER_SECOND, HEALTH_BURST)
  /** Requests that wait for their answers. */
  unanswered = 0

  constructor(tunnel: Tunnel, introduction: Introduction) {
    this.tunnel = tunnel
    this.key = introduction.key
    this.name = introduction.name
    this.agent = printable(introduction.agent)
    this.instance = printable(introduction.instance)
    this.process = printable(introduction.process)
  }

  /** True while new visitors may be sent there. */
  get usable(): boolean {
    return !this.draining && !this.tunnel.ending && !this.tunnel.suspect
  }

  /** Undefined: no room just now, or not yet. */
  open(sink: StreamSink): Stream | undefined {
    return this.welcomed ? this.tunnel.open(sink) : undefined
  }

  /** Cuts every visitor. */
  cut(): void {
    for (const carried of Array.from(this.carried.values())) carried.cut()
  }
}
