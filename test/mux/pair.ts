import type { TunnelError } from '../../src/errors.ts'
import { Session, type SessionOptions, type Stream, type StreamSink } from '../../src/mux/index.ts'

/** Writes down what a stream hears. Consumes at once unless told to hold. */
export class Recorder implements StreamSink {
  readonly chunks: Uint8Array[] = []
  ended = false
  error: TunnelError | undefined
  drains = 0
  hold = false
  /** Keep the bytes, to be compared; a copy, for the chunk is only lent. */
  keep = true
  onData: ((stream: Stream, chunk: Uint8Array) => void) | undefined
  onEnd: ((stream: Stream) => void) | undefined
  onReset: ((stream: Stream, reason: TunnelError) => void) | undefined
  onDrain: ((stream: Stream) => void) | undefined

  data(stream: Stream, chunk: Uint8Array): void {
    this.#alive()
    if (this.ended) throw new Error('data after end')
    if (this.keep) this.chunks.push(Buffer.from(chunk))
    if (!this.hold) stream.consume(chunk.length)
    this.onData?.(stream, chunk)
  }

  end(stream: Stream): void {
    this.#alive()
    if (this.ended) throw new Error('a second end')
    this.ended = true
    this.onEnd?.(stream)
  }

  reset(stream: Stream, reason: TunnelError): void {
    this.#alive()
    this.error = reason
    this.onReset?.(stream, reason)
  }

  drain(stream: Stream): void {
    this.#alive()
    this.drains += 1
    this.onDrain?.(stream)
  }

  get received(): Buffer {
    return Buffer.concat(this.chunks)
  }

  get text(): string {
    return this.received.toString('latin1')
  }

  #alive(): void {
    if (this.error !== undefined) throw new Error('a call after reset')
  }
}

/** One end, with what it told. Peer's streams get a `Recorder` each, in `accepted`. */
export class End {
  readonly session: Session
  readonly accepted: { stream: Stream; sink: Recorder }[] = []
  readonly goAways: number[] = []
  wakes = 0
  openedCalls = 0
  idsLowCalls = 0
  onWake: (() => void) | undefined
  onStream: ((stream: Stream, sink: Recorder) => void) | undefined
  onOpened: (() => void) | undefined

  constructor(options: Partial<SessionOptions> & { role: 'client' | 'server' }) {
    this.session = new Session({
      ...options,
      events: {
        stream: (stream) => {
          const sink = new Recorder()
          stream.sink = sink
          this.accepted.push({ stream, sink })
          this.onStream?.(stream, sink)
        },
        wake: () => {
          this.wakes += 1
          this.onWake?.()
        },
        goAway: (code) => this.goAways.push(code),
        opened: () => {
          this.openedCalls += 1
          this.onOpened?.()
        },
        idsLow: () => {
          this.idsLowCalls += 1
        },
      },
    })
  }

  open(sink = new Recorder()): { stream: Stream; sink: Recorder } {
    const stream = this.session.open(sink)
    if (stream === undefined) throw new Error(`no stream: ${this.session.whyNotOpen()}`)
    return { stream, sink }
  }

  /** All that waits, as one buffer. */
  take(budget = 1 << 20): Buffer {
    const out: Uint8Array[] = []
    const bytes = this.session.take(out, budget)
    const joined = Buffer.concat(out)
    if (joined.length !== bytes || bytes > budget) {
      throw new Error(`take says ${bytes} and gives ${joined.length} of ${budget}`)
    }
    return joined
  }
}

/** Carries bytes both ways until both are silent. `now` is the time that both are told. */
export function settle(a: End, b: End, now = 0): void {
  while (a.session.pending || b.session.pending) {
    const forth = a.take()
    const back = b.take()
    if (forth.length === 0 && back.length === 0) return
    if (forth.length > 0) b.session.receive(forth, now)
    if (back.length > 0) a.session.receive(back, now)
  }
}

/** A header of twelve bytes and its body, as a peer that keeps no rule may send it. */
export function frame(
  type: number,
  flags: number,
  id: number,
  length: number,
  body: Uint8Array = new Uint8Array(0),
  version = 0,
): Buffer {
  const header = Buffer.alloc(12)
  header.writeUInt8(version, 0)
  header.writeUInt8(type, 1)
  header.writeUInt16BE(flags, 2)
  header.writeUInt32BE(id, 4)
  header.writeUInt32BE(length, 8)
  return Buffer.concat([header, body])
}

export interface Frame {
  type: number
  flags: number
  id: number
  length: number
  body: Buffer
}

/** Cuts whole frames apart. Independent of the code under test. */
export function frames(bytes: Buffer): Frame[] {
  const found: Frame[] = []
  let at = 0
  while (at < bytes.length) {
    const type = bytes.readUInt8(at + 1)
    const length = bytes.readUInt32BE(at + 8)
    const end = at + 12 + (type === 0 ? length : 0)
    found.push({
      type,
      flags: bytes.readUInt16BE(at + 2),
      id: bytes.readUInt32BE(at + 4),
      length,
      body: bytes.subarray(at + 12, end),
    })
    at = end
  }
  return found
}
