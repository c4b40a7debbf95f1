import { EventEmitter } from 'node:events'
import type { Stream, StreamSink } from '../../mux/index.ts'
import { Backlog, linger } from '../../net/index.ts'

type Callback = (error?: Error | null) => void

/**
 * The ciphertext's side of a visitor's TLS: a stream of the tunnel with the few members that Node's TLS asks of what it
 * runs over, and none of what a `Duplex` is besides. Owns the stream.
 *
 * What TLS writes is its own copy, so it is queued as it is; what it reads is copied by it at once, so it is consumed with
 * that. While TLS reads nothing, what comes counts against the stream's window.
 */
export class TlsTransport extends EventEmitter {
  readonly readable = true
  readonly writable = true
  /** Where bytes are handed on: what TLS tells within the call is of this connection. */
  readonly #feed: (transport: TlsTransport, chunk: Uint8Array) => void
  readonly #stream: Stream
  readonly #waiting = new Backlog()
  readonly #next: Uint8Array[] = []
  #started = false
  #flowing = false
  #ended = false
  #endTold = false
  /** TLS writes several buffers at once, and goes on when each of them has said that it was taken. */
  readonly #written: Callback[] = []
  /** What TLS writes now may wait for what it writes next. */
  #holding = false
  readonly #held: Uint8Array[] = []
  #destroyed = false

  constructor(
    stream: Stream,
    first: readonly Uint8Array[],
    feed: (transport: TlsTransport, chunk: Uint8Array) => void,
  ) {
    super()
    this.#stream = stream
    this.#feed = feed
    for (const chunk of first) this.#waiting.push(chunk)
    this.#ended = stream.readEnded
    stream.sink = this.#sink
    if (stream.closed && !(stream.readEnded && stream.writeEnded)) queueMicrotask(() => this.#onReset())
  }

  /** TLS is there: what came before is handed on. Earlier it would be lost, since TLS reads before it is whole. */
  start(): void {
    this.#started = true
    this.#pump()
  }

  /**
   * Until `letGo` what is written waits, and leaves with the next: tickets of TLS 1.3, which nobody waits for, go with the
   * first answer. It spares a write of each side of the tunnel and one to the visitor.
   */
  hold(): void {
    this.#holding = true
  }

  letGo(): void {
    this.#holding = false
  }

  // ── TLS asks ──────────────────────────────────────────────────────────────────────────────────────────

  pause(): void {
    this.#flowing = false
  }

  resume(): void {
    this.#flowing = true
    if (this.#started) this.#pump()
  }

  /** Frames of one turn leave together anyhow. */
  cork(): void {}

  uncork(): void {}

  write(chunk: Uint8Array, callback: Callback): boolean {
    if (this.#holding) {
      this.#held.push(chunk)
      callback()
      return true
    }
    this.#release()
    if (this.#stream.write(chunk)) {
      callback()
      return true
    }
    this.#written.push(callback)
    return false
  }

  end(callback?: Callback): void {
    this.#release()
    this.#stream.end()
    callback?.()
  }

  /** An end, as that of a socket. */
  destroy(): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.#waiting.clear()
    const stream = this.#stream
    if (!stream.closed) {
      this.#release()
      stream.end()
      linger(stream)
    }
    this.#over()
  }

  /** A reset. */
  reset(): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.#waiting.clear()
    this.#stream.reset()
    this.#over()
  }

  #release(): void {
    if (this.#held.length === 0) return
    for (const chunk of this.#held) this.#stream.write(chunk)
    this.#held.length = 0
  }

  #pump(): void {
    while (this.#flowing && this.#waiting.bytes > 0) {
      this.#next.length = 0
      this.#stream.consume(this.#waiting.take(this.#next, 1))
      this.#feed(this, this.#next[0] as Uint8Array)
    }
    if (!this.#ended || this.#endTold || this.#waiting.bytes > 0 || !this.#flowing) return
    this.#endTold = true
    this.emit('end')
  }

  #taken(error?: Error): void {
    for (const written of this.#written.splice(0)) written(error)
  }

  #over(): void {
    this.#taken(new Error('closed'))
    this.emit('close')
  }

  #onReset(): void {
    if (this.#destroyed) return
    const error: NodeJS.ErrnoException = new Error('read ECONNRESET')
    error.code = 'ECONNRESET'
    error.syscall = 'read'
    this.#destroyed = true
    this.#waiting.clear()
    this.emit('error', error)
    this.#over()
  }

  readonly #sink: StreamSink = {
    data: (stream: Stream, chunk: Uint8Array): void => {
      if (this.#flowing && this.#started && this.#waiting.bytes === 0) {
        stream.consume(chunk.length)
        this.#feed(this, chunk)
      } else this.#waiting.push(chunk)
    },
    end: (): void => {
      this.#ended = true
      if (this.#started) this.#pump()
    },
    reset: (): void => this.#onReset(),
    drain: (): void => this.#taken(),
  }
}
