import type { ErrorCode } from '../errors.ts'
import { TunnelError } from '../errors.ts'
import { EMPTY_FRAMES_BURST, PENDING_RESETS } from '../limits.ts'
import { Allowance } from './allowance.ts'
import {
  ACK,
  DATA,
  FIN,
  GO_AWAY,
  GO_AWAY_PROTOCOL_ERROR,
  KNOWN_FLAGS,
  PING,
  RST,
  SYN,
  U32_MAX,
  VERSION,
  WINDOW_UPDATE,
} from './frame.ts'
import type { Outbound } from './outbound.ts'
import type { FrameHandler } from './reader.ts'
import type { MuxStream } from './stream.ts'
import { type Streams, UNOWNED } from './streams.ts'

export interface InboundEvents {
  stream(stream: MuxStream): void
  goAway(code: number): void
}

/**
 * The rules for what a peer may send, frame by frame. Each broken one ends the session: GoAway with code 1
 * is all that is still sent, and a `TunnelError` of scope `tunnel` names the rule.
 */
export class Inbound implements FrameHandler {
  readonly #streams: Streams
  readonly #outbound: Outbound
  readonly #events: InboundEvents
  readonly #acceptMax: number
  readonly #empties = new Allowance()
  readonly #refusals = new Allowance()
  /** The stream of the DATA frame whose body is coming; undefined: the body is dropped. */
  #into: MuxStream | undefined
  #bodyFlags = 0
  #failure: TunnelError | undefined

  constructor(streams: Streams, outbound: Outbound, events: InboundEvents, acceptMax: number) {
    this.#streams = streams
    this.#outbound = outbound
    this.#events = events
    this.#acceptMax = acceptMax
  }

  get stopped(): boolean {
    return this.#failure !== undefined || this.#streams.ended
  }

  header(version: number, type: number, flags: number, id: number, length: number): void {
    if (version !== VERSION) this.#fail('protocol_error', `yamux version ${version}, not ${VERSION}`)
    if ((flags & ~KNOWN_FLAGS) !== 0)
      this.#fail('protocol_error', `unknown yamux flags 0x${flags.toString(16)}`)
    if (type === DATA) this.#data(flags, id, length)
    else if (type === WINDOW_UPDATE) this.#windowUpdate(flags, id, length)
    else if (type === PING) this.#ping(flags, id, length)
    else if (type === GO_AWAY) this.#goAway(id, length)
    else this.#fail('protocol_error', `unknown yamux frame type ${type}`)
  }

  body(chunk: Uint8Array, from: number, to: number): void {
    const stream = this.#into
    if (stream === undefined) return
    // Closed in the middle of a frame: what is left of it comes out of what its window had left.
    if (stream.closed) this.#streams.past.charge(stream.id, to - from)
    else this.#streams.deliver(stream, to - from === chunk.length ? chunk : chunk.subarray(from, to))
  }

  bodyEnd(): void {
    const stream = this.#into
    this.#into = undefined
    if (stream !== undefined && !stream.closed && (this.#bodyFlags & FIN) !== 0)
      this.#streams.peerEnded(stream)
  }

  #data(flags: number, id: number, length: number): void {
    this.#into = undefined
    if ((flags & SYN) !== 0) this.#open(flags, id)
    const streams = this.#streams
    const stream = streams.live.get(id)
    if (stream === undefined) {
      this.#late(flags, id, length)
      return
    }
    if (stream.readEnded && length > 0) this.#fail('protocol_error', `stream ${id}: data after FIN`)
    if (length > stream.window.left) {
      this.#fail(
        'window_exceeded',
        `stream ${id}: a frame of ${length} bytes, ${stream.window.left} were granted`,
      )
    }
    this.#common(stream, flags, length > 0)
    if (length > 0 && !stream.closed) streams.measure(stream)
    if ((flags & RST) !== 0) {
      if (!stream.closed) streams.peerReset(stream)
      return
    }
    this.#into = stream
    this.#bodyFlags = flags
  }

  #windowUpdate(flags: number, id: number, delta: number): void {
    if ((flags & SYN) !== 0) this.#open(flags, id)
    const streams = this.#streams
    const stream = streams.live.get(id)
    if (stream === undefined) {
      this.#late(flags, id, 0)
      return
    }
    if (stream.sendWindow + delta > U32_MAX) {
      this.#fail('protocol_error', `stream ${id}: a window of more than 2^32 - 1 bytes`)
    }
    stream.sendWindow += delta
    this.#common(stream, flags, delta > 0)
    if (stream.closed) return
    if ((flags & RST) !== 0) {
      streams.peerReset(stream)
      return
    }
    if (delta > 0) streams.granted(stream)
    if ((flags & FIN) !== 0 && !stream.closed) streams.peerEnded(stream)
  }

  /** What DATA and WINDOW_UPDATE have in common on a live stream. `moves`: it carries bytes or window. */
  #common(stream: MuxStream, flags: number, moves: boolean): void {
    if (stream.readEnded && (flags & FIN) !== 0)
      this.#fail('protocol_error', `stream ${stream.id}: a second FIN`)
    const acknowledges = stream.local && !stream.acknowledged
    if (acknowledges) this.#streams.acknowledge(stream)
    else if (!moves && (flags & (SYN | FIN | RST)) === 0) this.#empty()
  }

  #open(flags: number, id: number): void {
    const streams = this.#streams
    if (id === 0) this.#fail('protocol_error', 'SYN for stream 0')
    if (streams.isOwn(id)) this.#fail('protocol_error', `SYN for stream ${id}, whose parity is ours`)
    if (!streams.peerIds.open(id)) this.#fail('protocol_error', `SYN for stream ${id}: used, or out of order`)
    if ((flags & RST) !== 0 || streams.closing) {
      streams.past.add(id, streams.receiveWindow)
    } else if (streams.live.size >= streams.maxStreams || streams.unaccepted >= this.#acceptMax) {
      streams.refuse(id)
      if (!this.#refusals.take(streams.now)) {
        this.#fail('too_many_streams', `the peer keeps opening streams past ${streams.live.size}`)
      }
    } else {
      const stream = streams.accept(id)
      this.#events.stream(stream)
      if (stream.sink === UNOWNED) stream.reset()
    }
    if (this.#outbound.pendingResets > PENDING_RESETS) {
      this.#fail('flood', `${PENDING_RESETS} resets wait for a peer that does not read them`)
    }
  }

  /** A frame for a stream that does not live: the normal race after it closed, or a broken rule. */
  #late(flags: number, id: number, length: number): void {
    const streams = this.#streams
    if (!streams.used(id)) this.#fail('protocol_error', `a frame for stream ${id}, which was never opened`)
    if (length > 0) {
      if (!streams.past.charge(id, length)) {
        this.#fail('window_exceeded', `stream ${id} is closed: ${length} bytes past what its window had left`)
      }
    } else if ((flags & SYN) === 0 && !streams.past.frame()) {
      this.#empty()
    }
    if ((flags & (FIN | RST)) !== 0) streams.past.end(id)
  }

  #ping(flags: number, id: number, value: number): void {
    if (id !== 0) this.#fail('protocol_error', `a ping on stream ${id}`)
    if (flags === ACK) {
      const { rtt, now, carried } = this.#streams
      if (!rtt.answered(value, now, carried)) this.#empty()
      return
    }
    if (flags !== SYN) this.#fail('protocol_error', `a ping with flags 0x${flags.toString(16)}`)
    this.#empty()
    if (this.#outbound.pendingPongs >= EMPTY_FRAMES_BURST) {
      this.#fail('flood', `${EMPTY_FRAMES_BURST} ping answers wait for a peer that does not read them`)
    }
    this.#outbound.pong(value)
  }

  #goAway(id: number, code: number): void {
    if (id !== 0) this.#fail('protocol_error', `a GoAway on stream ${id}`)
    if (this.#streams.peerGoingAway) {
      this.#empty()
      return
    }
    this.#streams.peerGoingAway = true
    this.#events.goAway(code)
  }

  /** A frame that carries nothing: some are normal, a flood is not. */
  #empty(): void {
    if (!this.#empties.take(this.#streams.now)) this.#fail('flood', 'a flood of frames that carry nothing')
  }

  #fail(code: ErrorCode, detail: string): never {
    this.#failure = new TunnelError(code, { scope: 'tunnel', remote: true, detail })
    this.#outbound.fail(GO_AWAY_PROTOCOL_ERROR)
    throw this.#failure
  }
}
