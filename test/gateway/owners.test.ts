import { describe, expect, test } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { Authority, authoritySchema } from '../../src/gateway/authority.ts'
import { HOLD_RECENT_MS, ROUTES_PER_NAME } from '../../src/limits.ts'
import type { ServiceOffer } from '../../src/protocol/index.ts'
import { enrolled, grants, keyOf, NOW, refusal, reread } from './people.ts'

const BOTH = grants(
  ['home', [[8000, 8100]], ['*']],
  [
    'office',
    [
      [2222, 2222],
      [8000, 9000],
    ],
    [],
  ],
)
const http: ServiceOffer = { name: 'web', type: 'http' }
const onHost: ServiceOffer = { ...http, hosts: ['b.example.com'] }
const tcp = (port?: number): ServiceOffer => ({
  name: 'ssh',
  type: 'tcp',
  ...(port === undefined ? {} : { port }),
})

describe('a route', () => {
  test('belongs to the first name that claims it, through absence and restart, until it is released', () => {
    const authority = enrolled(['home', 'office'], BOTH)
    authority.claim('tcp:8000', 'home')
    const { revision } = authority
    authority.claim('tcp:8000', 'home')
    expect(authority.revision).toBe(revision)
    const restarted = new Authority(reread(authority.record), BOTH)
    for (const gateway of [authority, restarted]) {
      const { code, message, scope } = refusal(() => gateway.claim('tcp:8000', 'office'))
      expect(code).toBe('route_taken')
      expect(scope).toBe('stream')
      expect(message).toContain('blindgate release tcp:8000')
      expect(message).not.toContain('home')
      expect(gateway.release('tcp:8000')).toBe('home')
      gateway.claim('tcp:8000', 'office')
      expect(gateway.routesOf('office')).toEqual(['tcp:8000'])
      expect(gateway.routesOf('home')).toEqual([])
    }
  })

  test('is released by its owner, and by no other name', () => {
    const authority = enrolled(['home', 'office'], BOTH)
    authority.claim('default', 'home')
    const { revision } = authority
    expect(authority.releaseBy('office', 'default')).toBe(false)
    expect(authority.releaseBy('home', 'tcp:1')).toBe(false)
    expect(authority.revision).toBe(revision)
    expect(authority.releaseBy('home', 'default')).toBe(true)
    expect(authority.ownerOf('default')).toBeUndefined()
  })

  test('that nobody owns cannot be released, and the answer says which could', () => {
    const authority = enrolled(['home'], undefined)
    authority.claim('default', 'home')
    expect(refusal(() => authority.release('tcp:2222'))).toEqual({
      code: 'not_found',
      scope: 'process',
      message: 'nobody owns tcp:2222: there is "default"',
    })
    expect(refusal(() => authority.release('2222')).code).toBe('usage')
  })

  test('is one of a bounded number per name', () => {
    const authority = enrolled(['home'], undefined)
    for (let n = 0; n < ROUTES_PER_NAME; n++) authority.claim(`tcp:${1024 + n}`, 'home')
    const { code, message } = refusal(() => authority.claim('default', 'home'))
    expect(code).toBe('too_many_services')
    expect(message).toContain('blindgate release')
    authority.claim('tcp:1024', 'home')
  })
})

/** As `BOTH`, with hosts: each of them has all that it asks for. */
const HOSTS = grants(
  ['home', [], ['*.example.com', 'example.com', '*', '[::1]']],
  ['office', [], ['a.example.com', '*.a.example.com', 'b.example.com', 'office.example']],
)

describe('a host', () => {
  const hosted = () => enrolled(['home', 'office'], HOSTS)
  const code = (authority: Authority, route: string, name: string): string | undefined => {
    const before = authority.record
    try {
      authority.claim(route, name)
      return undefined
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error
      // Whoever is refused has changed nothing.
      expect(authority.record).toEqual(before)
      expect(error.message).not.toContain('home')
      return error.code
    }
  }

  test('belongs to one name on every path, absent or present, until the last of its routes is released', () => {
    const authority = hosted()
    authority.claim('b.example.com/api', 'office')
    const restarted = new Authority(reread(authority.record), HOSTS)
    for (const gateway of [authority, restarted]) {
      for (const route of [
        'b.example.com/',
        'b.example.com/login',
        'b.example.com/api',
        'b.example.com/api/v1',
      ]) {
        expect(code(gateway, route, 'home')).toBe('route_taken')
      }
      gateway.claim('b.example.com/', 'office')
      expect(gateway.release('b.example.com/api')).toBe('office')
      expect(code(gateway, 'b.example.com/api', 'home')).toBe('route_taken')
      expect(gateway.release('B.example.com')).toBe('office')
      expect(code(gateway, 'b.example.com/api', 'home')).toBeUndefined()
      expect(gateway.hosts.find('b.example.com')?.name).toBe('home')
    }
  })

  test('that is everybody else’s belongs to one name like any other, on every path', () => {
    const authority = hosted()
    authority.claim('default/api', 'home')
    expect(code(authority, 'default', 'office')).toBe('route_taken')
    expect(code(authority, 'default/x', 'office')).toBe('route_taken')
  })

  test('below a wildcard is the wildcard’s, unless it has an owner or stands in another grant as it is', () => {
    const authority = hosted()
    authority.claim('c.example.com/', 'office')
    authority.claim('*.example.com/', 'home')
    expect(code(authority, 'c.example.com/x', 'office')).toBeUndefined()
    expect(code(authority, 'c.example.com/', 'home')).toBe('route_taken')
    expect(code(authority, 'd.example.com/', 'office')).toBe('route_taken')
    expect(code(authority, 'd.example.com/x', 'office')).toBe('route_taken')
    // Granted to office in so many letters.
    expect(code(authority, 'b.example.com/', 'office')).toBeUndefined()
    // One label and no more.
    expect(code(authority, 'x.y.example.com/', 'office')).toBeUndefined()
    expect(code(authority, 'example.com/', 'office')).toBeUndefined()
    expect(code(authority, '*.a.example.com/', 'office')).toBeUndefined()
    expect(code(authority, '*.example.com/x', 'office')).toBe('route_taken')
    // Released by office, it is below the wildcard again.
    authority.setGrants(undefined)
    authority.release('c.example.com/')
    authority.release('c.example.com/x')
    expect(code(authority, 'c.example.com/', 'office')).toBe('route_taken')
    expect(authority.hosts.find('c.example.com')?.name).toBe('home')
  })

  test('is found from the moment it is claimed until it is released, whoever serves it', () => {
    const authority = hosted()
    const at = (host: string) => authority.hosts.find(host)?.route('/')
    authority.claim('a.example.com/', 'office')
    authority.claim('*.example.com/', 'home')
    expect([at('a.example.com'), at('b.example.com')]).toEqual(['a.example.com/', '*.example.com/'])
    authority.revoke('office', NOW)
    expect([at('a.example.com'), at('b.example.com')]).toEqual(['*.example.com/', '*.example.com/'])
    expect(authority.releaseBy('home', '*.example.com/')).toBe(true)
    expect(at('a.example.com')).toBeUndefined()
  })

  test('of several is claimed with all of them, or none is', () => {
    const authority = hosted()
    authority.claim('b.example.com/', 'office')
    const { record, revision } = authority
    const wanted = ['example.com/', 'b.example.com/x', '[::1]/']
    expect(refusal(() => authority.claimAll(wanted, 'home')).code).toBe('route_taken')
    expect([authority.record, authority.revision]).toEqual([record, revision])
    expect(authority.claimAll(['example.com/', '[::1]/'], 'home')).toEqual(['example.com/', '[::1]/'])
    expect(authority.claimAll(['example.com/', 'default'], 'home')).toEqual(['default'])
  })

  test('is one of a bounded number of routes, which several may not pass together', () => {
    const authority = hosted()
    const routes = Array.from({ length: ROUTES_PER_NAME - 1 }, (_, n) => `h${n}.office.example/`)
    authority.claimAll(routes, 'office')
    const both = ['x.office.example/', 'y.office.example/']
    expect(refusal(() => authority.claimAll(both, 'office')).code).toBe('too_many_services')
    expect(authority.routesOf('office')).toHaveLength(ROUTES_PER_NAME - 1)
    authority.claimAll(both.slice(0, 1), 'office')
    authority.claimAll(routes, 'office')
  })

  test('under the domain of the gateway is the service’s own, or has its owner’s name when that is another’s', () => {
    const authority = hosted()
    authority.domain = 'example.com'
    expect(authority.mayOffer('home', http)).toEqual(['web.example.com/'])
    authority.claim('web.example.com/', 'office')
    expect(authority.mayOffer('home', http)).toEqual(['web-home.example.com/'])
    // What it had in an earlier request is not chosen anew.
    expect(authority.mayOffer('home', http, ['web.example.com/'])).toEqual(['web.example.com/'])
    expect(refusal(() => authority.mayOffer('office', http)).message).toContain('add "web.example.com"')
  })
})

describe('a port for a service that named none', () => {
  test('is the lowest of the grant that nobody owns, the gateway does not use and can be opened', () => {
    const authority = enrolled(['home', 'office'], BOTH)
    authority.reservedPorts = new Set([8001])
    authority.claim('tcp:8000', 'office')
    expect(authority.lowestFreePort('home', new Set([8002]))).toBe(8003)
    authority.keepPort('home', 'ssh', 8003)
    expect(authority.lowestFreePort('home', new Set())).toBe(8002)
    expect(authority.lowestFreePort('office', new Set())).toBe(2222)
    const unsorted = enrolled(
      ['home'],
      grants([
        'home',
        [
          [9000, 9001],
          [8000, 8001],
        ],
      ]),
    )
    expect(unsorted.lowestFreePort('home', new Set())).toBe(8000)
  })

  test('is kept for that name and service through restart, and only for them', () => {
    const authority = enrolled(['home', 'office'], BOTH)
    authority.keepPort('home', 'ssh', 8000)
    const restarted = new Authority(reread(authority.record), BOTH)
    expect(restarted.portFor('home', 'ssh')).toBe(8000)
    expect(restarted.portFor('home', 'web')).toBeUndefined()
    expect(restarted.portFor('office', 'ssh')).toBeUndefined()
    expect(refusal(() => restarted.keepPort('office', 'ssh', 8000)).code).toBe('route_taken')
    restarted.release('tcp:8000')
    expect(restarted.portFor('home', 'ssh')).toBeUndefined()
  })

  test('is another one once the grant or the gateway itself took the kept one', () => {
    const authority = enrolled(['home'], grants(['home', [[8000, 8100]]]))
    authority.keepPort('home', 'ssh', 8000)
    authority.reservedPorts = new Set([8000])
    expect(authority.portFor('home', 'ssh')).toBeUndefined()
    authority.reservedPorts = new Set()
    authority.setGrants(grants(['home', [[8001, 8100]]]))
    expect(authority.portFor('home', 'ssh')).toBeUndefined()
    authority.keepPort('home', 'ssh', 8001)
    const restarted = new Authority(reread(authority.record), grants(['home', [[8000, 8100]]]))
    expect(restarted.portFor('home', 'ssh')).toBe(8001)
    expect(restarted.routesOf('home')).toEqual(['tcp:8000', 'tcp:8001'])
  })

  test('is one per service, and of one service: the last choice counts, also after a restart', () => {
    const authority = enrolled(['home'], BOTH)
    for (const port of [8000, 8001, 8000]) authority.keepPort('home', 'ssh', port)
    authority.keepPort('home', 'db', 8001)
    authority.keepPort('home', 'web', 8001)
    for (const gateway of [authority, new Authority(reread(authority.record), BOTH)]) {
      expect(['ssh', 'db', 'web'].map((service) => gateway.portFor('home', service))).toEqual([
        8000,
        undefined,
        8001,
      ])
    }
  })

  test('is not told apart by names and services that run into one another', () => {
    const authority = enrolled(['a'], undefined)
    authority.keepPort('a', 'b/c', 8000)
    authority.keepPort('a', '__proto__', 8001)
    expect(authority.portFor('a', 'b')).toBeUndefined()
    expect(authority.portFor('a', '__proto__')).toBe(8001)
    expect(new Authority(reread(authority.record), undefined).portFor('a', '__proto__')).toBe(8001)
  })

  test('is refused with what to do when there is none', () => {
    const authority = enrolled(['home'], grants(['home', [[8000, 8001]]]))
    const { code, message } = refusal(() => authority.lowestFreePort('home', new Set([8000, 8001])))
    expect(code).toBe('port_in_use')
    expect(message).toContain('8000-8001')
  })
})

describe('a grant', () => {
  const authority = () => {
    const gateway = enrolled(['home', 'office'], BOTH)
    gateway.reservedPorts = new Set([8080])
    return gateway
  }

  test('lets a name offer what it covers', () => {
    authority().mayOffer('home', http)
    authority().mayOffer('home', tcp(8100))
    authority().mayOffer('home', tcp())
    authority().mayOffer('office', tcp(2222))
  })

  test.each([
    [
      tcp(2222),
      'home',
      'port 2222 is outside the grant of "home" (8000-8100): add it under [grant.home] ports on the gateway, then SIGHUP',
    ],
    [
      http,
      'office',
      'the default route is outside the grant of "office": add "*" under [grant.office] hosts on the gateway, then SIGHUP',
    ],
    [tcp(8080), 'home', "port 8080 is the gateway's own: choose another"],
    [
      onHost,
      'office',
      'host b.example.com is outside the grant of "office": add "b.example.com" under [grant.office] hosts on the gateway, then SIGHUP',
    ],
    [http, 'lab', '"lab" has no grant: add [grant.lab] on the gateway, then SIGHUP'],
  ] as const)('refuses %o of "%s" with the line to change', (offer, name, message) => {
    expect(refusal(() => authority().mayOffer(name, offer))).toEqual({
      code: 'not_granted',
      scope: 'stream',
      message,
    })
  })

  test.each<[name: string, covered: string[], not: string[]]>([
    [
      'home',
      ['a.example.com', '*.example.com', 'example.com', '*', '[::1]'],
      ['x.a.example.com', '*.a.example.com', 'com', '*.com', 'example.org', 'xexample.com', '[::2]'],
    ],
    [
      'office',
      ['a.example.com', 'x.a.example.com', '*.a.example.com', 'office.example'],
      ['*', 'c.example.com', '*.example.com', 'y.x.a.example.com', 'x.office.example', '10.0.0.1'],
    ],
  ])('of "%s" has the hosts %o, and not %o', (name, covered, not) => {
    const gateway = enrolled(['home', 'office'], HOSTS)
    const offer = (host: string): ServiceOffer => ({ ...http, hosts: [host], path: '/x' })
    for (const host of covered) {
      const [route = ''] = gateway.mayOffer(name, offer(host)) ?? []
      expect(gateway.covers(name, route)).toBe(true)
    }
    for (const host of not) {
      expect(refusal(() => gateway.mayOffer(name, offer(host))).code).toBe('not_granted')
      expect(gateway.covers(name, host === '*' ? 'default/x' : `${host}/x`)).toBe(false)
    }
  })

  test('refuses an offer of which one host is outside', () => {
    const gateway = enrolled(['home', 'office'], HOSTS)
    const offer = { ...http, hosts: ['a.example.com', 'c.example.com'] }
    expect(refusal(() => gateway.mayOffer('office', offer)).message).toContain(
      'host c.example.com is outside',
    )
  })

  test('refuses a type that it does not list, and a port where it has none', () => {
    const gateway = enrolled(['home'], new Map([['home', { types: ['http'], hosts: ['*'], ports: [] }]]))
    expect(refusal(() => gateway.mayOffer('home', tcp())).message).toContain('[grant.home] types')
    const portless = enrolled(['home'], grants(['home', []]))
    expect(refusal(() => portless.mayOffer('home', tcp())).message).toContain('[grant.home] ports')
  })

  test.each<[ServiceOffer, string]>([
    [{ name: 'web', type: 'https' }, 'unsupported'],
    [{ name: 'dns', type: 'udp', port: 53 }, 'unsupported'],
    [{ name: 'web', type: 'http', hosts: ['app.example.com:80'] }, 'bad_service'],
    [{ name: 'web', type: 'http', path: '/api/' }, 'bad_service'],
    [{ name: 'web', type: 'http', port: 80 }, 'bad_service'],
    [{ name: 'ssh', type: 'tcp', hosts: ['a.example.com'], port: 8000 }, 'bad_service'],
  ])('says of %o that it is %s', (offer, code) => {
    expect(refusal(() => enrolled(['home'], undefined).mayOffer('home', offer)).code).toBe(code)
  })

  test('is 1024 to 65535, any host and the default route where the file has none', () => {
    const gateway = enrolled(['home'], undefined)
    gateway.reservedPorts = new Set([9000])
    gateway.mayOffer('home', http)
    gateway.mayOffer('home', tcp(1024))
    gateway.mayOffer('home', tcp(65_535))
    gateway.mayOffer('home', { ...http, hosts: ['a.example.com', '*.example.com', '10.0.0.1', '*'] })
    for (const port of [1, 1023, 9000]) {
      expect(refusal(() => gateway.mayOffer('home', tcp(port))).code).toBe('not_granted')
    }
    expect(gateway.lowestFreePort('home', new Set())).toBe(1024)
  })

  test('is for one name where the file has none: the one enrolled longest', () => {
    const gateway = enrolled(['home', 'office'], BOTH)
    gateway.claim('tcp:2222', 'office')
    expect(gateway.setGrants(undefined)).toEqual([{ route: 'tcp:2222', name: 'office' }])
    gateway.mayOffer('home', tcp(2222))
    expect(refusal(() => gateway.mayOffer('office', http)).message).toContain('[grant.office]')
  })

  test('that is narrowed names the routes it no longer covers, which stay their owner’s', () => {
    const gateway = authority()
    gateway.claim('default', 'home')
    gateway.claim('tcp:8000', 'home')
    gateway.claim('tcp:8050', 'home')
    gateway.claim('tcp:2222', 'office')
    const narrow = grants(['home', [[8000, 8010]], ['*']])
    expect(gateway.setGrants(narrow)).toEqual([
      { route: 'tcp:8050', name: 'home' },
      { route: 'tcp:2222', name: 'office' },
    ])
    expect(gateway.setGrants(narrow)).toEqual([])
    expect(gateway.uncovered).toHaveLength(2)
    expect(gateway.ownerOf('tcp:8050')).toBe('home')
    expect(gateway.setGrants(BOTH)).toEqual([])
    expect(gateway.uncovered).toEqual([])
  })

  test('that loses a wildcard names the routes below it, and keeps those that it lists', () => {
    const gateway = enrolled(['home'], grants(['home', [], ['*.example.com', 'a.example.com']]))
    gateway.claimAll(['*.example.com/', 'a.example.com/x', 'b.example.com/'], 'home')
    expect(gateway.setGrants(grants(['home', [], ['a.example.com']])).map(({ route }) => route)).toEqual([
      '*.example.com/',
      'b.example.com/',
    ])
  })
})

describe('a route that was live', () => {
  test('is recent while live, and for ten minutes after', () => {
    const authority = enrolled(['home'], undefined)
    authority.claim('default', 'home')
    expect(authority.recent('default', NOW)).toBe(false)
    authority.markLive('default')
    expect(authority.recent('default', NOW + 100 * HOLD_RECENT_MS)).toBe(true)
    authority.markGone('default', NOW)
    expect(authority.recent('default', NOW + HOLD_RECENT_MS)).toBe(true)
    expect(authority.recent('default', NOW + HOLD_RECENT_MS + 1)).toBe(false)
  })

  test('when the gateway stopped has just left when it starts, however long that was', () => {
    const authority = enrolled(['home'], undefined)
    for (const route of ['default', 'tcp:8000', 'tcp:8001', 'tcp:8002']) authority.claim(route, 'home')
    authority.markLive('default')
    authority.markLive('tcp:8002')
    authority.markLive('tcp:8000')
    authority.markGone('tcp:8000', NOW)
    const start = NOW + 24 * HOLD_RECENT_MS
    const restarted = new Authority(reread(authority.record), undefined)
    restarted.restarted(start)
    expect(restarted.recent('default', start + HOLD_RECENT_MS)).toBe(true)
    expect(restarted.recent('default', start + HOLD_RECENT_MS + 1)).toBe(false)
    expect(restarted.recent('tcp:8002', start + HOLD_RECENT_MS)).toBe(true)
    expect(restarted.recent('tcp:8002', start + HOLD_RECENT_MS + 1)).toBe(false)
    expect(restarted.recent('tcp:8000', start)).toBe(false)
    expect(restarted.recent('tcp:8001', start)).toBe(false)
  })

  test('counts a sighting only when it is news, and never makes an answer wait for the disk', () => {
    const authority = enrolled(['home'], undefined)
    authority.claim('default', 'home')
    const { revision, sightings } = authority
    authority.markGone('default', NOW)
    authority.markLive('tcp:1')
    expect(authority.sightings).toBe(sightings)
    authority.markLive('default')
    authority.markLive('default')
    authority.markGone('default', NOW)
    authority.markGone('default', NOW + 1)
    expect(authority.sightings).toBe(sightings + 2)
    expect(authority.revision).toBe(revision)
  })

  test('is no longer, for the next owner of the same route', () => {
    const authority = enrolled(['home', 'office'], BOTH)
    authority.claim('tcp:8000', 'home')
    authority.markLive('tcp:8000')
    authority.release('tcp:8000')
    authority.claim('tcp:8000', 'office')
    expect(authority.recent('tcp:8000', NOW)).toBe(false)
  })
})

describe('the record', () => {
  const record = () => {
    const authority = enrolled(['home'], undefined)
    authority.claim('default', 'home')
    return authority.record
  }

  test('is refused when a key, an invite or a route is there twice', () => {
    const good = record()
    expect(authoritySchema.safeParse(good).success).toBe(true)
    for (const twice of [
      { ...good, owners: [...good.owners, ...good.owners] },
      { ...good, invites: [...good.invites, ...good.invites] },
      { ...good, enrolled: [...good.enrolled, ...good.enrolled] },
      { ...good, revoked: [{ key: keyOf(0), name: 'home', at: NOW }] },
    ]) {
      expect(authoritySchema.safeParse(twice).success).toBe(false)
    }
  })

  test.each([
    ['version', 2],
    ['owners', [{ route: 'tcp:0', name: 'home', live: false }]],
    ['owners', [{ route: 'default', name: 'Home', live: false }]],
    ['owners', [{ route: 'a.example.com', name: 'home', live: false }]],
    ['owners', [{ route: 'A.example.com/', name: 'home', live: false }]],
    [
      'owners',
      [
        { route: 'a.example.com/', name: 'home', live: false },
        { route: 'a.example.com/x', name: 'office', live: false },
      ],
    ],
    ['revoked', [{ key: 'sha256:short', name: 'home', at: NOW }]],
    ['enrolled', undefined],
  ])('is refused with %s as %o', (field, value) => {
    expect(authoritySchema.safeParse({ ...record(), [field]: value }).success).toBe(false)
  })

  test('that was given out does not change with what follows', () => {
    const authority = enrolled(['home'], undefined)
    authority.claim('default', 'home')
    const given = authority.record
    const text = JSON.stringify(given)
    authority.markLive('default')
    authority.seen(keyOf(0), 'here', NOW + 5)
    authority.revoke('home', NOW)
    expect(JSON.stringify(given)).toBe(text)
  })
})
