import {
  constants,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
  type ServerStreamResponseOptions,
} from 'node:http2'
import type { FieldList } from '../http1/index.ts'
import { headersOf, joined, sendTrailers } from './fields.ts'

/** An answer on its way to a visitor's stream: what comes of it in one turn leaves together, by `flush`. */
export class Answer {
  /** All of it is here. */
  whole = false
  readonly #stream: ServerHttp2Stream
  readonly #written: () => void
  /** Its head, until it leaves. */
  #head: { status: number; fields: FieldList; trailers: boolean } | undefined
  #trailers: FieldList = []
  readonly #pieces: Uint8Array[] = []

  /** `written`: some of it has left. */
  constructor(stream: ServerHttp2Stream, written: () => void) {
    this.#stream = stream
    this.#written = written
  }

  /** Bytes that have not left. */
  get waiting(): number {
    return this.#stream.writableLength
  }

  /** One that HTTP/2 cannot say is left out: an answer follows that is complete without it. */
  interim(status: number, fields: FieldList): void {
    const stream = this.#stream
    if (stream.closed || stream.destroyed || stream.headersSent) return
    try {
      stream.additionalHeaders(joined(headersOf({ ':status': status }, fields)))
    } catch {}
  }

  /** `trailers`: there may be some behind its body. */
  begin(status: number, fields: FieldList, trailers: boolean): void {
    this.#head = { status, fields, trailers }
  }

  deliver(piece: Uint8Array): void {
    this.#pieces.push(piece)
  }

  finish(trailers: FieldList): void {
    this.whole = true
    this.#trailers = trailers
  }

  /** Drops what has not been flushed. */
  drop(): void {
    this.#pieces.length = 0
  }

  /** Passes on what came. False: it cannot be said by HTTP/2. */
  flush(): boolean {
    const stream = this.#stream
    const pieces = this.#pieces
    if (stream.closed || stream.destroyed) {
      pieces.length = 0
      return true
    }
    if (this.#head !== undefined && !this.#respond(this.#head)) return false
    const last = pieces.length - 1
    if (last > 0) stream.cork()
    for (let at = 0; at <= last; at++) {
      const piece = pieces[at] as Uint8Array
      if (at === last && this.whole) stream.end(piece, this.#written)
      else stream.write(piece, this.#written)
    }
    if (last > 0) stream.uncork()
    pieces.length = 0
    if (this.whole && !stream.writableEnded) stream.end()
    return true
  }

  #respond({ status, fields, trailers }: { status: number; fields: FieldList; trailers: boolean }): boolean {
    const stream = this.#stream
    this.#head = undefined
    const headers = headersOf({ ':status': status }, fields)
    const bare = this.whole && this.#pieces.length === 0
    const options = bare && this.#trailers.length === 0 ? END : trailers ? TRAILERS : undefined
    if (options === TRAILERS) stream.once('wantTrailers', this.#onWantTrailers)
    // The second time without what Node wants to stand once, and targets say twice.
    return this.#tried(headers, options) || this.#tried(joined(headers), options)
  }

  #tried(headers: OutgoingHttpHeaders, options: ServerStreamResponseOptions | undefined): boolean {
    try {
      this.#stream.respond(headers, options)
      return true
    } catch {
      return false
    }
  }

  readonly #onWantTrailers = (): void => {
    sendTrailers(this.#stream, this.#trailers)
  }
}

const END = { endStream: true } as const
const TRAILERS = { waitForTrailers: true } as const

/**
 * The rest of a request is for nobody, and its sender may stop (RFC 9113, 8.1): said behind the answer. What has come is
 * dropped: to Node a stream with unread bytes is never over.
 */
export function stopSending(stream: ServerHttp2Stream): void {
  stream.close(constants.NGHTTP2_NO_ERROR)
  stream.resume()
}
