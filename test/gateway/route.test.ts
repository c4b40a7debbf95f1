import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatRoute, isRoute, parseRoute, routeOf } from '../../src/gateway/route.ts'
import { refusal } from './people.ts'

describe('a route', () => {
  test.each([
    ['default', { kind: 'default' }],
    ['tcp:1', { kind: 'tcp', port: 1 }],
    ['tcp:65535', { kind: 'tcp', port: 65_535 }],
  ] as const)('is read from %s', (text, route) => {
    expect(parseRoute(text)).toEqual(route)
    expect(formatRoute(route)).toBe(text)
  })

  test.each([
    '',
    'tcp:',
    'tcp:0',
    'tcp:65536',
    'tcp:02222',
    'tcp:1e3',
    'tcp: 1',
    'tcp:1\n',
    'Default',
    'udp:1',
    '2222',
  ])('is not "%s"', (text) => {
    expect(isRoute(text)).toBe(false)
    expect(refusal(() => parseRoute(text)).code).toBe('usage')
  })

  test('has one spelling: any text that is a route is what it is written as', () => {
    const text = fc.oneof(
      fc.string(),
      fc.string().map((rest) => `tcp:${rest}`),
      fc.nat(70_000).map((n) => `tcp:${n}`),
    )
    fc.assert(
      fc.property(text, (text) => {
        if (isRoute(text)) expect(formatRoute(parseRoute(text))).toBe(text)
        else expect(refusal(() => parseRoute(text)).code).toBe('usage')
      }),
    )
  })

  test('of a tcp offer without a port, or with port 0, is the gateway’s to choose', () => {
    expect(routeOf({ name: 'ssh', type: 'tcp' })).toBeUndefined()
    expect(routeOf({ name: 'ssh', type: 'tcp', port: 0 })).toBeUndefined()
    expect(routeOf({ name: 'ssh', type: 'tcp', port: 2222, hosts: [] })).toBe('tcp:2222')
  })

  test('of an offer that makes no sense is an error that prints, whatever its name', () => {
    const { message } = refusal(() => routeOf({ name: 'a\u001b[2Jb', type: 'udp' }))
    expect(message).not.toContain('\u001b')
  })
})
