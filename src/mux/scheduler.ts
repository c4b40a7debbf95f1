import { NEW_STREAMS_IN_A_ROW } from '../limits.ts'
import type { MuxStream } from './stream.ts'

/** A list of streams, linked through the streams themselves: joining and leaving allocate nothing. */
export class StreamList {
  head: MuxStream | undefined = undefined
  #tail: MuxStream | undefined = undefined

  push(stream: MuxStream): void {
    stream.list = this
    stream.previous = this.#tail
    stream.next = undefined
    if (this.#tail === undefined) this.head = stream
    else this.#tail.next = stream
    this.#tail = stream
  }

  remove(stream: MuxStream): void {
    const { previous, next } = stream
    if (previous === undefined) this.head = next
    else previous.next = next
    if (next === undefined) this.#tail = previous
    else next.previous = previous
    stream.list = undefined
    stream.previous = undefined
    stream.next = undefined
  }
}

/**
 * Whose frame leaves next: round robin, one frame a turn, with fq_codel's two lists (RFC 8290, 4.2). A
 * stream that wakes goes before those that have been sending, for one frame; then it queues behind them.
 * It keeps that place even when it has nothing more to send, so that waking again and again is no way past
 * the others.
 */
export class Scheduler {
  /** Streams in the lists that have a frame to send. The others only keep their place. */
  active = 0
  readonly #fresh = new StreamList()
  readonly #rest = new StreamList()
  #freshInARow = 0

  /** `stream` has a frame to send. */
  activate(stream: MuxStream): void {
    if (stream.active) return
    stream.active = true
    this.active += 1
    if (stream.list === undefined) this.#fresh.push(stream)
  }

  /** `stream` is over. */
  remove(stream: MuxStream): void {
    if (stream.list !== undefined) stream.list.remove(stream)
    this.#deactivate(stream)
  }

  /** The stream whose turn it is; the caller sends one frame of it and then calls `sent`. */
  next(): MuxStream | undefined {
    while (this.active > 0) {
      const old = this.#rest.head
      const fresh = this.#fresh.head
      const stream =
        fresh !== undefined && (old === undefined || this.#freshInARow < NEW_STREAMS_IN_A_ROW) ? fresh : old
      if (stream === undefined) return undefined
      if (stream.active) return stream
      ;(stream.list as StreamList).remove(stream)
    }
    return undefined
  }

  /** One frame of `stream` left. */
  sent(stream: MuxStream): void {
    const list = stream.list
    const wasFresh = list === this.#fresh
    this.#freshInARow = wasFresh ? this.#freshInARow + 1 : 0
    if (list !== undefined) list.remove(stream)
    if (!stream.sendable) this.#deactivate(stream)
    if (list !== undefined && this.active > 0 && (stream.active || wasFresh)) this.#rest.push(stream)
  }

  #deactivate(stream: MuxStream): void {
    if (!stream.active) return
    stream.active = false
    this.active -= 1
    if (this.active > 0) return
    // Nobody waits: the places of those who have nothing to send mean nothing any more.
    for (let idle = this.#rest.head; idle !== undefined; idle = this.#rest.head) this.#rest.remove(idle)
    this.#freshInARow = 0
  }
}
