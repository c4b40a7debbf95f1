import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { TrustedProxies } from '../../src/gateway/trusted.ts'
import { FORWARDED_ADDRESSES } from '../../src/limits.ts'

const proxies = new TrustedProxies(['10.0.0.0/8', '192.0.2.1', '2001:db8:1::/48', 'fe80::/10'])

describe('a trusted proxy', () => {
  test.each([
    ['10.1.2.3', true],
    ['11.1.2.3', false],
    ['192.0.2.1', true],
    ['192.0.2.2', false],
    ['::ffff:10.1.2.3', true],
    ['::ffff:a01:203', true],
    ['2001:db8:1:2::3', true],
    ['2001:DB8:1::', true],
    ['2001:db8:2::', false],
    ['fe80::1%eth0', true],
    ['', false],
    ['unix', false],
  ])('%s: %s', (address, is) => {
    expect(proxies.has(address)).toBe(is)
  })

  test('is none without a setting', () => {
    expect(new TrustedProxies([]).none).toBe(true)
    expect(new TrustedProxies([]).has('127.0.0.1')).toBe(false)
    expect(proxies.none).toBe(false)
    expect(new TrustedProxies(['0.0.0.0/0']).has('203.0.113.9')).toBe(true)
  })
})

describe('the visitor', () => {
  test.each([
    ['is who connected, if that is no proxy', '203.0.113.9', '198.51.100.1', '203.0.113.9'],
    ['is who the proxy names', '10.0.0.1', '198.51.100.1', '198.51.100.1'],
    ['is the last that is no proxy', '10.0.0.1', '1.1.1.1, 198.51.100.1, 10.0.0.2,192.0.2.1', '198.51.100.1'],
    ['is the first, if all are proxies', '10.0.0.1', '10.0.0.9, 10.0.0.8', '10.0.0.9'],
    ['is the proxy, if it names nobody', '10.0.0.1', '', '10.0.0.1'],
    ['is the proxy, if it names no address', '10.0.0.1', '1.1.1.1, unknown', '10.0.0.1'],
    ['is not behind what is no address', '10.0.0.1', '1.1.1.1, _hidden, 10.0.0.2', '10.0.0.2'],
    ['is not behind an empty place', '10.0.0.1', '1.1.1.1,,10.0.0.2', '10.0.0.2'],
    ['is not behind a comma at the start', '10.0.0.1', ',10.0.0.2', '10.0.0.2'],
    ['is named without its port', '10.0.0.1', '198.51.100.1:4711', '198.51.100.1'],
    ['is named without brackets', '10.0.0.1', '[2001:DB8::1]', '2001:db8::1'],
    ['is named without brackets and port', '10.0.0.1', '\t[2001:db8::1]:443 ', '2001:db8::1'],
    ['may be bare IPv6', '10.0.0.1', '2001:db8::1', '2001:db8::1'],
    ['may be IPv4 inside IPv6', '::ffff:10.0.0.1', '::ffff:198.51.100.1', '198.51.100.1'],
    ['is no IPv4 in brackets', '10.0.0.1', '[198.51.100.1]', '10.0.0.1'],
    ['has no zone', '10.0.0.1', 'fe80::1%eth0', '10.0.0.1'],
    ['is no number', '10.0.0.1', '3325256705', '10.0.0.1'],
    ['is no quoted text', '10.0.0.1', '"198.51.100.1"', '10.0.0.1'],
  ])('%s', (_what, peer, forwardedFor, visitor) => {
    expect(proxies.visitorOf(peer, forwardedFor)).toBe(visitor)
  })

  test('is looked for in so many addresses and no more', () => {
    const list = (count: number) => ['1.1.1.1', ...Array.from({ length: count }, () => '10.0.0.2')].join(', ')
    expect(proxies.visitorOf('10.0.0.1', list(FORWARDED_ADDRESSES - 1))).toBe('1.1.1.1')
    expect(proxies.visitorOf('10.0.0.1', list(FORWARDED_ADDRESSES))).toBe('10.0.0.2')
  })

  test('is the address before our proxies, whatever it claims about itself', () => {
    const hop = fc.constantFrom('10.0.0.3', '10.9.9.9, 192.0.2.1', '2001:db8:1::7')
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.ipV4(), fc.array(hop), (claims, visitor, hops) => {
        fc.pre(!proxies.has(visitor))
        const forwardedFor = [claims, visitor, ...hops].join(', ')
        fc.pre(hops.length < FORWARDED_ADDRESSES / 2)
        expect(proxies.visitorOf('10.0.0.1', forwardedFor)).toBe(visitor)
      }),
    )
  })
})
