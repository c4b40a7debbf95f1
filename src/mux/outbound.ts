import { FRAME_PAYLOAD_BYTES } from '../limits.ts'
import { Fifo } from './fifo.ts'
import { ACK, DATA, FIN, GO_AWAY, HEADER_BYTES, PING, RST, SYN, WINDOW_UPDATE } from './frame.ts'
import type { MemoryBudget } from './memory.ts'
import { Scheduler } from './scheduler.ts'
import type { MuxStream } from './stream.ts'
import { FrameWriter } from './writer.ts'

/**
 * All that waits to be sent, and the order in which it leaves: answers to pings, ACKs and window updates;
 * the control stream; resets, which wait for the control stream so that a reset's `unreached` comes before
 * it; then data by turns. A GoAway is the last frame of all.
 */
export class Outbound {
  readonly #writer = new FrameWriter()
  readonly #scheduler = new Scheduler()
  readonly #priorityId: number
  readonly #wake: () => void
  readonly #memory: MemoryBudget | undefined
  #priority: MuxStream | undefined
  readonly #pongs = new Fifo<number>()
  readonly #resets = new Fifo<number>()
  /** Streams reset before their first frame left; SYN and RST in one, so that the peer sees no gap in the ids. */
  readonly #stillborn = new Fifo<number>()
  readonly #updates = new Fifo<MuxStream>()
  /** How many of them are over: a peer that opens and resets and never reads must not pile them up. */
  #staleUpdates = 0
  readonly #short: MuxStream[] = []
  #ping = -1
  #goAway = -1
  /** Only the GoAway is still sent. */
  #failed = false
  /** The GoAway has left, or the session ended without one. */
  #finished = false
  #taking = false
  #woken = false

  /** Called when a stillborn stream's only frame left. */
  onStillborn: () => void = noop
  /** Wire bytes taken. */
  bytes = 0

  constructor(priorityId: number, wake: () => void, memory: MemoryBudget | undefined) {
    this.#priorityId = priorityId
    this.#wake = wake
    this.#memory = memory
  }

  /** A GoAway waits or has left: what is written from now on is not sent. */
  get closing(): boolean {
    return this.#goAway >= 0 || this.#finished
  }

  get pendingPongs(): number {
    return this.#pongs.length
  }

  get pendingResets(): number {
    return this.#resets.length
  }

  /** `take` would find something. */
  get pending(): boolean {
    if (this.#finished) return false
    return this.#goAway >= 0 || this.#framesPending
  }

  get #framesPending(): boolean {
    return (
      this.#scheduler.active > 0 ||
      this.#updates.length > this.#staleUpdates ||
      this.#pongs.length > 0 ||
      this.#ping >= 0 ||
      this.#stillborn.length > 0 ||
      this.#priority?.sendable === true ||
      (this.#resets.length > 0 && this.#mayReset)
    )
  }

  get #mayReset(): boolean {
    const priority = this.#priority
    return priority === undefined || priority.closed || priority.queue.bytes === 0
  }

  pong(value: number): void {
    if (this.#finished) return
    this.#pongs.push(value)
    this.#signal()
  }

  ping(value: number): void {
    this.#ping = value
    this.#signal()
  }

  /** `stream` owes an ACK or a window update. */
  update(stream: MuxStream): void {
    if (stream.updating || this.#finished) return
    stream.updating = true
    this.#updates.push(stream)
    this.#signal()
  }

  /** `stream` has written, ended, been opened, or been granted more. */
  written(stream: MuxStream): void {
    if (!stream.sendable) {
      this.#calm()
      return
    }
    if (stream.id === this.#priorityId) this.#priority = stream
    else this.#scheduler.activate(stream)
    this.#signal()
  }

  reset(id: number): void {
    if (this.#finished) return
    this.#resets.push(id)
    this.#signal()
  }

  stillborn(id: number): void {
    if (this.#finished) return
    this.#stillborn.push(id)
    this.#signal()
  }

  /** `stream` is over: nothing of it leaves any more. */
  drop(stream: MuxStream): void {
    this.#scheduler.remove(stream)
    if (stream.updating) this.#dropUpdate()
    if (this.#priority === stream) {
      this.#priority = undefined
      // Resets that waited for the control stream wait no more.
      this.#signal()
    }
    this.#calm()
  }

  /** The last frame, after all that can leave now. */
  goAway(code: number): void {
    if (this.closing) return
    this.#goAway = code
    this.#signal()
  }

  /** The peer broke a rule: the GoAway is all that is still sent. */
  fail(code: number): void {
    if (this.#finished) return
    this.#failed = true
    this.#goAway = code
    this.#signal()
  }

  /** The session is over. A GoAway that says why may still leave. */
  end(): void {
    if (this.#failed) return
    this.#finished = true
  }

  take(out: Uint8Array[], budget: number): number {
    if (this.#taking || this.#finished) return 0
    this.#taking = true
    const writer = this.#writer
    writer.begin(out, budget)
    if (!this.#failed) {
      this.#takeUpdates(writer)
      this.#takePriority(writer)
      this.#takeResets(writer)
      this.#takeData(writer)
    }
    if (this.#goAway >= 0 && writer.room >= HEADER_BYTES && (this.#failed || !this.#framesPending)) {
      writer.header(GO_AWAY, 0, 0, this.#goAway)
      this.#finished = true
    }
    const taken = budget - writer.room
    this.bytes += taken
    writer.finish()
    this.#tellShort()
    this.#taking = false
    this.#woken = this.pending
    return taken
  }

  #dropUpdate(): void {
    this.#staleUpdates += 1
    // Half of them: each is looked at a bounded number of times.
    if (this.#staleUpdates < 64 || this.#staleUpdates * 2 < this.#updates.length) return
    this.#updates.prune(isLive)
    this.#staleUpdates = 0
  }

  #takeUpdates(writer: FrameWriter): void {
    while (this.#pongs.length > 0 && writer.room >= HEADER_BYTES) {
      writer.header(PING, ACK, 0, this.#pongs.shift())
    }
    if (this.#ping >= 0 && writer.room >= HEADER_BYTES) {
      writer.header(PING, SYN, 0, this.#ping)
      this.#ping = -1
    }
    while (this.#stillborn.length > 0 && writer.room >= HEADER_BYTES) {
      writer.header(WINDOW_UPDATE, SYN | RST, this.#stillborn.shift(), 0)
      this.onStillborn()
    }
    while (this.#updates.length > 0 && writer.room >= HEADER_BYTES) {
      this.#takeUpdate(writer, this.#updates.shift())
    }
  }

  #takeUpdate(writer: FrameWriter, stream: MuxStream): void {
    stream.updating = false
    if (stream.closed) {
      this.#staleUpdates -= 1
      return
    }
    const window = stream.window
    const delta = !stream.readEnded && window.due ? window.grantable : 0
    const accepts = !stream.acknowledged && !stream.local
    if (delta === 0 && !accepts) return
    window.left += delta
    writer.header(WINDOW_UPDATE, accepts ? ACK : 0, stream.id, delta)
    if (accepts) stream.host.accepted(stream)
  }

  #takePriority(writer: FrameWriter): void {
    while (this.#priority?.sendable === true && this.#takeFrame(writer, this.#priority));
  }

  #takeResets(writer: FrameWriter): void {
    if (!this.#mayReset) return
    while (this.#resets.length > 0 && writer.room >= HEADER_BYTES) {
      writer.header(WINDOW_UPDATE, RST, this.#resets.shift(), 0)
    }
  }

  #takeData(writer: FrameWriter): void {
    for (;;) {
      const stream = this.#scheduler.next()
      if (stream === undefined || !this.#takeFrame(writer, stream)) return
      this.#scheduler.sent(stream)
    }
  }

  /** One frame of a stream that is `sendable`, and its FIN if that was all. False: there is no room for one. */
  #takeFrame(writer: FrameWriter, stream: MuxStream): boolean {
    const queue = stream.queue
    const waiting = Math.min(queue.bytes, stream.sendWindow, FRAME_PAYLOAD_BYTES)
    const length = Math.min(waiting, writer.room - HEADER_BYTES)
    if (length < 0 || (length === 0 && waiting > 0)) return false
    const syn = stream.synPending ? SYN : 0
    stream.synPending = false
    if (length > 0) {
      writer.header(DATA, syn, stream.id, length)
      queue.move(writer, length)
      stream.sendWindow -= length
      stream.bytesOut += length
      if (this.#memory !== undefined) this.#sent(this.#memory, stream, length)
      // Half: a full queue again after each frame would wake the owner for every one of them.
      if (stream.drainWanted && queue.bytes * 2 <= stream.queueLimit) {
        stream.drainWanted = false
        this.#short.push(stream)
      }
      if (!stream.writeEnded || queue.bytes > 0 || writer.room < HEADER_BYTES) return true
      this.#takeFin(writer, stream, 0)
    } else if (stream.writeEnded && queue.bytes === 0) {
      this.#takeFin(writer, stream, syn)
    } else {
      writer.header(WINDOW_UPDATE, syn, stream.id, 0)
    }
    return true
  }

  /** Bytes left the queue of `stream`. */
  #sent(memory: MemoryBudget, stream: MuxStream, bytes: number): void {
    memory.holdQueued(-bytes)
    stream.movedAt = memory.now
  }

  /**
   * A frame of its own. On the last DATA it would save 12 bytes, but hashicorp/yamux marks a stream ended
   * before it stores the payload that came with the mark, and a reader in between loses that payload.
   */
  #takeFin(writer: FrameWriter, stream: MuxStream, syn: number): void {
    writer.header(WINDOW_UPDATE, syn | FIN, stream.id, 0)
    stream.finSent = true
    stream.host.finished(stream)
  }

  /**
   * Calls out only when all frames of this round are laid: an owner may write, reset or abort from `drain`.
   * Also after `end`, since an owner that passes bytes on consumes them by what left here.
   */
  #tellShort(): void {
    const short = this.#short
    for (let i = 0; i < short.length; i++) {
      const stream = short[i] as MuxStream
      if (!stream.cut) stream.sink.drain(stream)
    }
    short.length = 0
  }

  /**
   * What was there may have gone without being taken. Whoever took a part of it looks again later, finds nothing, and goes
   * on only when woken: without this it never would be.
   */
  #calm(): void {
    if (this.#woken && !this.#taking && !this.pending) this.#woken = false
  }

  /** There is something to take; said once, until `take` has left nothing. */
  #signal(): void {
    if (this.#woken || this.#taking || !this.pending) return
    this.#woken = true
    this.#wake()
  }
}

function isLive(stream: MuxStream): boolean {
  return !stream.closed
}

function noop(): void {}
