import { expect, test } from 'vitest'
import { DEFAULT_HTTP_LIMITS } from '../../src/config/index.ts'
import { LimitsOf } from '../../src/gateway/limits-of.ts'

const limits = { ...DEFAULT_HTTP_LIMITS, connections: 64, bodyBytes: 1_000 }
const routeLimits = new Map([['app.example.com/api', { bodyBytes: 0, headMs: 5 }]])

test('a route has the general limits where the settings say nothing of its own', () => {
  const of = new LimitsOf({ limits, routeLimits })
  expect(of.of('app.example.com/api')).toEqual({ ...limits, bodyBytes: 0, headMs: 5 })
  expect(of.of('app.example.com/')).toEqual(limits)
  expect(of.of(undefined)).toEqual(limits)
})

test('limits are made once, and those of all other routes are one object', () => {
  const of = new LimitsOf({ limits, routeLimits })
  expect(of.of('app.example.com/api')).toBe(of.of('app.example.com/api'))
  expect(of.of('default')).toBe(of.of('whatever.example/'))
})

test('before a route is known a head may be as large as any route takes', () => {
  const large = new Map([
    ['a.example.com/', { headBytes: 2 * limits.headBytes }],
    ['b.example.com/', { headBytes: 1_024 }],
  ])
  const of = new LimitsOf({ limits, routeLimits: large })
  expect(of.of(undefined)).toEqual({ ...limits, headBytes: 2 * limits.headBytes })
  expect(of.of('default')).toEqual(limits)
})
