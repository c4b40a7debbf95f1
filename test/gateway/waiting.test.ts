import { describe, expect, test } from 'vitest'
import { WaitingRoom } from '../../src/gateway/waiting.ts'
import { HELD_PER_ADDRESS, HELD_PER_ROUTE, HELD_VISITORS, RELEASE_PER_TURN } from '../../src/limits.ts'

const HOLD = 10_000
const at = (now: number, over: { route?: string; name?: string; address?: string; since?: number } = {}) => ({
  route: 'default',
  name: 'home',
  address: `${now}`,
  now,
  ...over,
})

describe('a held visitor', () => {
  test('is let go oldest first, as many as asked for', () => {
    const room = new WaitingRoom<number>({ holdMs: HOLD })
    for (let n = 0; n < 100; n++) room.hold(n, at(n))
    room.hold(100, at(100, { route: 'tcp:1' }))
    expect(room.release('default')).toEqual(Array.from({ length: RELEASE_PER_TURN }, (_, n) => n))
    expect(room.release('default', 2)).toEqual([32, 33])
    expect(room.waiting('default')).toBe(66)
    expect(room.release('default', Number.POSITIVE_INFINITY)).toHaveLength(66)
    expect(room.release('default')).toEqual([])
    expect(room.release('nowhere')).toEqual([])
    expect(room.size).toBe(1)
  })

  test('expires after its time, and the room says when that is', () => {
    const room = new WaitingRoom<string>({ holdMs: HOLD })
    expect(room.nextDeadline).toBeUndefined()
    room.hold('a', at(1_000))
    room.hold('b', at(1_500))
    expect(room.nextDeadline).toBe(11_000)
    expect(room.expire(10_999)).toEqual([])
    expect(room.expire(11_000)).toEqual(['a'])
    expect(room.nextDeadline).toBe(11_500)
    expect(room.expire(99_000)).toEqual(['b'])
    expect(room.nextDeadline).toBeUndefined()
  })

  test('that leaves is gone at once, and leaving twice is nothing', () => {
    const room = new WaitingRoom<string>({ holdMs: HOLD })
    room.hold('a', at(0))
    expect(room.leave('a')).toBe(true)
    expect(room.leave('a')).toBe(false)
    expect(room.size).toBe(0)
    expect(room.waiting('default')).toBe(0)
    expect(room.expire(99_000)).toEqual([])
  })

  test('that comes back from a failed try keeps its place and its deadline', () => {
    const room = new WaitingRoom<string>({ holdMs: HOLD })
    room.hold('a', at(0))
    room.hold('b', at(1))
    const since = room.since('a')
    expect(room.release('default', 1)).toEqual(['a'])
    expect(since).toBe(0)
    expect(room.hold('a', at(500, { since: 0 }))).toEqual({ held: true })
    expect(room.release('default', 1)).toEqual(['a'])
    expect(room.hold('a', at(HOLD, { since: 0 }))).toEqual({ held: false, why: 'too_late' })
  })

  test('held again while it is held stays as it is', () => {
    const room = new WaitingRoom<string>({ holdMs: HOLD })
    room.hold('a', at(0))
    expect(room.hold('a', at(5, { route: 'tcp:1' }))).toEqual({ held: true })
    expect(room.size).toBe(1)
    expect(room.waiting('tcp:1')).toBe(0)
    expect(room.since('a')).toBe(0)
  })

  test('is not held where holding is off', () => {
    const room = new WaitingRoom<string>({ holdMs: 0 })
    expect(room.hold('a', at(0))).toEqual({ held: false, why: 'too_late' })
  })
})

describe('the room is bounded', () => {
  test('per route', () => {
    const room = new WaitingRoom<number>({ holdMs: HOLD })
    for (let n = 0; n < HELD_PER_ROUTE; n++) expect(room.hold(n, at(n)).held).toBe(true)
    expect(room.hold(-1, at(9_000))).toEqual({ held: false, why: 'route_full' })
    expect(room.hold(-1, at(9_000, { route: 'tcp:1' })).held).toBe(true)
  })

  test('per address', () => {
    const room = new WaitingRoom<number>({ holdMs: HOLD })
    const here = { address: '192.0.2.1' }
    for (let n = 0; n < HELD_PER_ADDRESS; n++) room.hold(n, at(n, here))
    expect(room.hold(-1, at(9_000, here))).toEqual({ held: false, why: 'address_full' })
    room.leave(3)
    expect(room.hold(-1, at(9_000, here)).held).toBe(true)
  })

  test('in all, for a name that is alone', () => {
    const room = new WaitingRoom<number>({ holdMs: HOLD })
    for (let n = 0; n < HELD_VISITORS; n++) {
      expect(room.hold(n, at(0, { route: `tcp:${n % 4}`, address: `${n}` })).held).toBe(true)
    }
    expect(room.hold(-1, at(0, { route: 'tcp:9' }))).toEqual({ held: false, why: 'full' })
    expect(room.size).toBe(HELD_VISITORS)
  })

  test('a quarter per name while another holds', () => {
    const room = new WaitingRoom<number>({ holdMs: HOLD, capacity: 100 })
    room.hold(-1, at(0, { name: 'office', route: 'tcp:1' }))
    for (let n = 0; n < 25; n++) expect(room.hold(n, at(n)).held).toBe(true)
    expect(room.hold(99, at(99))).toEqual({ held: false, why: 'name_full' })
    room.leave(-1)
    expect(room.hold(99, at(99)).held).toBe(true)
  })

  test('and a name that filled it alone gives way to others, newest first, down to its quarter', () => {
    const room = new WaitingRoom<string>({ holdMs: HOLD, capacity: 8 })
    for (let n = 0; n < 8; n++) room.hold(`home ${n}`, at(n))
    expect(room.hold('office 0', at(20, { name: 'office', route: 'tcp:1' }))).toEqual({
      held: true,
      evicted: 'home 7',
    })
    expect(room.hold('office 1', at(21, { name: 'office', route: 'tcp:1' }))).toEqual({
      held: true,
      evicted: 'home 6',
    })
    expect(room.hold('office 2', at(22, { name: 'office', route: 'tcp:1' })).held).toBe(false)
    for (const name of ['lab', 'shop']) {
      room.hold(`${name} 0`, at(30, { name, route: name, address: `${name} 0` }))
      room.hold(`${name} 1`, at(30, { name, route: name, address: `${name} 1` }))
    }
    expect(room.waiting('default')).toBe(2)
    expect(room.hold('club', at(40, { name: 'club', route: 'club' }))).toEqual({ held: false, why: 'full' })
    expect(room.size).toBe(8)
  })

  test('and a refused visitor pushes nobody out', () => {
    const room = new WaitingRoom<string>({ holdMs: HOLD, capacity: 4, perAddress: 1 })
    for (let n = 0; n < 4; n++) room.hold(`home ${n}`, at(n))
    expect(room.hold('late', at(50, { name: 'office', route: 'tcp:1', address: '0' })).held).toBe(false)
    expect(room.hold('old', at(HOLD, { name: 'office', route: 'tcp:1', since: 0 })).held).toBe(false)
    expect(room.waiting('default')).toBe(4)
  })
})
