import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Liveness } from '../../src/transport/index.ts'

describe('liveness', () => {
  test('asks after one keepalive of silence, and is dead after another', () => {
    const liveness = new Liveness(5_000, 0)
    expect(liveness.tick(4_999)).toBe('alive')
    expect(liveness.tick(5_000)).toBe('ping')
    expect(liveness.tick(9_999)).toBe('alive')
    expect(liveness.tick(10_000)).toBe('dead')
  })

  test('any byte proves life, before the ping and after it', () => {
    const liveness = new Liveness(5_000, 0)
    liveness.heard(3_000)
    expect(liveness.tick(5_000)).toBe('alive')
    expect(liveness.tick(8_000)).toBe('ping')
    liveness.heard(12_999)
    expect(liveness.tick(13_000)).toBe('alive')
    expect(liveness.next).toBe(17_999)
  })

  test('asks before it judges, however long the process slept', () => {
    const liveness = new Liveness(5_000, 0)
    expect(liveness.tick(3_600_000)).toBe('ping')
    expect(liveness.tick(3_604_999)).toBe('alive')
    expect(liveness.tick(3_605_000)).toBe('dead')
  })

  test('a shorter keepalive counts from now on', () => {
    const liveness = new Liveness(5_000, 0)
    liveness.setKeepalive(1_000)
    expect(liveness.next).toBe(1_000)
    expect(liveness.tick(1_000)).toBe('ping')
  })

  test('whoever is heard at least once per keepalive is never declared dead; whoever falls silent is within two', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 999 }), { maxLength: 50 }),
        fc.integer({ min: 1, max: 50 }),
        (pauses, step) => {
          const liveness = new Liveness(1_000, 0)
          let now = 0
          for (const pause of pauses) {
            for (let at = now; at < now + pause; at += step) expect(liveness.tick(at)).not.toBe('dead')
            now += pause
            liveness.heard(now)
          }
          const silentSince = now
          while (liveness.tick(now) !== 'dead') now += step
          expect(now - silentSince).toBeGreaterThanOrEqual(2_000)
          expect(now - silentSince).toBeLessThanOrEqual(2_000 + 2 * step)
        },
      ),
      { numRuns: 50 },
    )
  })
})
