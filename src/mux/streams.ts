import { TunnelError } from '../errors.ts'
import { UNACKNOWLEDGED_STREAMS } from '../limits.ts'
import { ClosedStreams, PeerIds } from './ids.ts'
import type { MemoryBudget, MemoryUser } from './memory.ts'
import type { Outbound } from './outbound.ts'
import { MuxStream, type StreamHost, type StreamSink } from './stream.ts'
import { type Millis, RoundTrip, WindowGrowth } from './window.ts'

/** Why `open` gives no stream. Only the first two pass. */
export type OpenRefusal = 'unacknowledged' | 'max_streams' | 'ids' | 'going_away' | 'closed'

export interface StreamsOptions {
  outbound: Outbound
  role: 'client' | 'server'
  receiveWindow: number
  sendWindow: number
  maxStreams: number
  maxWindow: number
  idDrain: number
  memory: MemoryBudget | undefined
  opened: () => void
  idsLow: () => void
}

/** The streams of one session: which live, which may still be opened, what is left of the closed ones. */
export class Streams implements StreamHost, MemoryUser {
  readonly live = new Map<number, MuxStream>()
  readonly past = new ClosedStreams()
  readonly peerIds: PeerIds
  readonly growth: WindowGrowth
  readonly rtt = new RoundTrip()
  readonly memory: MemoryBudget | undefined
  /** The time of the last call that brought one. */
  now: Millis = 0
  receiveWindow: number
  sendWindow: number
  maxStreams: number
  /** Peer's streams whose ACK has not left. */
  unaccepted = 0
  peerGoingAway = false
  ended = false
  /** Wire bytes received. */
  bytesIn = 0

  readonly #outbound: Outbound
  readonly #idDrain: number
  readonly #opened: () => void
  readonly #idsLow: () => void
  #nextId: number
  /** Own streams that the peer has not answered. */
  #unacknowledged = 0
  #openWanted = false
  #idsLowTold = false

  constructor(options: StreamsOptions) {
    this.#outbound = options.outbound
    this.#outbound.onStillborn = () => this.#answered()
    this.#idDrain = options.idDrain
    this.#opened = options.opened
    this.#idsLow = options.idsLow
    this.#nextId = options.role === 'client' ? 1 : 2
    this.peerIds = new PeerIds(options.role === 'client' ? 0 : -1)
    this.receiveWindow = options.receiveWindow
    this.sendWindow = options.sendWindow
    this.maxStreams = options.maxStreams
    this.memory = options.memory
    this.growth = new WindowGrowth(options.maxWindow, options.memory)
    this.memory?.join(this)
  }

  get closing(): boolean {
    return this.ended || this.#outbound.closing
  }

  /** Wire bytes, both ways. */
  get carried(): number {
    return this.bytesIn + this.#outbound.bytes
  }

  tell(now: Millis): void {
    if (now > this.now) this.now = now
    this.memory?.tell(now)
  }

  /** By parity: we would have opened it. */
  isOwn(id: number): boolean {
    return (id & 1) === (this.#nextId & 1)
  }

  used(id: number): boolean {
    if (id === 0) return false
    return this.isOwn(id) ? id < this.#nextId : this.peerIds.used(id)
  }

  whyNotOpen(): OpenRefusal | undefined {
    if (this.ended) return 'closed'
    if (this.peerGoingAway || this.#outbound.closing) return 'going_away'
    if (this.#nextId >= 2 * this.#idDrain) return 'ids'
    if (this.live.size >= this.maxStreams) return 'max_streams'
    if (this.#unacknowledged >= UNACKNOWLEDGED_STREAMS) return 'unacknowledged'
    return undefined
  }

  open(sink: StreamSink): MuxStream | undefined {
    if (this.whyNotOpen() !== undefined) {
      this.#openWanted = true
      return undefined
    }
    const id = this.#nextId
    this.#nextId += 2
    this.#unacknowledged += 1
    const stream = new MuxStream(this, id, true, this.receiveWindow, this.sendWindow, sink)
    this.live.set(id, stream)
    this.#outbound.written(stream)
    this.#checkIds(this.#nextId)
    return stream
  }

  /** The peer opened `id`, which was checked. Its ACK is on the way. */
  accept(id: number): MuxStream {
    const stream = new MuxStream(this, id, false, this.receiveWindow, this.sendWindow, UNOWNED)
    this.live.set(id, stream)
    this.unaccepted += 1
    this.#outbound.update(stream)
    this.#checkIds(id)
    return stream
  }

  /** The peer opened `id` and does not get it. */
  refuse(id: number): void {
    this.past.add(id, this.receiveWindow)
    this.#outbound.reset(id)
  }

  /** Any frame of the peer answers an own stream: hashicorp/yamux sends no ACK for one that it saw end first. */
  acknowledge(stream: MuxStream): void {
    stream.acknowledged = true
    this.#answered()
  }

  /** The peer grants `stream` more. */
  granted(stream: MuxStream): void {
    this.#outbound.written(stream)
  }

  peerEnded(stream: MuxStream): void {
    stream.readEnded = true
    this.growth.release(stream.window)
    stream.sink.end(stream)
    this.#settle(stream)
  }

  peerReset(stream: MuxStream): void {
    if (stream.over) return
    stream.cut = true
    this.#close(stream, stream.window.left)
    // The peer is done with it, whatever its window had left.
    this.past.end(stream.id)
    stream.sink.reset(stream, PEER_RESET)
  }

  /** Bytes of `stream` that came with the current frame go to its owner. */
  deliver(stream: MuxStream, chunk: Uint8Array): void {
    const { window } = stream
    const { memory } = this
    const bytes = chunk.length
    if (memory !== undefined) {
      if (window.unread === 0) window.touchedAt = memory.now
      memory.hold(bytes)
    }
    window.left -= bytes
    window.unread += bytes
    window.measured += bytes
    stream.bytesIn += bytes
    stream.sink.data(stream, chunk)
    memory?.relieve()
  }

  /** A frame with bytes arrived: windows are measured now, while the time is right, and so is the round trip. */
  measure(stream: MuxStream): void {
    if (stream.window.halfConsumed && this.rtt.wanted(this.now)) this.ping(this.now)
    if (this.growth.arrived(stream.window, this.now, this.rtt.best)) this.#outbound.update(stream)
  }

  ping(now: Millis): void {
    if (this.rtt.outstanding === undefined && !this.closing)
      this.#outbound.ping(this.rtt.start(now, this.carried))
  }

  /** Ends the session and every stream that still needed it: one that is over keeps what its owner has yet to pass on. */
  abort(reason: TunnelError): void {
    if (this.ended) return
    this.ended = true
    this.#outbound.end()
    for (const stream of this.live.values()) {
      if (stream.over) continue
      stream.cut = true
      this.#close(stream, 0)
      stream.sink.reset(stream, reason)
    }
    if (this.live.size === 0) this.memory?.leave(this)
  }

  queued(stream: MuxStream, bytes: number): void {
    const { memory } = this
    if (memory !== undefined) {
      if (stream.queue.bytes === bytes) stream.movedAt = memory.now
      memory.holdQueued(bytes)
    }
    this.#outbound.written(stream)
    memory?.relieve(stream)
  }

  written(stream: MuxStream): void {
    this.#outbound.written(stream)
  }

  consumed(stream: MuxStream, bytes: number): void {
    const window = stream.window
    const taken = Math.min(bytes, window.unread)
    window.unread -= taken
    if (this.memory !== undefined) {
      window.touchedAt = this.memory.now
      this.memory.hold(-taken)
    }
    if (stream.readEnded) {
      this.#settle(stream)
      return
    }
    window.consumed += taken
    if (window.due) this.#outbound.update(stream)
  }

  reset(stream: MuxStream): void {
    const unsent = stream.synPending
    const { over } = stream
    stream.cut = true
    this.#close(stream, stream.readEnded || unsent ? 0 : stream.window.left, unsent)
    if (unsent) this.#outbound.stillborn(stream.id)
    else if (!over) this.#outbound.reset(stream.id)
  }

  accepted(stream: MuxStream): void {
    stream.acknowledged = true
    this.unaccepted -= 1
  }

  finished(stream: MuxStream): void {
    this.#settle(stream)
  }

  liveStreams(): Iterable<MuxStream> {
    return this.live.values()
  }

  evict(stream: MuxStream): void {
    const { id, unread, queued } = stream
    this.reset(stream)
    const held = `${unread} unread and ${queued} unsent bytes`
    const detail = `stream ${id} held ${held} when the memory budget ran out: raise \`memory\``
    stream.sink.reset(stream, new TunnelError('out_of_memory', { scope: 'stream', detail }))
  }

  #settle(stream: MuxStream): void {
    if (stream.over && stream.unread === 0 && !stream.closed) this.#close(stream, 0)
  }

  /** `left`: what the peer may still send. `unsent`: its slot stays taken until its one frame has left. */
  #close(stream: MuxStream, left: number, unsent = false): void {
    stream.closed = true
    this.live.delete(stream.id)
    this.past.add(stream.id, left)
    this.memory?.holdQueued(-stream.queue.bytes)
    stream.queue.clear()
    this.#outbound.drop(stream)
    const window = stream.window
    this.memory?.hold(-window.unread)
    window.unread = 0
    this.growth.release(window)
    if (this.ended && this.live.size === 0) this.memory?.leave(this)
    if (!stream.acknowledged && !stream.local) this.unaccepted -= 1
    if (!stream.acknowledged && stream.local && !unsent) this.#answered()
    else this.#tellRoom()
  }

  #answered(): void {
    this.#unacknowledged -= 1
    this.#tellRoom()
  }

  #tellRoom(): void {
    if (!this.#openWanted || this.whyNotOpen() !== undefined) return
    this.#openWanted = false
    this.#opened()
  }

  #checkIds(id: number): void {
    if (this.#idsLowTold || id <= this.#idDrain) return
    this.#idsLowTold = true
    this.#idsLow()
  }
}

/** One for all: a reset is ordinary, and making an Error costs more than the rest of it. */
const PEER_RESET = new TunnelError('reset', {
  scope: 'stream',
  remote: true,
  detail: 'the other side reset the stream',
})

/** Until its owner sets a sink, a stream has none: see `Inbound`, which resets a stream left so. */
export const UNOWNED: StreamSink = {
  data(): void {},
  end(): void {},
  reset(): void {},
  drain(): void {},
}
