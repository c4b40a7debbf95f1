import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Backoff } from '../../src/client/backoff.ts'
import {
  BACKOFF_BASE_MS,
  BACKOFF_MAX_MS,
  BACKOFF_RESET_MS,
  HOLD_MS,
  RETRY_AFTER_SECONDS_MAX,
} from '../../src/limits.ts'

const lot = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

describe('back-off', () => {
  it('doubles its ceiling from the base to the most, and stays there', () => {
    const backoff = new Backoff(() => 1)
    const waits = Array.from({ length: 8 }, () => backoff.afterFailure())
    expect(waits).toEqual([250, 500, 1000, 2000, 4000, 5000, 5000, 5000])
    expect([waits[0], waits.at(-1)]).toEqual([BACKOFF_BASE_MS, BACKOFF_MAX_MS])
  })

  it('takes the lot for the whole wait', () => {
    const lots = [0, 0.5, 0.25]
    const backoff = new Backoff(() => lots.shift() ?? 0)
    expect([backoff.afterFailure(), backoff.afterFailure(), backoff.afterFailure()]).toEqual([0, 250, 250])
  })

  it('never outlasts the time that visitors are held, whatever happens', () => {
    const event = fc.oneof(
      fc.constant('failure' as const),
      fc.constant('progress' as const),
      fc.record({ lasted: fc.nat(60_000), code: fc.constantFrom('silent' as const, 'reset' as const) }),
    )
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), fc.infiniteStream(lot), (events, lots) => {
        const backoff = new Backoff(() => lots.next().value ?? 0)
        for (const what of events) {
          const wait =
            what === 'failure'
              ? backoff.afterFailure()
              : what === 'progress'
                ? backoff.afterProgress()
                : backoff.afterTunnel(what.lasted, what.code)
          expect(wait).toBeGreaterThanOrEqual(0)
          expect(wait).toBeLessThanOrEqual(BACKOFF_MAX_MS)
        }
      }),
    )
    expect(BACKOFF_MAX_MS).toBeLessThan(HOLD_MS)
  })

  it('dials at once after a tunnel that lasted, and begins anew', () => {
    const backoff = new Backoff(() => 1)
    for (let i = 0; i < 6; i++) backoff.afterFailure()
    expect(backoff.afterTunnel(BACKOFF_RESET_MS, 'closed')).toBe(0)
    expect(backoff.afterFailure()).toBe(BACKOFF_BASE_MS)
  })

  it('goes on where it was after a tunnel that did not last', () => {
    const backoff = new Backoff(() => 1)
    backoff.afterFailure()
    expect(backoff.afterTunnel(BACKOFF_RESET_MS - 1, 'closed')).toBe(500)
    expect(backoff.afterFailure()).toBe(1000)
  })

  it('dials at once after silence, whose discovery took its time', () => {
    const backoff = new Backoff(() => 1)
    expect(backoff.afterTunnel(2_000, 'silent')).toBe(0)
  })

  it('waits at least what a gateway asks for, up to the longest that counts, with jitter on top', () => {
    fc.assert(
      fc.property(fc.double({ min: -1e9, max: 1e9, noNaN: true }), lot, (asked, drawn) => {
        const wait = new Backoff(() => drawn).afterFailure(asked)
        const least = Math.min(Math.max(0, asked), RETRY_AFTER_SECONDS_MAX) * 1000
        expect(wait).toBeCloseTo(least + drawn * BACKOFF_BASE_MS, 3)
      }),
    )
  })

  it('looks for the next gateway at once, but with care where dials came to nothing before', () => {
    const backoff = new Backoff(() => 1)
    expect(backoff.afterProgress()).toBe(0)
    backoff.afterFailure()
    expect(backoff.afterProgress()).toBe(500)
  })

  it('forgets failures by halves while dial after dial leads to a tunnel, and at the first that does not no more', () => {
    const backoff = new Backoff(() => 1)
    for (let i = 0; i < 6; i++) backoff.afterFailure()
    const waits = Array.from({ length: 6 }, () => backoff.afterProgress())
    expect(waits).toEqual([5000, 500, 250, 0, 0, 0])
    for (let i = 0; i < 6; i++) backoff.afterFailure()
    // Welcomed and dropped, again and again: that is no progress.
    for (let i = 0; i < 6; i++) {
      expect(backoff.afterProgress()).toBe(BACKOFF_MAX_MS)
      expect(backoff.afterTunnel(10, 'closed')).toBe(BACKOFF_MAX_MS)
    }
  })
})
