import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { HALF_CLOSED_MS, IDLE_SWEEP_MS, TCP_KEEPALIVE_MS } from '../../src/limits.ts'
import { type IdleMember, IdleSweep, idleSweep, splice } from '../../src/net/index.ts'
import { Opened, until } from './joined.ts'

class Member implements IdleMember {
  activity = 0
  times = 0
  idle(): void {
    this.times += 1
  }
}

describe('the sweep', () => {
  it('lets go, once, what did not move for its limit', () => {
    const sweep = new IdleSweep()
    const [quiet, busy, patient] = [new Member(), new Member(), new Member()]
    sweep.watch(quiet, 5_000, 0)
    sweep.watch(busy, 5_000, 0)
    sweep.watch(patient, 60_000, 0)
    for (let now = 1_000; now <= 20_000; now += 1_000) {
      busy.activity += 1
      sweep.sweep(now)
      expect(quiet.times).toBe(now < 5_000 ? 0 : 1)
    }
    expect(busy.times + patient.times).toBe(0)
    expect(sweep.size).toBe(2)
    sweep.sweep(25_000)
    expect(busy.times).toBe(1)
    sweep.forget(patient)
    expect(sweep.size).toBe(0)
  })

  it('tells, once, that one has lasted until it came', () => {
    const sweep = new IdleSweep()
    const told: string[] = []
    const named = (name: string): IdleMember => ({ activity: 0, idle() {}, lasts: () => told.push(name) })
    const [short, long] = [named('short'), named('long')]
    sweep.watch(short, Number.POSITIVE_INFINITY, 0)
    sweep.watch(long, Number.POSITIVE_INFINITY, 0)
    sweep.forget(short)
    expect(told).toEqual([])
    sweep.sweep(1)
    sweep.watch(long, 60_000, 2)
    sweep.sweep(3)
    expect(told).toEqual(['long'])
    sweep.forget(long)
  })

  it('is never early', () => {
    const sweep = new IdleSweep()
    const member = new Member()
    sweep.watch(member, 1_000, 500)
    sweep.sweep(1_499)
    expect(member.times).toBe(0)
    sweep.sweep(1_500)
    expect(member.times).toBe(1)
  })

  it('may be told of others from within', () => {
    const sweep = new IdleSweep()
    const next = new Member()
    const first: IdleMember = { activity: 0, idle: () => sweep.watch(next, 1_000, 1_000) }
    sweep.watch(first, 1_000, 0)
    sweep.sweep(1_000)
    expect(sweep.size).toBe(1)
    sweep.forget(next)
  })

  it('has one timer for all, and none for nobody', () => {
    vi.useFakeTimers()
    try {
      const sweep = new IdleSweep()
      const members = Array.from({ length: 100 }, () => new Member())
      for (const member of members) sweep.watch(member, IDLE_SWEEP_MS)
      expect(vi.getTimerCount()).toBe(1)
      vi.advanceTimersByTime(2 * IDLE_SWEEP_MS)
      expect(members.every((member) => member.times === 1)).toBe(true)
      expect(vi.getTimerCount()).toBe(0)
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('an idle splice', () => {
  let opened: Opened
  beforeEach(() => {
    opened = new Opened()
  })
  afterEach(() => opened.close())

  it('is let go with an end for its socket, and forgotten', async () => {
    const joined = opened.joined()
    const [near, visitor] = await opened.sockets()
    const [stream] = await joined.open()
    const codes: unknown[] = []
    splice(near, stream, { idleMs: 60_000, onEnd: ({ error }) => codes.push(error?.code) })
    expect(idleSweep.size).toBe(1)
    visitor.resume()
    const ended = new Promise((resolve) => visitor.once('end', resolve))
    idleSweep.sweep(performance.now() + 59_000)
    expect(codes).toEqual([])
    idleSweep.sweep(performance.now() + 61_000)
    expect(codes).toEqual(['idle'])
    await ended
    expect(idleSweep.size).toBe(0)
    await until(() => joined.client.streams === 0)
  })

  it('has its socket look for a host that vanished, once it lasts, and is never let go if nobody said a limit', async () => {
    const joined = opened.joined()
    const [near] = await opened.sockets()
    const [stream] = await joined.open()
    const asked = vi.spyOn(near, 'setKeepAlive')
    const made = splice(near, stream)
    expect(asked).not.toHaveBeenCalled()
    idleSweep.sweep(performance.now() + 1_000)
    idleSweep.sweep(performance.now() + 1e9)
    expect(asked.mock.calls).toEqual([[true, TCP_KEEPALIVE_MS]])
    expect(stream.closed).toBe(false)
    made.detach()
    expect(idleSweep.size).toBe(0)
  })

  it('is forgotten when it ends otherwise', async () => {
    const joined = opened.joined()
    const [[a], [b]] = [await opened.sockets(), await opened.sockets()]
    const [first, second] = [await joined.open(), await joined.open()]
    const one = splice(a, first[0], { idleMs: 60_000 })
    splice(b, second[0], { idleMs: 60_000 })
    expect(idleSweep.size).toBe(2)
    one.detach()
    expect(idleSweep.size).toBe(1)
    joined.end()
    expect(idleSweep.size).toBe(0)
  })
})

describe('a half-closed splice', () => {
  let opened: Opened
  beforeEach(() => {
    opened = new Opened()
  })
  afterEach(() => opened.close())

  /** A splice of which one direction has ended, and what it said at its end. */
  async function halfClosed(by: 'socket' | 'stream', idleMs?: number) {
    const joined = opened.joined()
    const [near, visitor] = await opened.sockets()
    const [stream, peer] = await joined.open()
    const codes: unknown[] = []
    const spliced = splice(near, stream, { idleMs, onEnd: ({ error }) => codes.push(error?.code) })
    visitor.resume()
    if (by === 'socket') {
      visitor.end()
      await until(() => peer.readEnded)
    } else {
      peer.end()
      await until(() => stream.readEnded)
    }
    return { joined, near, visitor, stream, peer, spliced, codes, at: performance.now() }
  }

  it.each(['socket', 'stream'] as const)(
    'whose %s has ended is let go when the other side stays silent',
    async (by) => {
      const { joined, near, codes, at } = await halfClosed(by)
      expect(idleSweep.size).toBe(1)
      idleSweep.sweep(at + HALF_CLOSED_MS - 1_000)
      expect(codes).toEqual([])
      idleSweep.sweep(at + HALF_CLOSED_MS + 1_000)
      expect(codes).toEqual(['idle'])
      expect(near.destroyed).toBe(true)
      expect(idleSweep.size).toBe(0)
      await until(() => joined.client.streams === 0)
    },
  )

  it('stays while a byte moves', async () => {
    const { visitor, peer, codes, at } = await halfClosed('socket')
    for (let round = 1; round <= 3; round += 1) {
      const heard = new Promise((resolve) => visitor.once('data', resolve))
      peer.write(Buffer.from('a part of the answer'))
      await heard
      idleSweep.sweep(at + round * (HALF_CLOSED_MS - 1_000))
      expect(codes).toEqual([])
    }
    peer.end()
    await until(() => codes.length > 0)
    expect(codes).toEqual([undefined])
    expect(idleSweep.size).toBe(0)
  })

  it('keeps to a shorter limit of its service, and to none that is longer', async () => {
    const short = await halfClosed('socket', 60_000)
    const long = await halfClosed('stream', 2 * HALF_CLOSED_MS)
    idleSweep.sweep(long.at + 61_000)
    expect([short.codes, long.codes]).toEqual([['idle'], []])
    idleSweep.sweep(long.at + HALF_CLOSED_MS + 1_000)
    expect(long.codes).toEqual(['idle'])
  })

  it('is forgotten when somebody else takes its socket', async () => {
    const { spliced } = await halfClosed('socket')
    spliced.detach()
    expect(idleSweep.size).toBe(0)
  })

  it('that took over an end which had come before is let go too', async () => {
    const joined = opened.joined()
    const [near, visitor] = await opened.sockets()
    visitor.end()
    near.resume()
    await until(() => near.readableEnded)
    const [stream] = await joined.open()
    const codes: unknown[] = []
    splice(near, stream, { onEnd: ({ error }) => codes.push(error?.code) })
    idleSweep.sweep(performance.now() + HALF_CLOSED_MS + 1_000)
    expect(codes).toEqual(['idle'])
  })
})
