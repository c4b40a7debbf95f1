import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  addressClass,
  addressKey,
  globalAddresses,
  isOwnAddress,
  ownAddresses,
  plainAddress,
} from '../../src/net/index.ts'

describe('plainAddress', () => {
  it('gives a mapped address as IPv4, however it is written, and all else as it is', () => {
    expect(plainAddress('::ffff:192.0.2.1')).toBe('192.0.2.1')
    expect(plainAddress('::FFFF:192.0.2.1')).toBe('192.0.2.1')
    expect(plainAddress('::ffff:c000:201')).toBe('192.0.2.1')
    for (const same of [
      '192.0.2.1',
      '::1',
      '2001:db8::1',
      '::ffff:0:192.0.2.1',
      'fe80::1%eth0',
      '',
      'unknown',
    ])
      expect(plainAddress(same)).toBe(same)
  })

  it('gives back every mapped IPv4 address', () => {
    fc.assert(
      fc.property(fc.ipV4(), (ip) => {
        expect(plainAddress(`::ffff:${ip}`)).toBe(ip)
      }),
    )
  })
})

describe('addressKey', () => {
  it('counts all addresses of an IPv6 /64 as one, and each IPv4 address', () => {
    expect(addressKey('2001:db8:1:2:3:4:5:6')).toBe('2001:db8:1:2::/64')
    expect(addressKey('2001:db8:1:2::')).toBe('2001:db8:1:2::/64')
    expect(addressKey('2001:0db8:0001:0002::9')).toBe('2001:db8:1:2::/64')
    expect(addressKey('2001:db8::1')).toBe('2001:db8:0:0::/64')
    expect(addressKey('::1')).toBe('0:0:0:0::/64')
    expect(addressKey('fe80::1%eth0')).toBe('fe80:0:0:0::/64')
    expect(addressKey('192.0.2.1')).toBe('192.0.2.1')
    expect(addressKey('::ffff:192.0.2.1')).toBe('192.0.2.1')
    expect(addressKey('unknown')).toBe('unknown')
  })

  it('depends on the first 64 bits and on nothing else', () => {
    fc.assert(
      fc.property(fc.ipV6(), fc.array(fc.nat(0xffff), { minLength: 4, maxLength: 4 }), (ip, tail) => {
        const key = addressKey(ip)
        // What it writes is itself an address of the net, written in full or not.
        if (!key.endsWith('::/64')) return
        const full = key.slice(0, -5)
        expect(addressKey(`${full}:${tail.map((group) => group.toString(16)).join(':')}`)).toBe(key)
        expect(isIP(`${full}::1`)).toBe(6)
      }),
    )
  })
})

describe('addressClass', () => {
  it.each([
    ['127.0.0.1', 'loopback'],
    ['127.255.0.1', 'loopback'],
    ['::1', 'loopback'],
    ['::ffff:127.0.0.1', 'loopback'],
    ['0.0.0.0', 'unspecified'],
    ['0.1.2.3', 'unspecified'],
    ['::', 'unspecified'],
    ['224.0.0.1', 'multicast'],
    ['255.255.255.255', 'multicast'],
    ['ff02::1', 'multicast'],
    ['169.254.169.254', 'link-local'],
    ['fe80::1', 'link-local'],
    ['fe80::1%eth0', 'link-local'],
    ['febf::1', 'link-local'],
    ['10.1.2.3', 'private'],
    ['172.16.0.1', 'private'],
    ['172.31.255.255', 'private'],
    ['192.168.1.1', 'private'],
    ['100.64.0.1', 'private'],
    ['100.127.255.255', 'private'],
    ['fd00::1', 'private'],
    ['fc00::1', 'private'],
    ['::ffff:10.0.0.1', 'private'],
    ['8.8.8.8', 'global'],
    ['172.32.0.1', 'global'],
    ['172.15.0.1', 'global'],
    ['100.63.0.1', 'global'],
    ['100.128.0.1', 'global'],
    ['2a00::1', 'global'],
    ['::ffff:8.8.8.8', 'global'],
    ['::127.0.0.1', 'loopback'],
    ['::7f00:1', 'loopback'],
    ['::ffff:0:127.0.0.1', 'loopback'],
    ['64:ff9b::7f00:1', 'loopback'],
    ['64:FF9B::127.0.0.1', 'loopback'],
    ['2002:7f00:1::', 'loopback'],
    ['2002:7f00:1:2:3:4:5:6', 'loopback'],
    ['::2', 'unspecified'],
    ['64:ff9b::', 'unspecified'],
    ['2002:a9fe:a9fe::1', 'link-local'],
    ['64:ff9b::e000:1', 'multicast'],
    ['64:ff9b::10.0.0.1', 'private'],
    ['::8.8.8.8', 'global'],
    ['64:ff9b::8.8.8.8', 'global'],
    ['2002:808:808::1', 'global'],
    ['64:ff9c::7f00:1', 'global'],
    ['2003:7f00:1::', 'global'],
    ['2a00::7f00:1', 'global'],
    ['host', undefined],
    ['', undefined],
    ['1.2.3', undefined],
  ])('%s is %s', (ip, expected) => {
    expect(addressClass(ip)).toBe(expected)
  })

  it('throws for no text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.ipV4(), fc.ipV6()), (text) => {
        addressClass(text)
        addressKey(text)
        plainAddress(text)
        isOwnAddress(text, ['::1', '127.0.0.1'])
      }),
    )
  })
})

describe('own addresses', () => {
  it('are those of the interfaces', () => {
    const all = Object.values(networkInterfaces()).flatMap((each) =>
      (each ?? []).map(({ address }) => address),
    )
    expect(ownAddresses()).toEqual(all)
    for (const address of all) expect(isOwnAddress(address)).toBe(true)
    expect(isOwnAddress('192.0.2.77')).toBe(false)
  })

  it('are known however they are written', () => {
    const own = ['127.0.0.1', '2a00:1:0:0:0:0:0:1', 'fe80::1']
    for (const written of ['2a00:1::1', '2A00:0001::0.0.0.1', '::ffff:127.0.0.1', 'fe80::1%eth1'])
      expect([written, isOwnAddress(written, own)]).toEqual([written, true])
    const behind = ['192.168.1.20']
    for (const written of ['::192.168.1.20', '64:ff9b::c0a8:114', '2002:c0a8:114::'])
      expect([written, isOwnAddress(written, behind)]).toEqual([written, true])
    for (const other of ['2a00:1::2', '127.0.0.2', 'fe80::2', 'x'])
      expect(isOwnAddress(other, own)).toBe(false)
  })

  it('are global when the internet could route to them', () => {
    const own = [
      '127.0.0.1',
      '10.0.0.1',
      '192.168.0.2',
      '100.64.1.1',
      '169.254.1.1',
      '8.8.4.4',
      'fd00::1',
      'fe80::1',
      '2a00::1',
    ]
    expect(globalAddresses(own)).toEqual(['8.8.4.4', '2a00::1'])
    expect(globalAddresses().every((address) => ownAddresses().includes(address))).toBe(true)
  })
})
