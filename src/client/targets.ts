import type { Socket } from 'node:net'
import { Pace } from '../transport/index.ts'
import { dialTarget } from './dial.ts'
import type { ClientService } from './services.ts'

/** How many connections to targets there may be, and how many may be made. */
export interface TargetBounds {
  /** At once. */
  sockets: number
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

  /** `warn`: whoever runs the client should know, in moderation. */
  constructor(bounds: TargetBounds, warn: (service: string, text: string) => void) {
    this.#bounds = bounds
    this.#warn = warn
  }

  /** A connection that is being made, which counts until it is closed; the caller owns it. Undefined: there are too many. */
  dial(service: ClientService): Socket | undefined {
    const { name } = service
    if (this.#sockets >= this.#bounds.sockets) {
      this.#warn(name, `service "${name}" is overloaded: ${this.#sockets} connections to targets`)
      return undefined
    }
    if (!this.#paceOf(service).take(performance.now())) {
      this.#warn(name, `service "${name}" is dialled too often: some visitors are sent away`)
      return undefined
    }
    const socket = dialTarget(service)
    this.#sockets += 1
    socket.once('close', this.#onClose)
    return socket
  }

  #paceOf(service: ClientService): Pace {
    let pace = this.#paces.get(service)
    if (pace === undefined) {
      pace = new Pace(this.#bounds.dialsPerSecond, this.#bounds.dialsBurst)
      this.#paces.set(service, pace)
    }
    return pace
  }

  readonly #onClose = (): void => {
    this.#sockets -= 1
  }
}
