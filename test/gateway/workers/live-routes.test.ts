import { expect, it, vi } from 'vitest'
import { Authority } from '../../../src/gateway/authority.ts'
import { formatRoute, parseRoute } from '../../../src/gateway/route.ts'
import type { Store } from '../../../src/gateway/store.ts'
import { LiveRoutes } from '../../../src/gateway/workers/live-routes.ts'

const KEYS = ['sha256:one', 'sha256:two'] as const

function world(): { authority: Authority; live: LiveRoutes } {
  const grant = { types: ['http' as const], hosts: ['*'], ports: [] }
  const authority = new Authority(
    undefined,
    new Map([
      ['home', grant],
      ['office', grant],
    ]),
  )
  for (const [at, name] of ['home', 'office'].entries()) {
    const secretHash = `${at}`.repeat(64)
    authority.createInvite({ name, uses: 1, expiresAt: 1_000, secretHash, now: 0 })
    authority.redeem({ secretHash, key: KEYS[at] as never, now: 0 })
  }
  return { authority, live: new LiveRoutes({ authority, saveSoon: vi.fn() } as unknown as Store) }
}

it('a route that changed hands is live for whom it is now, though workers have yet to lose the one before', () => {
  const { authority, live } = world()
  const route = formatRoute(parseRoute('app.example.com'))
  authority.claim(route, 'home')
  live.live(route, 1)
  authority.revoke('home', 1)
  authority.claim(route, 'office')
  live.live(route, 2)
  expect(authority.recent(route, 1e12)).toBe(true)
  live.left(route, 1)
  expect(authority.recent(route, 1e12)).toBe(true)
  live.left(route, 2)
  expect(authority.recent(route, Date.now() + 1e9)).toBe(false)
})
