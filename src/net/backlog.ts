import { SPLICE_COPY_BYTES } from '../limits.ts'

/**
 * Chunks that wait for a socket, in order. Small ones that follow each other are copied together: a peer that
 * sends single bytes to a reader that takes none would otherwise cost two hundred times what its window
 * allows (an object and a view for each byte), and each view would keep the tunnel's whole read alive. One
 * that comes alone is passed on as it is.
 */
export class Backlog {
  /** Bytes that wait. */
  bytes = 0
  #chunks: Uint8Array[] = []
  /** First chunk that still waits. */
  #head = 0
  /** The last chunk while it may still grow: a small one of the giver's, or ours with `#used` bytes in it. */
  #tail: Uint8Array | undefined
  #used = 0

  /** Takes a view. */
  push(chunk: Uint8Array): void {
    const length = chunk.length
    if (length === 0) return
    this.bytes += length
    if (length >= SPLICE_COPY_BYTES) {
      this.#seal()
      this.#chunks.push(chunk)
      return
    }
    const tail = this.#tail
    const used = this.#used
    if (tail === undefined || used + length > SPLICE_COPY_BYTES) {
      this.#seal()
      this.#tail = chunk
      this.#used = length
      return
    }
    if (used + length > tail.length) {
      // A head and a short body, which is most of what is joined, fit in a piece of Node's pool; memory of its own costs more
      // than the copy. No more than one such piece waits: what outgrows it gets its own.
      const joined = Buffer.allocUnsafe(used + length > POOLED_BYTES ? SPLICE_COPY_BYTES : POOLED_BYTES)
      joined.set(tail)
      this.#tail = joined
    }
    this.#tail?.set(chunk, used)
    this.#used = used + length
  }

  /** Moves whole chunks to `out`, at least one and no more than `budget` bytes after that; returns their bytes. */
  take(out: Uint8Array[], budget: number): number {
    // Nearly always: a short piece that came since the last time.
    if (this.#tail !== undefined && this.#chunks.length === 0) {
      const length = this.#used
      out.push(this.#cutTail(this.#tail))
      this.bytes = 0
      return length
    }
    this.#seal()
    let taken = 0
    while (this.#head < this.#chunks.length) {
      const chunk = this.#chunks[this.#head] as Uint8Array
      if (taken > 0 && taken + chunk.length > budget) break
      out.push(chunk)
      taken += chunk.length
      this.#chunks[this.#head++] = NOTHING
    }
    this.bytes -= taken
    if (this.bytes === 0) this.clear()
    else if (this.#head > 32 && this.#head * 2 > this.#chunks.length) {
      this.#chunks = this.#chunks.slice(this.#head)
      this.#head = 0
    }
    return taken
  }

  clear(): void {
    this.bytes = 0
    if (this.#chunks.length > 0) this.#chunks = []
    this.#head = 0
    this.#tail = undefined
    this.#used = 0
  }

  #seal(): void {
    if (this.#tail !== undefined) this.#chunks.push(this.#cutTail(this.#tail))
  }

  #cutTail(tail: Uint8Array): Uint8Array {
    const used = this.#used
    this.#tail = undefined
    this.#used = 0
    return tail.length === used ? tail : tail.subarray(0, used)
  }
}

/** Stands where a taken chunk was, so that it is not kept alive. */
const NOTHING = new Uint8Array(0)

/** Of Node's pool, for a joined chunk that is no longer. */
const POOLED_BYTES = 1_024
