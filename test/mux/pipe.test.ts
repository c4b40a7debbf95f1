import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { MemoryBudget, type Stream } from '../../src/mux/index.ts'
import { End, frame, type Recorder } from './pair.ts'

/** One direction of a stream: what was written, counted, so that byte n is a function of n. */
class Direction {
  written = 0
  ended = false

  write(stream: Stream, length: number): void {
    if (stream.closed || this.ended) return
    stream.write(Buffer.from(Array.from({ length }, (_, i) => pattern(stream.id, this.written + i))))
    this.written += length
  }
}

function pattern(id: number, at: number): number {
  return (id * 31 + at * 7 + (at >> 8)) & 0xff
}

interface Half {
  stream: Stream
  sink: Recorder
  out: Direction
  reset: boolean
}

/** Two ends and all the halves of their streams; `carry` moves bytes in pieces. */
class World {
  readonly ends: [End, End]
  readonly halves: [Map<number, Half>, Map<number, Half>] = [new Map(), new Map()]
  readonly #flight: [Buffer, Buffer] = [Buffer.alloc(0), Buffer.alloc(0)]
  #now = 0

  constructor(window: number) {
    this.ends = [
      new End({ role: 'client', receiveWindow: window, sendWindow: window, maxWindow: 4 * window }),
      new End({ role: 'server', receiveWindow: window, sendWindow: window, maxWindow: 4 * window }),
    ]
    for (const side of [0, 1] as const) {
      this.ends[side].onStream = (stream, sink) => this.#add(side, stream, sink)
    }
  }

  #add(side: 0 | 1, stream: Stream, sink: Recorder): void {
    sink.hold = true
    this.halves[side].set(stream.id, { stream, sink, out: new Direction(), reset: false })
  }

  open(side: 0 | 1): void {
    if (!this.ends[side].session.canOpen()) return
    const { stream, sink } = this.ends[side].open()
    this.#add(side, stream, sink)
  }

  pick(side: 0 | 1, which: number): Half | undefined {
    const all = [...this.halves[side].values()]
    return all[which % Math.max(1, all.length)]
  }

  /** Takes from one side and delivers to the other, cut as told; the rest stays in flight. */
  carry(from: 0 | 1, budget: number, cut: number): void {
    this.#now += cut % 13
    const flight = Buffer.concat([this.#flight[from], this.ends[from].take(budget)])
    const size = Math.min(flight.length, cut)
    this.#flight[from] = flight.subarray(size)
    for (let at = 0; at < size; ) {
      const step = Math.min(size - at, 1 + ((at * 7 + cut) % 50))
      this.ends[1 - from]?.session.receive(flight.subarray(at, at + step), this.#now)
      at += step
    }
  }

  /** Until nothing moves: everything read, all bytes arrived. */
  finish(): void {
    for (let idle = 0; idle < 2; ) {
      let moved = false
      for (const side of [0, 1] as const) {
        for (const { stream } of this.halves[side].values()) {
          if (stream.unread > 0) moved = true
          stream.consume(stream.unread)
        }
        const { session } = this.ends[side]
        if (session.pending || this.#flight[side].length > 0) moved = true
        this.carry(side, 1 << 20, 1 << 30)
      }
      idle = moved ? 0 : idle + 1
    }
  }
}

type Action =
  | { do: 'open' | 'end' | 'reset'; side: 0 | 1; which: number }
  | { do: 'write' | 'consume'; side: 0 | 1; which: number; length: number }
  | { do: 'carry'; side: 0 | 1; budget: number; cut: number }

const side = fc.constantFrom(0 as const, 1 as const)
const which = fc.nat(20)
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant('open' as const), side, which }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('end' as const, 'reset' as const), side, which }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      side,
      which,
      length: fc.integer({ min: 1, max: 9_000 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('consume' as const), side, which, length: fc.nat(9_000) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('carry' as const),
      side,
      budget: fc.integer({ min: 13, max: 30_000 }),
      cut: fc.nat(20_000),
    }),
  },
)

function perform(world: World, step: Action): void {
  if (step.do === 'open') {
    world.open(step.side)
    return
  }
  if (step.do === 'carry') {
    world.carry(step.side, step.budget, step.cut)
    return
  }
  const half = world.pick(step.side, step.which)
  if (half === undefined) return
  if (step.do === 'write') half.out.write(half.stream, step.length)
  else if (step.do === 'consume') half.stream.consume(step.length)
  else if (step.do === 'end') {
    half.stream.end()
    half.out.ended = true
  } else {
    if (!half.stream.closed) half.reset = true
    half.stream.reset()
  }
}

describe('two sessions over any lossless pipe', () => {
  it('deliver every byte in order, once, on every stream, and ends and resets after them', () => {
    fc.assert(
      fc.property(
        fc.array(action, { minLength: 5, maxLength: 80 }),
        fc.constantFrom(1_000, 4_096, 65_536),
        (actions, window) => {
          const world = new World(window)
          for (const step of actions) perform(world, step)
          world.finish()
          for (const from of [0, 1] as const) {
            for (const [id, sender] of world.halves[from]) {
              const receiver = world.halves[from === 0 ? 1 : 0].get(id)
              // Reset before its first frame left: the peer never heard of it.
              if (receiver === undefined) {
                expect(sender.reset).toBe(true)
                continue
              }
              const { received } = receiver.sink
              for (let at = 0; at < received.length; at++) {
                if (received[at] !== pattern(id, at)) throw new Error(`stream ${id}: byte ${at} is another`)
              }
              if (sender.reset || receiver.reset) {
                expect(received.length).toBeLessThanOrEqual(sender.out.written)
                expect(sender.stream.closed && receiver.stream.closed).toBe(true)
              } else {
                expect(received.length).toBe(sender.out.written)
                expect(receiver.sink.ended).toBe(sender.out.ended)
                expect(receiver.sink.error).toBeUndefined()
                expect(sender.stream.closed).toBe(sender.out.ended && receiver.out.ended)
              }
            }
            const open = [...world.halves[from].values()].filter(({ stream }) => !stream.closed)
            expect(world.ends[from].session.streams).toBe(open.length)
          }
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe('any bytes at all', () => {
  /** Feeds chunks until the session refuses; checks what it holds. */
  function feed(chunks: Uint8Array[]): void {
    const memory = new MemoryBudget(300_000)
    const end = new End({ role: 'server', receiveWindow: 65_536, maxStreams: 8, memory })
    end.onStream = (_stream, sink) => {
      sink.hold = true
      sink.keep = false
    }
    for (let i = 0; i < 3; i++) end.open().stream.write(Buffer.alloc(100_000))
    try {
      for (const chunk of chunks) {
        end.session.receive(chunk, 0)
        expect(end.session.streams).toBeLessThanOrEqual(8)
        expect(memory.unread).toBeLessThanOrEqual(300_000)
        if (chunk.length % 3 === 0) end.take(5_000)
      }
    } catch (error) {
      if (!(error instanceof TunnelError) || error.scope !== 'tunnel') throw error
      expect(end.take()).toEqual(frame(3, 0, 0, 1))
      expect(end.session.pending).toBe(false)
      end.session.abort(error)
    }
    end.session.abort(new TunnelError('closed', { scope: 'tunnel', detail: 'over' }))
    expect([memory.held, memory.granted, end.session.streams]).toEqual([0, 0, 0])
  }

  it('throw nothing but a TunnelError of the tunnel, and hold no more than the bounds', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 64 }), { maxLength: 20 }), feed),
      { numRuns: 300 },
    )
  })

  it('do so too when they are frames that almost keep the rules', () => {
    const data = fc
      .tuple(
        fc.constantFrom(0, 0, 1, 2, 4, 5, 8, 9, 15),
        fc.nat(14),
        fc.constantFrom(0, 1, 100, 16_372, 65_536),
      )
      .map(([flags, id, length]) => frame(0, flags, id, length, Buffer.alloc(length)))
    const other = fc
      .tuple(
        fc.constantFrom(1, 1, 1, 2, 3),
        fc.constantFrom(0, 1, 2, 4, 5, 8, 9, 15),
        fc.nat(14),
        fc.constantFrom(0, 1, 65_536, 0x7fff_ffff),
      )
      .map(([type, flags, id, length]) => frame(type, flags, type === 1 ? id : 0, length))
    fc.assert(fc.property(fc.array(fc.oneof(data, other), { maxLength: 40 }), feed), { numRuns: 500 })
  })
})
