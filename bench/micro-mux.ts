import { performance } from 'node:perf_hooks'
import { Session, type Stream, type StreamSink } from '../src/mux/index.ts'

export interface MicroResult {
  name: string
  opsPerSecond: number
}

const BUDGET = 256 * 1024

/** Two sessions with nothing between them: what the mux itself costs, both ends in one thread. */
class Pair {
  readonly client: Session
  readonly server: Session
  #now = 0
  readonly #out: Uint8Array[] = []

  constructor(accept: (stream: Stream) => void) {
    const events = { stream: accept, wake() {}, goAway() {}, idsLow() {} }
    this.client = new Session({ role: 'client', events })
    this.server = new Session({ role: 'server', events })
  }

  /** Carries what waits, each way once. */
  turn(): void {
    this.#now += 1
    this.#carry(this.client, this.server)
    this.#carry(this.server, this.client)
  }

  #carry(from: Session, to: Session): void {
    const out = this.#out
    from.take(out, BUDGET)
    for (const chunk of out) to.receive(chunk, this.#now)
    out.length = 0
  }
}

class Swallow implements StreamSink {
  bytes = 0

  data(stream: Stream, chunk: Uint8Array): void {
    this.bytes += chunk.length
    stream.consume(chunk.length)
  }

  end(stream: Stream): void {
    stream.end()
  }

  reset(): void {}
  drain(): void {}
}

class Answer implements StreamSink {
  data(stream: Stream, chunk: Uint8Array): void {
    stream.write(chunk)
    stream.consume(chunk.length)
  }

  end(stream: Stream): void {
    stream.end()
  }

  reset(): void {}
  drain(): void {}
}

/** Runs `turn`, which does `ops` operations, for half a second after a warm-up. */
export function measure(name: string, ops: number, turn: () => void): MicroResult {
  const until = (ms: number): number => {
    let turns = 0
    for (const end = performance.now() + ms; performance.now() < end; ) {
      turn()
      turns += 1
    }
    return turns
  }
  until(200)
  const start = performance.now()
  const turns = until(500)
  return { name, opsPerSecond: Math.round((turns * ops * 1000) / (performance.now() - start)) }
}

/** Figures of one core; a frame is counted once, though both ends of it are in them. */
export function muxMicro(): MicroResult[] {
  return [streams(), bulk(), small()]
}

function streams(): MicroResult {
  const answer = new Answer()
  const sink = new Swallow()
  const pair = new Pair((stream) => {
    stream.sink = answer
  })
  const request = Buffer.alloc(100, 1)
  return measure('streams opened, asked, answered and closed', 64, () => {
    for (let i = 0; i < 64; i++) {
      const stream = pair.client.open(sink)
      stream?.write(request)
      stream?.end()
    }
    pair.turn()
    pair.turn()
  })
}

function bulk(): MicroResult {
  const sink = new Swallow()
  const pair = new Pair((stream) => {
    stream.sink = sink
  })
  const stream = pair.client.open(sink)
  const chunk = Buffer.alloc(64 * 1024, 1)
  return measure('frames of 16 KiB on one stream', 4, () => {
    stream?.write(chunk)
    pair.turn()
  })
}

function small(): MicroResult {
  const sink = new Swallow()
  const pair = new Pair((stream) => {
    stream.sink = sink
  })
  const streams = Array.from({ length: 64 }, () => pair.client.open(sink))
  const chunk = Buffer.alloc(100, 1)
  return measure('frames of 100 bytes on 64 streams', 64, () => {
    for (const stream of streams) stream?.write(chunk)
    pair.turn()
  })
}
