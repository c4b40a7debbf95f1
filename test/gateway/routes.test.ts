import { describe, expect, test } from 'vitest'
import { type Replica, Routes } from '../../src/gateway/routes.ts'
import { PASSED_OVER_MAX_MS, PASSED_OVER_MS, SERVICES_PER_TUNNEL } from '../../src/limits.ts'
import type { ServiceOffer } from '../../src/protocol/index.ts'
import { refusal } from './people.ts'

const web: ServiceOffer = { name: 'web', type: 'http' }
const api: ServiceOffer = { name: 'api', type: 'http' }

/** A table of tunnels called by letters; those in `suspect` get no new streams. */
function table() {
  const suspect = new Set<string>()
  const heard: string[] = []
  const left: string[] = []
  const routes = new Routes<string>({
    isLive: (tunnel) => !suspect.has(tunnel),
    onLive: (route) => heard.push(`live ${route}`),
    onGone: (route) => heard.push(`gone ${route}`),
    onLeft: (tunnel, route) => left.push(`${tunnel} ${route}`),
  })
  const turn = (tunnel: string, isSuspect: boolean) => {
    if (isSuspect) suspect.add(tunnel)
    else suspect.delete(tunnel)
    routes.refresh(tunnel)
  }
  const pick = (route = 'default', ...exclude: string[]) => routes.pick(route, new Set(exclude))?.tunnel
  return { routes, suspect, heard, left, turn, pick }
}

describe('picking', () => {
  test('takes the replica with the fewest active streams', () => {
    const { routes, pick } = table()
    for (const tunnel of ['a', 'b', 'c']) routes.register(tunnel, 'home', web, ['default'])
    const [a, b, c] = routes.replicas('default')
    if (a === undefined || b === undefined || c === undefined) throw new Error('three were registered')
    for (const replica of [a, a, b, c, c]) routes.begin(replica)
    expect(pick()).toBe('b')
    routes.end(a)
    routes.end(a)
    expect(pick()).toBe('a')
  })

  test('goes round among equals', () => {
    const { routes, pick } = table()
    for (const tunnel of ['a', 'b', 'c']) routes.register(tunnel, 'home', web, ['default'])
    expect(Array.from({ length: 7 }, () => pick())).toEqual(['a', 'b', 'c', 'a', 'b', 'c', 'a'])
    routes.drop('b')
    expect(Array.from({ length: 4 }, () => pick())).toEqual(['c', 'a', 'c', 'a'])
  })

  test('goes on with whose turn it is when another leaves', () => {
    const { routes, pick } = table()
    for (const tunnel of ['a', 'b', 'c']) routes.register(tunnel, 'home', web, ['default'])
    expect([pick(), pick()]).toEqual(['a', 'b'])
    routes.drop('a')
    expect([pick(), pick()]).toEqual(['c', 'b'])
  })

  test('passes over suspect tunnels and those that just refused, and says when none is left', () => {
    const { routes, turn, pick } = table()
    for (const tunnel of ['a', 'b', 'c']) routes.register(tunnel, 'home', web, ['default'])
    turn('a', true)
    expect(pick('default', 'b')).toBe('c')
    expect(pick('default', 'b', 'c')).toBeUndefined()
    expect(pick('tcp:1')).toBeUndefined()
    turn('a', false)
    expect(pick('default', 'b', 'c')).toBe('a')
  })

  test('spreads a burst evenly', () => {
    const { routes } = table()
    for (const tunnel of ['a', 'b', 'c']) routes.register(tunnel, 'home', web, ['default'])
    for (let n = 0; n < 300; n++) {
      const replica = routes.pick('default')
      if (replica !== undefined) routes.begin(replica)
    }
    expect(routes.replicas('default').map((replica) => replica.active)).toEqual([100, 100, 100])
  })

  test('counts the streams of a service over all its routes, and of no other service', () => {
    const { routes } = table()
    routes.register('a', 'home', web, ['default'])
    routes.register('a', 'home', web, ['tcp:1'])
    routes.register('a', 'home', { name: 'ssh', type: 'tcp' }, ['tcp:2'])
    const replica = routes.pick('default')
    if (replica !== undefined) routes.begin(replica)
    expect(routes.of('a').map(({ route, active }) => [route, active])).toEqual([
      ['default', 1],
      ['tcp:1', 1],
      ['tcp:2', 0],
    ])
  })

  test('never counts below zero, and a stream may end after its replica', () => {
    const { routes } = table()
    routes.register('a', 'home', web, ['default'])
    const [replica] = routes.replicas('default')
    if (replica === undefined) throw new Error('one was registered')
    routes.begin(replica)
    routes.drop('a')
    routes.end(replica)
    routes.end(replica)
    expect(replica.active).toBe(0)
  })
})

describe('a target that its client calls down', () => {
  test('gets no visitors on any route of its service, and others do', () => {
    const { routes, pick, heard } = table()
    routes.register('a', 'home', web, ['default', 'h/'])
    routes.register('b', 'home', web, ['default'])
    routes.register('a', 'home', api, ['api/'])
    expect(routes.setHealth('a', 'web', false)).toBe(true)
    expect(Array.from({ length: 3 }, () => pick())).toEqual(['b', 'b', 'b'])
    expect([pick('h/'), pick('api/')]).toEqual([undefined, 'a'])
    expect(routes.usable('h/')).toBe(false)
    expect(routes.replicas('default').map(({ down }) => down)).toEqual([true, false])
    expect(heard).toEqual(['live default', 'live h/', 'live api/', 'gone h/'])
    expect(routes.setHealth('a', 'web', true)).toBe(true)
    expect(pick('h/')).toBe('a')
    expect(heard.at(-1)).toBe('live h/')
  })

  test('is told of once, and only where it is offered', () => {
    const { routes, heard } = table()
    routes.register('a', 'home', web, ['default'])
    heard.length = 0
    expect(routes.setHealth('a', 'web', true)).toBe(false)
    expect(routes.setHealth('a', 'api', false)).toBe(false)
    expect(routes.setHealth('b', 'web', false)).toBe(false)
    routes.setHealth('a', 'web', false)
    expect(routes.setHealth('a', 'web', false)).toBe(false)
    expect(heard).toEqual(['gone default'])
  })

  test('stays down when its offer is replaced, and is up when it is offered anew', () => {
    const { routes, pick } = table()
    routes.register('a', 'home', web, ['default'])
    routes.setHealth('a', 'web', false)
    routes.register('a', 'home', { ...web, generation: '2' }, ['default'])
    expect(pick()).toBeUndefined()
    routes.unregister('a', ['web'])
    routes.register('a', 'home', web, ['default'])
    expect(pick()).toBe('a')
  })

  test('keeps its route from other services, for its client is there', () => {
    const { routes } = table()
    routes.register('a', 'home', web, ['default'])
    routes.setHealth('a', 'web', false)
    expect(refusal(() => routes.register('b', 'home', api, ['default'])).code).toBe('route_conflict')
  })

  test('is not live for a tunnel that answers again', () => {
    const { routes, turn, heard } = table()
    routes.register('a', 'home', web, ['default'])
    turn('a', true)
    routes.setHealth('a', 'web', false)
    turn('a', false)
    expect(heard).toEqual(['live default', 'gone default'])
  })
})

describe('a replica that fails', () => {
  function pair() {
    const { routes, suspect } = table()
    routes.register('a', 'home', web, ['default', 'h/'])
    routes.register('b', 'home', web, ['default'])
    const [a, b] = routes.replicas('default')
    if (a === undefined || b === undefined) throw new Error('two were registered')
    const pick = (now: number, ...exclude: string[]) => routes.pick('default', new Set(exclude), now)?.tunnel
    const picks = (now: number) => new Set([1, 2, 3, 4].map(() => pick(now)))
    return { routes, suspect, a, b, pick, picks }
  }

  test('is passed over for a second, though others are busier', () => {
    const { routes, a, b, picks } = pair()
    routes.begin(b)
    routes.failed(a, 100)
    expect(a.passedOver).toBe(100 + PASSED_OVER_MS)
    expect(picks(100)).toEqual(new Set(['b']))
    expect(picks(99 + PASSED_OVER_MS)).toEqual(new Set(['b']))
    expect(picks(100 + PASSED_OVER_MS)).toEqual(new Set(['a']))
  })

  test('is passed over twice as long each time it goes on failing, up to a bound, and not at all once it works', () => {
    const { routes, a, picks } = pair()
    let now = 0
    for (const ms of [1, 2, 4, 8, 16, 30, 30].map((seconds) => seconds * 1_000)) {
      routes.failed(a, now)
      expect(a.passedOver - now).toBe(ms)
      now = a.passedOver
    }
    expect(a.passedOver - now).toBeLessThanOrEqual(PASSED_OVER_MAX_MS)
    routes.failed(a, now)
    routes.worked(a)
    expect(a.passedOver).toBe(0)
    expect(picks(now)).toEqual(new Set(['a', 'b']))
    routes.failed(a, now)
    expect(a.passedOver - now).toBe(PASSED_OVER_MS)
  })

  test('for many visitors at once fails once', () => {
    const { routes, a } = pair()
    for (let n = 0; n < 50; n++) routes.failed(a, n)
    expect(a.passedOver).toBe(49 + PASSED_OVER_MS)
  })

  test('is still taken when the others cannot be, and the one whose time is over soonest when all have failed', () => {
    const { routes, suspect, a, b, pick, picks } = pair()
    routes.failed(a, 0)
    expect(pick(0, 'b')).toBe('a')
    routes.failed(b, 10)
    expect(picks(20)).toEqual(new Set(['a']))
    expect(pick(20, 'a')).toBe('b')
    routes.failed(a, 30)
    expect(picks(40)).toEqual(new Set(['b']))
    suspect.add('b')
    expect(picks(40)).toEqual(new Set(['a']))
    expect(routes.usable('default')).toBe(true)
  })

  test('is passed over on all routes of its service, and by nobody who gives no time', () => {
    const { routes, a } = pair()
    routes.register('c', 'home', web, ['h/'])
    routes.failed(a, 0)
    expect([1, 2, 3].map(() => routes.pick('h/', undefined, 0)?.tunnel)).toEqual(['c', 'c', 'c'])
    expect(new Set([1, 2].map(() => routes.pick('h/')?.tunnel))).toEqual(new Set(['a', 'c']))
  })

  test('may be gone by then', () => {
    const { routes, a } = pair()
    routes.drop('a')
    routes.failed(a, 0)
    routes.worked(a)
    const stranger = { ...a } as Replica<string>
    routes.failed(stranger, 0)
    routes.worked(stranger)
    expect(routes.replicas('default').map(({ tunnel, passedOver }) => [tunnel, passedOver])).toEqual([
      ['b', 0],
    ])
  })
})

describe('registering', () => {
  test('on several routes is on all of them or on none', () => {
    const { routes, heard } = table()
    routes.register('a', 'home', api, ['h/api'])
    heard.length = 0
    expect(refusal(() => routes.register('b', 'home', web, ['h/', 'h/api'])).code).toBe('route_conflict')
    expect([routes.size, routes.of('b'), heard]).toEqual([1, [], []])
    routes.register('b', 'home', web, ['h/', 'i/'])
    expect(routes.of('b').map(({ route }) => route)).toEqual(['h/', 'i/'])
    expect(heard).toEqual(['live h/', 'live i/'])
  })

  test('another service, type or TLS mode on a live route is a conflict that says what to do', () => {
    const { routes } = table()
    routes.register('a', 'home', web, ['default'])
    for (const offer of [api, { ...web, type: 'https' }, { ...web, tls: 'acme' }] as ServiceOffer[]) {
      for (const tunnel of ['a', 'b']) {
        const { code, message, scope } = refusal(() => routes.register(tunnel, 'home', offer, ['default']))
        expect(code).toBe('route_conflict')
        expect(scope).toBe('stream')
        expect(message).toContain(':')
      }
    }
    expect(routes.replicas('default').map(({ tunnel }) => tunnel)).toEqual(['a'])
  })

  test('under another name is route_taken, and does not say whose it is', () => {
    const { routes } = table()
    routes.register('a', 'home', web, ['default'])
    const { code, message } = refusal(() => routes.register('b', 'office', web, ['default']))
    expect(code).toBe('route_taken')
    expect(message).not.toContain('home')
  })

  test('the same again changes nothing but the offer', () => {
    const { routes, heard } = table()
    routes.register('a', 'home', web, ['default'])
    routes.register('a', 'home', { ...web, share: false }, ['default'])
    expect(routes.replicas('default')).toHaveLength(1)
    expect(routes.replicas('default')[0]?.offer.share).toBe(false)
    expect(heard).toEqual(['live default'])
    routes.register('a', 'home', { ...web, generation: '2' }, ['default', 'h/'])
    expect(routes.of('a').map(({ offer }) => offer.generation)).toEqual(['2', '2'])
    expect(heard).toEqual(['live default', 'live h/'])
  })

  test('never meets its own ghost: a suspect replica of the same service stays, of another one it goes', () => {
    const { routes, turn, pick, heard } = table()
    routes.register('ghost', 'home', web, ['default'])
    turn('ghost', true)
    expect(routes.register('a', 'home', web, ['default'])).toEqual([])
    expect(routes.replicas('default').map(({ tunnel }) => tunnel)).toEqual(['ghost', 'a'])
    turn('a', true)
    const displaced = routes.register('b', 'home', api, ['default'])
    expect(displaced.map(({ tunnel, service }) => [tunnel, service])).toEqual([
      ['ghost', 'web'],
      ['a', 'web'],
    ])
    turn('ghost', false)
    turn('a', false)
    expect(Array.from({ length: 3 }, () => pick())).toEqual(['b', 'b', 'b'])
    expect(routes.of('ghost')).toEqual([])
    expect(heard).toEqual(['live default', 'gone default', 'live default', 'gone default', 'live default'])
  })

  test('takes over a route of which nobody told that its tunnel went silent', () => {
    const { routes, suspect, heard } = table()
    routes.register('ghost', 'home', web, ['default'])
    suspect.add('ghost')
    routes.register('b', 'home', api, ['default'])
    expect(heard).toEqual(['live default', 'gone default', 'live default'])
  })

  test('while suspect makes no route live until the tunnel answers', () => {
    const { routes, suspect, heard, turn } = table()
    suspect.add('a')
    routes.register('a', 'home', web, ['default'])
    expect(heard).toEqual([])
    expect(routes.usable('default')).toBe(false)
    turn('a', false)
    expect(heard).toEqual(['live default'])
  })

  test('is bounded per tunnel', () => {
    const { routes } = table()
    for (let n = 0; n < SERVICES_PER_TUNNEL; n++) {
      routes.register('a', 'home', { name: `s${n}`, type: 'tcp' }, [`tcp:${1024 + n}`])
    }
    expect(refusal(() => routes.register('a', 'home', web, ['default'])).code).toBe('too_many_services')
    routes.register('b', 'home', web, ['default'])
    routes.unregister('a', ['s0'])
    routes.register('a', 'home', web, ['default'])
  })
})

describe('leaving', () => {
  test('a dropped tunnel leaves every route, and only its last replicas are heard of', () => {
    const { routes, heard } = table()
    routes.register('a', 'home', web, ['default'])
    routes.register('b', 'home', web, ['default'])
    routes.register('a', 'home', { name: 'ssh', type: 'tcp' }, ['tcp:1'])
    expect(routes.drop('a').map(({ route }) => route)).toEqual(['default', 'tcp:1'])
    expect(heard).toEqual(['live default', 'live tcp:1', 'gone tcp:1'])
    expect(routes.snapshot()).toMatchObject([
      { route: 'default', name: 'home', service: 'web', usable: true },
    ])
    expect(routes.drop('a')).toEqual([])
    expect([routes.size, routes.tunnels]).toEqual([1, 1])
    routes.unregister('b', ['web'])
    expect([routes.size, routes.tunnels]).toEqual([0, 0])
  })

  test('unregistering takes the named services of that tunnel and nothing else', () => {
    const { routes } = table()
    routes.register('a', 'home', web, ['default'])
    routes.register('a', 'home', web, ['tcp:1'])
    routes.register('a', 'home', { name: 'ssh', type: 'tcp' }, ['tcp:2'])
    routes.register('b', 'home', web, ['default'])
    expect(routes.unregister('a', ['web', 'nothing']).map(({ route }) => route)).toEqual(['default', 'tcp:1'])
    expect(routes.of('a').map(({ route }) => route)).toEqual(['tcp:2'])
    expect(routes.of('b')).toHaveLength(1)
  })

  test('a withdrawn route loses all its replicas, which are given back to be told', () => {
    const { routes, heard } = table()
    routes.register('a', 'home', web, ['default'])
    routes.register('b', 'home', web, ['default'])
    expect(routes.withdraw('default').map(({ tunnel }) => tunnel)).toEqual(['a', 'b'])
    expect(heard).toEqual(['live default', 'gone default'])
    routes.register('c', 'office', api, ['default'])
  })

  test('each replica that goes is told of once, whatever the reason', () => {
    const { routes, left, suspect } = table()
    const both = ['default', 'x/']
    for (const tunnel of ['a', 'b', 'c']) routes.register(tunnel, 'home', web, both)
    routes.register('a', 'home', { ...web, share: false }, both)
    expect(left).toEqual([])
    routes.unregister('a', ['web'])
    routes.withdraw('x/')
    routes.drop('b')
    suspect.add('c')
    routes.register('d', 'home', api, ['default'])
    expect(left).toEqual(['a default', 'a x/', 'b x/', 'c x/', 'b default', 'c default'])
  })

  test('whoever hears that a route went may change the table at once', () => {
    const heard: string[] = []
    const routes: Routes<string> = new Routes<string>({
      isLive: () => true,
      onGone: (route) => {
        heard.push(`gone ${route}`)
        if (route === 'default') routes.drop('b')
        if (route === 'tcp:2') routes.register('c', 'home', web, ['default'])
      },
      onLive: (route) => heard.push(`live ${route}`),
    })
    routes.register('a', 'home', web, ['default'])
    routes.register('a', 'home', { name: 'ssh', type: 'tcp' }, ['tcp:1'])
    routes.register('b', 'home', { name: 'ssh2', type: 'tcp' }, ['tcp:2'])
    heard.length = 0
    routes.drop('a')
    expect(heard).toEqual(['gone default', 'gone tcp:2', 'live default', 'gone tcp:1'])
    expect(routes.pick('default')?.tunnel).toBe('c')
  })
})

test('a pick costs the same among ten thousand routes as among ten', () => {
  let asked = 0
  const routes = new Routes<number>({
    isLive: () => {
      asked++
      return true
    },
  })
  for (let tunnel = 0; tunnel < 10_000; tunnel++) {
    routes.register(tunnel, 'home', { name: 'ssh', type: 'tcp' }, [`tcp:${tunnel}`])
  }
  asked = 0
  routes.pick('tcp:77')
  expect(asked).toBe(1)
  routes.register(10_000, 'home', { name: 'ssh', type: 'tcp' }, ['tcp:77'])
  routes.drop(5_000)
  expect(asked).toBeLessThan(10)
})
