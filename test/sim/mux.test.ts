import { expect, it } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { MemoryBudget, Session, type Stream, type StreamSink } from '../../src/mux/index.ts'
import { Clock } from './clock.ts'
import { random } from './random.ts'

/**
 * A day of tunnels in virtual time: a gateway opens streams to a client over connections that delay, cut
 * their bytes anywhere, deliver in lumps, and break; each break is followed by a new pair of sessions. The
 * seed decides everything and is printed when a run fails.
 */

const RUNS = 30
const VISITORS = 100
const CONNECTION_LOST = new TunnelError('silent', { scope: 'tunnel', detail: 'the connection was lost' })

/** The target: sends each byte back plus one, slowly or at once, and ends when its visitor has. */
class Target implements StreamSink {
  readonly #world: World
  #waiting: Uint8Array[] = []
  #ended = false
  #over = false
  #working = false

  constructor(world: World) {
    this.#world = world
  }

  data(stream: Stream, chunk: Uint8Array): void {
    this.#alive()
    this.#waiting.push(Uint8Array.from(chunk, (byte) => byte + 1))
    this.#work(stream)
  }

  end(stream: Stream): void {
    this.#alive()
    this.#ended = true
    this.#work(stream)
  }

  reset(): void {
    this.#alive()
    this.#over = true
    this.#waiting = []
  }

  drain(stream: Stream): void {
    this.#alive()
    this.#work(stream)
  }

  #work(stream: Stream): void {
    if (this.#working) return
    this.#working = true
    this.#world.clock.after(this.#world.pick(5), () => {
      this.#working = false
      if (this.#over) return
      if (this.#world.chance(0.002)) {
        this.#over = true
        this.#world.cutByTarget.add(stream)
        stream.reset()
        return
      }
      for (let chunk = this.#waiting.shift(); chunk !== undefined; chunk = this.#waiting.shift()) {
        stream.consume(chunk.length)
        if (!stream.write(chunk)) return
      }
      if (this.#ended) stream.end()
    })
  }

  #alive(): void {
    if (this.#over) throw new Error('a call after the end')
  }
}

class Visitor implements StreamSink {
  readonly #world: World
  readonly #size: number
  readonly #slow: boolean
  #sent = 0
  #got = 0
  outcome: 'done' | 'reset' | undefined

  constructor(world: World) {
    this.#world = world
    this.#size = world.chance(0.1) ? world.pick(200_000) : world.pick(3_000)
    this.#slow = world.chance(0.3)
  }

  start(stream: Stream): void {
    this.drain(stream)
  }

  drain(stream: Stream): void {
    for (let more = true; more && this.#sent < this.#size; ) {
      const length = Math.min(this.#size - this.#sent, 1 + this.#world.pick(20_000))
      const from = this.#sent
      this.#sent += length
      more = stream.write(Uint8Array.from({ length }, (_, i) => (from + i) % 251))
    }
    if (this.#sent === this.#size) stream.end()
  }

  data(stream: Stream, chunk: Uint8Array): void {
    this.#alive()
    for (const byte of chunk) {
      if (byte !== ((this.#got % 251) + 1) % 256) throw new Error(`byte ${this.#got} is another`)
      this.#got += 1
    }
    const { length } = chunk
    if (this.#slow) this.#world.clock.after(this.#world.pick(30), () => stream.consume(length))
    else stream.consume(length)
  }

  end(): void {
    this.#alive()
    if (this.#got !== this.#size) throw new Error(`ended after ${this.#got} of ${this.#size} bytes`)
    this.outcome = 'done'
  }

  reset(): void {
    this.#alive()
    this.outcome = 'reset'
  }

  #alive(): void {
    if (this.outcome !== undefined) throw new Error(`a call after ${this.outcome}`)
  }
}

/** One connection and the two sessions on it. */
class Connection {
  readonly #world: World
  readonly gateway: Session
  readonly client: Session
  lost = false

  constructor(world: World) {
    this.#world = world
    this.gateway = this.#session('server', world.gatewayMemory)
    this.client = this.#session('client', world.clientMemory)
  }

  #session(role: 'client' | 'server', memory: MemoryBudget): Session {
    let scheduled = false
    let lastArrival = 0
    const flush = (): void => {
      scheduled = false
      if (this.lost) return
      const out: Uint8Array[] = []
      from.take(out, 13 + this.#world.pick(100_000))
      const bytes = Buffer.concat(out)
      lastArrival = Math.max(lastArrival, this.#world.clock.now + 1 + this.#world.pick(40))
      this.#deliver(role === 'client' ? this.gateway : this.client, bytes, lastArrival)
      if (from.pending) wake()
    }
    const wake = (): void => {
      if (scheduled) return
      scheduled = true
      this.#world.clock.after(this.#world.pick(3), flush)
    }
    const from: Session = new Session({
      role,
      receiveWindow: 65_536,
      sendWindow: 65_536,
      memory,
      events: {
        stream: (stream) => {
          stream.sink = new Target(this.#world)
        },
        wake,
        goAway: () => {},
        opened: () => this.#world.openWaiting(),
        idsLow: () => {},
      },
    })
    return from
  }

  #deliver(to: Session, bytes: Buffer, at: number): void {
    this.#world.clock.after(at - this.#world.clock.now, () => {
      for (let from = 0; from < bytes.length && !this.lost; ) {
        const length = 1 + this.#world.pick(30_000)
        to.receive(bytes.subarray(from, from + length), this.#world.clock.now)
        from += length
      }
    })
  }

  lose(): void {
    this.lost = true
    this.gateway.abort(CONNECTION_LOST)
    this.client.abort(CONNECTION_LOST)
  }
}

class World {
  readonly clock = new Clock()
  readonly gatewayMemory = new MemoryBudget(64 * 1024 * 1024)
  readonly clientMemory = new MemoryBudget(64 * 1024 * 1024)
  readonly visitors: Visitor[] = []
  readonly cutByTarget = new Set<Stream>()
  losses = 0
  readonly #random: () => number
  #connection: Connection
  #waiting: Visitor[] = []

  constructor(seed: number) {
    this.#random = random(seed)
    this.#connection = new Connection(this)
    for (let i = 0; i < VISITORS; i++) {
      this.clock.after(this.pick(3_000), () => this.#arrive())
    }
    for (let i = this.pick(3); i > 0; i--) this.clock.after(this.pick(3_000), () => this.#lose())
  }

  pick(below: number): number {
    return Math.floor(this.#random() * below)
  }

  chance(probability: number): boolean {
    return this.#random() < probability
  }

  #arrive(): void {
    const visitor = new Visitor(this)
    this.visitors.push(visitor)
    this.#waiting.push(visitor)
    this.openWaiting()
  }

  openWaiting(): void {
    while (this.#waiting.length > 0) {
      const stream = this.#connection.gateway.open(this.#waiting[0] as Visitor)
      if (stream === undefined) return
      this.#waiting.shift()?.start(stream)
    }
  }

  #lose(): void {
    this.losses += 1
    this.#connection.lose()
    this.#connection = new Connection(this)
    this.openWaiting()
  }

  check(): void {
    const outcomes = this.visitors.map(({ outcome }) => outcome)
    expect(outcomes).not.toContain(undefined)
    if (this.losses === 0) {
      expect(outcomes.filter((outcome) => outcome === 'reset').length).toBeLessThanOrEqual(
        this.cutByTarget.size,
      )
    }
    expect(outcomes).toContain('done')
    const { gateway, client } = this.#connection
    expect([gateway.streams, client.streams, gateway.pending, client.pending]).toEqual([0, 0, false, false])
    for (const memory of [this.gatewayMemory, this.clientMemory]) {
      expect([memory.unread, memory.queued, memory.granted]).toEqual([0, 0, 0])
    }
  }
}

it(`every visitor gets all its bytes or one reset, through ${RUNS} days of delays and lost connections`, () => {
  const base = Number(process.env['SIM_SEED'] ?? Date.now() % 1_000_000_000)
  for (let seed = base; seed < base + RUNS; seed++) {
    try {
      const world = new World(seed)
      world.clock.run()
      world.check()
    } catch (error) {
      throw new Error(`seed ${seed} fails: run it again with SIM_SEED=${seed}`, { cause: error })
    }
  }
})
