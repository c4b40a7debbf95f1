import { SPLICE_COPY_BYTES } from '../limits.ts'

/**
 * Chunks that wait for a socket. Small ones are copied together: a peer that sends single bytes to a reader
 * that takes none would otherwise cost two hundred times what its window allows (an object and a view for
 * each byte), and each view would keep the tunnel's whole read alive.
 */
export class Backlog {
  /** Bytes that wait. */
  bytes = 0
  #chunks: Uint8Array[] = []
  /** First chunk that still waits. */
  #head = 0
  /** Where small chunks go, and how much of it is used. */
  #tail: Buffer | undefined
  #used = 0

  /** Takes a view; the bytes are copied if they are few. */
  push(chunk: Uint8Array): void {
    const length = chunk.length
    if (length === 0) return
    this.bytes += length
    if (length >= SPLICE_COPY_BYTES) {
      this.#seal()
      this.#chunks.push(chunk)
      return
    }
    if (this.#tail === undefined || this.#used + length > this.#tail.length) {
      this.#seal()
      this.#tail = Buffer.allocUnsafeSlow(SPLICE_COPY_BYTES)
    }
    this.#tail.set(chunk, this.#used)
    this.#used += length
  }

  /** Moves whole chunks to `out`, at least one and no more than `budget` bytes after that; returns their bytes. */
  take(out: Uint8Array[], budget: number): number {
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
    this.#chunks = []
    this.#head = 0
    this.#tail = undefined
    this.#used = 0
  }

  #seal(): void {
    if (this.#tail === undefined) return
    this.#chunks.push(this.#tail.subarray(0, this.#used))
    this.#tail = undefined
    this.#used = 0
  }
}

/** Stands where a taken chunk was, so that it is not kept alive. */
const NOTHING = new Uint8Array(0)
