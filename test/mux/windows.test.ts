import { describe, expect, it } from 'vitest'
import {
  RTT_PING_MS,
  STREAM_WINDOW_MAX_BYTES,
  TUNNEL_WINDOW_MAX_BYTES,
  WINDOW_SHARE_OF_MEMORY,
  WINDOW_UPDATE_BYTES,
  YAMUX_WINDOW_BYTES,
} from '../../src/limits.ts'
import { MemoryBudget, type Stream } from '../../src/mux/index.ts'
import { End, frame, frames, type Recorder, settle } from './pair.ts'

const DATA = 0
const WINDOW_UPDATE = 1
const PING = 2
const SYN = 1
const FIN = 4
const RST = 8
const KiB = 1024
const MiB = 1024 * KiB

/** Two ends with so many milliseconds between them, each way, and no bound on their bandwidth. */
class Link {
  now = 0
  readonly #delay: number
  readonly #a: End
  readonly #b: End
  #flights: { at: number; to: End; bytes: Buffer }[] = []
  readonly #timers: { at: number; run: () => void }[] = []

  constructor(a: End, b: End, delay: number) {
    this.#a = a
    this.#b = b
    this.#delay = delay
  }

  at(time: number, run: () => void): void {
    this.#timers.push({ at: time, run })
  }

  run(until: number): void {
    for (;;) {
      this.#send(this.#a, this.#b)
      this.#send(this.#b, this.#a)
      const flight = this.#flights[0]
      const timer = this.#timers.sort((x, y) => x.at - y.at)[0]
      const at = Math.min(flight?.at ?? Infinity, timer?.at ?? Infinity)
      if (at > until) break
      this.now = at
      if (timer !== undefined && timer.at === at) {
        this.#timers.shift()
        timer.run()
      } else if (flight !== undefined) {
        this.#flights.shift()
        flight.to.session.receive(flight.bytes, at)
      }
    }
    this.now = until
  }

  #send(from: End, to: End): void {
    while (from.session.pending) this.#flights.push({ at: this.now + this.#delay, to, bytes: from.take() })
  }
}

/** A sender with `count` streams that always have more to send, and what their other ends are. */
function download(
  receiver: End,
  sender: End,
  count: number,
): { readers: { stream: Stream; sink: Recorder }[] } {
  const chunk = Buffer.alloc(64 * KiB)
  const { onStream } = receiver
  receiver.onStream = (stream, sink) => {
    sink.keep = false
    onStream?.(stream, sink)
  }
  for (let i = 0; i < count; i++) {
    const { stream, sink } = sender.open()
    const fill = (): void => {
      while (stream.write(chunk));
    }
    sink.onDrain = fill
    fill()
  }
  return { readers: receiver.accepted }
}

describe('a receive window', () => {
  it('is granted again when half of it was consumed, and not before', () => {
    const server = new End({ role: 'server', receiveWindow: 1000 })
    server.onStream = (_stream, sink) => {
      sink.hold = true
    }
    server.session.receive(frame(DATA, SYN, 1, 1000, Buffer.alloc(1000)), 0)
    server.take()
    const stream = server.accepted[0]?.stream as Stream
    stream.consume(499)
    expect(server.session.pending).toBe(false)
    stream.consume(1)
    expect(frames(server.take()).filter(({ type }) => type === WINDOW_UPDATE)).toMatchObject([
      { id: 1, length: 500 },
    ])
    stream.consume(500)
    expect(frames(server.take())).toMatchObject([{ type: WINDOW_UPDATE, length: 500 }])
  })

  it('is granted again in small parts when it is large, so that its sender never stands still', () => {
    const server = new End({ role: 'server', receiveWindow: 8 * WINDOW_UPDATE_BYTES })
    server.onStream = (_stream, sink) => {
      sink.hold = true
    }
    const body = Buffer.alloc(3 * WINDOW_UPDATE_BYTES)
    server.session.receive(frame(DATA, SYN, 1, body.length, body), 0)
    server.take()
    const stream = server.accepted[0]?.stream as Stream
    stream.consume(WINDOW_UPDATE_BYTES - 1)
    expect(server.session.pending).toBe(false)
    stream.consume(1)
    expect(frames(server.take())).toMatchObject([{ type: WINDOW_UPDATE, length: WINDOW_UPDATE_BYTES }])
  })

  it("is not granted again after the peer's end, nor beyond what came", () => {
    const server = new End({ role: 'server', receiveWindow: 1000 })
    server.onStream = (_stream, sink) => {
      sink.hold = true
    }
    server.session.receive(frame(DATA, SYN | FIN, 1, 1000, Buffer.alloc(1000)), 0)
    server.take()
    server.accepted[0]?.stream.consume(5_000)
    expect([server.session.pending, server.accepted[0]?.stream.unread]).toEqual([false, 0])
  })

  it("is not granted when the peer's end comes before the update has left", () => {
    const server = new End({ role: 'server', receiveWindow: 1000 })
    server.session.receive(frame(DATA, SYN, 1, 1000, Buffer.alloc(1000)), 0)
    server.session.receive(frame(DATA, FIN, 1, 0), 0)
    expect(frames(server.take())).toMatchObject([{ type: WINDOW_UPDATE, length: 0 }])
  })

  it('gives back what it had grown by when the peer ends, though our side goes on', () => {
    const memory = new MemoryBudget(100 * MiB)
    const sender = new End({ role: 'server', sendWindow: 64 * KiB })
    const receiver = new End({ role: 'client', receiveWindow: 64 * KiB, memory })
    const link = new Link(sender, receiver, 50)
    const { stream, sink } = sender.open()
    let left = 400
    sink.onDrain = () => {
      while (left-- > 0 && stream.write(Buffer.alloc(64 * KiB)));
      if (left < 0) stream.end()
    }
    sink.onDrain(stream)
    link.run(500)
    expect(memory.granted).toBeGreaterThan(0)
    link.run(5_000)
    expect([receiver.accepted[0]?.stream.closed, memory.granted]).toEqual([false, 0])
  })

  it('does not count the announced rest of a frame as consumed', () => {
    const server = new End({ role: 'server', receiveWindow: 1000 })
    server.session.receive(frame(DATA, SYN, 1, 1000, Buffer.alloc(10)), 0)
    expect(frames(server.take())).toMatchObject([{ type: WINDOW_UPDATE, length: 0 }])
    expect(server.session.pending).toBe(false)
  })

  it('holds a sender to it exactly while its reader stalls', () => {
    const sender = new End({ role: 'server' })
    const receiver = new End({ role: 'client' })
    receiver.onStream = (_stream, sink) => {
      sink.hold = true
    }
    const { readers } = download(receiver, sender, 3)
    settle(sender, receiver)
    expect(readers.map(({ stream }) => stream.unread)).toEqual(Array(3).fill(YAMUX_WINDOW_BYTES))
  })

  it('grows to its bound for a fast reader 100 ms away', () => {
    const sender = new End({ role: 'server', sendWindow: 64 * KiB })
    const receiver = new End({ role: 'client', receiveWindow: 64 * KiB })
    const link = new Link(sender, receiver, 50)
    const { readers } = download(receiver, sender, 1)
    link.run(2_000)
    expect(receiver.session.rtt).toBe(100)
    const before = readers[0]?.stream.bytesIn as number
    link.run(3_000)
    // Ten round trips of a full window; the updates keep it full.
    expect((readers[0]?.stream.bytesIn as number) - before).toBeGreaterThanOrEqual(
      10 * STREAM_WINDOW_MAX_BYTES,
    )
  }, 10_000)

  it('does not grow for a slow reader', () => {
    const sender = new End({ role: 'server', sendWindow: 64 * KiB })
    const receiver = new End({ role: 'client', receiveWindow: 64 * KiB })
    receiver.onStream = (_stream, sink) => {
      sink.hold = true
    }
    const link = new Link(sender, receiver, 50)
    const { readers } = download(receiver, sender, 1)
    const reader = (): Stream => readers[0]?.stream as Stream
    // 64 KiB a second: half the window lasts five round trips.
    for (let time = 500; time < 60_000; time += 100) {
      link.at(time, () => {
        reader().consume(Math.min(6_554, reader().unread))
        expect(reader().unread).toBeLessThanOrEqual(64 * KiB)
      })
    }
    link.run(60_000)
    expect(reader().bytesIn).toBeGreaterThan(3 * MiB)
    expect(reader().unread).toBe(64 * KiB)
  })

  it('does not take a reader for fast that stalled and then caught up at once', () => {
    const sender = new End({ role: 'server', sendWindow: 64 * KiB })
    const receiver = new End({ role: 'client', receiveWindow: 64 * KiB })
    receiver.onStream = (_stream, sink) => {
      sink.hold = true
    }
    const link = new Link(sender, receiver, 50)
    const { readers } = download(receiver, sender, 1)
    const reader = (): Stream => readers[0]?.stream as Stream
    for (let time = 5_000; time < 60_000; time += 5_000)
      link.at(time, () => reader().consume(reader().unread))
    link.run(60_000)
    expect(reader().unread).toBe(64 * KiB)
  })

  it("grows for all streams of a tunnel together only up to the tunnel's bound", () => {
    const sender = new End({ role: 'server', sendWindow: 64 * KiB })
    const receiver = new End({ role: 'client', receiveWindow: 64 * KiB })
    const memory = new MemoryBudget(1024 * MiB)
    const bounded = new End({ role: 'client', receiveWindow: 64 * KiB, memory })
    const link = new Link(sender, bounded, 50)
    const { readers } = download(bounded, sender, 10)
    link.run(2_500)
    expect(memory.granted).toBeGreaterThan(TUNNEL_WINDOW_MAX_BYTES / 2)
    expect(memory.granted).toBeLessThanOrEqual(TUNNEL_WINDOW_MAX_BYTES)
    for (const { stream } of readers) stream.reset()
    expect([memory.granted, memory.unread]).toEqual([0, 0])
    expect(receiver.session.streams).toBe(0)
  }, 10_000)

  it('asks for the round trip at most once in ten seconds of transfer, and not without one', () => {
    const sender = new End({ role: 'server', sendWindow: 16 * KiB })
    const receiver = new End({ role: 'client', receiveWindow: 16 * KiB, maxWindow: 16 * KiB })
    let pings = 0
    const take = receiver.take.bind(receiver)
    receiver.take = (budget?: number) => {
      const bytes = take(budget)
      pings += frames(bytes).filter(({ type, flags }) => type === PING && flags === SYN).length
      return bytes
    }
    const link = new Link(sender, receiver, 50)
    link.run(20_000)
    expect(pings).toBe(0)
    download(receiver, sender, 1)
    link.run(20_000 + 3 * RTT_PING_MS - 1_000)
    expect(pings).toBe(3)
  })
})

describe('the memory budget', () => {
  /** Receivers of one process that hold what comes, each with a sender of its own. */
  function receivers(memory: MemoryBudget, count: number): { receiver: End; sender: End }[] {
    return Array.from({ length: count }, () => {
      const receiver = new End({ role: 'client', receiveWindow: 64 * KiB, memory })
      receiver.onStream = (_stream, sink) => {
        sink.hold = true
      }
      return { receiver, sender: new End({ role: 'server', sendWindow: 64 * KiB }) }
    })
  }

  /** Brings `bytes` to a new stream of the receiver, at `now`. */
  function bring(
    pair: { receiver: End; sender: End },
    bytes: number,
    now: number,
  ): { stream: Stream; sink: Recorder } {
    pair.sender.open().stream.write(Buffer.alloc(bytes))
    settle(pair.sender, pair.receiver, now)
    return pair.receiver.accepted.at(-1) as { stream: Stream; sink: Recorder }
  }

  it('counts what is unread, until it is consumed or its stream is over', () => {
    const memory = new MemoryBudget(10 * MiB)
    const [one, two] = receivers(memory, 2) as [
      { receiver: End; sender: End },
      { receiver: End; sender: End },
    ]
    const a = bring(one, 1_000, 0)
    const b = bring(one, 2_000, 0)
    const c = bring(two, 4_000, 0)
    expect(memory.unread).toBe(7_000)
    a.stream.consume(400)
    expect(memory.unread).toBe(6_600)
    b.stream.reset()
    expect(memory.unread).toBe(4_600)
    c.stream.consume(4_000)
    one.receiver.session.abort(new (class extends Error {})() as never)
    expect(memory.unread).toBe(0)
  })

  it('lets no window grow past it', () => {
    const memory = new MemoryBudget(8 * MiB)
    const sender = new End({ role: 'server', sendWindow: 64 * KiB })
    const receiver = new End({ role: 'client', receiveWindow: 64 * KiB, memory })
    const link = new Link(sender, receiver, 50)
    download(receiver, sender, 50)
    link.run(5_000)
    expect(memory.granted).toBeGreaterThan(6 * MiB)
    expect(memory.granted).toBeLessThanOrEqual(8 * MiB)
  })

  it('lets no one window have more than its share', () => {
    const memory = new MemoryBudget(8 * MiB)
    const sender = new End({ role: 'server', sendWindow: 64 * KiB })
    const receiver = new End({ role: 'client', receiveWindow: 64 * KiB, memory })
    const link = new Link(sender, receiver, 50)
    download(receiver, sender, 1)
    link.run(5_000)
    expect(memory.granted).toBe((8 * MiB) / WINDOW_SHARE_OF_MEMORY - 64 * KiB)
  })

  it('past it resets the stalled stream with most unread bytes, whichever session has it', () => {
    const memory = new MemoryBudget(150 * KiB)
    const [one, two] = receivers(memory, 2) as [
      { receiver: End; sender: End },
      { receiver: End; sender: End },
    ]
    const some = bring(one, 50 * KiB, 0)
    const most = bring(two, 60 * KiB, 0)
    const last = bring(one, 40 * KiB, 10)
    expect(most.sink.error).toBeUndefined()
    const more = bring(one, 1 * KiB, 20)
    expect(most.sink.error?.code).toBe('out_of_memory')
    expect([most.sink.error?.scope, most.sink.error?.remote]).toEqual(['stream', false])
    expect([some, last, more].map(({ sink }) => sink.error)).toEqual([undefined, undefined, undefined])
    expect(memory.unread).toBe(91 * KiB)
    expect(memory.full).toBe(false)
    settle(two.sender, two.receiver)
    expect(two.sender.session.streams).toBe(0)
  })

  it('spares a slow stream for one whose owner takes nothing', () => {
    const memory = new MemoryBudget(101 * KiB)
    const [one] = receivers(memory, 1) as [{ receiver: End; sender: End }]
    const stalled = bring(one, 40 * KiB, 0)
    const slow = bring(one, 60 * KiB, 0)
    bring(one, 1, 1_500)
    // Owners act between arrivals: the time of the last one counts.
    slow.stream.consume(1)
    bring(one, 2 * KiB, 2_000)
    expect(stalled.sink.error?.code).toBe('out_of_memory')
    expect(slow.sink.error).toBeUndefined()
  })

  it('is full when nobody is stalled, and only until someone reads', () => {
    const memory = new MemoryBudget(100 * KiB)
    const [one] = receivers(memory, 1) as [{ receiver: End; sender: End }]
    const all = Array.from({ length: 4 }, () => bring(one, 31 * KiB, 0))
    expect(all.map(({ sink }) => sink.error)).toEqual(Array(4).fill(undefined))
    expect(memory.full).toBe(true)
    all[0]?.stream.consume(31 * KiB)
    expect(memory.full).toBe(false)
  })

  it('tells the peer of a stream that it reset', () => {
    const memory = new MemoryBudget(10 * KiB)
    const receiver = new End({ role: 'server', receiveWindow: 64 * KiB, memory })
    receiver.onStream = (_stream, sink) => {
      sink.hold = true
    }
    receiver.session.receive(frame(DATA, SYN, 1, 40 * KiB, Buffer.alloc(40 * KiB)), 0)
    expect(frames(receiver.take())).toMatchObject([{ flags: RST, id: 1 }])
  })
})
