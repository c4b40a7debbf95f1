import { Upstream } from '../http/index.ts'
import { BODILESS_SILENCE_MS } from '../limits.ts'
import type { Stream } from '../mux/index.ts'
import type { ServiceOffer } from '../protocol/index.ts'
import type { Carried, ConnectedClient } from './connected-client.ts'
import type { Route } from './route.ts'
import type { Replica } from './routes.ts'

/** Who has a stream now: it is cut with it. */
export interface StreamHolder {
  /** Where the requests go that it sends over it. */
  readonly route: Route
  cut(): void
  /** The stream's client wants no more requests: lets go of one that carries none. */
  leave(stream: ServiceStream): void
}

/** A stream to a service of one client, for requests that go there. Made for one visitor, it may outlive the visit. */
export class ServiceStream extends Upstream implements Carried {
  readonly client: ConnectedClient
  readonly replica: Replica<ConnectedClient>
  /** As it was registered when the stream began: another registration may mean another target. */
  readonly offer: ServiceOffer
  holder: StreamHolder

  constructor(stream: Stream, replica: Replica<ConnectedClient>, holder: StreamHolder, shareable: boolean) {
    super(stream, shareable)
    this.client = replica.tunnel
    this.replica = replica
    this.offer = replica.offer
    this.holder = holder
    this.client.carried.set(stream.id, this)
  }

  /** Another request to this replica may go over it: same tunnel, and so the same name; same registration. */
  fits(replica: Replica<ConnectedClient>): boolean {
    return replica.tunnel === this.client && replica.offer === this.offer && this.usable
  }

  /**
   * How long it must say nothing before another visitor's request may follow: a target that answers 204 or 304 with a
   * body does so within a round trip, or never.
   */
  get silenceMs(): number {
    return this.bodiless ? Math.max(BODILESS_SILENCE_MS, 2 * (this.client.tunnel.session.rtt ?? 0)) : 0
  }

  get route(): Route {
    return this.holder.route
  }

  cut(): void {
    this.holder.cut()
  }

  leave(): void {
    this.holder.leave(this)
  }

  /** It is over, or ending: the client's word about it counts no more. */
  forget(): void {
    const { id } = this.stream
    this.client.carried.delete(id)
    this.client.unreached.delete(id)
  }

  /** Ends it in order. */
  retire(): void {
    this.forget()
    this.close()
  }
}
