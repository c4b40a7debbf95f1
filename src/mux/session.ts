import type { TunnelError } from '../errors.ts'
import {
  STREAM_ID_DRAIN,
  STREAM_WINDOW_MAX_BYTES,
  STREAMS_PER_TUNNEL,
  UNACKNOWLEDGED_STREAMS,
  YAMUX_WINDOW_BYTES,
} from '../limits.ts'
import type { GoAwayCode } from './frame.ts'
import { Inbound } from './inbound.ts'
import type { MemoryBudget } from './memory.ts'
import { Outbound } from './outbound.ts'
import { FrameReader } from './reader.ts'
import type { Stream, StreamSink } from './stream.ts'
import { type OpenRefusal, Streams } from './streams.ts'
import type { Millis } from './window.ts'

/** Called synchronously out of the session's methods, and out of its streams'. None may throw. */
export interface SessionEvents {
  /** The peer opened a stream: set its sink before returning, or it is reset. Its ACK leaves by itself. */
  stream(stream: Stream): void
  /**
   * There is something to take. Called once, until a `take` has left nothing; never out of `take` itself,
   * after which `pending` says whether to go on.
   */
  wake(): void
  /** The peer's GoAway, once: `open` gives nothing from now on. */
  goAway(code: number): void
  /** `open` works again, after it gave nothing for too many streams. */
  opened?(): void
  /** Once: the ids of one side have passed `idDrain`. */
  idsLow(): void
}

export interface SessionOptions {
  /** The yamux client opens odd ids. */
  role: 'client' | 'server'
  /** First window of each stream, in bytes: what we grant, and what the peer grants. 256 KiB unless told otherwise. */
  receiveWindow?: number
  sendWindow?: number
  /** Live streams, both sides' together. */
  maxStreams?: number
  /** Peer's streams whose ACK has not left. */
  acceptMax?: number
  /** Bytes to which a stream's receive window may grow. */
  maxWindow?: number
  /** Shared by the sessions of a process. */
  memory?: MemoryBudget
  /** Id at which `idsLow` is called; at twice that `open` gives nothing more. */
  idDrain?: number
  /** This stream's data leaves before all others'. */
  priorityStream?: number
  events: SessionEvents
}

/**
 * One end of a yamux session (hashicorp/yamux spec, version 0).
 *
 * Pure: bytes and the time come in, bytes and events go out. It owns no socket and no timer; whoever drives
 * it writes what `take` returns, in order, and ends it with `abort`, which a session with a `memory` needs
 * even after an orderly end.
 */
export class Session {
  readonly #streams: Streams
  readonly #outbound: Outbound
  readonly #reader: FrameReader
  #receiving = false
  /** Chunks that came while another was being read. */
  readonly #waiting: Uint8Array[] = []

  constructor(options: SessionOptions) {
    const { events } = options
    this.#outbound = new Outbound(options.priorityStream ?? 1, () => events.wake(), options.memory)
    this.#streams = new Streams({
      outbound: this.#outbound,
      role: options.role,
      receiveWindow: options.receiveWindow ?? YAMUX_WINDOW_BYTES,
      sendWindow: options.sendWindow ?? YAMUX_WINDOW_BYTES,
      maxStreams: options.maxStreams ?? STREAMS_PER_TUNNEL,
      maxWindow: options.maxWindow ?? STREAM_WINDOW_MAX_BYTES,
      idDrain: options.idDrain ?? STREAM_ID_DRAIN,
      memory: options.memory,
      opened: () => events.opened?.(),
      idsLow: () => events.idsLow(),
    })
    const acceptMax = options.acceptMax ?? UNACKNOWLEDGED_STREAMS
    this.#reader = new FrameReader(new Inbound(this.#streams, this.#outbound, events, acceptMax))
  }

  /** First window granted to streams that begin from now on, in bytes. */
  get receiveWindow(): number {
    return this.#streams.receiveWindow
  }

  set receiveWindow(bytes: number) {
    this.#streams.receiveWindow = bytes
  }

  /** First window that the peer grants to streams that begin from now on, in bytes. */
  get sendWindow(): number {
    return this.#streams.sendWindow
  }

  set sendWindow(bytes: number) {
    this.#streams.sendWindow = bytes
  }

  /** Bound on live streams; those that live stay. */
  get maxStreams(): number {
    return this.#streams.maxStreams
  }

  set maxStreams(count: number) {
    this.#streams.maxStreams = count
  }

  /** Live streams. */
  get streams(): number {
    return this.#streams.live.size
  }

  /** Least round trip of the last pings, undefined before the first answer. */
  get rtt(): Millis | undefined {
    return this.#streams.rtt.best
  }

  /** Bytes on the wire, headers and all. */
  get bytesIn(): number {
    return this.#streams.bytesIn
  }

  get bytesOut(): number {
    return this.#outbound.bytes
  }

  /** `take` would find something. */
  get pending(): boolean {
    return this.#outbound.pending
  }

  /** Opens a stream, whose first frame leaves with the next `take`. Undefined: see `whyNotOpen`; `opened` may follow. */
  open(sink: StreamSink): Stream | undefined {
    return this.#streams.open(sink)
  }

  canOpen(): boolean {
    return this.#streams.whyNotOpen() === undefined
  }

  whyNotOpen(): OpenRefusal | undefined {
    return this.#streams.whyNotOpen()
  }

  /**
   * Feeds bytes from the peer, any segmentation; sinks get views of `chunk`. Throws a `TunnelError` of scope
   * `tunnel` that says which rule was broken; the GoAway for it is then ready for `take`, and all that is
   * left to do is to send it and to call `abort`. Bytes after that are ignored. A call out of an event of
   * this session is kept until the chunk before it has been read.
   */
  receive(chunk: Uint8Array, now: Millis): void {
    this.#streams.tell(now)
    this.#streams.bytesIn += chunk.length
    if (this.#receiving) {
      this.#waiting.push(chunk)
      return
    }
    this.#receiving = true
    try {
      this.#reader.push(chunk)
      for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift())
        this.#reader.push(next)
    } finally {
      this.#receiving = false
      this.#waiting.length = 0
    }
  }

  /**
   * Moves at most `budget` bytes of frames into `out`, small streams first; returns how many. `budget` is
   * at least 13: a header and a byte. Large payloads are the chunks that were written, the rest are views
   * of a shared slab; neither may be changed. Zero out of a call that `take` makes itself.
   */
  take(out: Uint8Array[], budget: number): number {
    return this.#outbound.take(out, budget)
  }

  /** Asks for a sign of life and measures the round trip; nothing while an answer is outstanding. */
  ping(now: Millis): void {
    this.#streams.tell(now)
    this.#streams.ping(now)
  }

  /**
   * Ends this side in order: nothing is opened, accepted or written from now on; what waits and may leave
   * does so, and the GoAway after it is the last frame.
   */
  goAway(code: GoAwayCode): void {
    this.#outbound.goAway(code)
  }

  /** Ends every stream with `reason` and the session with them. Nothing is sent but the GoAway of a broken rule. */
  abort(reason: TunnelError): void {
    this.#streams.abort(reason)
  }
}
