import { TunnelError } from '../errors.ts'
import type { Stream, StreamSink } from '../mux/index.ts'
import { type ProxyHeader, ProxyReader } from '../protocol/index.ts'

/** Synchronous, and exactly one of them, once. */
export interface HeaderEvents {
  /** `rest` came behind the header and is not consumed. The stream's sink is the callee's to set. */
  header(header: ProxyHeader, rest: Uint8Array): void
  /** There will be none; the stream is the callee's to reset, if it is not closed. */
  failed(reason: TunnelError): void
}

/** The sink of a stream until its PROXY header is whole. */
export class HeaderSink implements StreamSink {
  readonly #events: HeaderEvents
  readonly #reader = new ProxyReader()

  constructor(events: HeaderEvents) {
    this.#events = events
  }

  data(stream: Stream, chunk: Uint8Array): void {
    let read: ReturnType<ProxyReader['push']>
    try {
      read = this.#reader.push(chunk)
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error
      this.#events.failed(error)
      return
    }
    if (read === undefined) stream.consume(chunk.length)
    else {
      stream.consume(chunk.length - read.rest.length)
      this.#events.header(read.header, read.rest)
    }
  }

  end(): void {
    this.#events.failed(
      new TunnelError('protocol_error', {
        scope: 'stream',
        remote: true,
        detail: 'a stream ended before its PROXY header',
      }),
    )
  }

  reset(_stream: Stream, reason: TunnelError): void {
    this.#events.failed(reason)
  }

  drain(): void {}
}
