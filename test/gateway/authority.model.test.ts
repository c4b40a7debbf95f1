import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { Authority } from '../../src/gateway/authority.ts'
import { enrolled, grants, HOUR, keyOf, NOW, reread, secretOf } from './people.ts'

/** Few of everything, so that sequences meet. */
const NAMES = ['home', 'office', 'lab']
const ROUTES = ['default', 'default/x', '*.a/', 'b.a/', 'b.a/x', 'c.a/', 'tcp:2000', 'tcp:2001', 'tcp:2002']
/** What visitors ask for. */
const ASKED = ['b.a', 'c.a', 'd.a', 'x.b.a', 'a']
const KEYS = [0, 1, 2, 3, 4].map(keyOf)
const GRANTS = [
  undefined,
  grants(['home', [[2000, 2001]], ['*']]),
  grants(
    ['home', [[2000, 2002]], ['*', '*.a']],
    ['office', [[2001, 2002]], ['*', 'b.a']],
    ['lab', [[2000, 2002]], ['c.a']],
  ),
]

const name = fc.constantFrom(...NAMES)
const route = fc.constantFrom(...ROUTES)
const key = fc.constantFrom(...KEYS)
const secret = fc.nat(7)
const step = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ does: fc.constant('invite'), name, secret, uses: fc.integer({ min: 1, max: 2 }) }),
  },
  { weight: 6, arbitrary: fc.record({ does: fc.constant('redeem'), secret, key }) },
  { weight: 8, arbitrary: fc.record({ does: fc.constant('claim'), name, route }) },
  {
    weight: 4,
    arbitrary: fc.record({
      does: fc.constant('claim all'),
      name,
      routes: fc.subarray(ROUTES, { minLength: 2, maxLength: 4 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ does: fc.constant('choose port'), name, service: fc.constantFrom('ssh', 'db') }),
  },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('first invite'), secret }) },
  { weight: 2, arbitrary: fc.record({ does: fc.constant('release by'), name, route }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('release'), route }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('revoke name'), name }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('revoke key'), key }) },
  { weight: 2, arbitrary: fc.record({ does: fc.constant('presence'), route, live: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('reload'), grants: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('restart') }) },
  {
    weight: 2,
    arbitrary: fc.record({ does: fc.constant('wait'), ms: fc.constantFrom(1, 1, 300_000, 300_000, HOUR) }),
  },
)
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

/** Does one step, as a gateway would, and gives its answer: a value, or the error in full. */
function act(authority: Authority, step: Step, now: number): unknown {
  try {
    if ('uses' in step) {
      const { name, uses } = step
      return authority.createInvite({
        name,
        uses,
        expiresAt: now + HOUR,
        secretHash: secretOf(step.secret),
        now,
      })
    }
    if ('secret' in step && 'key' in step) {
      return authority.redeem({ secretHash: secretOf(step.secret), key: step.key, instance: 'here', now })
    }
    if ('secret' in step) {
      return authority.createFirstInvite({ expiresAt: now + HOUR, secretHash: secretOf(step.secret), now })
    }
    if ('service' in step) {
      const { name, service } = step
      authority.mayOffer(name, { name: service, type: 'tcp' })
      const port = authority.portFor(name, service) ?? authority.lowestFreePort(name, new Set())
      authority.keepPort(name, service, port)
      return port
    }
    if ('routes' in step) return authority.claimAll(step.routes, step.name)
    if (step.does === 'claim' && 'name' in step && 'route' in step)
      return authority.claim(step.route, step.name)
    if ('name' in step && 'route' in step) return authority.releaseBy(step.name, step.route)
    if ('live' in step)
      return step.live ? authority.markLive(step.route) : authority.markGone(step.route, now)
    if ('route' in step) return authority.release(step.route)
    if ('name' in step) return authority.revoke(step.name, now)
    if ('key' in step) return authority.revoke(step.key, now)
    if ('grants' in step) return authority.setGrants(GRANTS[step.grants])
    if (step.does === 'restart') return authority.restarted(now)
    return undefined
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error
    return { code: error.code, message: error.message, scope: error.scope }
  }
}

/** All that anybody can ask. */
function answers(authority: Authority, now: number): unknown {
  return {
    keys: KEYS.map((key) => authority.identify(key)),
    owners: ROUTES.map((route) => authority.ownerOf(route)),
    recent: ROUTES.map((route) => authority.recent(route, now)),
    ports: NAMES.map((name) => ['ssh', 'db'].map((service) => authority.portFor(name, service))),
    routes: NAMES.map((name) => authority.routesOf(name)),
    covered: NAMES.map((name) => ROUTES.map((route) => authority.covers(name, route))),
    uncovered: authority.uncovered,
    found: ASKED.map((host) => ['/', '/x'].map((path) => authority.hosts.find(host)?.route(path))),
    names: authority.names,
    clients: authority.clients,
    first: authority.needsFirstInvite,
  }
}

/** Long enough, and begun with machines enrolled, or most claims would be refused and little would be tried. */
const steps = fc.array(step, { minLength: 10, maxLength: 60, size: 'max' })
const start = fc.constantFrom<[names: string[], grants: number]>(
  [[], 0],
  [['home', 'home'], 0],
  [['home'], 1],
  [NAMES, 2],
  [NAMES, 2],
)
const runs = { numRuns: 100 }

test('a gateway that restarts before each step answers as one that never does', () => {
  fc.assert(
    fc.property(start, steps, ([names, granted], steps) => {
      let now = NOW
      let current = GRANTS[granted]
      const steady = enrolled(names, current)
      let restarting = enrolled(names, current)
      for (const step of steps) {
        if ('ms' in step) now += step.ms
        restarting = new Authority(reread(restarting.record), current)
        const before = { revision: steady.revision, sightings: steady.sightings, record: steady.record }
        expect(act(restarting, step, now)).toEqual(act(steady, step, now))
        expect(answers(restarting, now)).toEqual(answers(steady, now))
        expect(reread(restarting.record)).toEqual(reread(steady.record))
        if ('grants' in step) current = GRANTS[step.grants]
        // What is not counted is not written, so whatever changed must be counted.
        if (steady.revision === before.revision && steady.sightings === before.sightings) {
          expect(steady.record).toEqual(before.record)
        }
      }
    }),
    runs,
  )
})

/** `name` was told that a route is its own: nobody else may have it, nor any route of its host, nor a wildcard above. */
function take(
  owner: Map<string, string>,
  route: string,
  name: string,
  granted: (typeof GRANTS)[number],
): void {
  expect(owner.get(route) ?? name).toBe(name)
  const [host = ''] = route.split('/')
  const of = (host: string) => [...owner].filter(([other]) => other.split('/')[0] === host)
  for (const [, other] of of(host)) expect(other).toBe(name)
  const above = of(`*${host.slice(host.indexOf('.'))}`)
  const listed = granted?.get(name)?.hosts.includes(host) ?? false
  if (of(host).length === 0 && !listed) for (const [, other] of above) expect(other).toBe(name)
  owner.set(route, name)
}

test('nobody but its owner gets a route, and nobody a revoked key or a spent use back', () => {
  fc.assert(
    fc.property(start, steps, ([names, granted], steps) => {
      let now = NOW
      let current = GRANTS[granted]
      let authority = enrolled(names, current)
      const owner = new Map<string, string>()
      const revoked = new Set<string>()
      for (const step of steps) {
        if ('ms' in step) now += step.ms
        if ('grants' in step) current = GRANTS[step.grants]
        if (step.does === 'restart') authority = new Authority(reread(authority.record), current)
        const answer = act(authority, step, now)
        const refused = typeof answer === 'object' && answer !== null && 'scope' in answer

        if ('routes' in step) {
          // All of them, or nothing of it.
          if (!refused) for (const route of step.routes) take(owner, route, step.name, current)
        }
        // The whole law of ownership, in four lines.
        if (!refused && step.does === 'claim' && 'route' in step && 'name' in step) {
          take(owner, step.route, step.name, current)
        }
        if (!refused && 'service' in step) {
          const taken = `tcp:${String(answer)}`
          expect(owner.get(taken) ?? step.name).toBe(step.name)
          owner.set(taken, step.name)
        }
        if (!refused && step.does === 'release' && 'route' in step) owner.delete(step.route)
        if (
          step.does === 'release by' &&
          'name' in step &&
          'route' in step &&
          owner.get(step.route) === step.name
        ) {
          owner.delete(step.route)
        }
        if (!refused && step.does === 'revoke name' && 'name' in step) {
          for (const [route, name] of owner) if (name === step.name) owner.delete(route)
        }
        for (const route of ROUTES) expect(authority.ownerOf(route)).toBe(owner.get(route))

        for (const host of ASKED) {
          const entry = authority.hosts.find(host)
          for (const path of ['/', '/x']) {
            const route = entry?.route(path)
            if (route !== undefined) expect(entry?.name).toBe(owner.get(route))
          }
        }

        for (const { key } of authority.record.revoked) revoked.add(key)
        for (const key of revoked) expect(authority.identify(key as (typeof KEYS)[number])).toBe('revoked')
        for (const { hash, uses, left } of authority.record.invites) {
          expect(left).toBeGreaterThanOrEqual(0)
          expect(left).toBeLessThanOrEqual(uses)
          expect(authority.record.invites.filter((other) => other.hash === hash)).toHaveLength(1)
        }
        expect(new Set(authority.clients.map((client) => client.name)).size).toBeLessThanOrEqual(3)
      }
    }),
    runs,
  )
})
