import { randomInt } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { helloCase } from '../protocol/hello-cases.ts'

const CASES = 1_000_000

describe('the ClientHello reader', () => {
  it(`says of ${CASES} mutated hellos what a second reader says`, () => {
    const first = randomInt(2 ** 47)
    let read = 0
    // A failure says its seed: `helloCase(SEED)` is that case again.
    for (let seed = first; seed < first + CASES; seed++) {
      if (typeof helloCase(seed) !== 'string') read += 1
    }
    expect(read).toBeGreaterThan(CASES / 4)
  })
})
