import { HTTP_SWEEP_MS } from '../limits.ts'

/** A connection that waits for something, and not for ever. */
export interface SweepMember {
  sweep(now: number): void
}

/**
 * One coarse timer for the limits of all connections: a request that is answered in time costs none. Runs only
 * while there are connections, and never keeps the process alive.
 */
class Sweep {
  readonly #members = new Set<SweepMember>()
  #timer: NodeJS.Timeout | undefined

  add(member: SweepMember): void {
    this.#members.add(member)
    if (this.#timer !== undefined) return
    this.#timer = setInterval(() => {
      const now = performance.now()
      for (const each of this.#members) each.sweep(now)
    }, HTTP_SWEEP_MS)
    this.#timer.unref()
  }

  delete(member: SweepMember): void {
    this.#members.delete(member)
    if (this.#members.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

export const sweep = new Sweep()
