import { Duplex } from 'node:stream'
import type { TunnelError } from '../errors.ts'
import { ORDERLY_CLOSE_MS } from '../limits.ts'
import type { Stream, StreamSink } from '../mux/index.ts'
import { Backlog } from './backlog.ts'

export interface DuplexInfo {
  remoteAddress?: string | undefined
  remotePort?: number | undefined
  /** Received from the stream before, and not consumed yet: is read first. */
  first?: Uint8Array | undefined
}

/**
 * A stream as Node's APIs want it, for `http.Server.emit('connection', duplex)` and the like. Owns `stream`.
 *
 * It behaves as a `net.Socket` with `allowHalfOpen` does: end is carried both ways, the peer's reset destroys
 * it with ECONNRESET, `destroy` sends an end after what was written, and `resetAndDestroy` a reset. Besides a
 * `Duplex` it has what `http` and its users call on a socket. The fast path of sockets is `splice`.
 */
export function duplexOf(stream: Stream, info: DuplexInfo = {}): StreamDuplex {
  return new StreamDuplex(stream, info)
}

type Callback = (error?: Error | null) => void

export class StreamDuplex extends Duplex {
  readonly remoteAddress: string | undefined
  readonly remotePort: number | undefined
  readonly remoteFamily: 'IPv4' | 'IPv6' | undefined
  readonly connecting = false
  readonly pending = false
  /** Milliseconds without a byte after which `timeout` is emitted; 0: never. As in `net.Socket`. */
  timeout = 0
  readonly #stream: Stream
  /** Received and not asked for: not consumed, so that the stream's window bounds it. */
  readonly #waiting = new Backlog()
  #wanted = false
  readonly #next: Uint8Array[] = []
  #readEnded = false
  #written: Callback | undefined
  #timer: NodeJS.Timeout | undefined

  /** For `duplexOf`. */
  constructor(stream: Stream, info: DuplexInfo) {
    super({ allowHalfOpen: true })
    this.remoteAddress = info.remoteAddress
    this.remotePort = info.remotePort
    if (info.remoteAddress !== undefined)
      this.remoteFamily = info.remoteAddress.includes(':') ? 'IPv6' : 'IPv4'
    this.#stream = stream
    stream.sink = this.#sink
    if (info.first !== undefined) this.#waiting.push(info.first)
    this.#readEnded = stream.readEnded
    if (stream.closed && !(stream.readEnded && stream.writeEnded)) this.#reset()
  }

  get bytesRead(): number {
    return this.#stream.bytesIn
  }

  get bytesWritten(): number {
    return this.#stream.bytesOut + this.#stream.queued
  }

  /** Ends when what was written has left; what comes meanwhile is not read. As in `net.Socket`. */
  destroySoon(): void {
    if (this.writable) this.end()
    if (this.writableFinished) this.destroy()
    else this.once('finish', () => this.destroy())
  }

  /** Resets the stream. */
  resetAndDestroy(): this {
    this.#stream.reset()
    return this.destroy()
  }

  setTimeout(timeout: number, callback?: () => void): this {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.timeout = timeout
    if (timeout > 0 && !this.destroyed) {
      this.#timer = setTimeout(() => this.emit('timeout'), timeout)
      this.#timer.unref()
    }
    if (callback !== undefined) {
      if (timeout > 0) this.once('timeout', callback)
      else this.off('timeout', callback)
    }
    return this
  }

  /** Frames leave at the end of each turn of the event loop, and the tunnel has its own keepalive: nothing to set. */
  setNoDelay(): this {
    return this
  }

  setKeepAlive(): this {
    return this
  }

  /** The tunnel keeps the process alive, or does not. */
  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  address(): { address?: string; family?: string; port?: number } {
    return {}
  }

  override _read(): void {
    this.#wanted = true
    this.#pump()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    this.#timer?.refresh()
    // A stream keeps what it is given until it is sent; a writer may use its buffer again once called back.
    if (this.#stream.write(Buffer.from(chunk))) callback()
    else this.#written = callback
  }

  override _final(callback: Callback): void {
    this.#stream.end()
    callback()
  }

  override _destroy(error: Error | null, callback: Callback): void {
    clearTimeout(this.#timer)
    this.#waiting.clear()
    const written = this.#written
    this.#written = undefined
    const stream = this.#stream
    if (!stream.closed) {
      stream.end()
      linger(stream)
    }
    callback(error)
    written?.(error)
  }

  /** Hands on what was asked for; its consumer may ask again from within `push`. */
  #pump(): void {
    while (this.#wanted && this.#waiting.bytes > 0) {
      this.#next.length = 0
      this.#stream.consume(this.#waiting.take(this.#next, 1))
      if (!this.push(this.#next[0])) this.#wanted = false
    }
    if (this.#readEnded && this.#wanted && this.#waiting.bytes === 0) {
      this.#wanted = false
      this.push(null)
    }
  }

  #reset(): void {
    const error: NodeJS.ErrnoException = new Error('read ECONNRESET')
    error.code = 'ECONNRESET'
    error.syscall = 'read'
    this.destroy(error)
  }

  readonly #sink: StreamSink = {
    data: (_stream: Stream, chunk: Uint8Array): void => {
      this.#timer?.refresh()
      this.#waiting.push(chunk)
      this.#pump()
    },
    end: (): void => {
      this.#readEnded = true
      this.#pump()
    },
    reset: (_stream: Stream, _reason: TunnelError): void => this.#reset(),
    drain: (): void => {
      this.#timer?.refresh()
      const written = this.#written
      this.#written = undefined
      written?.()
    },
  }
}

/**
 * A stream whose owner has gone, its end on the way behind all that was written. What still comes is taken
 * and dropped, so that the peer can finish; one that goes on is reset, once the answer has left.
 */
export function linger(stream: Stream): void {
  if (stream.closed) return
  stream.consume(stream.unread)
  if (stream.closed) return
  const timer = setInterval(() => {
    if (stream.queued > 0 && !stream.closed) return
    clearInterval(timer)
    stream.reset()
  }, ORDERLY_CLOSE_MS)
  timer.unref()
  const over = (): void => clearInterval(timer)
  stream.sink = { data: (_, chunk) => stream.consume(chunk.length), end: over, reset: over, drain: () => {} }
}
