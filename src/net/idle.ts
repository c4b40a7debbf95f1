import { IDLE_SWEEP_MS } from '../limits.ts'

/** Something that is let go when nothing moves in it. */
export interface IdleMember {
  /** Any number that changes whenever a byte moves. */
  readonly activity: number
  /** Nothing moved for as long as was asked. It has been forgotten already. */
  idle(): void
  /** Once: a sweep has found it. Most connections are gone before, and are spared what matters only to one that stays. */
  lasts?(): void
}

interface Watch {
  lasts: boolean
  limit: number
  activity: number
  since: number
}

/**
 * Finds idle connections with one coarse timer for all of them, so that a byte that moves costs no clock and
 * no timer: each sweep compares counters. A limit is therefore kept to within one sweep, never early.
 *
 * The timer exists only while somebody is watched, and never keeps the process alive.
 */
export class IdleSweep {
  readonly #watches = new Map<IdleMember, Watch>()
  #timer: NodeJS.Timeout | undefined

  /** How many are watched. */
  get size(): number {
    return this.#watches.size
  }

  /** Calls `member.idle()` once, when nothing moved in it for `limit` ms; `forget` it when it ends before. Again: a new limit, from now. */
  watch(member: IdleMember, limit: number, now: number = performance.now()): void {
    const lasts = this.#watches.get(member)?.lasts ?? false
    this.#watches.set(member, { lasts, limit, activity: member.activity, since: now })
    if (this.#timer !== undefined) return
    this.#timer = setInterval(() => this.sweep(performance.now()), IDLE_SWEEP_MS)
    this.#timer.unref()
  }

  forget(member: IdleMember): void {
    if (!this.#watches.delete(member) || this.#watches.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** What the timer does. */
  sweep(now: number): void {
    for (const [member, watch] of this.#watches) {
      const activity = member.activity
      if (!watch.lasts) {
        watch.lasts = true
        member.lasts?.()
      }
      if (activity !== watch.activity) {
        watch.activity = activity
        watch.since = now
      } else if (now - watch.since >= watch.limit) {
        this.forget(member)
        member.idle()
      }
    }
  }
}

/** The process's. */
export const idleSweep = new IdleSweep()
