import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Authority } from '../../src/gateway/authority.ts'
import { type Change, replay } from '../../src/gateway/change.ts'
import { httpRoute, tcpRoute } from '../../src/gateway/route.ts'

const NOW = 1_700_000_000_000
const hash = (n: number): string => n.toString(16).padStart(64, '0')
const pin = (n: number) =>
  `sha256:${Buffer.alloc(32, n + 1)
    .toString('base64')
    .replace(/=$/, '')}` as never

/** A record and a copy that hears of its changes. */
function pair(): { authority: Authority; copy: Authority; changes: Change[] } {
  const changes: Change[] = []
  const grants = new Map(
    ['home', 'office'].map((name) => [
      name,
      { types: ['http' as const, 'tcp' as const], hosts: ['*'], ports: [{ from: 1, to: 65_535 }] },
    ]),
  )
  const authority = new Authority(undefined, grants)
  const copy = new Authority(undefined, grants)
  authority.onChange = (change) => {
    changes.push(change)
    replay(copy, change)
  }
  return { authority, copy, changes }
}

function enrolled(): ReturnType<typeof pair> {
  const both = pair()
  for (const [n, name] of ['home', 'office'].entries()) {
    both.authority.createInvite({ name, uses: 3, expiresAt: NOW + 1000, secretHash: hash(n), now: NOW })
    both.authority.redeem({ secretHash: hash(n), key: pin(n), now: NOW })
  }
  both.changes.length = 0
  return both
}

describe('a copy of the record', () => {
  it('is the same after each change, whatever is asked in whatever order', () => {
    const name = fc.constantFrom('home', 'office')
    const route = fc.constantFrom(
      tcpRoute(80),
      tcpRoute(81),
      httpRoute('a.example.com', '/'),
      httpRoute('b.example.com', '/'),
    )
    const step = fc.oneof(
      fc.record({ ask: fc.constant('claim' as const), name, route }),
      fc.record({ ask: fc.constant('keep' as const), name, port: fc.integer({ min: 80, max: 84 }) }),
      fc.record({ ask: fc.constant('releaseBy' as const), name, route }),
      fc.record({ ask: fc.constant('release' as const), route }),
      fc.record({ ask: fc.constant('live' as const), route }),
      fc.record({ ask: fc.constant('gone' as const), route }),
      fc.record({ ask: fc.constant('redeem' as const), n: fc.nat(3) }),
      fc.record({ ask: fc.constant('revoke' as const), name }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { authority, copy } = enrolled()
        for (const [n, asked] of steps.entries()) {
          try {
            if (asked.ask === 'claim') authority.claimAll([asked.route], asked.name)
            else if (asked.ask === 'keep') authority.keepPort(asked.name, `s${asked.port % 2}`, asked.port)
            else if (asked.ask === 'releaseBy') authority.releaseBy(asked.name, asked.route)
            else if (asked.ask === 'release') authority.release(asked.route)
            else if (asked.ask === 'live') authority.markLive(asked.route)
            else if (asked.ask === 'gone') authority.markGone(asked.route, NOW + n)
            else if (asked.ask === 'redeem')
              authority.redeem({ secretHash: hash(asked.n % 2), key: pin(asked.n), now: NOW })
            else authority.revoke(asked.name, NOW + n)
          } catch {
            // What is refused is no change.
          }
          expect(copy.record).toEqual(authority.record)
        }
      }),
    )
  })

  it('hears nothing of what is no news, or is refused', () => {
    const { authority, changes } = enrolled()
    authority.claim(tcpRoute(80), 'home')
    changes.length = 0
    authority.claim(tcpRoute(80), 'home')
    expect(() => authority.claim(tcpRoute(80), 'office')).toThrow(/belongs to another name/)
    expect(authority.releaseBy('office', tcpRoute(80))).toBe(false)
    authority.redeem({ secretHash: hash(0), key: pin(0), now: NOW })
    authority.seen(pin(0), 'i', NOW)
    authority.markGone(tcpRoute(80), NOW)
    expect(changes).toEqual([])
  })

  it('says what is to be cut where services are served', () => {
    const { authority, copy, changes } = enrolled()
    authority.onChange = (change) => void changes.push(change)
    authority.claim(tcpRoute(80), 'home')
    authority.claim(tcpRoute(81), 'home')
    authority.release(tcpRoute(80))
    authority.revoke('home', NOW)
    expect(changes.map((change) => replay(copy, change))).toEqual([
      {},
      {},
      { released: tcpRoute(80) },
      { revoked: { keys: [pin(0)], names: ['home'], routes: [tcpRoute(81)] } },
    ])
  })

  it('that is none throws', () => {
    const { copy } = enrolled()
    expect(() => replay(copy, { kind: 'release', route: tcpRoute(99) })).toThrow(/nobody owns/)
    expect(() => replay(copy, { kind: 'claim', routes: [tcpRoute(99)], name: 'nobody' })).toThrow()
  })
})
