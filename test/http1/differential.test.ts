import { randomInt } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { requestCase, responseCase } from './differential.ts'

const CASES = 50_000

/** How many messages were accepted in all cases from a seed on. */
function accepted(each: (seed: number) => number, first: number): number {
  let sum = 0
  for (let seed = first; seed < first + CASES; seed++) sum += each(seed)
  return sum
}

describe('to llhttp', () => {
  it.each([
    ['requests', requestCase],
    ['responses', responseCase],
  ] as const)(`the %s that are passed on are the same ones, in ${CASES} mutated cases`, (_what, each) => {
    // A failure says its seed: `requestCase(SEED)` is that case again.
    expect(accepted(each, randomInt(2 ** 31))).toBeGreaterThan(CASES / 2)
  })
})
