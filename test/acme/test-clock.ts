import { setTimeout as pause } from 'node:timers/promises'
import type { Clock } from '../../src/client/acme/clock.ts'

/**
 * A clock that the test turns. Waits of a few seconds, between looks at a CA, are over at once; longer ones, until a
 * source has something to do again, last until `advance`.
 */
export class TestClock implements Clock {
  /** Waits up to this long are not waited for. */
  atOnceMs = 5_000
  /** All that was waited for, in order. */
  readonly slept: number[] = []
  readonly #waiting = new Set<{ at: number; wake: () => void }>()
  /** Real ms between looks, for programs that need some to get on. */
  readonly #realMs: number
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

  advance(ms: number): void {
    this.#now += ms
    for (const wait of this.#waiting) if (wait.at <= this.#now) wait.wake()
  }

  async sleep(ms: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    this.slept.push(ms)
    if (ms <= this.atOnceMs) {
      this.#now += ms
      await pause(this.#realMs, undefined, { signal })
      return
    }
    await new Promise<void>((resolve, reject) => {
      const wait = {
        at: this.#now + ms,
        wake: () => {
          this.#waiting.delete(wait)
          resolve()
        },
      }
      this.#waiting.add(wait)
      signal.addEventListener(
        'abort',
        () => {
          this.#waiting.delete(wait)
          reject(signal.reason as Error)
        },
        { once: true },
      )
    })
  }
}
