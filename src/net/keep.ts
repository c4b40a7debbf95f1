import { SPLICE_COPY_BYTES } from '../limits.ts'

/**
 * Chunks that are kept for later, in order. Small ones that follow each other are copied together: whoever sends single
 * bytes costs what they are, and not an object and a read of its own for each.
 */
export class Keep {
  /** Bytes in all. */
  bytes = 0
  #chunks: Uint8Array[] = []
  /** A buffer of ours that the last chunk lies in, and how much of it is used. */
  #tail: Buffer | undefined
  #used = 0

  constructor(chunks: readonly Uint8Array[] = []) {
    for (const chunk of chunks) this.push(chunk)
  }

  /** Good until the next `push`. */
  get chunks(): readonly Uint8Array[] {
    return this.#chunks
  }

  /** Takes a view. */
  push(chunk: Uint8Array): void {
    const { length } = chunk
    if (length === 0) return
    this.bytes += length
    const last = this.#chunks.length - 1
    const before = this.#chunks[last]
    if (length >= SPLICE_COPY_BYTES || before === undefined || before.length + length > SPLICE_COPY_BYTES) {
      this.#chunks.push(chunk)
      this.#tail = undefined
      return
    }
    if (this.#tail === undefined) {
      this.#tail = Buffer.allocUnsafeSlow(SPLICE_COPY_BYTES)
      this.#tail.set(before)
      this.#used = before.length
    }
    this.#tail.set(chunk, this.#used)
    this.#used += length
    this.#chunks[last] = this.#tail.subarray(0, this.#used)
  }

  /** Gives them away. */
  take(): readonly Uint8Array[] {
    const chunks = this.#chunks
    this.#chunks = []
    this.#tail = undefined
    this.bytes = 0
    return chunks
  }
}
