import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { WaitingRoom } from '../../src/gateway/waiting.ts'

const BOUNDS = { holdMs: 100, capacity: 12, perRoute: 6, perAddress: 4 }
const QUARTER = 3

const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      does: fc.constant('hold' as const),
      visitor: fc.nat(30),
      name: fc.constantFrom('home', 'home', 'home', 'office', 'lab'),
      port: fc.nat(2),
      address: fc.nat(4).map(String),
      ago: fc.constantFrom(0, 0, 0, 5, 99),
    }),
  },
  { weight: 2, arbitrary: fc.record({ does: fc.constant('leave' as const), visitor: fc.nat(30) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      does: fc.constant('release' as const),
      name: fc.constantFrom('home', 'office'),
      port: fc.nat(2),
      max: fc.nat(3),
    }),
  },
  { weight: 2, arbitrary: fc.record({ does: fc.constant('wait' as const), ms: fc.nat(60) }) },
)

interface Row {
  visitor: number
  route: string
  name: string
  address: string
  since: number
}

test('the waiting room agrees with a naive list and never passes a bound', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120, size: 'max' }), (steps) => {
      const room = new WaitingRoom<number>(BOUNDS)
      let rows: Row[] = []
      let now = 1_000
      const count = (which: (row: Row) => boolean) => rows.filter(which).length
      // Stable, so that of two held at the same time the earlier call comes first.
      const line = (which: (row: Row) => boolean) => rows.filter(which).sort((a, b) => a.since - b.since)
      const remove = (gone: number[]) => {
        rows = rows.filter((row) => !gone.includes(row.visitor))
      }

      for (const step of steps) {
        switch (step.does) {
          case 'hold': {
            const { visitor, name, address } = step
            const route = `${name}:${step.port}`
            const since = now - step.ago
            const answer = room.hold(visitor, { route, name, address, now, since })
            if (rows.some((row) => row.visitor === visitor)) {
              expect(answer).toEqual({ held: true })
              break
            }
            const own = count((row) => row.name === name)
            const mayHold =
              count((row) => row.route === route) < BOUNDS.perRoute &&
              count((row) => row.address === address) < BOUNDS.perAddress &&
              (own < QUARTER || own === rows.length)
            const greedy = ['home', 'office', 'lab'].filter(
              (other) => other !== name && count((row) => row.name === other) > QUARTER,
            )
            if (!mayHold || (rows.length >= BOUNDS.capacity && greedy.length === 0)) {
              expect(answer.held).toBe(false)
              break
            }
            expect(answer.held).toBe(true)
            const evicted = answer.held ? answer.evicted : undefined
            expect(evicted !== undefined).toBe(rows.length >= BOUNDS.capacity)
            if (evicted !== undefined) {
              const loser = rows.find((row) => row.visitor === evicted)?.name ?? ''
              expect(greedy).toContain(loser)
              expect(evicted).toBe(line((row) => row.name === loser).at(-1)?.visitor)
              remove([evicted])
            }
            rows.push({ visitor, route, name, address, since })
            break
          }
          case 'leave':
            expect(room.leave(step.visitor)).toBe(rows.some((row) => row.visitor === step.visitor))
            remove([step.visitor])
            break
          case 'release': {
            const route = `${step.name}:${step.port}`
            const expected = line((row) => row.route === route).slice(0, step.max)
            const released = room.release(route, step.max)
            expect(released).toEqual(expected.map((row) => row.visitor))
            remove(released)
            break
          }
          case 'wait': {
            now += step.ms
            const expected = line((row) => row.since + BOUNDS.holdMs <= now)
            const expired = room.expire(now)
            expect(expired).toEqual(expected.map((row) => row.visitor))
            remove(expired)
            break
          }
        }
        const [oldest] = line(() => true)
        expect(room.nextDeadline).toBe(oldest === undefined ? undefined : oldest.since + BOUNDS.holdMs)
        expect(room.size).toBe(rows.length)
        expect(room.size).toBeLessThanOrEqual(BOUNDS.capacity)
        for (const { route } of rows) {
          expect(room.waiting(route)).toBe(count((row) => row.route === route))
          expect(room.waiting(route)).toBeLessThanOrEqual(BOUNDS.perRoute)
        }
        for (const { address } of rows) {
          expect(count((row) => row.address === address)).toBeLessThanOrEqual(BOUNDS.perAddress)
        }
      }
      // Nothing of the room's own books is left when all have gone.
      for (const { visitor } of rows) room.leave(visitor)
      expect(room.size).toBe(0)
      for (let n = 0; n < BOUNDS.perAddress; n++) {
        expect(room.hold(n, { route: 'home:0', name: 'home', address: '0', now }).held).toBe(true)
      }
    }),
    { numRuns: 80 },
  )
})
