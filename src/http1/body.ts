import { ChunkedBody } from './chunked.ts'
import { bad } from './fault.ts'

/** Something that the bytes behind a head belong to. */
export interface Body {
  /** Nothing more belongs to it. */
  readonly done: boolean
  /** Bytes of content so far, without the framing around it. */
  readonly received: number
  /**
   * Takes what belongs to the body from byte `at` of `chunk` on, puts what is to be passed on to `out`, views where that
   * can be, and returns where the rest begins. Throws an `HttpFault`; the body is of no use after that.
   */
  push(chunk: Uint8Array, at: number, out: Uint8Array[]): number
  /** The connection has ended. Throws an `HttpFault` if the body needed more. */
  end(): void
}

/**
 * A body by the framing that its head says. `encoded`: a chunked one is passed on chunked, else without its chunks;
 * `trailers`: with those of its trailer fields that mean nothing on the way, else without any. A request's are left out:
 * a target that counts them among its header fields would take a visitor's word for ours.
 */
export function bodyOf(
  head: { framing: 'none' | 'length' | 'chunked' | 'close'; length: number },
  encoded = true,
  trailers = true,
): Body {
  switch (head.framing) {
    case 'none':
      return EMPTY
    case 'length':
      return new LengthBody(head.length)
    case 'chunked':
      return new ChunkedBody(encoded, trailers)
    case 'close':
      return new UntilEnd()
  }
}

const EMPTY: Body = {
  done: true,
  received: 0,
  push: (_chunk, at) => at,
  end() {},
}

/** A body whose length was said before (RFC 9112, 6.2). */
class LengthBody implements Body {
  received = 0
  #left: number

  constructor(length: number) {
    this.#left = length
  }

  get done(): boolean {
    return this.#left === 0
  }

  push(chunk: Uint8Array, at: number, out: Uint8Array[]): number {
    const taken = Math.min(this.#left, chunk.length - at)
    if (taken === 0) return at
    this.#left -= taken
    this.received += taken
    out.push(taken === chunk.length ? chunk : chunk.subarray(at, at + taken))
    return at + taken
  }

  end(): void {
    if (this.#left > 0) throw bad('a body that is shorter than it said')
  }
}

/** A response's body that ends with its connection (RFC 9112, 6.3, the last case). */
class UntilEnd implements Body {
  done = false
  received = 0

  push(chunk: Uint8Array, at: number, out: Uint8Array[]): number {
    if (at < chunk.length) out.push(at === 0 ? chunk : chunk.subarray(at))
    this.received += chunk.length - at
    return chunk.length
  }

  end(): void {
    this.done = true
  }
}
