import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Shares } from '../../src/gateway/shares.ts'
import { Pace } from '../../src/transport/index.ts'

describe('room that names share', () => {
  test('is all for a name that is alone, and half at most for one of several', () => {
    let several = false
    const shares = new Shares(10, () => several)
    for (let n = 0; n < 10; n += 1) expect(shares.take('one')).toBe(true)
    expect(shares.take('one')).toBe(false)
    for (let n = 0; n < 6; n += 1) shares.give('one')
    several = true
    expect(shares.take('one')).toBe(true)
    expect(shares.take('one')).toBe(false)
    for (let n = 0; n < 5; n += 1) expect(shares.take('two')).toBe(true)
    expect(shares.take('two')).toBe(false)
    expect(shares.size).toBe(10)
  })

  test('is never given twice, and what was paid back is there again', () => {
    const steps = fc.array(fc.tuple(fc.boolean(), fc.constantFrom('a', 'b', 'c')), { maxLength: 200 })
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 12 }), (taken, capacity) => {
        const shares = new Shares(capacity, () => true)
        const model = new Map<string, number>()
        for (const [take, name] of taken) {
          const own = model.get(name) ?? 0
          if (!take) {
            shares.give(name)
            model.set(name, Math.max(0, own - 1))
          } else if (shares.take(name)) model.set(name, own + 1)
          const counts = [...model.values()]
          const size = counts.reduce((sum, count) => sum + count, 0)
          expect(shares.size).toBe(size)
          expect(size).toBeLessThanOrEqual(capacity)
          for (const count of counts) expect(count * 2).toBeLessThanOrEqual(capacity + 1)
        }
      }),
    )
  })
})

test('a pace lets so many through at once and so many per second after, and takes nothing when it says no', () => {
  const pace = new Pace(10, 100)
  expect(pace.take(0, 101)).toBe(false)
  expect(pace.take(0, 100)).toBe(true)
  expect(pace.take(50)).toBe(false)
  expect(pace.take(150)).toBe(true)
  expect(pace.take(1_000_000, 100)).toBe(true)
  expect(pace.take(1_000_000)).toBe(false)
})
