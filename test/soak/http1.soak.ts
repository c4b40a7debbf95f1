import { randomInt } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { requestCase, responseCase } from '../http1/differential.ts'

const MINUTES = 2

describe('to llhttp', () => {
  it.each([
    ['requests', requestCase],
    ['responses', responseCase],
  ] as const)(`the %s that are passed on are the same ones, for ${MINUTES} minutes`, (_what, each) => {
    let cases = 0
    let messages = 0
    const first = randomInt(2 ** 47)
    for (const until = Date.now() + MINUTES * 60_000; Date.now() < until; ) {
      for (let left = 10_000; left > 0; left--) messages += each(first + cases++)
    }
    expect(cases).toBeGreaterThan(1_000_000)
    expect(messages).toBeGreaterThan(cases / 2)
  })
})
