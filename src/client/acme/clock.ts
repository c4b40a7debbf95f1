import { setTimeout as pause } from 'node:timers/promises'
import { TIMER_MS_MAX } from '../../limits.ts'
import type { Millis } from '../../mux/index.ts'

/** Time, so that tests can bring their own. */
export interface Clock {
  /** The wall clock's: certificates and CAs go by it. */
  now(): Millis
  /** Resolves after `ms`, or rejects as soon as `signal` is aborted. */
  sleep(ms: Millis, signal: AbortSignal): Promise<void>
}

/** Its timers keep no process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: async (ms, signal) => {
    await pause(Math.min(ms, TIMER_MS_MAX), undefined, { signal, ref: false })
  },
}

/** A time as people read it, to the minute. */
export function timeText(at: Millis): string {
  return `${new Date(at).toISOString().slice(0, 16).replace('T', ' ')} UTC`
}
