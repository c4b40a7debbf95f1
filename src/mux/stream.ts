import type { TunnelError } from '../errors.ts'
import { STREAM_QUEUE_AHEAD_BYTES, STREAM_QUEUE_BYTES } from '../limits.ts'
import { SendQueue } from './queue.ts'
import type { StreamList } from './scheduler.ts'
import { type Millis, ReceiveWindow } from './window.ts'

/**
 * How a stream's owner hears of it. Calls come synchronously out of `Session.receive`, `take` and `abort`,
 * or out of a write to another stream (memory pressure). A sink may call back into its stream and session,
 * and must not throw.
 */
export interface StreamSink {
  /**
   * `chunk` is a view of what was given to `receive`, not a copy. Each byte counts against the stream's
   * window until `stream.consume` says that it has been passed on.
   */
  data(stream: Stream, chunk: Uint8Array): void
  /** The peer writes no more; all its data came before. */
  end(stream: Stream): void
  /**
   * The stream was cut: by the peer's RST, the session's end, or memory pressure. Nothing comes after it. Not
   * called for `stream.reset()`, nor by peer or session once both sides have ended: what came is whole then.
   */
  reset(stream: Stream, reason: TunnelError): void
  /** After `write` returned false: the queue is short again. Also after `end`. */
  drain(stream: Stream): void
}

/** One stream of a session. Its owner ends it: by `end` and the peer's end, or by `reset`. */
export interface Stream {
  readonly id: number
  /** Where its events go; its owner may replace it at any time. */
  sink: StreamSink
  /** The peer has answered a stream that we opened, or ours has left for one that it opened. */
  readonly acknowledged: boolean
  /** Both directions are over and consumed, or it was reset. Calls are ignored from now on. */
  readonly closed: boolean
  /** The peer's FIN came. */
  readonly readEnded: boolean
  /** `end` was called. */
  readonly writeEnded: boolean
  /** Bytes received and not yet consumed. */
  readonly unread: number
  /** Bytes written and not yet taken. */
  readonly queued: number
  /** Payload received, and payload taken. */
  readonly bytesIn: number
  readonly bytesOut: number
  /**
   * Queues `chunk`, which belongs to the stream from now on. False: it is queued, but wait for `drain`.
   * Ignored, and true, after `end`, after the stream's end and after the session's GoAway.
   */
  write(chunk: Uint8Array): boolean
  /** FIN, after all that was written. */
  end(): void
  /** RST: drops what is queued; frees the stream at once. Its sink hears nothing more. */
  reset(): void
  /** The owner has passed `bytes` of received data on; the peer may send as many again. */
  consume(bytes: number): void
}

/** What a stream asks of its session. */
export interface StreamHost {
  /** Nothing written from now on would be sent. */
  readonly closing: boolean
  /** `bytes` were put into its queue. */
  queued(stream: MuxStream, bytes: number): void
  /** It has ended, behind what was written. */
  written(stream: MuxStream): void
  consumed(stream: MuxStream, bytes: number): void
  reset(stream: MuxStream): void
  /** Ends it to free what it holds. */
  evict(stream: MuxStream): void
  /** Its ACK left. */
  accepted(stream: MuxStream): void
  /** Its FIN left. */
  finished(stream: MuxStream): void
}

/** The state of one stream. Other rooms see it as a `Stream`; the fields below belong to this room. */
export class MuxStream implements Stream {
  readonly id: number
  sink: StreamSink
  acknowledged = false
  closed = false
  readEnded = false
  writeEnded = false
  bytesIn = 0
  bytesOut = 0

  readonly host: StreamHost
  /** We opened it. */
  readonly local: boolean
  readonly queue = new SendQueue()
  readonly window: ReceiveWindow
  /** Bytes that the peer still lets us send. */
  sendWindow: number
  /** When bytes last left its queue, or came to an empty one. Kept for the memory budget only. */
  movedAt: Millis = 0
  /** Its first frame has not left. */
  synPending: boolean
  finSent = false
  /** Closed by a reset, from whatever side, and not by two ends. */
  cut = false
  /** `write` returned false, and `drain` was not called since. */
  drainWanted = false
  /** It stands in the list of streams that owe an ACK or a window update. */
  updating = false

  /** Its place in the scheduler; see there. */
  active = false
  list: StreamList | undefined = undefined
  previous: MuxStream | undefined = undefined
  next: MuxStream | undefined = undefined

  constructor(
    host: StreamHost,
    id: number,
    local: boolean,
    receiveWindow: number,
    sendWindow: number,
    sink: StreamSink,
  ) {
    this.host = host
    this.id = id
    this.local = local
    this.synPending = local
    this.window = new ReceiveWindow(receiveWindow)
    this.sendWindow = sendWindow
    this.sink = sink
  }

  get unread(): number {
    return this.window.unread
  }

  get queued(): number {
    return this.queue.bytes
  }

  /** Both sides have ended it: it needs nothing of the peer any more, only an owner to consume the rest. */
  get over(): boolean {
    return this.readEnded && this.finSent
  }

  /**
   * Queued bytes from which on a writer waits: what the peer lets go, and a little that is at hand when it
   * lets go more. Sending lowers the queue and this alike; it is never 0, so an empty queue is always short.
   */
  get queueLimit(): number {
    return Math.min(STREAM_QUEUE_BYTES, this.sendWindow + STREAM_QUEUE_AHEAD_BYTES)
  }

  /** There is a frame of it that may leave now. */
  get sendable(): boolean {
    if (this.closed) return false
    if (this.queue.bytes > 0) return this.sendWindow > 0 || this.synPending
    return this.synPending || (this.writeEnded && !this.finSent)
  }

  write(chunk: Uint8Array): boolean {
    if (this.closed || this.writeEnded || this.host.closing) return true
    if (chunk.length > 0) {
      this.queue.push(chunk)
      this.host.queued(this, chunk.length)
    }
    if (this.queue.bytes < this.queueLimit) return true
    this.drainWanted = true
    return false
  }

  end(): void {
    if (this.closed || this.writeEnded || this.host.closing) return
    this.writeEnded = true
    this.host.written(this)
  }

  reset(): void {
    if (!this.closed) this.host.reset(this)
  }

  consume(bytes: number): void {
    if (!this.closed && bytes > 0) this.host.consumed(this, bytes)
  }
}
