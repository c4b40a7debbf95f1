import { setTimeout as pause } from 'node:timers/promises'
import type { Clock } from '../../src/client/acme/clock.ts'

/**
 * A clock that the test turns. Waits of a few seconds, between looks at a CA, are over at once; longer ones, until a
 * source has something to do again, last until `advance`.
 */
export class TestClock implements Clock {
  /** Which waits are over at once. */
  passes = (ms: number): boolean => ms <= 5_000
  /** All that was waited for, in order. */
  readonly slept: number[] = []
  readonly #waiting = new Set<{ at: number; wake: () => void }>()
  /** Real ms between looks, for programs that need some to get on. */
  readonly #realMs: number
  #waited: () => void = () => undefined
  #now: number

  constructor(realMs = 0, now = Date.now()) {
    this.#realMs = realMs
    this.#now = now
  }

  now(): number {
    return this.#now
  }

  /** How many wait for `advance`. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** Turns it, once somebody waits for that. */
  async advance(ms: number): Promise<void> {
    if (this.#waiting.size === 0) {
      await new Promise<void>((resolve) => {
        this.#waited = resolve
      })
    }
    this.#now += ms
    for (const wait of this.#waiting) if (wait.at <= this.#now) wait.wake()
  }

  async sleep(ms: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    this.slept.push(ms)
    if (this.passes(ms)) {
      this.#now += ms
      await pause(this.#realMs, undefined, { signal })
      return
    }
    await new Promise<void>((resolve, reject) => {
      const abort = (): void => {
        this.#waiting.delete(wait)
        reject(signal.reason as Error)
      }
      const wait = {
        at: this.#now + ms,
        wake: () => {
          this.#waiting.delete(wait)
          signal.removeEventListener('abort', abort)
          resolve()
        },
      }
      this.#waiting.add(wait)
      signal.addEventListener('abort', abort, { once: true })
      this.#waited()
    })
  }
}
