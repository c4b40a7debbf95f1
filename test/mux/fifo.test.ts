import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { Fifo } from '../../src/mux/fifo.ts'

it('a queue gives its values in order, whatever was pruned, and counts those that are left', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('push' as const), count: fc.nat(1_500) }),
    fc.record({ do: fc.constant('shift' as const), count: fc.nat(1_500) }),
    fc.record({ do: fc.constant('prune' as const), count: fc.integer({ min: 2, max: 5 }) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const queue = new Fifo<number>()
      let model: number[] = []
      let next = 0
      for (const { do: what, count } of steps) {
        if (what === 'prune') {
          queue.prune((value) => value % count !== 0)
          model = model.filter((value) => value % count !== 0)
        } else if (what === 'push') {
          for (let i = 0; i < count; i++, next++) {
            queue.push(next)
            model.push(next)
          }
        } else {
          const gone = Math.min(count, model.length)
          const taken = Array.from({ length: gone }, () => queue.shift())
          expect(taken).toEqual(model.splice(0, gone))
        }
        expect(queue.length).toBe(model.length)
      }
    }),
    { numRuns: 50 },
  )
})
