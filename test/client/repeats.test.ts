import { describe, expect, it } from 'vitest'
import { Repeats } from '../../src/client/repeats.ts'
import { REPEATED_LOG_MS } from '../../src/limits.ts'
import { Pace } from '../../src/transport/index.ts'

describe('what happens again and again', () => {
  it('is said the first time, then at most once a minute with its count', () => {
    const repeats = new Repeats()
    expect(repeats.note('a', 0)).toBe(1)
    for (let at = 1; at < 100; at++) expect(repeats.note('a', at)).toBeUndefined()
    expect(repeats.note('a', REPEATED_LOG_MS)).toBe(100)
    expect(repeats.note('a', REPEATED_LOG_MS + 1)).toBeUndefined()
    expect(repeats.note('a', 2 * REPEATED_LOG_MS)).toBe(2)
  })

  it('counts each thing by itself, and anew after it went well', () => {
    const repeats = new Repeats()
    expect(repeats.note('a', 0)).toBe(1)
    expect(repeats.note('b', 0)).toBe(1)
    repeats.forget('a')
    expect(repeats.note('a', 1)).toBe(1)
  })
})

describe('a pace', () => {
  it('lets through a burst, and then so many per second', () => {
    const pace = new Pace(10, 3)
    const through = (now: number, tries: number) =>
      Array.from({ length: tries }, () => pace.take(now)).filter(Boolean).length
    expect(through(1000, 5)).toBe(3)
    expect(through(1099, 5)).toBe(0)
    expect(through(1100, 5)).toBe(1)
    expect(through(1500, 9)).toBe(3)
    expect(through(99_000, 9)).toBe(3)
  })
})
