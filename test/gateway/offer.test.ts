import { describe, expect, test } from 'vitest'
import { asksAlike, routesOf } from '../../src/gateway/offer.ts'
import { HOSTS_PER_SERVICE, REWRITE_HEADERS } from '../../src/limits.ts'
import type { ServiceOffer } from '../../src/protocol/index.ts'
import { refusal } from './people.ts'

const HOSTS = ['a.example.com']
const web = (rest: Partial<ServiceOffer> = {}): ServiceOffer => ({ name: 'web', type: 'http', ...rest })
const tcp = (rest: Partial<ServiceOffer> = {}): ServiceOffer => ({ name: 'ssh', type: 'tcp', ...rest })
const header = (name: string, value = 'x'): ServiceOffer => web({ rewrite: { headers: [[name, value]] } })

describe('an http offer is reached', () => {
  test.each<[Partial<ServiceOffer>, string[]]>([
    [{}, ['default']],
    [{ hosts: [], path: '/' }, ['default']],
    [{ path: '/api' }, ['default/api']],
    [{ hosts: ['*'] }, ['default']],
    [{ hosts: ['*', 'a.example.com'], path: '/x' }, ['default/x', 'a.example.com/x']],
    [
      { hosts: ['B.Example.com', '*.b.example.com', '10.0.0.1', '[::0:1]'] },
      ['b.example.com/', '*.b.example.com/', '10.0.0.1/', '[::1]/'],
    ],
  ])('with %o on %o', (rest, routes) => {
    expect(routesOf(web(rest))).toEqual(routes)
  })

  test('under the domain of the gateway when it names no host, with its owner’s name where the short one is taken', () => {
    const under = (taken: string[], rest: Partial<ServiceOffer> = {}) =>
      routesOf(web(rest), {
        name: 'home',
        domain: 'example.com',
        tls: true,
        foreign: (host) => taken.includes(host),
      })
    expect(under([])).toEqual(['web.example.com/'])
    expect(under([], { path: '/api' })).toEqual(['web.example.com/api'])
    expect(under(['web.example.com'])).toEqual(['web-home.example.com/'])
    expect(under([], { hosts: ['*'] })).toEqual(['default'])
    expect(under([], { hosts: HOSTS })).toEqual(['a.example.com/'])
    // Together they may be longer than DNS allows.
    const name = 'x'.repeat(63)
    expect(under([`${name}.example.com`], { name: 'a' })).toEqual(['a.example.com/'])
    expect(refusal(() => under([`${name}.example.com`], { name })).code).toBe('bad_service')
  })

  test.each<[Partial<ServiceOffer>, string]>([
    [{ port: 80 }, 'no port of its own'],
    [{ hosts: ['a.example.com', 'A.example.com'] }, 'host "A.example.com" is there twice'],
    [{ hosts: ['*', '*'] }, 'there twice'],
    [{ hosts: ['default'] }, 'stands for every other host'],
    [{ hosts: ['a.example.com:80'] }, 'is not a host'],
    [{ hosts: ['a.example.com.'] }, 'leave it out'],
    [{ hosts: ['*.*.example.com'] }, 'whole first label'],
    [{ hosts: ['a\u001b[2Jb'] }, 'is not a host'],
    [{ path: 'api' }, 'path "api"'],
    [{ path: '' }, 'path ""'],
    [{ path: '/api/' }, 'path "/api/"'],
    [{ path: '/a/../b' }, 'path "/a/../b"'],
    [{ path: '/%61' }, 'path "/%61"'],
    [
      { hosts: Array.from({ length: HOSTS_PER_SERVICE + 1 }, (_, n) => `h${n}.example.com`) },
      'make two services',
    ],
  ])('nowhere with %o', (rest, why) => {
    const { code, message, scope } = refusal(() => routesOf(web(rest)))
    expect([code, scope]).toEqual(['bad_service', 'stream'])
    expect(message).toContain(why)
    expect(message).toContain('service "web"')
    expect(message).not.toContain('\u001b')
  })

  test('on as many hosts as a service may have', () => {
    const hosts = Array.from({ length: HOSTS_PER_SERVICE }, (_, n) => `h${n}.example.com`)
    expect(routesOf(web({ hosts }))).toHaveLength(HOSTS_PER_SERVICE)
  })
})

describe('a tcp offer', () => {
  test('without a port, or with port 0, is the gateway’s to place', () => {
    expect(routesOf(tcp())).toBeUndefined()
    expect(routesOf(tcp({ port: 0 }))).toBeUndefined()
    expect(routesOf(tcp({ port: 2222, hosts: [] }))).toEqual(['tcp:2222'])
  })

  test.each<Partial<ServiceOffer>>([
    { hosts: HOSTS },
    { path: '/' },
    { retry: 'idempotent' },
    { rewrite: {} },
    { rewrite: { host: 'x' } },
  ])('has nothing to do with %o', (rest) => {
    expect(refusal(() => routesOf(tcp({ port: 2222, ...rest }))).code).toBe('bad_service')
  })
})

test('an offer of another type is unsupported, and its error prints whatever its name', () => {
  for (const type of ['udp', 'sctp' as 'udp'] as const) {
    const { code, message } = refusal(() => routesOf({ name: 'a\u001b[2Jb', type }))
    expect(code).toBe('unsupported')
    expect(message).not.toContain('\u001b')
  }
})

describe('what a service changes in requests', () => {
  test.each<Partial<ServiceOffer>>([
    { retry: 'idempotent' },
    { rewrite: {} },
    { rewrite: { host: 'localhost:3000' }, hosts: HOSTS },
    { rewrite: { host: '127.0.0.1' }, hosts: ['*.example.com'] },
    { rewrite: { host: '[::1]:80' }, hosts: HOSTS },
    { rewrite: { host: 'Nas.lan' }, hosts: HOSTS },
    { rewrite: { stripPath: true }, path: '/api' },
    { rewrite: { stripPath: false } },
    { rewrite: { headers: [['X-Robots-Tag', 'noindex, nofollow']] } },
    { rewrite: { headers: [['x_a', '']] } },
    { rewrite: { headers: Array.from({ length: REWRITE_HEADERS }, (_, n) => [`x-${n}`, 'y']) } },
  ])('may be %o', (rest) => {
    expect(routesOf(web(rest))).toHaveLength(1)
  })

  test.each<[Partial<ServiceOffer>, string]>([
    [{ retry: 'always' as 'idempotent' }, 'write "idempotent"'],
    [{ rewrite: { stripPath: true } }, 'no path to strip'],
    [{ rewrite: { stripPath: true }, path: '/' }, 'no path to strip'],
    [{ rewrite: { host: 'localhost' } }, 'by which hosts'],
    [{ rewrite: { host: 'localhost' }, hosts: [] }, 'by which hosts'],
    [{ rewrite: { host: 'localhost' }, hosts: ['*'] }, 'by which hosts'],
    // The default route is still there for every name that somebody else leads here.
    [{ rewrite: { host: 'localhost' }, hosts: ['*', ...HOSTS] }, 'without "*"'],
    ...['', '*', '*.lan', 'a:0', 'a:65536', 'a:', 'a b', '::1', 'a/b', 'ü.x', 'a\r\nX: y', 'a@b'].map(
      (host): [Partial<ServiceOffer>, string] => [{ rewrite: { host }, hosts: HOSTS }, 'is not a host'],
    ),
    [
      { rewrite: { headers: Array.from({ length: REWRITE_HEADERS + 1 }, (_, n) => [`x-${n}`, 'y']) } },
      `more than the ${REWRITE_HEADERS}`,
    ],
  ])('may not be %o', (rest, why) => {
    const { code, message } = refusal(() => routesOf(web(rest)))
    expect(code).toBe('bad_service')
    expect(message).toContain(why)
    expect(message).not.toMatch(/[\r\n]/)
  })

  test.each(['', 'a b', 'a:', 'a\r\n', 'ü', 'a/b', '"a"'])('is no header "%s"', (name) => {
    expect(refusal(() => routesOf(header(name))).code).toBe('bad_service')
  })

  test.each([
    'Host',
    'content-length',
    'Content_Length',
    'TRANSFER-ENCODING',
    'Transfer_Encoding',
    'connection',
    'keep-alive',
    'proxy-connection',
    'te',
    'trailer',
    'upgrade',
    'expect',
    'forwarded',
    'X-Forwarded-For',
    'x_forwarded_host',
    'X-Forwarded-Anything',
    'x-real-ip',
    'X_Real_IP',
    'X.Real.IP',
    'content~length',
    'x-request-id',
  ])('is never the header %s, which frames, routes or is the gateway’s word', (name) => {
    const { code, message } = refusal(() => routesOf(header(name)))
    expect(code).toBe('bad_service')
    expect(message).toContain("is the gateway's to set")
  })

  test.each(['a\r\nb', 'a\nb', 'a\rb', 'a\0b', 'a\tb', ' a', 'a ', ' ', 'a\u007f', 'ü', '\u010ax'])(
    'is never the value %j',
    (value) => {
      expect(refusal(() => routesOf(header('x-a', value))).code).toBe('bad_service')
    },
  )
})

test('two offers ask alike when they ask for the same place, whatever else they say', () => {
  expect(asksAlike(web(), web({ generation: '2', share: false, rewrite: {}, path: '/', port: 0 }))).toBe(true)
  for (const other of [web({ hosts: HOSTS }), web({ path: '/api' }), tcp()]) {
    expect(asksAlike(web(), other)).toBe(false)
  }
})
