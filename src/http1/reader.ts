import { HeadScanner } from './scanner.ts'

/** For heads that come whole, which nearly all do: the tables are used up before the next head is looked at. */
const shared = new HeadScanner()

/**
 * Takes a head out of the chunks of a connection. Holds nothing while there is no part of one; a part is copied, into
 * memory that grows with what has come and is bounded by what a head may have.
 */
export class HeadReader {
  /** After a head: the scanner with its tables, good until the next call on any reader. */
  scanner: HeadScanner = shared
  /** After a head: where the bytes after it begin in the chunk. */
  next = 0
  #own: HeadScanner | undefined
  #held: Buffer | undefined
  #filled = 0

  /** Part of a head is here. Empty lines before one are no part of it. */
  get begun(): boolean {
    return this.#own?.begun ?? false
  }

  /**
   * The head that ends in `chunk`, which is looked at from byte `at` on: a view of it, or of an own copy. Undefined:
   * all of the chunk was taken, and more is needed. Throws an `HttpFault`; the reader is of no use after that.
   */
  push(chunk: Uint8Array, at: number, maxBytes: number): Uint8Array | undefined {
    if (this.#own !== undefined) return this.#goOn(this.#own, chunk, at)
    const bytes = at === 0 ? chunk : chunk.subarray(at)
    shared.begin(maxBytes)
    if (shared.scan(bytes, bytes.length)) {
      const { end } = shared
      this.scanner = shared
      this.next = at + end
      return (shared.head = end === bytes.length ? bytes : bytes.subarray(0, end))
    }
    this.#own = new HeadScanner()
    this.#own.begin(maxBytes)
    return this.#goOn(this.#own, chunk, at)
  }

  #goOn(own: HeadScanner, chunk: Uint8Array, at: number): Uint8Array | undefined {
    const before = this.#filled
    // The bound that its first byte was read under, whatever it is by now.
    const { maxBytes } = own
    const taken = Math.min(chunk.length - at, maxBytes - before)
    const filled = before + taken
    let held = this.#held
    if (held === undefined || held.length < filled) {
      const grown = Buffer.allocUnsafeSlow(Math.min(maxBytes, Math.max(filled, 2 * before, 256)))
      held?.copy(grown, 0, 0, before)
      held = grown
      this.#held = grown
    }
    held.set(taken === chunk.length ? chunk : chunk.subarray(at, at + taken), before)
    this.#filled = filled
    if (!own.scan(held, filled)) return undefined
    this.scanner = own
    this.next = at + own.end - before
    this.#own = undefined
    this.#held = undefined
    this.#filled = 0
    return (own.head = held.subarray(0, own.end))
  }
}

/** The tables of a head that was found before: those at hand if they are still of it, else it is scanned again. */
export function rescan(head: Uint8Array, at: HeadScanner = shared): HeadScanner {
  if (at.head === head) return at
  shared.begin(head.length + 1)
  shared.scan(head, head.length)
  shared.head = head
  return shared
}

/** The tables of a trailer section, from the first byte of its first field to the end of its last line. */
export function scanTrailers(section: Uint8Array): HeadScanner {
  shared.begin(section.length + 1, true)
  shared.scan(section, section.length)
  shared.head = section
  return shared
}
