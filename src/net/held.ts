import type { Socket } from 'node:net'
import { HELD_BYTES } from '../limits.ts'
import { Keep } from './keep.ts'
import { askWhetherReset, resetSocket } from './reset.ts'

export interface HeldSocketOptions {
  /** Read from the socket before: counts, and comes first. */
  chunks?: readonly Uint8Array[] | undefined
  /** The socket broke or was reset: nobody waits any more. It is destroyed by then. Not called after `release` or `drop`. */
  onGone?: ((held: HeldSocket) => void) | undefined
  /** The visitor has sent its last byte. Whether it still waits for an answer cannot be seen: see `ended`. */
  onEnded?: ((held: HeldSocket) => void) | undefined
}

/**
 * A visitor's socket that waits for a stream. Owns the socket until `release` or `drop`.
 *
 * A socket that is not read reports neither FIN nor RST, so this one is read, up to HELD_BYTES, and then
 * paused; Node hands out reads of up to 64 KiB, and one more may follow the pause, so that what is kept may
 * pass the mark by two reads. Past the mark a visitor's leaving is not seen until the socket is written.
 */
export class HeldSocket {
  readonly socket: Socket
  readonly #options: HeldSocketOptions
  readonly #kept: Keep
  #state: 'held' | 'gone' | 'released' = 'held'

  constructor(socket: Socket, options: HeldSocketOptions = {}) {
    this.socket = socket
    this.#options = options
    this.#kept = new Keep(options.chunks)
    socket.allowHalfOpen = true
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.on('error', this.#onError)
    socket.on('close', this.#onClose)
    if (this.#kept.bytes < HELD_BYTES) socket.resume()
    else socket.pause()
    if (socket.destroyed) queueMicrotask(this.#onClose)
  }

  /** What was read, in order. */
  get chunks(): readonly Uint8Array[] {
    return this.#kept.chunks
  }

  get bytes(): number {
    return this.#kept.bytes
  }

  /**
   * The visitor's FIN came, and `chunks` is all it sent. Over TCP one that closed looks the same as one that
   * shut only its sending side and waits for its answer; what to do is the owner's to say.
   */
  get ended(): boolean {
    return this.socket.readableEnded
  }

  /** The connection is over. */
  get gone(): boolean {
    return this.#state === 'gone'
  }

  /**
   * Gives the socket away, paused, with what was read from it: `splice(held.socket, stream, {prefix:
   * held.release()})`. The caller must put its own listeners on before it returns to the event loop.
   */
  release(): readonly Uint8Array[] {
    this.#leave()
    this.socket.pause()
    return this.#kept.chunks
  }

  /**
   * Ends the visit: what was read is dropped, the socket reset, so that a visitor who is there after all does not take an
   * end for an answer. `onGone` is not called.
   */
  drop(): void {
    this.#leave()
    this.socket.on('error', ignore)
    this.#kept.take()
    resetSocket(this.socket)
  }

  readonly #onData = (chunk: Uint8Array): void => {
    this.#kept.push(chunk)
    if (this.#kept.bytes >= HELD_BYTES) this.socket.pause()
  }

  readonly #onEnd = (): void => {
    askWhetherReset(this.socket, this.#onAsked)
  }

  readonly #onAsked = (error?: Error | null): void => {
    if (!error && this.#state === 'held') this.#options.onEnded?.(this)
  }

  /** `close` follows; without a listener the error would end the process. */
  readonly #onError = (): void => {}

  readonly #onClose = (): void => {
    if (this.#state !== 'held') return
    this.#state = 'gone'
    this.#kept.take()
    this.#options.onGone?.(this)
  }

  #leave(): void {
    if (this.#state !== 'held') return
    this.#state = 'released'
    const { socket } = this
    socket.off('data', this.#onData)
    socket.off('end', this.#onEnd)
    socket.off('error', this.#onError)
    socket.off('close', this.#onClose)
  }
}

function ignore(): void {}
