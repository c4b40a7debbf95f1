import { MUX_COPY_BYTES } from '../limits.ts'
import type { FrameWriter } from './writer.ts'

/**
 * Chunks that a stream has written and not yet sent, in order. Large chunks are kept as they are. Small
 * ones that pile up are copied together, so that a writer of single bytes costs their number, not a
 * hundred times it.
 */
export class SendQueue {
  /** Bytes in the queue. */
  bytes = 0
  readonly #chunks: Uint8Array[] = []
  /** First chunk that still holds bytes, and how many of them are gone. */
  #head = 0
  #offset = 0
  /** Bytes used in the last chunk, which may be a buffer of ours with room left. */
  #lastUsed = 0

  push(chunk: Uint8Array): void {
    const length = chunk.length
    const chunks = this.#chunks
    const last = chunks.length - 1
    this.bytes += length
    if (last < this.#head || length >= MUX_COPY_BYTES) {
      this.#seal(last)
      chunks.push(chunk)
      this.#lastUsed = length
      return
    }
    const tail = chunks[last] as Uint8Array
    const used = this.#lastUsed
    if (tail.length - used >= length) {
      tail.set(chunk, used)
      this.#lastUsed = used + length
    } else if (used + length <= MUX_COPY_BYTES) {
      // The first small chunk came as it was; with the second they move into a buffer with room for more.
      const joined = Buffer.allocUnsafeSlow(MUX_COPY_BYTES)
      joined.set(tail.subarray(0, used))
      joined.set(chunk, used)
      chunks[last] = joined
      this.#lastUsed = used + length
    } else {
      this.#seal(last)
      chunks.push(chunk)
      this.#lastUsed = length
    }
  }

  /** Moves the first `count` bytes to `writer`; there are at least that many. */
  move(writer: FrameWriter, count: number): void {
    const chunks = this.#chunks
    const last = chunks.length - 1
    this.bytes -= count
    let left = count
    while (left > 0) {
      const chunk = chunks[this.#head] as Uint8Array
      const from = this.#offset
      const end = this.#head === last ? this.#lastUsed : chunk.length
      const to = Math.min(end, from + left)
      writer.piece(chunk, from, to)
      left -= to - from
      if (to === end) {
        chunks[this.#head++] = NOTHING
        this.#offset = 0
      } else {
        this.#offset = to
      }
    }
    if (this.bytes === 0) this.clear()
    else if (this.#head > 32 && this.#head * 2 > chunks.length) {
      chunks.splice(0, this.#head)
      this.#head = 0
    }
  }

  clear(): void {
    this.bytes = 0
    this.#chunks.length = 0
    this.#head = 0
    this.#offset = 0
    this.#lastUsed = 0
  }

  /** The last chunk will not be the last any more: from now on its length is what it holds. */
  #seal(last: number): void {
    if (last < this.#head) return
    const tail = this.#chunks[last] as Uint8Array
    if (this.#lastUsed < tail.length) this.#chunks[last] = tail.subarray(0, this.#lastUsed)
  }
}

/** Stands where a sent chunk was, so that the queue does not keep it alive. */
const NOTHING = new Uint8Array(0)
