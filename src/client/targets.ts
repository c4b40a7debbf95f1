import type { Socket } from 'node:net'
import { TARGET_SOCKETS_KEPT } from '../limits.ts'
import { Pace } from '../transport/index.ts'
import { dialTarget } from './dial.ts'
import type { ClientService } from './services.ts'

/** How many connections to targets there may be, and how many may be made. */
export interface TargetBounds {
  /** At once, and of one service: a visitor by HTTP/2 is one stream, and a hundred connections. */
  sockets: number
  perService: number
  /** Dials of one service's target: per second, and at once. */
  dialsPerSecond: number
  dialsBurst: number
}

/**
 * Makes the connections to all targets, within bounds that hold against a hostile gateway: one that opens streams and
 * resets them holds none, and must not have a target dialled without end.
 */
export class Targets {
  readonly #bounds: TargetBounds
  readonly #warn: (service: string, text: string) => void
  /** An update that changes a service begins anew. */
  readonly #paces = new WeakMap<ClientService, Pace>()
  #sockets = 0
  readonly #perService = new Map<string, number>()

  /** `warn`: whoever runs the client should know, in moderation. */
  constructor(bounds: TargetBounds, warn: (service: string, text: string) => void) {
    this.#bounds = bounds
    this.#warn = warn
  }

  /** A connection that is being made, which counts until it is closed; the caller owns it. Undefined: there are too many. */
  dial(service: ClientService): Socket | undefined {
    const { name } = service
    const own = this.#perService.get(name) ?? 0
    if (own >= this.#mostOf(own)) {
      const all = own === this.#sockets ? '' : ` of ${this.#sockets}`
      this.#warn(name, `service "${name}" is overloaded: ${own}${all} connections to targets`)
      return undefined
    }
    if (!this.#paceOf(service).take(performance.now())) {
      this.#warn(name, `service "${name}" is dialled too often: some visitors are sent away`)
      return undefined
    }
    const socket = dialTarget(service)
    this.#sockets += 1
    this.#perService.set(name, own + 1)
    socket.once('close', () => this.#closed(name))
    return socket
  }

  /** How many a service that has `own` may have: who has more than half of all leaves the last ones to others. */
  #mostOf(own: number): number {
    const { sockets, perService } = this.#bounds
    const kept = own < sockets / 2 ? 0 : Math.floor(sockets * TARGET_SOCKETS_KEPT)
    return this.#sockets >= sockets - kept ? own : perService
  }

  #paceOf(service: ClientService): Pace {
    let pace = this.#paces.get(service)
    if (pace === undefined) {
      pace = new Pace(this.#bounds.dialsPerSecond, this.#bounds.dialsBurst)
      this.#paces.set(service, pace)
    }
    return pace
  }

  #closed(name: string): void {
    this.#sockets -= 1
    const left = (this.#perService.get(name) ?? 1) - 1
    if (left > 0) this.#perService.set(name, left)
    else this.#perService.delete(name)
  }
}
