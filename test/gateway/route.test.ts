import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatRoute, isPath, isRoute, parseRoute, readRoute } from '../../src/gateway/route.ts'
import { refusal } from './people.ts'

const http = (host: string, path = '/') => ({ kind: 'http', host, path }) as const

describe('a route', () => {
  test.each([
    ['default', http('*')],
    ['default/api', http('*', '/api')],
    ['app.example.com/', http('app.example.com')],
    ['app.example.com/api/v1', http('app.example.com', '/api/v1')],
    ['*.example.com/', http('*.example.com')],
    ['10.0.0.1/', http('10.0.0.1')],
    ['[2001:db8::1]/x', http('[2001:db8::1]', '/x')],
    ["a/-._~!$&'()*+,;=:@", http('a', "/-._~!$&'()*+,;=:@")],
    [`a/${'x'.repeat(254)}`, http('a', `/${'x'.repeat(254)}`)],
    ['tcp:1', { kind: 'tcp', port: 1 }],
    ['tcp:65535', { kind: 'tcp', port: 65_535 }],
  ] as const)('is read from %s', (text, route) => {
    expect(parseRoute(text)).toEqual(route)
    expect(formatRoute(route)).toBe(text)
    expect(isRoute(text)).toBe(true)
  })

  test.each([
    ['app.example.com', 'app.example.com/'],
    ['App.Example.COM/Api', 'app.example.com/Api'],
    ['bücher.example', 'xn--bcher-kva.example/'],
    ['[2001:DB8:0::1]', '[2001:db8::1]/'],
    ['default/', 'default'],
  ])('may be typed as %s, and is kept as %s', (text, route) => {
    expect(formatRoute(parseRoute(text))).toBe(route)
    expect(isRoute(text)).toBe(false)
  })

  test.each([
    '',
    '/',
    '/api',
    'tcp:',
    'tcp:0',
    'tcp:65536',
    'tcp:02222',
    'tcp:1e3',
    'tcp: 1',
    'tcp:1\n',
    'tcp:1/',
    'udp:1',
    '2222',
    '*',
    '*/',
    '*.*.example.com/',
    'Default',
    'a.example.com:80/',
    'a.example.com./',
    '::1/',
    'a.example.com/api/',
    'a.example.com//',
    'a.example.com/a//b',
    'a.example.com/a/../b',
    'a.example.com/./a',
    'a.example.com/a/..',
    'a.example.com/a%20b',
    'a.example.com/a\\b',
    'a.example.com/a?b',
    'a.example.com/a#b',
    'a.example.com/ü',
    'a.example.com/\n',
    `a/${'x'.repeat(255)}`,
  ])('is not "%s"', (text) => {
    expect(isRoute(text)).toBe(false)
    expect(readRoute(text)).toBeUndefined()
    expect(refusal(() => parseRoute(text)).code).toBe('usage')
  })

  test('has one spelling: any text that is a route is what it is written as', () => {
    const host = fc.constantFrom(
      'a.example',
      '*.example',
      'default',
      '*',
      '[::1]',
      '[::0:1]',
      'A',
      'ü.x',
      '1.2.3.4',
    )
    const text = fc.oneof(
      fc.string(),
      fc.string().map((rest) => `tcp:${rest}`),
      fc.nat(70_000).map((n) => `tcp:${n}`),
      fc.tuple(host, fc.webPath()).map((parts) => parts.join('')),
      fc.tuple(fc.domain(), fc.string()).map((parts) => parts.join('/')),
    )
    fc.assert(
      fc.property(text, (text) => {
        const route = readRoute(text)
        if (route === undefined) {
          expect(isRoute(text)).toBe(false)
          expect(refusal(() => parseRoute(text)).code).toBe('usage')
        } else {
          const written = formatRoute(route)
          expect(parseRoute(written)).toEqual(route)
          expect(isRoute(written)).toBe(true)
          expect(isRoute(text)).toBe(text === written)
        }
      }),
    )
  })

  test('has a path that is looked at in a time that does not explode', () => {
    expect(isPath(`${'/a'.repeat(127)}!`)).toBe(true)
    expect(isPath(`${'/a'.repeat(127)}?`)).toBe(false)
    expect(isPath('/a'.repeat(100_000))).toBe(false)
  })
})
