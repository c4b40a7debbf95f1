import type { Socket } from 'node:net'
import { TunnelError } from '../errors.ts'
import { SOCKET_STREAM_QUEUE_BYTES, SOCKET_STREAM_UNREAD_BYTES } from '../limits.ts'
import type { Stream, StreamSink } from '../mux/index.ts'
import { connectionError } from './connection-error.ts'
import { Outlet, type OutletOwner } from './outlet.ts'
import { readyEvent } from './ready.ts'
import { askWhetherReset, resetSocket } from './reset.ts'

/**
 * A socket that behaves as a stream of a tunnel does, for what joins streams and now talks to a target of its own. Owns
 * the socket, which may still be connecting: what is written waits for it.
 *
 * It reads ahead SOCKET_STREAM_UNREAD_BYTES and one read of Node's at most, and takes no more than
 * SOCKET_STREAM_QUEUE_BYTES before a writer is asked to wait.
 */
export class SocketStream implements Stream, OutletOwner {
  readonly id = 0
  sink: StreamSink
  closed = false
  readEnded = false
  writeEnded = false
  unread = 0
  bytesIn = 0
  bytesOut = 0
  /** Called once when there is a connection. */
  whenReady: (() => void) | undefined

  readonly #socket: Socket
  readonly #outlet: Outlet
  #connected: boolean
  #drainWanted = false
  #paused = false

  /** `sink` may be replaced before the turn of the event loop ends: nothing is told within the call. */
  constructor(socket: Socket, sink: StreamSink) {
    this.#socket = socket
    this.sink = sink
    this.#outlet = new Outlet(socket, this)
    this.#connected = !socket.connecting
    socket.allowHalfOpen = true
    if (!this.#connected) socket.once(readyEvent(socket), this.#onConnect)
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.on('error', this.#onError)
    socket.on('close', this.#onClose)
    socket.resume()
  }

  /** There is a connection. */
  get acknowledged(): boolean {
    return this.#connected
  }

  get queued(): number {
    return this.#outlet.waiting
  }

  write(chunk: Uint8Array): boolean {
    if (this.closed || this.writeEnded) return true
    if (chunk.length > 0) this.#outlet.push(chunk)
    if (this.#outlet.waiting < SOCKET_STREAM_QUEUE_BYTES) return true
    this.#drainWanted = true
    return false
  }

  end(): void {
    if (this.closed || this.writeEnded) return
    this.writeEnded = true
    this.#outlet.end()
    this.#closeIfOver()
  }

  reset(): void {
    if (this.closed) return
    this.#close()
    resetSocket(this.#socket)
  }

  /** Resets it, and tells the sink why. */
  abort(reason: TunnelError): void {
    this.#broke(reason)
  }

  consume(bytes: number): void {
    if (this.closed || bytes <= 0) return
    this.unread -= bytes
    if (this.#paused && this.unread < SOCKET_STREAM_UNREAD_BYTES / 2) {
      this.#paused = false
      this.#socket.resume()
    }
    this.#closeIfOver()
  }

  /** From the outlet. */
  passed(bytes: number): void {
    this.bytesOut += bytes
    if (!this.#drainWanted || this.#outlet.waiting >= SOCKET_STREAM_QUEUE_BYTES / 2) return
    this.#drainWanted = false
    this.sink.drain(this)
  }

  // ── The socket speaks ─────────────────────────────────────────────────────────────────────────────────

  readonly #onConnect = (): void => {
    // Who was reached was turned away, before anybody was told.
    if (this.#socket.destroyed) return
    this.#connected = true
    this.whenReady?.()
  }

  readonly #onData = (chunk: Uint8Array): void => {
    this.bytesIn += chunk.length
    this.unread += chunk.length
    this.sink.data(this, chunk)
    if (this.closed || this.#paused || this.unread < SOCKET_STREAM_UNREAD_BYTES) return
    this.#paused = true
    this.#socket.pause()
  }

  /** An answer that ends with its connection is whole by this end alone: half of one must not pass for it. */
  readonly #onEnd = (): void => {
    if (this.#outlet.inFlight === 0 && this.#socket.writable) askWhetherReset(this.#socket, this.#onAsked)
    else this.#onAsked()
  }

  readonly #onAsked = (error?: Error | null): void => {
    if (error || this.closed) return
    this.readEnded = true
    this.sink.end(this)
    this.#closeIfOver()
  }

  readonly #onError = (cause: NodeJS.ErrnoException): void => {
    this.#broke(connectionError(cause, this.#connected))
  }

  readonly #onClose = (): void => {
    if (this.readEnded && this.writeEnded) this.closed = true
    else {
      const detail = 'the connection was closed half-way'
      this.#broke(new TunnelError('reset', { scope: 'stream', remote: true, detail }))
    }
  }

  #broke(reason: TunnelError): void {
    if (this.closed) return
    this.#close()
    this.#socket.destroy()
    this.sink.reset(this, reason)
  }

  #closeIfOver(): void {
    if (this.readEnded && this.writeEnded && this.unread <= 0 && this.#outlet.waiting === 0)
      this.closed = true
  }

  /** Nothing is told any more; an error of the last moment must not be an uncaught one. */
  #close(): void {
    this.closed = true
    this.#outlet.close()
    const socket = this.#socket
    socket.off('data', this.#onData)
    socket.off('end', this.#onEnd)
    socket.resume()
  }
}
