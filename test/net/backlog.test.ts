import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SPLICE_COPY_BYTES } from '../../src/limits.ts'
import { Backlog } from '../../src/net/backlog.ts'
import { pattern } from './joined.ts'

describe('the backlog', () => {
  it('gives back what was put in, in order, however it is cut and taken', () => {
    const lengths = fc.oneof(fc.nat(20), fc.nat(3 * SPLICE_COPY_BYTES), fc.constant(SPLICE_COPY_BYTES))
    const step = fc.oneof(
      lengths.map((length) => ({ push: length })),
      fc.nat(4 * SPLICE_COPY_BYTES).map((budget) => ({ take: budget })),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const backlog = new Backlog()
        const put: Buffer[] = []
        const got: Uint8Array[] = []
        let inside = 0
        for (const each of steps) {
          if ('push' in each) {
            const chunk = pattern(each.push)
            put.push(chunk)
            backlog.push(chunk)
            inside += each.push
          } else {
            const out: Uint8Array[] = []
            const taken = backlog.take(out, each.take)
            expect(taken).toBe(out.reduce((sum, chunk) => sum + chunk.length, 0))
            if (inside > 0) expect(taken).toBeGreaterThan(0)
            if (out.length > 1) expect(taken).toBeLessThanOrEqual(each.take)
            inside -= taken
            got.push(...out)
          }
          expect(backlog.bytes).toBe(inside)
        }
        while (backlog.bytes > 0) backlog.take(got, SPLICE_COPY_BYTES)
        expect(Buffer.concat(got).equals(Buffer.concat(put))).toBe(true)
      }),
      { numRuns: 60 },
    )
  })

  it('joins single bytes', () => {
    const backlog = new Backlog()
    for (let count = 0; count < 3 * SPLICE_COPY_BYTES; count += 1) backlog.push(Buffer.of(count & 255))
    const out: Uint8Array[] = []
    backlog.take(out, 1024 * 1024)
    backlog.push(Buffer.of(1))
    expect(out.map((chunk) => chunk.length)).toEqual([
      SPLICE_COPY_BYTES,
      SPLICE_COPY_BYTES,
      SPLICE_COPY_BYTES,
    ])
  })

  it('passes on a small one that comes alone as it is, and never writes into it', () => {
    const backlog = new Backlog()
    const pool = Buffer.alloc(100, 'p')
    const alone = pool.subarray(10, 20)
    const out: Uint8Array[] = []
    backlog.push(alone)
    backlog.take(out, 100)
    expect(out[0]).toBe(alone)
    backlog.push(alone)
    backlog.push(Buffer.from('more'))
    backlog.take(out, 100)
    expect(String(out[1])).toBe('ppppppppppmore')
    expect(String(pool)).toBe('p'.repeat(100))
  })

  it('holds nothing after clear', () => {
    const backlog = new Backlog()
    backlog.push(Buffer.alloc(10))
    backlog.push(Buffer.alloc(10_000))
    backlog.clear()
    const out: Uint8Array[] = []
    expect(backlog.take(out, 100)).toBe(0)
    expect(out).toEqual([])
    expect(backlog.bytes).toBe(0)
  })
})
