import type { Socket } from 'node:net'
import { TunnelError } from '../errors.ts'
import { HALF_CLOSED_MS, LINGER_MS, TCP_KEEPALIVE_MS } from '../limits.ts'
import type { Stream, StreamSink } from '../mux/index.ts'
import { connectionError } from './connection-error.ts'
import { type IdleMember, idleSweep } from './idle.ts'
import { Keep } from './keep.ts'
import { Outlet, type OutletOwner } from './outlet.ts'
import { readyEvent } from './ready.ts'
import { askWhetherReset, resetSocket } from './reset.ts'

/** How a splice ended. Bytes are counted at the socket. */
export interface SpliceResult {
  /** Read from the socket, a `prefix` included. */
  bytesIn: number
  /** Taken by the kernel for the socket's other side. */
  bytesOut: number
  /** Absent: both sides ended in order. */
  error?: TunnelError
}

export interface SpliceOptions {
  /** Read from the socket before, and not sent yet: goes first. */
  prefix?: readonly Uint8Array[] | undefined
  /** Received from the stream before, and not consumed yet: goes first, and is consumed here. */
  first?: Uint8Array | readonly Uint8Array[] | undefined
  /** Keep what is sent for another try, while it is at most this many bytes and no byte has come back. See `replay`. */
  keep?: number | undefined
  /**
   * End when no byte moved for this long; 0 or nothing: never, while both directions are open. Once one has
   * ended it is HALF_CLOSED_MS at most. A sweep later at most.
   */
  idleMs?: number | undefined
  /**
   * The stream was reset and the socket is still whole. The splice has let go of the socket, which is paused.
   * True: the callee owns it now, for another splice or a `HeldSocket`, and `onEnd` is not called. False: it is reset.
   */
  onStreamReset?: ((splice: Splice, reason: TunnelError) => boolean) | undefined
  /**
   * Once, when the outcome is known. With an error: before the stream is reset, so that what is said about
   * the stream now leaves before its RST.
   */
  onEnd?: ((result: SpliceResult, splice: Splice) => void) | undefined
}

/**
 * Makes one connection of a socket and a stream, and owns both until both ends have ended: then `socket` is
 * closed and `stream` is closed or reset, whatever happened.
 *
 * End is carried as end, in each direction by itself; reset as reset (see `resetSocket` for where a socket
 * knows none). The socket may still be connecting, or paused. Sets `allowHalfOpen` on it.
 */
export function splice(socket: Socket, stream: Stream, options: SpliceOptions = {}): Splice {
  return new Splice(socket, stream, options)
}

/**
 * The stream's sink and the socket's listener in one object.
 *
 * Back-pressure. Towards the stream: the socket is paused when the stream has enough, which leaves at most one
 * read of Node's (64 KiB) behind it. Towards the socket: at most one write is under way; what comes meanwhile
 * waits in the backlog. Bytes are consumed only when the kernel has them, so that a reader that takes nothing
 * leaves exactly the stream's window in memory, and the window of one that takes all of it can grow.
 *
 * A paused socket reports neither FIN nor RST: a visitor that leaves while the stream takes nothing is noticed
 * when the stream moves again, or by the idle limit. Nor does one that has sent FIN and then leaves for good, while
 * nothing is written to it: so no splice stays half-closed without a byte for longer than HALF_CLOSED_MS.
 */
export class Splice implements StreamSink, IdleMember, OutletOwner {
  readonly socket: Socket
  readonly stream: Stream
  readonly #options: SpliceOptions
  readonly #outlet: Outlet
  #replay: Keep | undefined
  #sent = 0
  #delivered = 0
  #bytesOut = 0
  #connected: boolean
  /** What the socket sends is dropped. */
  #deaf = false
  #over = false

  constructor(socket: Socket, stream: Stream, options: SpliceOptions) {
    this.socket = socket
    this.stream = stream
    this.#options = options
    this.#outlet = new Outlet(socket, this)
    this.#connected = !socket.connecting
    if (options.keep !== undefined && options.keep > 0) this.#replay = new Keep()
    stream.sink = this
    socket.allowHalfOpen = true
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.on('error', this.#onError)
    socket.on('close', this.#onClose)
    if (!this.#connected) socket.once(readyEvent(socket), this.#onConnect)
    const { idleMs = 0 } = options
    idleSweep.watch(this, idleMs > 0 ? idleMs : Number.POSITIVE_INFINITY)
    this.#begin()
  }

  /** Bytes that came back from the stream for the socket, written or waiting. */
  get delivered(): number {
    return this.#delivered
  }

  /** Bytes of them that the kernel has not taken: the stream's unread ones, and all that a slow reader costs here. */
  get waiting(): number {
    return this.#outlet.waiting
  }

  /** Bytes handed to the stream. */
  get sent(): number {
    return this.#sent
  }

  /** All that was sent, while another stream could be given the same: no byte came back, and it was not more than `keep`. */
  get replay(): readonly Uint8Array[] | undefined {
    return this.#replay?.chunks
  }

  /** The socket's other side writes no more, and all it wrote was sent. */
  get inputEnded(): boolean {
    return this.socket.readableEnded
  }

  /** A byte from the stream may have reached the socket's other side. False while it was being dialled. */
  get reached(): boolean {
    return this.#bytesOut > 0 || (this.#connected && this.#outlet.inFlight > 0)
  }

  /** For the idle sweep. */
  get activity(): number {
    return this.#sent + this.stream.bytesOut + this.#delivered + this.#bytesOut
  }

  /** Resets both sides; `onEnd` gets `reason`. */
  abort(reason: TunnelError): void {
    this.#fail(reason)
  }

  /**
   * Lets go of the socket, which stays open and paused, and resets the stream; `onEnd` is not called. What
   * was sent is in `replay`. Nothing if the splice is over.
   */
  detach(): void {
    if (this.#over) return
    this.#release()
    this.stream.reset()
  }

  // ── The stream speaks ─────────────────────────────────────────────────────────────────────────────────

  data(_stream: Stream, chunk: Uint8Array): void {
    if (this.#over) return
    this.#delivered += chunk.length
    this.#replay = undefined
    this.#outlet.push(chunk)
  }

  end(_stream: Stream): void {
    if (this.#over) return
    this.#oneEnded()
    this.#outlet.end()
  }

  reset(stream: Stream, reason: TunnelError): void {
    if (this.#over) return
    // What came before the reset in the same turn goes before it.
    this.#outlet.flush()
    if (stream.readEnded && reason.remote && reason.code === 'reset') {
      this.#finishAlone()
      return
    }
    const { onStreamReset } = this.#options
    if (onStreamReset === undefined || this.socket.destroyed) {
      this.#fail(reason)
      return
    }
    this.#release()
    if (onStreamReset(this, reason)) return
    // Nobody took it: an error of the last moment must not be an uncaught one.
    this.socket.on('error', ignore)
    resetSocket(this.socket)
    this.#tell(reason)
  }

  drain(_stream: Stream): void {
    if (!this.#over) this.socket.resume()
  }

  /** From the idle sweep. Four calls of the system, which most connections never need. */
  lasts(): void {
    this.socket.setKeepAlive(true, TCP_KEEPALIVE_MS)
  }

  /** From the idle sweep. */
  idle(): void {
    this.#fail(new TunnelError('idle', { scope: 'visitor', detail: `no byte moved for too long` }))
  }

  // ── The socket speaks ─────────────────────────────────────────────────────────────────────────────────

  readonly #onData = (chunk: Uint8Array): void => {
    if (!this.#deaf && !this.#send(chunk)) this.socket.pause()
  }

  readonly #onEnd = (): void => {
    this.#oneEnded()
    if (this.#outlet.inFlight === 0 && this.socket.writable) askWhetherReset(this.socket, this.#onAsked)
    else this.stream.end()
  }

  readonly #onAsked = (error?: Error | null): void => {
    if (!error && !this.#over) this.stream.end()
  }

  readonly #onConnect = (): void => {
    this.#connected = !this.socket.destroyed
  }

  readonly #onError = (cause: NodeJS.ErrnoException): void => {
    this.#fail(connectionError(cause, this.#connected))
  }

  readonly #onClose = (): void => {
    if (this.#over) return
    const { socket, stream } = this
    if (socket.readableEnded && socket.writableFinished && stream.readEnded) {
      this.#over = true
      idleSweep.forget(this)
      this.#tell(undefined)
    } else {
      this.#fail(
        new TunnelError('reset', {
          scope: 'stream',
          remote: true,
          detail: 'the connection was closed half-way',
        }),
      )
    }
  }

  // ── What both lead to ─────────────────────────────────────────────────────────────────────────────────

  /** What happened before the splice. */
  #begin(): void {
    const { socket, stream } = this
    const { prefix, first } = this.#options
    let room = true
    if (prefix !== undefined) for (const chunk of prefix) room = this.#send(chunk)
    const received = first instanceof Uint8Array ? [first] : (first ?? [])
    for (const chunk of received) if (chunk.length > 0) this.data(stream, chunk)
    if (socket.readableEnded) {
      this.#oneEnded()
      stream.end()
    }
    if (stream.readEnded) this.end(stream)
    if (room) socket.resume()
    else socket.pause()
    // A reset that was before: whoever called `splice` must have it in hand before it hears of the end.
    if (socket.destroyed || (stream.closed && !(stream.readEnded && stream.writeEnded))) {
      queueMicrotask(() => {
        this.#fail(
          new TunnelError('reset', { scope: 'stream', remote: true, detail: 'it ended before it began' }),
        )
      })
    }
  }

  /** A direction has ended. The limit counts from now, as if a byte had moved. */
  #oneEnded(): void {
    if (this.#over || this.#deaf) return
    const { idleMs = 0 } = this.#options
    idleSweep.watch(this, idleMs > 0 ? Math.min(idleMs, HALF_CLOSED_MS) : HALF_CLOSED_MS)
  }

  #send(chunk: Uint8Array): boolean {
    const length = chunk.length
    this.#sent += length
    if (this.#replay !== undefined) {
      if (this.#sent > (this.#options.keep ?? 0)) this.#replay = undefined
      else this.#replay.push(chunk)
    }
    return this.stream.write(chunk)
  }

  /** From the outlet: the stream's bytes are consumed only now, so that what a slow reader costs is the window. */
  passed(bytes: number): void {
    this.#bytesOut += bytes
    this.stream.consume(bytes)
  }

  #fail(error: TunnelError): void {
    if (this.#over) return
    this.#over = true
    idleSweep.forget(this)
    const { socket, stream } = this
    // Who is only let go sees an end, unless an end would make half an answer look whole.
    if (error.code === 'idle' && this.#outlet.inFlight === 0) socket.destroy()
    else resetSocket(socket)
    this.#outlet.close()
    this.#replay = undefined
    this.#tell(error)
    // What was read before the socket broke is on its way: the tunnel takes it at the end of this turn.
    if (stream.queued > 0) setImmediate(resetStream, stream)
    else stream.reset()
  }

  #tell(error: TunnelError | undefined): void {
    const result = { bytesIn: this.#sent, bytesOut: this.#bytesOut }
    this.#options.onEnd?.(error === undefined ? result : { ...result, error }, this)
  }

  /**
   * The peer's end came, and then its reset: its answer is whole and here, it only wants no more questions.
   * The socket gets the rest of the answer; what it sends is dropped.
   */
  #finishAlone(): void {
    this.#deaf = true
    this.#replay = undefined
    idleSweep.forget(this)
    idleSweep.watch(this, LINGER_MS)
    this.socket.resume()
  }

  #release(): void {
    this.#over = true
    idleSweep.forget(this)
    this.#outlet.close()
    const { socket } = this
    socket.off('data', this.#onData)
    socket.off('end', this.#onEnd)
    socket.off('error', this.#onError)
    socket.off('close', this.#onClose)
    socket.off(readyEvent(socket), this.#onConnect)
    socket.pause()
  }
}

function resetStream(stream: Stream): void {
  stream.reset()
}

function ignore(): void {}
