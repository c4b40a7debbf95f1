import { describe, expect, it } from 'vitest'
import { VisitorAddresses } from '../../src/client/visitor-address.ts'
import { OWN_ADDRESSES_MS } from '../../src/limits.ts'

const from = (address: string) => ({ command: 'PROXY' as const, source: { address, port: 4242 } })

describe("a visitor's address", () => {
  const addresses = new VisitorAddresses(() => ['192.168.1.20', '2001:db8::20'])

  it.each([['203.0.113.5'], ['10.1.2.3'], ['2001:db8::1']])('is believed to be %s', (address) => {
    expect(addresses.of(from(address))).toEqual({ address, port: 4242 })
  })

  it('is shown as IPv4 where it is', () => {
    expect(addresses.of(from('::ffff:203.0.113.5'))).toEqual({ address: '203.0.113.5', port: 4242 })
  })

  it.each([
    ['127.0.0.1'],
    ['127.8.8.8'],
    ['::1'],
    ['::ffff:127.0.0.1'],
    ['::ffff:7f00:1'],
    ['0.0.0.0'],
    ['::'],
    ['224.0.0.1'],
    ['ff02::1'],
    ['169.254.169.254'],
    ['fe80::1'],
    ['192.168.1.20'],
    ['::ffff:192.168.1.20'],
    ['2001:db8:0:0::20'],
    ['::127.0.0.1'],
    ['::7f00:1'],
    ['::ffff:0:7f00:1'],
    ['64:ff9b::7f00:1'],
    ['64:ff9b::127.0.0.1'],
    ['2002:7f00:1::'],
    ['2002:a9fe:a9fe::1'],
    ['64:ff9b::192.168.1.20'],
  ])('is unknown where a gateway says %s', (address) => {
    expect(addresses.of(from(address))).toBeUndefined()
  })

  it('is unknown where a gateway says nothing', () => {
    expect(addresses.of({ command: 'PROXY' })).toBeUndefined()
    expect(addresses.of({ command: 'LOCAL' })).toBeUndefined()
  })

  it('is compared with the addresses that this machine has now', () => {
    let own = ['192.168.1.20']
    const moving = new VisitorAddresses(() => own)
    expect(moving.of(from('192.168.1.21'), 0)).toBeDefined()
    own = ['192.168.1.21']
    expect(moving.of(from('192.168.1.21'), OWN_ADDRESSES_MS)).toBeUndefined()
  })
})
