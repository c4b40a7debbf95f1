import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HostTable } from '../../src/gateway/hosts.ts'
import { httpRoute, parseRoute } from '../../src/gateway/route.ts'

function table(...routes: [route: string, name?: string][]): HostTable {
  const hosts = new HostTable()
  for (const [route, name = 'home'] of routes) add(hosts, route, name)
  return hosts
}

function add(hosts: HostTable, route: string, name = 'home'): void {
  const parsed = parseRoute(route)
  if (parsed.kind === 'http') hosts.add(name, parsed, route)
}

function remove(hosts: HostTable, route: string): void {
  const parsed = parseRoute(route)
  if (parsed.kind === 'http') hosts.remove(parsed)
}

describe('a host', () => {
  const hosts = table(
    ['a.example.com/', 'office'],
    ['*.example.com/'],
    ['example.com/'],
    ['default', 'lab'],
    ['[2001:db8::1]/'],
    ['10.0.0.1/'],
  )

  test.each([
    ['a.example.com', 'a.example.com/', 'office'],
    ['b.example.com', '*.example.com/', 'home'],
    ['example.com', 'example.com/', 'home'],
    ['x.a.example.com', 'default', 'lab'],
    ['com', 'default', 'lab'],
    ['', 'default', 'lab'],
    ['.example.com', 'default', 'lab'],
    ['[2001:db8::1]', '[2001:db8::1]/', 'home'],
    ['[2001:db8::2]', 'default', 'lab'],
    ['10.0.0.1', '10.0.0.1/', 'home'],
    ['10.0.0.2', 'default', 'lab'],
    ['__proto__', 'default', 'lab'],
  ])('%s is found at %s of %s', (host, route, name) => {
    expect(hosts.find(host)).toMatchObject({ name })
    expect(hosts.find(host)?.route('/x')).toBe(route)
  })

  test('that has no fitting path is not looked for at the wildcard or the default, which others may own', () => {
    const hosts = table(['a.example.com/api', 'office'], ['*.example.com/'], ['default', 'lab'])
    expect(hosts.find('a.example.com')?.route('/')).toBeUndefined()
    expect(hosts.find('a.example.com')?.route('/api')).toBe('a.example.com/api')
  })

  test('nobody answers for is not found', () => {
    expect(table(['a.example.com/'], ['*.b.example.com/']).find('c.example.com')).toBeUndefined()
    expect(table().find('a.example.com')).toBeUndefined()
  })

  test('is gone with its last route, and then the wildcard answers', () => {
    const hosts = table(['a.example.com/', 'office'], ['a.example.com/api', 'office'], ['*.example.com/'])
    remove(hosts, 'a.example.com/')
    expect(hosts.ownerOf('a.example.com')).toBe('office')
    remove(hosts, 'a.example.com/api')
    expect(hosts.ownerOf('a.example.com')).toBeUndefined()
    expect(hosts.find('a.example.com')?.name).toBe('home')
    remove(hosts, '*.example.com/')
    expect(hosts.find('a.example.com')).toBeUndefined()
  })

  test('has an owner, and one of the wildcard above it', () => {
    const hosts = table(['*.example.com/'], ['default/api', 'lab'])
    expect(['*.example.com', '*', 'a.example.com'].map((host) => hosts.ownerOf(host))).toEqual([
      'home',
      'lab',
      undefined,
    ])
    const above = ['a.example.com', '*.example.com', 'example.com', 'b.a.example.com', '*', '[::1]']
    expect(above.map((host) => hosts.ownerAbove(host))).toEqual([
      'home',
      ...above.slice(1).map(() => undefined),
    ])
  })
})

describe('a path', () => {
  const entry = (...paths: string[]) =>
    table(...paths.map((path): [string] => [httpRoute('a', path)])).find('a')

  test.each([
    ['/', 'a/'],
    ['/api', 'a/api'],
    ['/api/', 'a/api'],
    ['/api/x', 'a/api'],
    ['/apix', 'a/'],
    ['/api/v1', 'a/api/v1'],
    ['/api/v1/x/y', 'a/api/v1'],
    ['/api/v10', 'a/api'],
    ['/API', 'a/'],
    ['*', 'a/'],
    ['', 'a/'],
    ['api', 'a/'],
  ])('%s leads to %s', (path, route) => {
    expect(entry('/', '/api', '/api/v1')?.route(path)).toBe(route)
  })

  test('decides who answers as soon as one route has more than the root', () => {
    expect(entry('/')?.byPath).toBe(false)
    expect(entry('/', '/api')?.byPath).toBe(true)
    const hosts = table(['a/'], ['a/api'])
    remove(hosts, 'a/api')
    expect(hosts.find('a')?.byPath).toBe(false)
    expect(hosts.find('a')?.route('/api')).toBe('a/')
  })

  test('of ten thousand segments costs no more than one of a hundred', () => {
    let read = 0
    const counted = new Proxy(new String('/a'.repeat(10_000)), {
      get(text, key) {
        const value: unknown = Reflect.get(text, key, text)
        if (typeof value !== 'function') return value
        return (...given: unknown[]) => {
          read++
          return value.apply(text, given) as unknown
        }
      },
    }) as unknown as string
    expect(entry('/a/a/a', '/b')?.route(counted)).toBe('a/a/a/a')
    expect(read).toBeLessThan(10)
  })
})

const LABELS = ['a', 'b', 'example', 'com']
const host = fc.oneof(
  fc.array(fc.constantFrom(...LABELS), { minLength: 1, maxLength: 3 }).map((labels) => labels.join('.')),
  fc.constantFrom('10.0.0.1', '[::1]'),
)
const pattern = fc.oneof(
  host,
  fc
    .array(fc.constantFrom(...LABELS), { minLength: 1, maxLength: 2 })
    .map((labels) => `*.${labels.join('.')}`),
  fc.constant('*'),
)
const path = fc.oneof(
  { weight: 2, arbitrary: fc.constant('/') },
  {
    weight: 3,
    arbitrary: fc
      .array(fc.constantFrom('x', 'y', 'xy'), { minLength: 1, maxLength: 3 })
      .map((s) => `/${s.join('/')}`),
  },
)

test('the table agrees with a list that is gone through, whatever was added and removed', () => {
  const change = fc.record({ adds: fc.boolean(), pattern, path })
  const asked = fc.tuple(
    host,
    fc.oneof(
      path,
      path.map((path) => `${path}/`),
      fc.webPath(),
    ),
  )
  fc.assert(
    fc.property(fc.array(change, { maxLength: 40 }), fc.array(asked, { minLength: 5 }), (changes, asking) => {
      const hosts = new HostTable()
      const list = new Map<string, { pattern: string; path: string }>()
      for (const { adds, pattern, path } of changes) {
        const route = httpRoute(pattern, path)
        if (adds) {
          list.set(route, { pattern, path })
          hosts.add('home', { host: pattern, path }, route)
        } else {
          list.delete(route)
          hosts.remove({ host: pattern, path })
        }
      }
      for (const [host, path] of asking) {
        const rank = (pattern: string): number => {
          if (pattern === host) return 3
          if (pattern === '*') return 1
          return pattern.startsWith('*.') && host.split('.').slice(1).join('.') === pattern.slice(2) ? 2 : 0
        }
        const fitting = [...list.values()].filter(({ pattern }) => rank(pattern) > 0)
        const best = Math.max(...fitting.map(({ pattern }) => rank(pattern)))
        const there = fitting.filter(({ pattern }) => rank(pattern) === best)
        const [longest] = there
          .filter((one) => one.path === '/' || path === one.path || path.startsWith(`${one.path}/`))
          .toSorted((a, b) => b.path.length - a.path.length)
        const found = hosts.find(host)
        expect(found === undefined).toBe(there.length === 0)
        expect(found?.byPath ?? false).toBe(there.some((one) => one.path !== '/'))
        expect(found?.route(path)).toBe(longest && httpRoute(longest.pattern, longest.path))
      }
    }),
    { numRuns: 300 },
  )
})
