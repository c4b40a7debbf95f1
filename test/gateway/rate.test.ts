import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DEFAULT_HTTP_LIMITS, type HttpLimits } from '../../src/config/index.ts'
import { Rates, type Seat } from '../../src/gateway/rate.ts'

const limits = (changes: Partial<HttpLimits>): HttpLimits => ({ ...DEFAULT_HTTP_LIMITS, ...changes })
const OFF = limits({})

describe('requests', () => {
  test('of an address are so many at once and so many per second, and are told when to come again', () => {
    const rates = new Rates()
    const slow = limits({ requests: 2, requestBurst: 4 })
    for (let n = 0; n < 4; n += 1) expect(rates.take('default', 'a', slow, 1_000)).toEqual({ ok: true })
    expect(rates.take('default', 'a', slow, 1_000)).toEqual({ ok: false, retryAfter: 1 })
    expect(rates.take('default', 'b', slow, 1_000)).toEqual({ ok: true })
    expect(rates.take('other/', 'a', slow, 1_000)).toEqual({ ok: true })
    expect(rates.take('default', 'a', slow, 1_499)).toEqual({ ok: false, retryAfter: 1 })
    expect(rates.take('default', 'a', slow, 1_500)).toEqual({ ok: true })
    expect(rates.take('default', 'a', slow, 1_501)).toEqual({ ok: false, retryAfter: 1 })
  })

  test('are refused for as long as it takes, in whole seconds', () => {
    const rates = new Rates()
    const perMinute = limits({ requests: 0.1, requestBurst: 1 })
    rates.take('default', 'a', perMinute, 0)
    expect(rates.take('default', 'a', perMinute, 0)).toEqual({ ok: false, retryAfter: 10 })
    expect(rates.take('default', 'a', perMinute, 8_500)).toEqual({ ok: false, retryAfter: 2 })
  })

  test('of all addresses are counted together, and one over its own limit takes nothing from them', () => {
    const rates = new Rates()
    const both = limits({ requests: 1, requestBurst: 2, routeRequests: 1, routeRequestBurst: 3 })
    expect([0, 1, 2, 3, 4].map(() => rates.take('default', 'a', both, 0).ok)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ])
    expect(rates.take('default', 'b', both, 0).ok).toBe(true)
    expect(rates.take('default', 'b', both, 0).ok).toBe(false)
    // What the route refused cost the address nothing.
    expect(rates.take('default', 'b', limits({ requests: 1, requestBurst: 2 }), 0).ok).toBe(true)
  })

  test('without a limit are all taken, and nothing is remembered of them', () => {
    const rates = new Rates()
    for (let n = 0; n < 1_000; n += 1) expect(rates.take('default', `${n}`, OFF, n).ok).toBe(true)
    expect(rates.size).toBe(0)
  })

  test('are never more than the burst and the rate in any window, whatever else is asked for', () => {
    const asks = fc.array(
      fc.record({
        wait: fc.oneof(fc.constant(0), fc.nat(40), fc.nat(4_000)),
        address: fc.constantFrom('a', 'a', 'b', 'c'),
        route: fc.constantFrom('default', 'default', 'app/'),
      }),
      { maxLength: 200 },
    )
    fc.assert(
      fc.property(
        asks,
        fc.integer({ min: 1, max: 30 }),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 40 }),
        (asks, requests, requestBurst, routeRequests, routeRequestBurst) => {
          const rates = new Rates()
          const both = limits({ requests, requestBurst, routeRequests, routeRequestBurst })
          const taken = new Map<string, number[]>()
          const note = (key: string, now: number) => taken.set(key, [...(taken.get(key) ?? []), now])
          let now = 0
          for (const { wait, address, route } of asks) {
            now += wait
            if (!rates.take(route, address, both, now).ok) continue
            note(`${route} ${address}`, now)
            note(route, now)
          }
          for (const [key, times] of taken) {
            const [rate, burst] = key.includes(' ')
              ? [requests, requestBurst]
              : [routeRequests, routeRequestBurst]
            for (const [first, from] of times.entries()) {
              for (const [last, to] of times.entries()) {
                if (last < first) continue
                expect(last - first + 1).toBeLessThanOrEqual(burst + (rate * (to - from)) / 1_000 + 1e-3)
              }
            }
          }
        },
      ),
      { numRuns: 50 },
    )
  })

  test('that were refused when told to wait are taken after that time', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 20 }),
        fc.nat(1e9),
        (requests, requestBurst, now) => {
          const rates = new Rates()
          const own = limits({ requests, requestBurst })
          let answer = rates.take('default', 'a', own, now)
          while (answer.ok) answer = rates.take('default', 'a', own, now)
          expect(rates.take('default', 'a', own, now + answer.retryAfter * 1_000).ok).toBe(true)
        },
      ),
    )
  })

  test('are let through at once when a reload gives more', () => {
    const rates = new Rates()
    for (let n = 0; n < 100; n += 1) rates.take('default', 'a', limits({ requests: 1, requestBurst: 100 }), 0)
    const more = limits({ requests: 100, requestBurst: 10 })
    expect(rates.take('default', 'a', more, 0).ok).toBe(false)
    expect(rates.take('default', 'a', more, 10).ok).toBe(true)
  })

  test('of a flood of addresses fill no memory, keep nobody out, and do not wipe out who goes on asking', () => {
    const rates = new Rates(100)
    const slow = limits({ requests: 1, requestBurst: 60 })
    for (let n = 0; n < 60; n += 1) rates.take('default', 'greedy', slow, 0)
    for (let n = 0; n < 10_000; n += 1) {
      expect(rates.take('default', `flood-${n}`, slow, n / 100).ok).toBe(true)
      if (n % 20 === 0) expect(rates.take('default', 'greedy', slow, n / 100).ok).toBe(false)
      expect(rates.size).toBeLessThanOrEqual(100)
    }
    expect(rates.take('default', 'visitor', slow, 100).ok).toBe(true)
  })

  test('of addresses that asked long ago are forgotten while traffic goes on', () => {
    const rates = new Rates()
    const own = limits({ requests: 10, requestBurst: 20 })
    for (let n = 0; n < 1_000; n += 1) rates.take('default', `${n}`, own, 0)
    expect(rates.size).toBeGreaterThanOrEqual(1_000)
    for (let n = 0; n < 3; n += 1) rates.take('default', 'one', own, 10_000 + n * 200)
    expect(rates.size).toBeLessThanOrEqual(2)
  })
})

describe('connections', () => {
  test('of an address and of all together are so many at once', () => {
    const rates = new Rates()
    const few = limits({ connections: 2, routeConnections: 3 })
    const seats = ['a', 'a', 'a', 'b', 'b'].map((address) => rates.connect('default', address, few))
    expect(seats.map((seat) => seat !== undefined)).toEqual([true, true, false, true, false])
    expect(rates.connect('other/', 'a', few)).toBeDefined()
    seats[0]?.leave()
    seats[0]?.leave()
    expect(rates.connect('default', 'b', few)).toBeDefined()
    expect(rates.connect('default', 'c', few)).toBeUndefined()
  })

  test('without a limit are not counted, also when one is set before they leave', () => {
    const rates = new Rates()
    const seat = rates.connect('default', 'a', OFF)
    expect(rates.size).toBe(0)
    const one = limits({ connections: 1 })
    const counted = rates.connect('default', 'a', one)
    seat?.leave()
    expect(rates.connect('default', 'a', one)).toBeUndefined()
    counted?.leave()
    expect(rates.connect('default', 'a', one)).toBeDefined()
  })

  test('are never over a limit, and leave nothing when they leave', () => {
    const step = fc.record({
      leaves: fc.option(fc.nat(20)),
      address: fc.constantFrom('a', 'b'),
      route: fc.constantFrom('default', 'app/'),
      reloaded: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), fc.nat(4), fc.nat(6), (steps, connections, all) => {
        const rates = new Rates()
        const here: { route: string; address: string; seat: Seat }[] = []
        for (const { leaves, address, route, reloaded } of steps) {
          if (leaves !== null) {
            for (const { seat } of here.splice(leaves, 1)) seat.leave()
            continue
          }
          const now = reloaded ? OFF : limits({ connections, routeConnections: all })
          const seat = rates.connect(route, address, now)
          if (seat !== undefined && !reloaded) {
            here.push({ route, address, seat })
          }
          const onRoute = here.filter((each) => each.route === route)
          if (connections !== 0)
            expect(onRoute.filter((each) => each.address === address).length).toBeLessThanOrEqual(connections)
          if (all !== 0) expect(onRoute.length).toBeLessThanOrEqual(all)
        }
        for (const { seat } of here) seat.leave()
        expect(rates.size).toBe(0)
      }),
    )
  })
})
