import { describe, expect, it } from 'vitest'
import { nextVisitorId } from '../../src/gateway/visitor-id.ts'

describe('the id of a visitor', () => {
  it('is 16 bytes that no other one has, past a draw too, and stays as it is', () => {
    const ids = Array.from({ length: 1_000 }, () => nextVisitorId())
    const texts = ids.map((id) => Buffer.from(id).toString('hex'))
    for (let more = 0; more < 1_000; more += 1) nextVisitorId()
    expect(ids.map((id) => Buffer.from(id).toString('hex'))).toEqual(texts)
    expect(texts.every((text) => text.length === 32)).toBe(true)
    expect(new Set(texts).size).toBe(1_000)
  })
})
