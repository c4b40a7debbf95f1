import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Health } from '../../src/client/health.ts'
import { HEALTH_FAILURES, HEALTH_SUCCESSES } from '../../src/limits.ts'

/** The state after each result, `+` for a good one: `u` up, `d` down. */
function states(results: string): string {
  const health = new Health()
  return Array.from(results)
    .map((result) => {
      const before = health.up
      expect(health.note(result === '+')).toBe(before !== health.up)
      return health.up ? 'u' : 'd'
    })
    .join('')
}

describe('the health of a target', () => {
  it('begins as up', () => {
    expect(new Health().up).toBe(true)
  })

  it.each([
    ['+++', 'uuu'],
    ['--+', 'uuu'],
    ['---', 'uud'],
    ['--+--+---', 'uuuuuuuud'],
    ['---+', 'uudd'],
    ['---++', 'uuddu'],
    ['---+-+-', 'uuddddd'],
    ['---++--', 'uudduuu'],
    ['---++---', 'uudduuud'],
    ['------++', 'uudddddu'],
  ])('after %s was %s', (results, expected) => {
    expect(states(results)).toBe(expected)
  })

  it('changes after so many results in a row that say otherwise, and after no fewer', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('+', '-')), (results) => {
        const seen = states(results.join(''))
        for (let at = 0; at < seen.length; at++) {
          const before = seen[at - 1] ?? 'u'
          const needed = before === 'u' ? HEALTH_FAILURES : HEALTH_SUCCESSES
          const run = results.slice(Math.max(0, at + 1 - needed), at + 1)
          const against =
            run.length === needed && run.every((result) => result === (before === 'u' ? '-' : '+'))
          expect(seen[at] !== before).toBe(against)
        }
      }),
    )
  })
})
