import type { Millis } from '../mux/index.ts'

/**
 * Decides when a tunnel is asked whether it lives, and when it is dead.
 *
 * Pure: the time comes in, a verdict goes out. Any byte received proves life. After `keepalive` without one
 * comes a ping; as long again without any byte and the tunnel is dead (wire protocol, point 6).
 */
export class Liveness {
  #keepalive: Millis
  #heard: Millis
  #pingedAt: Millis | undefined

  constructor(keepalive: Millis, now: Millis) {
    this.#keepalive = keepalive
    this.#heard = now
  }

  /** On the hot path: called for each chunk that arrives. */
  heard(now: Millis): void {
    this.#heard = now
    this.#pingedAt = undefined
  }

  setKeepalive(keepalive: Millis): void {
    this.#keepalive = keepalive
  }

  /** When `tick` has something to say if nothing is heard before. */
  get next(): Millis {
    return (this.#pingedAt ?? this.#heard) + this.#keepalive
  }

  tick(now: Millis): 'alive' | 'ping' | 'dead' {
    if (now < this.next) return 'alive'
    // Measured from the ping, not from the last byte: a process that slept through both asks first.
    if (this.#pingedAt !== undefined) return 'dead'
    this.#pingedAt = now
    return 'ping'
  }
}
