import { describe, expect, test } from 'vitest'
import { RouteTraffic, Traffic } from '../../src/gateway/traffic.ts'
import { RETRIES_ALWAYS, RETRY_SHARE, RETRY_WINDOW_MS } from '../../src/limits.ts'

function allowed(traffic: RouteTraffic, now: number, most = 100_000): number {
  let count = 0
  while (count < most && traffic.mayRetry(now)) count += 1
  return count
}

describe('requests that may be repeated', () => {
  test('are a few on a route that is seldom asked', () => {
    const traffic = new RouteTraffic()
    traffic.asked(0)
    expect(allowed(traffic, 0)).toBe(RETRIES_ALWAYS)
  })

  test('are a share of the recent ones on a busy route', () => {
    const traffic = new RouteTraffic()
    for (let n = 0; n < 10_000; n += 1) traffic.asked(5)
    expect(allowed(traffic, 6)).toBe(10_000 * RETRY_SHARE)
    expect(traffic.mayRetry(7)).toBe(false)
  })

  test('are no more for a window that has just turned: what was asked and repeated before still counts', () => {
    const traffic = new RouteTraffic()
    for (let n = 0; n < 10_000; n += 1) traffic.asked(RETRY_WINDOW_MS - 2)
    expect(allowed(traffic, RETRY_WINDOW_MS - 1)).toBe(1_000)
    expect(allowed(traffic, RETRY_WINDOW_MS)).toBe(0)
    for (let n = 0; n < 1_000; n += 1) traffic.asked(RETRY_WINDOW_MS)
    expect(allowed(traffic, RETRY_WINDOW_MS)).toBe(100)
  })

  test('are as many as ever when all of that is long ago', () => {
    const traffic = new RouteTraffic()
    for (let n = 0; n < 10_000; n += 1) traffic.asked(0)
    allowed(traffic, 0)
    expect(allowed(traffic, 2 * RETRY_WINDOW_MS)).toBe(RETRIES_ALWAYS)
  })
})

describe('the traffic of routes', () => {
  test('counts answers by their kind, and requests by their answers', () => {
    const traffic = new RouteTraffic()
    for (const status of [200, 204, 304, 404, 502, 0]) traffic.answered(status)
    expect(traffic.answers).toEqual([1, 0, 2, 1, 1, 1])
    expect(traffic.requests).toBe(6)
  })

  test('is kept by route, and forgotten with its owner', () => {
    const all = new Traffic()
    const one = all.of('a.example.com/')
    all.of('b.example.com/')
    expect(all.of('a.example.com/')).toBe(one)
    all.keep((route) => route.startsWith('a'))
    expect([...all.all.keys()]).toEqual(['a.example.com/'])
  })
})
