import { MUX_COPY_BYTES, MUX_SLAB_BYTES } from '../limits.ts'
import { HEADER_BYTES, writeHeader } from './frame.ts'

/**
 * Where headers and small payloads of all sessions are laid, one behind the other. Bytes handed out are
 * never written again: a full slab is let go and lives as long as someone still sends from it. One for
 * the process, as Node's own Buffer pool, because a slab per tunnel would cost 64 KiB for each idle one.
 */
let slab = Buffer.allocUnsafeSlow(0)
let slabUsed = 0

/**
 * Lays frames into an array of buffers: headers and payloads under 4 KiB are copied into the slab, so that
 * they leave as one buffer; larger ones are passed by reference, untouched.
 */
export class FrameWriter {
  /** Bytes that may still be written in this round. */
  room = 0
  #out: Uint8Array[] = NOBODYS
  /** Where in the slab the run that is not yet in `#out` begins. */
  #run = 0

  begin(out: Uint8Array[], room: number): void {
    this.#out = out
    this.#run = slabUsed
    this.room = room
  }

  /** Puts the last run out, and forgets the caller's array. */
  finish(): void {
    this.#flush()
    this.#out = NOBODYS
  }

  /** The caller has seen to it that `room` is at least 12. */
  header(type: number, flags: number, id: number, length: number): void {
    if (slab.length - slabUsed < HEADER_BYTES) this.#renew()
    writeHeader(slab, slabUsed, type, flags, id, length)
    slabUsed += HEADER_BYTES
    this.room -= HEADER_BYTES
  }

  /** A piece of a payload, `chunk[from..to)`. A large one belongs to the receiver of `out` from now on. */
  piece(chunk: Uint8Array, from: number, to: number): void {
    const length = to - from
    this.room -= length
    const whole = length === chunk.length
    if (length >= MUX_COPY_BYTES) {
      this.#flush()
      this.#out.push(whole ? chunk : chunk.subarray(from, to))
      return
    }
    if (slab.length - slabUsed < length) this.#renew()
    slab.set(whole ? chunk : chunk.subarray(from, to), slabUsed)
    slabUsed += length
  }

  #flush(): void {
    if (slabUsed > this.#run) this.#out.push(slab.subarray(this.#run, slabUsed))
    this.#run = slabUsed
  }

  #renew(): void {
    this.#flush()
    slab = Buffer.allocUnsafeSlow(MUX_SLAB_BYTES)
    slabUsed = 0
    this.#run = 0
  }
}

/** Stands where a caller's array was; nothing is put into it. */
const NOBODYS: Uint8Array[] = []
