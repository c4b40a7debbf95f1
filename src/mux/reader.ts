import { DATA, HEADER_BYTES, readU32, VERSION } from './frame.ts'

/** What the reader tells of the bytes it is given, in their order. Either may throw: the session is over then. */
export interface FrameHandler {
  /** True once nothing more may be handed on; looked at before each call. */
  readonly stopped: boolean
  /** A whole header, its version checked by nobody yet. For DATA, `length` bytes of body follow. */
  header(version: number, type: number, flags: number, id: number, length: number): void
  /** A piece of the body of the last DATA header: `chunk[from..to)`, never empty. */
  body(chunk: Uint8Array, from: number, to: number): void
  /** The body of the last DATA header is complete; called for an empty one too. */
  bodyEnd(): void
}

/**
 * Cuts any segmentation of bytes into frames. Keeps at most one header (12 bytes) of its own: bodies are
 * handed on as they come, so a length of 2³² costs nothing.
 */
export class FrameReader {
  readonly #handler: FrameHandler
  readonly #partial = new Uint8Array(HEADER_BYTES)
  #partialBytes = 0
  #bodyLeft = 0

  constructor(handler: FrameHandler) {
    this.#handler = handler
  }

  /** Reads all of `chunk`, or up to where the handler stops. The state is advanced before each call out. */
  push(chunk: Uint8Array): void {
    const handler = this.#handler
    const end = chunk.length
    let at = 0
    while (at < end && !handler.stopped) {
      if (this.#bodyLeft > 0) {
        const to = Math.min(end, at + this.#bodyLeft)
        this.#bodyLeft -= to - at
        handler.body(chunk, at, to)
        at = to
        if (this.#bodyLeft === 0 && !handler.stopped) handler.bodyEnd()
      } else if (this.#partialBytes === 0 && end - at >= HEADER_BYTES) {
        this.#header(chunk, at)
        at += HEADER_BYTES
      } else {
        while (at < end && this.#partialBytes < HEADER_BYTES) {
          this.#partial[this.#partialBytes++] = chunk[at++] as number
        }
        if (this.#partialBytes === HEADER_BYTES) {
          this.#partialBytes = 0
          this.#header(this.#partial, 0)
        }
      }
    }
  }

  #header(bytes: Uint8Array, at: number): void {
    const type = bytes[at + 1] as number
    const flags = ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number)
    const length = readU32(bytes, at + 8)
    const version = bytes[at] as number
    const isData = type === DATA && version === VERSION
    this.#bodyLeft = isData ? length : 0
    this.#handler.header(version, type, flags, readU32(bytes, at + 4), length)
    if (isData && length === 0 && !this.#handler.stopped) this.#handler.bodyEnd()
  }
}
