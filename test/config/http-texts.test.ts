import { describe, expect, it } from 'vitest'
import {
  parseHeaderName,
  parseHeaderValue,
  parseHealthPath,
  parseHostHeader,
  parseHosts,
  parsePath,
} from '../../src/config/http-texts.ts'

describe('a path of a service', () => {
  it.each([
    ['/', '/'],
    ['/api', '/api'],
    ['/api/', '/api'],
    ['/a/b.c/~d', '/a/b.c/~d'],
    ["/-._~!$&'()*+,;=:@", "/-._~!$&'()*+,;=:@"],
    ['/..a/.b/c.', '/..a/.b/c.'],
    [`/${'a'.repeat(254)}`, `/${'a'.repeat(254)}`],
  ])('%j is %j', (text, path) => {
    expect(parsePath(text)).toBe(path)
  })

  it.each([
    ['', 'does not begin with a slash'],
    ['api', 'does not begin with a slash'],
    ['http://a/b', 'is a URL'],
    ['//', 'has an empty part'],
    ['/a//b', 'has an empty part'],
    ['/a//', 'has an empty part'],
    ['/a?b', 'has a query or a fragment'],
    ['/a#b', 'has a query or a fragment'],
    ['/a%2fb', 'has an escape'],
    ['/a\\b', 'has a backslash'],
    ['/.', 'has a "." or ".."'],
    ['/a/../b', 'has a "." or ".."'],
    ['/a/..', 'has a "." or ".."'],
    ['/a/./', 'has a "." or ".."'],
    ['/a b', 'has a character that a path has not'],
    ['/ä', 'has a character that a path has not'],
    ['/a\n', 'has a character that a path has not'],
    ['/a"', 'has a character that a path has not'],
    [`/${'a'.repeat(255)}`, 'is too long'],
  ])('%j is none', (text, why) => {
    expect(() => parsePath(text)).toThrow(why)
  })
})

describe('a path that is asked for health', () => {
  it.each([['/'], ['/health'], ['/health/'], ['/health?deep=1&name=a%20b'], ['/a?b?c/d']])(
    '%j stays as it is',
    (text) => {
      expect(parseHealthPath(text)).toBe(text)
    },
  )

  it.each([
    ['health'],
    ['/a#b'],
    ['/a?b#c'],
    ['/a%2f'],
    ['/a?b c'],
    ['/a?%2'],
    ['//a'],
    ['/../a'],
    ['/a?\r\nX: y'],
  ])('%j is none', (text) => {
    expect(() => parseHealthPath(text)).toThrow(/: /)
  })
})

describe('a header for the target', () => {
  it.each([['X-From'], ['Authorization'], ['Cookie'], ["!#$%&'*+-.^_`|~9"], ['X-Forward'], ['Tee']])(
    '%j may be added',
    (name) => {
      expect(parseHeaderName(name)).toBe(name)
    },
  )

  it.each([
    ['Host'],
    ['content-length'],
    ['Transfer-Encoding'],
    ['Transfer_Encoding'],
    ['connection'],
    ['Keep-Alive'],
    ['Proxy-Connection'],
    ['TE'],
    ['Trailer'],
    ['Upgrade'],
    ['Expect'],
    ['Forwarded'],
    ['X-Forwarded-For'],
    ['x_forwarded_anything'],
    ['X-Real_IP'],
    ['X-Request-Id'],
    [''],
    ['X From'],
    ['X:'],
    ['X\r\n'],
    ['Ü'],
    ['x'.repeat(256)],
  ])('%j may not', (name) => {
    expect(() => parseHeaderName(name)).toThrow(/: /)
  })

  it.each([[''], ['a b'], ['"quoted", value'], ['Grüße'], ['\u00a3'], ['x'.repeat(1024)]])(
    'may be %j',
    (value) => {
      expect(parseHeaderValue(value)).toBe(value)
    },
  )

  it.each([
    [' a'],
    ['a '],
    ['a\tb'],
    ['a\r\nX: y'],
    ['a\0'],
    ['\u007f'],
    ['\u0085'],
    ['€'],
    ['x'.repeat(1025)],
  ])('may not be %j', (value) => {
    expect(() => parseHeaderValue(value)).toThrow(/: /)
  })
})

describe('a Host for the target', () => {
  it.each([
    ['intern.local', 'intern.local'],
    ['intern.local:8080', 'intern.local:8080'],
    ['10.0.0.5', '10.0.0.5'],
    ['10.0.0.5:80', '10.0.0.5:80'],
    ['[::1]:80', '[::1]:80'],
    ['[::1]', '[::1]'],
    ['::1', '[::1]'],
  ])('%j is %j', (text, host) => {
    expect(parseHostHeader(text)).toBe(host)
  })

  it.each([
    [''],
    ['a b'],
    ['http://a'],
    ['a:0'],
    ['a:99999'],
    ['a/b'],
    ['*'],
    ['*.a.example'],
    ['8080'],
    ['a\r\n'],
  ])('%j is none', (text) => {
    expect(() => parseHostHeader(text)).toThrow('is not a host')
  })
})

describe('the hosts of a service', () => {
  it('are each there once, in their order', () => {
    expect(parseHosts(['B.example', 'a.example', 'b.example', '*'])).toEqual(['b.example', 'a.example', '*'])
  })

  it('are 1 to 64', () => {
    expect(() => parseHosts([])).toThrow('an empty list')
    expect(parseHosts(Array.from({ length: 64 }, (_, at) => `h${at}.example`))).toHaveLength(64)
    expect(() => parseHosts(Array.from({ length: 65 }, (_, at) => `h${at}.example`))).toThrow('65 hosts')
  })
})
