import type { Millis } from '../mux/index.ts'

/**
 * Things that may take so long and no longer, all the same time: one timer for all of them, since there may be
 * thousands and nearly all are done at once. The timer never keeps the process alive.
 */
export class Patience<T> {
  readonly #ms: Millis
  readonly #over: (item: T) => void
  // Insertion order is the order of the deadlines.
  readonly #deadlines = new Map<T, Millis>()
  #timer: NodeJS.Timeout | undefined

  /** `over` is called for each that took too long; it is forgotten by then. */
  constructor(ms: Millis, over: (item: T) => void) {
    this.#ms = ms
    this.#over = over
  }

  add(item: T): void {
    this.#deadlines.set(item, performance.now() + this.#ms)
    this.#timer ??= setTimeout(this.#look, this.#ms).unref()
  }

  delete(item: T): void {
    this.#deadlines.delete(item)
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#deadlines.clear()
  }

  readonly #look = (): void => {
    this.#timer = undefined
    const now = performance.now()
    for (const [item, deadline] of this.#deadlines) {
      if (deadline > now) {
        this.#timer ??= setTimeout(this.#look, Math.ceil(deadline - now)).unref()
        return
      }
      this.#deadlines.delete(item)
      this.#over(item)
    }
  }
}
