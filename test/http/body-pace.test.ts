import { describe, expect, test } from 'vitest'
import { BodyPace } from '../../src/http/body-pace.ts'
import { BODY_PACE_MS } from '../../src/limits.ts'

const RATE = 100
const ENOUGH = (RATE * BODY_PACE_MS) / 1_000

describe('the pace of a body', () => {
  test('is judged when there was time enough to show it, and not before', () => {
    const pace = new BodyPace()
    pace.begin(5)
    expect(pace.tooSlow(5 + BODY_PACE_MS - 1, 0, RATE)).toBe(false)
    expect(pace.tooSlow(5 + BODY_PACE_MS, 0, RATE)).toBe(true)
  })

  test('is enough at its rate, and too slow below it', () => {
    for (const [bytes, slow] of [
      [ENOUGH, false],
      [ENOUGH - 1, true],
    ] as const) {
      const pace = new BodyPace()
      pace.begin(0)
      expect(pace.tooSlow(BODY_PACE_MS, bytes, RATE)).toBe(slow)
    }
  })

  test('counts for each time anew: what came fast before does not pay for what comes slowly', () => {
    const pace = new BodyPace()
    pace.begin(0)
    expect(pace.tooSlow(BODY_PACE_MS, 1_000_000, RATE)).toBe(false)
    expect(pace.tooSlow(2 * BODY_PACE_MS, 1_000_010, RATE)).toBe(true)
  })

  test('does not count the time that others took', () => {
    const pace = new BodyPace()
    pace.begin(0)
    pace.resume(BODY_PACE_MS - 1, 10)
    expect(pace.tooSlow(BODY_PACE_MS + 1, 10, RATE)).toBe(false)
    expect(pace.tooSlow(2 * BODY_PACE_MS, 10, RATE)).toBe(true)
  })

  test('without a rate is never too slow', () => {
    const pace = new BodyPace()
    pace.begin(0)
    expect(pace.tooSlow(100 * BODY_PACE_MS, 0, 0)).toBe(false)
  })
})
