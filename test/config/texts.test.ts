import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseAddressBlock, parseBareHost } from '../../src/config/address.ts'
import { parseDomain } from '../../src/config/domain.ts'
import { parseHttpRoute } from '../../src/config/http-route.ts'
import {
  formatAddress,
  parseAddress,
  parseBytes,
  parseDuration,
  parseHostPattern,
  parseIdle,
  parseLabel,
  parsePortRange,
  parseRemote,
  parseTarget,
  serviceNameOf,
} from '../../src/config/index.ts'
import { nearest } from '../../src/config/nearest.ts'
import { parseKey } from '../../src/config/patterns.ts'
import { parseMemory } from '../../src/config/units.ts'
import { TunnelError } from '../../src/errors.ts'
import { DURATION_MS_MAX, MEMORY_MIN_BYTES, SOCKET_PATH_BYTES, TIMER_MS_MAX } from '../../src/limits.ts'
import { printable } from '../../src/protocol/index.ts'

/** What a parser says to `text`. */
function complaint(parse: (text: string) => unknown, text: string): string {
  try {
    const value: unknown = parse(text)
    return `took it as ${JSON.stringify(value)}`
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error
    expect(error.code).toBe('config_invalid')
    return error.message
  }
}

describe('an address', () => {
  it.each([
    ['9000', { port: 9000 }],
    [':9000', { port: 9000 }],
    ['0', { port: 0 }],
    ['127.0.0.1:80', { host: '127.0.0.1', port: 80 }],
    ['vps.example.com:443', { host: 'vps.example.com', port: 443 }],
    ['my_service:443', { host: 'my_service', port: 443 }],
    ['localhost:65535', { host: 'localhost', port: 65_535 }],
    ['[::1]:80', { host: '::1', port: 80 }],
    ['[fe80::1%eth0]:80', { host: 'fe80::1%eth0', port: 80 }],
  ])('reads %s', (text, address) => {
    expect(parseAddress(text)).toEqual(address)
  })

  it.each([
    ['', '"" is not an address: write host:port, [IPv6]:port or a port'],
    ['host', '"host" is not an address: write host:port, [IPv6]:port or a port'],
    ['host:', '"host:" is not an address: write host:port, [IPv6]:port or a port'],
    ['1.2.3:80', '"1.2.3:80" is not an address: write host:port, [IPv6]:port or a port'],
    ['a b:80', '"a b:80" is not an address: write host:port, [IPv6]:port or a port'],
    ['-a:80', '"-a:80" is not an address: write host:port, [IPv6]:port or a port'],
    [':65536', '":65536": there is no port 65536: 65535 is the last'],
    ['::1', '"::1": put brackets around IPv6, as in [::1]:8080'],
    ['::1:80', '"::1:80": put brackets around IPv6, as in [::1]:8080'],
    ['[1.2.3.4]:80', '"[1.2.3.4]:80" is not an address: write host:port, [IPv6]:port or a port'],
    ['http://a:80/x', '"http://a:80/x" is a URL: write only host:port, "a:80"'],
    ['a:80\n', '"a:80\\x0a" is not an address: write host:port, [IPv6]:port or a port'],
    ['a\n:80', '"a\\x0a:80" is not an address: write host:port, [IPv6]:port or a port'],
    ['+80', '"+80" is not an address: write host:port, [IPv6]:port or a port'],
    ['1e3', '"1e3" is not an address: write host:port, [IPv6]:port or a port'],
  ])('refuses %j', (text, message) => {
    expect(complaint(parseAddress, text)).toBe(message)
  })

  it('is written as it is read', () => {
    const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain(), fc.constant(undefined))
    fc.assert(
      fc.property(host, fc.nat(65_535), (host, port) => {
        expect(parseAddress(formatAddress({ host, port }))).toEqual(
          host === undefined ? { port } : { host, port },
        )
      }),
    )
  })

  it('to dial has a host and a real port', () => {
    expect(parseRemote('[::1]:9001')).toEqual({ host: '::1', port: 9001 })
    expect(complaint(parseRemote, '9001')).toBe('"9001" names no host: write host:9001')
    expect(complaint(parseRemote, 'a:0')).toBe('"a:0": nobody listens on port 0: give the real one')
  })

  it('without a port is a host', () => {
    for (const host of ['::1', '10.0.0.1', 'a.example.com']) expect(parseBareHost(host)).toBe(host)
    expect(parseBareHost('[::1]')).toBe('::1')
    expect(complaint(parseBareHost, 'a:80')).toContain('is not an address')
  })
})

describe('a target', () => {
  it.each([
    ['8080', { kind: 'tcp', host: '127.0.0.1', port: 8080, text: '127.0.0.1:8080' }, 'http-8080'],
    [':8080', { kind: 'tcp', host: '127.0.0.1', port: 8080, text: '127.0.0.1:8080' }, 'http-8080'],
    ['nas.lan:80', { kind: 'tcp', host: 'nas.lan', port: 80, text: 'nas.lan:80' }, 'http-80'],
    ['[::1]:80', { kind: 'tcp', host: '::1', port: 80, text: '[::1]:80' }, 'http-80'],
    ['unix:/run/app.sock', { kind: 'unix', path: '/run/app.sock', text: 'unix:/run/app.sock' }, 'app'],
    ['unix:/run/My App_2', { kind: 'unix', path: '/run/My App_2', text: 'unix:/run/My App_2' }, 'my-app-2'],
    ['unix:/run/ü', { kind: 'unix', path: '/run/ü', text: 'unix:/run/ü' }, undefined],
  ])('reads %s', (text, target, name) => {
    const parsed = parseTarget(text)
    expect(parsed).toEqual(target)
    expect(serviceNameOf('http', parsed)).toBe(name)
  })

  it.each([
    [
      'nas',
      '"nas" is not a target: write a port, host:port, [IPv6]:port, unix:/path, https://host:port or h2c://host:port',
    ],
    ['0', 'target "0": there is no port 0: give one from 1 to 65535'],
    ['99999', 'target "99999": there is no port 99999: give one from 1 to 65535'],
    ['nas.lan:123456', 'target "nas.lan:123456": there is no port 123456: give one from 1 to 65535'],
    ['https://nas.lan:65536', 'target "nas.lan:65536": there is no port 65536: give one from 1 to 65535'],
    ['http://localhost:3000/', '"http://localhost:3000/" is a URL: write only host:port, "localhost:3000"'],
    ['unix:app.sock', 'target "unix:app.sock": write the whole path, as in unix:/run/app.sock'],
    ['unix:/a\0b', 'target "unix:/a\\x00b": write the whole path, as in unix:/run/app.sock'],
  ])('refuses %j', (text, message) => {
    expect(complaint(parseTarget, text)).toBe(message)
  })

  it('has a socket path of at most 107 bytes', () => {
    expect(parseTarget(`unix:/${'a'.repeat(SOCKET_PATH_BYTES - 1)}`).kind).toBe('unix')
    expect(complaint(parseTarget, `unix:/${'ü'.repeat(54)}`)).toContain(
      'longer than the 107 bytes of a socket',
    )
  })

  it('gives a name that may be one, or none', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const name = serviceNameOf('tcp', { kind: 'unix', path: `/${text}`, text })
        if (name !== undefined) expect(parseLabel(name)).toBe(name)
      }),
    )
  })
})

describe('a duration', () => {
  it.each([
    ['500ms', 500],
    ['30s', 30_000],
    ['10m', 600_000],
    ['24h', 86_400_000],
    ['7d', 604_800_000],
    ['0s', 0],
    ['365d', DURATION_MS_MAX],
  ])('reads %s', (text, ms) => {
    expect(parseDuration(text)).toBe(ms)
  })

  it.each(['', '30', 's', '1.5s', '-1s', '1 s', '1h30m', '1S', '١s', '1s\n'])('refuses %j', (text) => {
    expect(complaint(parseDuration, text)).toMatch(
      / is not a duration: write a whole number and ms, s, m, h or d, as in "30s"$/,
    )
  })

  it('is at most a year', () => {
    expect(complaint(parseDuration, '366d')).toBe('"366d" is too long: 365d is the longest')
    expect(complaint(parseDuration, '999999999999d')).toContain('is too long')
  })

  it('of idleness may be off, and is never longer than a timer', () => {
    expect(parseIdle('off')).toBe(0)
    expect(parseIdle('10m')).toBe(600_000)
    expect(parseIdle('30d')).toBe(TIMER_MS_MAX)
  })
})

describe('a size', () => {
  it.each([
    ['1B', 1],
    ['64KiB', 65_536],
    ['256MiB', 268_435_456],
    ['256 mib', 268_435_456],
    ['2GiB', 2_147_483_648],
    ['500MB', 500_000_000],
  ])('reads %s', (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes)
  })

  it.each(['', '256', 'MiB', '1.5GiB', '-1MiB', '1XB', '999999999999999GiB', '1toString'])(
    'refuses %j',
    (text) => {
      expect(complaint(parseBytes, text)).toContain(
        'is not a size: write a whole number and B, KiB, MiB or GiB',
      )
    },
  )

  it('of memory is enough to work', () => {
    expect(parseMemory('16MiB')).toBe(MEMORY_MIN_BYTES)
    expect(complaint(parseMemory, '15MiB')).toBe(
      '"15MiB" is too little memory for visitors: give 16MiB or more',
    )
  })
})

describe('ports of a grant', () => {
  it('are one or a range', () => {
    expect(parsePortRange('2222')).toEqual({ from: 2222, to: 2222 })
    expect(parsePortRange('1-65535')).toEqual({ from: 1, to: 65_535 })
  })

  it.each(['', '0', '65536', '1-65536', '0-5', '-5', '5-', 'ssh', '1 - 5', '80,443'])(
    'are not %j',
    (text) => {
      expect(complaint(parsePortRange, text)).toContain('is not a port or a range of 1 to 65535')
    },
  )

  it('run forwards', () => {
    expect(complaint(parsePortRange, '8100-8000')).toBe('range "8100-8000" runs backwards: write "8000-8100"')
  })
})

describe('a host pattern', () => {
  it('is an exact name, one label before a name, or everything, in lower case', () => {
    expect(['*', 'Example.COM', '*.example.com', 'localhost', '*.lan'].map(parseHostPattern)).toEqual([
      '*',
      'example.com',
      '*.example.com',
      'localhost',
      '*.lan',
    ])
  })

  it.each([
    ['10.0.0.1', '10.0.0.1'],
    ['[2001:DB8:0:0::1]', '[2001:db8::1]'],
    ['[::]', '[::]'],
    ['Bücher.example', 'xn--bcher-kva.example'],
    ['*.bücher.example', '*.xn--bcher-kva.example'],
  ])('%s is %s, as a Host header has it', (text, host) => {
    expect(parseHostPattern(text)).toBe(host)
    expect(parseHostPattern(host)).toBe(host)
  })

  it.each([
    ['*example.com', 'a * stands for the whole first label'],
    ['a.*.com', 'a * stands for the whole first label'],
    ['*.*.com', 'a * stands for the whole first label'],
    ['**', 'a * stands for the whole first label'],
    ['example.com.', 'ends with a dot: leave it out'],
    ['bücher.example.', 'ends with a dot: leave it out'],
    ['ü..example', 'is not a host'],
    // Some letters are dots, digits or stars to IDNA: what they become is looked at as well.
    ['１２７.0.0.1', 'is not a host'],
    ['＊.example', 'is not a host'],
    ['*.', 'is not a host'],
    ['', 'is not a host'],
    ['a..b', 'is not a host'],
    ['10.0.0.01', 'is not a host'],
    ['*.10.0.0.1', 'is not a host'],
    ['*.[::1]', 'is not a host'],
    ['[fe80::1%eth0]', 'is not a host'],
    ['[::1]:80', 'is not a host'],
    ['::1', 'put brackets around IPv6'],
    ['a:80', 'is not a host'],
    [`${'a'.repeat(64)}.com`, 'is not a host'],
    [`${'abc.'.repeat(64)}com`, 'is not a host'],
  ])('is not %s', (text, message) => {
    expect(complaint(parseHostPattern, text)).toContain(message)
  })
})

describe('a domain', () => {
  it.each([
    ['Example.com', 'example.com'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['lan', 'lan'],
  ])('%s is %s', (text, domain) => {
    expect(parseDomain(text)).toBe(domain)
  })

  it.each([
    ['example.com.', 'ends with a dot: leave it out'],
    ['*.example.com', 'is a pattern: write the domain alone, "example.com"'],
    ['a/b', 'is not a domain'],
    ['a%41.com', 'is not a domain'],
    ['example.com:80', 'is not a domain'],
    ['http://example.com', 'is not a domain'],
    ['10.0.0.1', 'is not a domain'],
    ['0x7f.1', 'is not a domain'],
    ['a..b', 'is not a domain'],
    ['', 'is not a domain'],
    [`${'abc.'.repeat(60)}com`, 'is too long'],
  ])('is not %s', (text, message) => {
    expect(complaint(parseDomain, text)).toContain(message)
  })
})

describe('a block of addresses', () => {
  it.each(['10.0.0.0/8', '10.0.0.1', '0.0.0.0/0', '2001:db8::1', '2001:db8::/32', '::1/128'])(
    'may be %s',
    (text) => {
      expect(parseAddressBlock(text)).toBe(text)
    },
  )

  it.each([
    ['10.0.0.0/33', 'an IPv4 address has 32 bits'],
    ['::/129', 'an IPv6 address has 128 bits'],
    ['10.0.0/8', 'is not an IP address'],
    ['10.0.0.0/', 'is not an IP address'],
    ['10.0.0.0/a', 'is not an IP address'],
    ['fe80::1%eth0', 'is not an IP address'],
    ['[::1]', 'is not an IP address'],
    ['example.com', 'is not an IP address'],
    ['::ffff:10.0.0.1', 'write it as IPv4, "10.0.0.1"'],
    ['::ffff:0:0/96', 'write it as IPv4'],
  ])('is not %s', (text, message) => {
    expect(complaint(parseAddressBlock, text)).toContain(message)
  })
})

describe('a route of http', () => {
  it.each([
    ['default', 'default'],
    ['default/', 'default'],
    ['default/api', 'default/api'],
    ['App.example.com', 'app.example.com/'],
    ['app.example.com/', 'app.example.com/'],
    ['app.example.com/Api/v1', 'app.example.com/Api/v1'],
    ['*.example.com', '*.example.com/'],
  ])('%s is %s', (text, route) => {
    expect(parseHttpRoute(text)).toBe(route)
    expect(parseHttpRoute(route)).toBe(route)
  })

  it.each([
    ['a b', 'is not a host'],
    ['*', 'is the route "default"'],
    ['/api', 'is not a host'],
    ['tcp:2222', 'is not a host'],
    ['a.example//', 'is not a route'],
    ['a.example/api/', 'is not a route'],
    ['a.example/../x', 'is not a route'],
    ['a.example/%41', 'is not a route'],
    ['a.example/x?y', 'is not a route'],
    ['http://a.example/', 'is not a route'],
  ])('is not %s', (text, message) => {
    expect(complaint(parseHttpRoute, text)).toContain(message)
  })
})

describe('a key', () => {
  const key = `sha256:${Buffer.alloc(32, 7).toString('base64').slice(0, 43)}`

  it('is 32 bytes in the one spelling', () => {
    expect(parseKey(key)).toBe(key)
    // The same bytes with a spare bit set.
    expect(complaint(parseKey, `${key.slice(0, -1)}d`)).toContain('is not a key: copy it whole')
    for (const text of [
      '',
      key.slice(7),
      `${key}=`,
      key.slice(0, -1),
      key.replace('sha256', 'sha1'),
      `${key}A`,
    ]) {
      expect(complaint(parseKey, text)).toContain('is not a key: copy it whole')
    }
  })
})

describe('any text', () => {
  it('is read or refused in one short line, and never anything else', () => {
    const parsers = [
      parseAddress,
      parseRemote,
      parseTarget,
      parseDuration,
      parseBytes,
      parsePortRange,
      parseHostPattern,
      parseLabel,
      parseKey,
      parseDomain,
      parseAddressBlock,
      parseHttpRoute,
    ]
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 400 }),
        fc.constantFrom(...parsers),
        (text, parse) => {
          const said = complaint(parse, text)
          if (said.startsWith('took it')) return
          expect(printable(said, 400)).toBe(said)
          expect(said.length).toBeLessThan(400)
        },
      ),
    )
  })
})

describe('the nearest word', () => {
  const words = ['type', 'target', 'port', 'name', 'gateway', 'idle_timeout']

  it.each([
    ['prot', 'port'],
    ['Port', 'port'],
    ['tpye', 'type'],
    ['targets', 'target'],
    ['idletimeout', 'idle_timeout'],
    ['idle-timeout', 'idle_timeout'],
    ['gatway', 'gateway'],
    ['nmae', 'name'],
    ['colour', undefined],
    ['x', undefined],
    ['', undefined],
    ['a'.repeat(100_000), undefined],
  ])('to %s', (typed, word) => {
    expect(nearest(typed, words)).toBe(word)
  })

  it('to a word is that word', () => {
    fc.assert(fc.property(fc.constantFrom(...words), (word) => nearest(word, words) === word))
  })
})
