import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { MEMORY_SCAN_MS, STALLED_MS, STREAM_QUEUE_AHEAD_BYTES, STREAM_QUEUE_BYTES } from '../../src/limits.ts'
import { MemoryBudget, type Stream } from '../../src/mux/index.ts'
import { End, frame, frames, Recorder, settle } from './pair.ts'

const KiB = 1024
const DATA = 0
const WINDOW_UPDATE = 1
const PING = 2
const SYN = 1
const ACK = 2
const RST = 8
const GONE = new TunnelError('silent', { scope: 'tunnel', detail: 'gone' })

interface Received {
  stream: Stream
  sink: Recorder
}

/** One process's end of a tunnel, whose owners hold what comes, and its peer's. */
class Tunnel {
  readonly near: End
  readonly far: End

  constructor(memory: MemoryBudget, window = 256 * KiB) {
    this.near = new End({ role: 'server', receiveWindow: window, sendWindow: window, memory })
    this.near.onStream = (_stream, sink) => {
      sink.hold = true
      sink.keep = false
    }
    this.far = new End({ role: 'client', receiveWindow: window, sendWindow: window })
    this.far.onStream = (_stream, sink) => {
      sink.hold = true
      sink.keep = false
    }
  }

  /** Brings `bytes` of a new stream to the near end. */
  bring(bytes: number, now: number): Received {
    this.far.open().stream.write(Buffer.alloc(bytes))
    settle(this.far, this.near, now)
    return this.near.accepted.at(-1) as Received
  }

  /** Writes `bytes` to a new stream at the near end; the far one gives no window beyond the first. */
  upload(bytes: number, now: number): Received {
    const opened = this.near.open()
    opened.stream.write(Buffer.alloc(bytes))
    settle(this.near, this.far, now)
    return opened
  }
}

function errors(all: readonly Received[]): (string | undefined)[] {
  return all.map(({ sink }) => sink.error?.code)
}

describe('past the limit', () => {
  it('visitors that never read go before a slow download of someone else, however little of their windows they fill', () => {
    const memory = new MemoryBudget(16 * 1024 * KiB)
    const [attacker, other] = [new Tunnel(memory), new Tunnel(memory)]
    const stalled = Array.from({ length: 221 }, () => attacker.bring(74 * KiB, 0))
    const download = other.bring(200 * KiB, STALLED_MS)
    download.stream.consume(10 * KiB)
    expect(memory.held).toBeGreaterThan(memory.limit - 256 * KiB)
    for (let i = 0; i < 9; i++) stalled.push(attacker.bring(74 * KiB, STALLED_MS))
    expect(download.sink.error).toBeUndefined()
    expect(stalled.filter(({ sink }) => sink.error !== undefined).length).toBeGreaterThan(0)
    expect(memory.full).toBe(false)
    for (let i = 0; i < 20; i++) {
      const visitor = other.bring(60 * KiB, STALLED_MS + i)
      expect(memory.full).toBe(false)
      visitor.stream.consume(60 * KiB)
    }
    expect(download.sink.error).toBeUndefined()
  })

  it('the stalled stream with most bytes goes first, unread or unsent', () => {
    const memory = new MemoryBudget(190 * KiB)
    const tunnel = new Tunnel(memory, 64 * KiB)
    const unread = [tunnel.bring(20 * KiB, 0), tunnel.bring(10 * KiB, 0)]
    const unsent = [tunnel.upload((64 + 50) * KiB, 0), tunnel.upload((64 + 40) * KiB, 0)]
    expect([memory.unread, memory.queued]).toEqual([30 * KiB, 90 * KiB])
    const fresh = [tunnel.bring(64 * KiB, STALLED_MS), tunnel.bring(20 * KiB, STALLED_MS)]
    expect(errors([...unsent, ...unread, ...fresh])).toEqual(['out_of_memory', ...Array(5).fill(undefined)])
    fresh.push(tunnel.bring(60 * KiB, STALLED_MS))
    expect(errors([...unsent, ...unread, ...fresh])).toEqual([
      'out_of_memory',
      'out_of_memory',
      ...Array(5).fill(undefined),
    ])
  })

  it('full stays true only while nobody can go', () => {
    const memory = new MemoryBudget(100 * KiB)
    const tunnel = new Tunnel(memory)
    const all = Array.from({ length: 2 }, () => tunnel.bring(60 * KiB, 0))
    expect(memory.full).toBe(true)
    // No byte comes to any stream: the time alone makes them stalled.
    tunnel.near.session.receive(frame(PING, SYN, 0, 1), STALLED_MS)
    expect(memory.full).toBe(false)
    expect(errors(all).filter((code) => code === 'out_of_memory')).toHaveLength(1)
  })

  it('full asks the clock that it was given, when nothing comes that tells the time', () => {
    let now = 0
    const memory = new MemoryBudget(100 * KiB, () => now)
    const tunnel = new Tunnel(memory)
    for (let i = 0; i < 2; i++) tunnel.bring(60 * KiB, 0)
    expect(memory.full).toBe(true)
    now = STALLED_MS
    expect(memory.full).toBe(false)
  })

  it('streams are not looked through for every chunk when none can go', () => {
    const memory = new MemoryBudget(64 * KiB)
    let scans = 0
    memory.join({
      liveStreams() {
        scans += 1
        return []
      },
    })
    const tunnel = new Tunnel(memory)
    for (let i = 0; i < 4; i++) tunnel.bring(17 * KiB, 0)
    const before = scans
    expect(before).toBeGreaterThan(0)
    for (let i = 0; i < 1_000; i++) tunnel.near.session.receive(frame(DATA, 0, 1, 1, Buffer.alloc(1)), 1)
    expect(memory.full).toBe(true)
    // Two classes are looked for each time.
    expect(scans - before).toBeLessThanOrEqual(2)
    tunnel.near.session.receive(frame(DATA, 0, 1, 1, Buffer.alloc(1)), MEMORY_SCAN_MS + 1)
    expect(scans - before).toBeLessThanOrEqual(4)
    expect(scans - before).toBeGreaterThan(0)
  })
})

describe('what is written and not sent', () => {
  it('asks for a pause as soon as the peer lets no more go, but for a frame that is at hand', () => {
    const tunnel = new Tunnel(new MemoryBudget(1e9), 4 * KiB)
    const { stream, sink } = tunnel.near.open()
    expect(stream.write(Buffer.alloc(4 * KiB + STREAM_QUEUE_AHEAD_BYTES - 1))).toBe(true)
    tunnel.near.take()
    expect(stream.queued).toBe(STREAM_QUEUE_AHEAD_BYTES - 1)
    expect(stream.write(Buffer.alloc(1))).toBe(false)
    tunnel.near.session.receive(frame(WINDOW_UPDATE, ACK, 2, 1024 * KiB), 0)
    expect(sink.drains).toBe(0)
    tunnel.near.take()
    expect([sink.drains, stream.queued]).toEqual([1, 0])
    expect(stream.write(Buffer.alloc(STREAM_QUEUE_BYTES - 1))).toBe(true)
    expect(stream.write(Buffer.alloc(1))).toBe(false)
  })

  it('of thousands of uploads against a peer that grants nothing stays within the budget', () => {
    const memory = new MemoryBudget(16 * 1024 * KiB)
    const uploads: Received[] = []
    for (let i = 0; i < 15; i++) {
      const tunnel = new Tunnel(memory, 4 * KiB)
      for (let j = 0; j < 200; j++) {
        const upload = tunnel.near.open()
        while (upload.stream.write(Buffer.alloc(8 * KiB)));
        uploads.push(upload)
        settle(tunnel.near, tunnel.far, i * 2 * STALLED_MS)
        expect(memory.held).toBeLessThanOrEqual(memory.limit)
      }
    }
    const gone = errors(uploads).filter((code) => code === 'out_of_memory').length
    expect(gone).toBeGreaterThan(1_000)
    expect(uploads.at(-1)?.sink.error).toBeUndefined()
    expect(memory.full).toBe(false)
  })

  it('and does not move for lack of window is reset, and the peer is told', () => {
    const memory = new MemoryBudget(150 * KiB)
    const tunnel = new Tunnel(memory, 64 * KiB)
    const { stream, sink } = tunnel.upload(128 * KiB, 0)
    expect(memory.queued).toBe(64 * KiB)
    const fed = tunnel.upload(80 * KiB, 0)
    tunnel.near.session.receive(frame(WINDOW_UPDATE, 0, 4, 1 * KiB), STALLED_MS)
    tunnel.near.take()
    expect(memory.full).toBe(false)
    for (const id of [1, 3]) {
      tunnel.near.session.receive(frame(DATA, SYN, id, 40 * KiB, Buffer.alloc(40 * KiB)), STALLED_MS)
    }
    expect([sink.error?.code, sink.error?.scope, stream.closed]).toEqual(['out_of_memory', 'stream', true])
    expect(sink.error?.message).toContain('65536 unsent')
    expect(fed.sink.error).toBeUndefined()
    expect(frames(tunnel.near.take()).filter(({ flags }) => flags === RST)).toMatchObject([{ id: 2 }])
    expect([memory.unread, memory.queued]).toEqual([80 * KiB, 15 * KiB])
  })

  it('never has its stream reset in the middle of its own write', () => {
    const memory = new MemoryBudget(100 * KiB)
    const tunnel = new Tunnel(memory, 64 * KiB)
    const { stream, sink } = tunnel.upload(128 * KiB, 0)
    tunnel.near.session.receive(frame(PING, SYN, 0, 1), STALLED_MS)
    expect(stream.write(Buffer.alloc(64 * KiB))).toBe(false)
    expect([sink.error, memory.queued]).toEqual([undefined, 128 * KiB])
    expect(memory.full).toBe(true)
    tunnel.near.session.receive(frame(PING, SYN, 0, 2), STALLED_MS + MEMORY_SCAN_MS)
    expect([memory.full, sink.error?.code, memory.queued]).toEqual([false, 'out_of_memory', 0])
  })
})

describe('the count', () => {
  const step = fc.record({
    do: fc.constantFrom('open', 'write', 'write', 'consume', 'carry', 'carry', 'reset', 'end', 'abort'),
    side: fc.nat(1),
    which: fc.nat(30),
    bytes: fc.integer({ min: 1, max: 40_000 }),
    ms: fc.constantFrom(0, 0, 5, 600),
  })

  it('is exact to the byte after every call, with and without pressure, and zero at the end', () => {
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 10, maxLength: 80 }),
        fc.constantFrom(20_000, 100_000, 1e9),
        fc.constantFrom(4_096, 65_536),
        (steps, limit, window) => {
          const memory = new MemoryBudget(limit)
          const options = { receiveWindow: window, sendWindow: window, memory }
          const ends = [new End({ role: 'client', ...options }), new End({ role: 'server', ...options })]
          const all: { stream: Stream; sink: Recorder }[][] = [[], []]
          ends.forEach((end, i) => {
            end.onStream = (stream, sink) => {
              sink.hold = true
              all[i]?.push({ stream, sink })
            }
          })
          let now = 0
          const check = (): void => {
            const streams = all.flat().map(({ stream }) => stream)
            expect(memory.unread).toBe(streams.reduce((sum, { unread }) => sum + unread, 0))
            expect(memory.queued).toBe(streams.reduce((sum, { queued }) => sum + queued, 0))
            for (const { stream, sink } of all.flat()) {
              if (sink.error !== undefined) expect([stream.closed, stream.queued]).toEqual([true, 0])
            }
          }
          for (const { do: what, side, which, bytes, ms } of steps) {
            now += ms
            const end = ends[side] as End
            const mine = all[side] as Received[]
            const one = mine[which % Math.max(1, mine.length)]?.stream
            if (what === 'open' && end.session.canOpen()) {
              const opened = end.open()
              opened.sink.hold = true
              mine.push(opened)
            } else if (what === 'write') one?.write(Buffer.alloc(bytes))
            else if (what === 'consume') one?.consume(bytes)
            else if (what === 'reset' && which % 4 === 0) one?.reset()
            else if (what === 'end' && which % 4 === 0) one?.end()
            else if (what === 'carry') (ends[1 - side] as End).session.receive(end.take(12 + bytes), now)
            else if (what === 'abort' && which === 0) for (const each of ends) each.session.abort(GONE)
            check()
          }
          for (const end of ends) end.session.abort(GONE)
          check()
          for (const { stream } of all.flat()) stream.consume(stream.unread)
          check()
          expect([memory.held, memory.granted]).toEqual([0, 0])
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe('a writer that waits for drain', () => {
  it('gets everything across whenever the peer grants, and is called once for each time that it was told to wait', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 100, 4_096, 20_000, 65_536, 262_144),
        fc.array(fc.integer({ min: 1, max: 100_000 }), { minLength: 1, maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 50_000 }), { minLength: 1, maxLength: 20 }),
        fc.array(fc.integer({ min: 13, max: 80_000 }), { minLength: 1, maxLength: 8 }),
        (window, chunks, grants, budgets) => {
          const near = new End({ role: 'client', sendWindow: window, memory: new MemoryBudget(1e9) })
          const sink = new Recorder()
          const { stream } = near.open(sink)
          const total = chunks.reduce((sum, length) => sum + length, 0)
          let waits = 0
          let next = 0
          const go = (): void => {
            while (next < chunks.length) {
              if (stream.write(Buffer.alloc(chunks[next++] as number))) continue
              waits += 1
              return
            }
          }
          sink.onDrain = go
          go()
          let sent = 0
          let granted = window
          for (let i = 0; sent < total; i++) {
            // The peer grants only what it was sent, so that it stalls whenever the writer does.
            if (!near.session.pending) {
              expect(sent).toBe(granted)
              const grant = grants[i % grants.length] as number
              granted += grant
              near.session.receive(frame(WINDOW_UPDATE, 0, 1, grant), i)
            }
            for (const { type, length } of frames(near.take(budgets[i % budgets.length]))) {
              if (type === DATA) sent += length
            }
          }
          expect([next, stream.queued, stream.bytesOut]).toEqual([chunks.length, 0, total])
          expect(sink.drains).toBe(waits)
        },
      ),
      { numRuns: 100 },
    )
  })
})
