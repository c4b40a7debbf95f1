import type { AccessLogSettings } from '../config/index.ts'
import { ACCESS_LOG_BYTES, ACCESS_LOG_MS, ACCESS_LOG_WRITE_BYTES } from '../limits.ts'
import { type AccessEntry, formatAccess, formatDropped } from './access-line.ts'

export { type AccessEntry, formatAccess } from './access-line.ts'

/** Takes whole lines; `done` is called once they have left, or never will. */
export type AccessWrite = (text: string, done: () => void) => void

/**
 * The gateway's record of requests. Lines are gathered for a moment and written together, one write at a time: where
 * nobody reads, as at the end of a pipe, no more than ACCESS_LOG_BYTES wait, and what comes then is counted and
 * dropped. A log must not be what fills the memory or delays a visitor.
 */
export class AccessLog {
  #settings: AccessLogSettings & { access: 'json' | 'combined' }
  readonly #write: AccessWrite
  #lines: string[] = []
  #bytes = 0
  #dropped = 0
  /** When the last of them was dropped. */
  #droppedAt = 0
  #timer: NodeJS.Timeout | undefined
  #writing = false
  #closed = false

  constructor(settings: AccessLogSettings & { access: 'json' | 'combined' }, write: AccessWrite) {
    this.#settings = settings
    this.#write = write
  }

  /** From the next line on: how much of an address, and query strings. The form of the lines stays. */
  reload({ address, query }: AccessLogSettings): void {
    this.#settings = { ...this.#settings, address, query }
  }

  note(entry: AccessEntry): void {
    if (this.#closed) return
    if (this.#bytes >= ACCESS_LOG_BYTES) {
      this.#dropped += 1
      this.#droppedAt = entry.time
      return
    }
    this.#add(formatAccess(entry, this.#settings))
    if (this.#writing) return
    if (this.#bytes >= ACCESS_LOG_WRITE_BYTES) this.flush()
    else this.#timer ??= setTimeout(() => this.flush(), ACCESS_LOG_MS).unref()
  }

  /** Writes what waits, unless an earlier write is still on its way: then that is followed by it. */
  flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (!this.#writing) this.#send()
  }

  /** Writes all that waits. Nothing is noted after it. */
  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#send()
  }

  #send(): void {
    if (this.#dropped > 0) {
      this.#add(formatDropped(this.#dropped, this.#droppedAt, this.#settings.access))
      this.#dropped = 0
    }
    if (this.#lines.length === 0) return
    const text = this.#lines.join('')
    this.#lines = []
    this.#bytes = 0
    this.#writing = true
    this.#write(text, () => {
      this.#writing = false
      // Others waited long enough meanwhile.
      if (!this.#closed) this.#send()
    })
  }

  #add(line: string): void {
    this.#lines.push(`${line}\n`)
    this.#bytes += Buffer.byteLength(line) + 1
  }
}
