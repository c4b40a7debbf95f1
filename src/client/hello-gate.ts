/**
 * What stands between a gateway and a target that speaks TLS itself: the client reads the visitor's ClientHello and
 * lets nobody in who asks for another host, whatever the gateway believes or pretends.
 */
import { TunnelError } from '../errors.ts'
import type { Stream, StreamSink } from '../mux/index.ts'
import {
  type ClientHello,
  ClientHelloReader,
  looksLikeTls,
  type TlsAlert,
  tlsAlert,
} from '../protocol/index.ts'

/** Synchronous, and exactly one of them, once. */
export interface HelloEvents {
  /** `first` is all that came, the hello and what may follow it; nothing of it is consumed. The stream's sink is the callee's to set. */
  hello(hello: ClientHello, first: readonly Uint8Array[]): void
  /** It does not begin as TLS does; as `hello`. Without this it has failed. */
  plain?(first: Uint8Array): void
  /** There will be none; the stream is the callee's to reset, if it is not closed. */
  failed(reason: TunnelError): void
}

/** Whether a hello asks for one of a service's hosts: an exact one, or one label before a `*.` pattern's. */
export function asksFor({ serverName }: ClientHello, hosts: readonly string[]): boolean {
  return serverName !== undefined && isAmong(serverName, hosts)
}

/** The same of a host in the spelling by which hosts are compared. */
export function isAmong(host: string, hosts: readonly string[]): boolean {
  if (hosts.includes(host)) return true
  const dot = host.indexOf('.')
  return dot > 0 && hosts.includes(`*${host.slice(dot)}`)
}

/** Says that there is no such host, or what else is wrong, and takes what still comes, to no purpose. The stream is the caller's to see to its end. */
export function turnAway(stream: Stream, alert: TlsAlert = 'unrecognized_name'): void {
  stream.sink = DEAF
  stream.consume(stream.unread)
  stream.write(tlsAlert(alert))
  stream.end()
}

/** A FIN or reset that comes shows in the stream. */
export const DEAF: StreamSink = {
  data: (stream, chunk) => stream.consume(chunk.length),
  end: () => {},
  reset: () => {},
  drain: () => {},
}

/** The sink of a stream until its visitor's hello is whole; `first` came before and is not consumed. */
export function readHello(stream: Stream, first: Uint8Array, events: HelloEvents): void {
  const gate = new HelloGate(events)
  stream.sink = gate
  if (first.length > 0) gate.data(stream, first)
}

/**
 * Consumes nothing, so that the stream's window bounds the visitor. A hello that is whole in the first chunk, as
 * nearly all are, is passed on as it lies; pieces are copied together, since a byte may pin a whole read of the tunnel.
 */
class HelloGate implements StreamSink {
  readonly #events: HelloEvents
  readonly #reader = new ClientHelloReader()
  #held = Buffer.alloc(0)
  #filled = 0

  constructor(events: HelloEvents) {
    this.#events = events
  }

  data(_stream: Stream, chunk: Uint8Array): void {
    if (this.#filled === 0 && this.#events.plain !== undefined && !looksLikeTls(chunk[0])) {
      this.#events.plain(chunk)
      return
    }
    let hello: ClientHello | undefined
    try {
      hello = this.#reader.push(chunk)
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error
      this.#events.failed(error)
      return
    }
    if (hello === undefined) this.#hold(chunk)
    else
      this.#events.hello(hello, this.#filled === 0 ? [chunk] : [this.#held.subarray(0, this.#filled), chunk])
  }

  end(): void {
    this.#events.failed(
      new TunnelError('bad_message', {
        scope: 'visitor',
        remote: true,
        detail: 'a visitor left before its ClientHello was whole',
      }),
    )
  }

  reset(_stream: Stream, reason: TunnelError): void {
    this.#events.failed(reason)
  }

  drain(): void {}

  /** At most a hello that is not whole, and the headers of its records: the reader throws past that. */
  #hold(chunk: Uint8Array): void {
    const filled = this.#filled + chunk.length
    if (filled > this.#held.length) {
      const grown = Buffer.allocUnsafe(Math.max(filled, 2 * this.#held.length))
      this.#held.copy(grown, 0, 0, this.#filled)
      this.#held = grown
    }
    this.#held.set(chunk, this.#filled)
    this.#filled = filled
  }
}
