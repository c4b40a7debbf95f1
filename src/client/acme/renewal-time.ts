import type { Logger } from 'pino'
import { ACME_ARI_MS, ACME_ARI_MS_MAX } from '../../limits.ts'
import type { Millis } from '../../mux/index.ts'
import { printable } from '../../protocol/index.ts'
import { adviceFor } from './ari.ts'
import type { Ca } from './ca.ts'
import type { Kept } from './certificate-file.ts'
import { type RenewalWindow, renewAt } from './renewal.ts'

/** When one certificate is to be renewed, by what its CA says now and then. */
export class RenewalTime {
  readonly #kept: Kept
  /** Drawn once: see `renewAt`. */
  readonly #lot: number
  readonly #log: Logger
  #window: RenewalWindow | undefined
  #askAt: Millis = 0

  constructor(kept: Kept, lot: number, log: Logger) {
    this.#kept = kept
    this.#lot = lot
    this.#log = log
  }

  get at(): Millis {
    return renewAt(this.#kept.leaf, this.#lot, this.#window)
  }

  /** Asks the CA, when it is time to. That it does not answer is no trouble: there is a time without it. */
  async ask(ca: Ca): Promise<void> {
    const { renewalId } = this.#kept
    const now = ca.clock.now()
    const left = this.#askAt - now
    // One that is later than it can be is of a clock that was ahead.
    if (renewalId === undefined || (left > 0 && left <= ACME_ARI_MS_MAX)) return
    this.#askAt = now + ACME_ARI_MS
    try {
      const { window, askAfterMs, explanation } = await adviceFor(ca, renewalId)
      const moved = window !== undefined && window.start !== this.#window?.start
      if (moved && explanation !== undefined) {
        const names = printable(this.#kept.leaf.names.join(', '))
        this.#log.info(`the CA of ${names} wants another renewal: ${printable(explanation)}`)
      }
      this.#window = window
      this.#askAt = now + askAfterMs
    } catch (error) {
      ca.signal.throwIfAborted()
      this.#log.debug({ err: error }, `${ca.name} does not say when to renew`)
    }
  }
}
