import { afterEach, describe, expect, test } from 'vitest'
import type { ServiceOffer } from '../../src/protocol/index.ts'
import {
  ANSWER,
  freePort,
  granted,
  HTTP,
  REQUEST,
  type Running,
  settings,
  status,
  tcp,
  World,
} from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const web = (hosts: string[], rest: Partial<ServiceOffer> = {}): ServiceOffer => ({
  name: 'web',
  type: 'http',
  hosts,
  ...rest,
})
const BOTH = granted({
  home: { hosts: ['*.example.com', 'example.com', '*'] },
  guest: { hosts: ['guest.example.com', 'a.example.com', '*.guest.example'] },
})

async function owned(running: Running): Promise<string[]> {
  return (await status(running)).routes.map(({ route, owner }) => `${owner} ${route}`)
}

describe('a service with hosts', () => {
  test('is told a URL for each of its routes, as a visitor would type it', async () => {
    const running = await world.gateway()
    const offer = web(['App.example.com', '*.example.com', '[2001:db8::1]', '*'], { path: '/api' })
    const home = await world.enroll(running, 'home-1', { services: [offer] })
    const port = running.http
    expect(await home.welcome()).toEqual([
      {
        name: 'web',
        urls: [
          `http://app.example.com:${port}/api`,
          `http://*.example.com:${port}/api`,
          `http://[2001:db8::1]:${port}/api`,
          `http://127.0.0.1:${port}/api`,
        ],
      },
    ])
    expect((await status(running)).routes).toMatchObject(
      ['app.example.com/api', '*.example.com/api', '[2001:db8::1]/api', 'default/api'].map((route) => ({
        route,
        owner: 'home',
        service: 'web',
        replicas: 1,
        down: 0,
      })),
    )
  })

  test('keeps its hosts from other names on every path, while it is away and after a restart', async () => {
    const first = await world.gateway({ grants: BOTH })
    const home = await world.enroll(first, 'home-1', {
      name: 'home',
      services: [web(['a.example.com'], { path: '/x' })],
    })
    await world.enroll(first, 'guest-1', { name: 'guest' })
    home.tunnel.end()
    await home.closed
    await first.gateway.close()
    const second = await world.gateway({ grants: BOTH }, first.state)
    const guest = await world.dial(second, 'guest-1')
    await guest.welcome()
    for (const path of ['/', '/x', '/login']) {
      const [result] = await guest.register(web(['guest.example.com', 'a.example.com'], { path }))
      expect(result).toMatchObject({ error: { code: 'route_taken' } })
      expect(JSON.stringify(result)).not.toContain('home')
    }
    expect(await owned(second)).toEqual(['home a.example.com/x'])
  })

  test.each<[what: string, offer: ServiceOffer, code: string]>([
    ['a host outside its grant', web(['guest.example.com', 'other.example.com']), 'not_granted'],
    ['a host that makes no sense', web(['guest.example.com', 'a b']), 'bad_service'],
    [
      'a header that is the gateway’s',
      web(['guest.example.com'], { rewrite: { headers: [['Host', 'x']] } }),
      'bad_service',
    ],
    [
      'a route that another of its services has',
      web(['guest.example.com', 'x.guest.example']),
      'route_conflict',
    ],
  ])('that is refused for %s leaves nothing claimed', async (_what, offer, code) => {
    const running = await world.gateway({ grants: BOTH })
    await world.enroll(running, 'guest-1', {
      name: 'guest',
      services: [{ ...web(['x.guest.example']), name: 'other' }],
    })
    const guest = await world.enroll(running, 'guest-2', { name: 'guest' })
    expect(await guest.register(offer)).toMatchObject([{ name: 'web', error: { code } }])
    expect(await owned(running)).toEqual(['guest x.guest.example/'])
    expect((await status(running)).routes).toMatchObject([{ service: 'other', replicas: 1 }])
    const home = await world.enroll(running, 'home-1', { name: 'home' })
    expect(await home.register(web(['guest.example.com']))).toMatchObject([{ urls: [expect.any(String)] }])
  })

  test('is replaced in place by another offer of the same routes, and refused with other ones', async () => {
    const running = await world.gateway()
    const offer = web(['a.example.com', '*'])
    const home = await world.enroll(running, 'home-1', { services: [offer] })
    const again = web(['*', 'a.example.com'], { generation: '2', rewrite: { headers: [['x-a', 'b']] } })
    expect(await home.register(again)).toMatchObject([{ urls: [expect.any(String), expect.any(String)] }])
    for (const other of [web(['a.example.com']), web(['a.example.com', '*'], { path: '/x' }), HTTP]) {
      const [result] = await home.register(other)
      expect(result).toMatchObject({ error: { code: 'bad_service' } })
      expect(JSON.stringify(result)).toContain('unregister it first')
    }
    expect((await status(running)).routes).toMatchObject([
      { route: 'a.example.com/', replicas: 1 },
      { route: 'default', replicas: 1 },
    ])
    // No visitor ever found nobody there.
    expect(running.lines.all.filter(({ msg }) => msg.includes('no client'))).toEqual([])
  })

  test('gives all its routes to others when it is released', async () => {
    const running = await world.gateway({ grants: BOTH })
    const home = await world.enroll(running, 'home-1', {
      name: 'home',
      services: [web(['a.example.com', 'guest.example.com'])],
    })
    const guest = await world.enroll(running, 'guest-1', { name: 'guest' })
    await home.unregister(['web'])
    expect(await guest.register(web(['a.example.com']))).toMatchObject([{ error: { code: 'route_taken' } }])
    await home.register(web(['a.example.com', 'guest.example.com']))
    await home.unregister(['web'], true)
    expect(await owned(running)).toEqual([])
    await guest.register(web(['a.example.com', 'guest.example.com']))
    expect(await owned(running)).toEqual(['guest a.example.com/', 'guest guest.example.com/'])
  })

  test('is released by the operator as it is typed, but not while it is served', async () => {
    const running = await world.gateway()
    const home = await world.enroll(running, 'home-1', { services: [web(['a.example.com'])] })
    const release = { command: 'release', route: 'A.example.com' } as const
    await expect(running.gateway.command(release)).rejects.toMatchObject({ code: 'route_taken' })
    home.tunnel.end()
    await home.closed
    await running.gateway.command(release)
    expect(await owned(running)).toEqual([])
  })

  test('whose silent tunnel lost one of its routes has none of them any more', async () => {
    const running = await world.gateway()
    const ghost = await world.enroll(running, 'home-1', {
      services: [web(['a.example.com', 'b.example.com'])],
    })
    // It neither answers nor asks: any byte would be a sign of life.
    ghost.tunnel.session.receive = ghost.tunnel.session.ping = () => {}
    const other = { ...web(['b.example.com']), name: 'other' }
    const next = await world.dial(running, 'home-1', { services: [other] })
    expect(await next.welcome()).toMatchObject([{ name: 'other', urls: [expect.any(String)] }])
    expect((await status(running)).routes).toMatchObject([
      { route: 'a.example.com/', replicas: 0 },
      { route: 'b.example.com/', service: 'other', replicas: 1 },
    ])
  })
})

describe('without a host', () => {
  test('a service gets one under the domain, with its owner’s name where another has the short one', async () => {
    const grants = granted({ home: { hosts: ['web.example.com'] }, guest: { hosts: ['*.example.com'] } })
    const running = await world.gateway({ grants, domain: 'example.com' })
    const home = await world.enroll(running, 'home-1', { name: 'home', services: [HTTP] })
    const url = (host: string): string => `http://${host}:${running.http}/`
    expect(await home.welcome()).toEqual([{ name: 'web', urls: [url('web.example.com')] }])
    const guest = await world.enroll(running, 'guest-1', { name: 'guest', services: [HTTP] })
    expect(await guest.welcome()).toEqual([{ name: 'web', urls: [url('web-guest.example.com')] }])
    // The same again is the same place, whatever has become free meanwhile.
    home.tunnel.end()
    await home.closed
    await running.gateway.command({ command: 'release', route: 'web.example.com' })
    expect(await guest.register({ ...HTTP, generation: '2' })).toEqual([
      { name: 'web', urls: [url('web-guest.example.com')] },
    ])
  })
})

describe('a reload that takes one host from a service', () => {
  test('withdraws the service, cuts the visitors of that host, and spares those of its others', async () => {
    const wide = granted({ home: { hosts: ['*', 'a.example.com'] } })
    const running = await world.gateway({ grants: wide })
    const home = await world.enroll(running, 'home-1', {
      name: 'home',
      services: [web(['*', 'a.example.com'])],
    })
    const visit = world.visit(running.http, REQUEST)
    const carried = await home.visits.at(0)
    await running.gateway.reload(settings({ grants: granted({ home: { hosts: ['*'] } }) }))
    const { services } = await home.heard('withdrawn')
    expect(services).toMatchObject([{ name: 'web', error: { code: 'not_granted' } }])
    carried.answer(ANSWER)
    await visit.received('here')
    expect((await status(running)).routes.map(({ replicas }) => replicas)).toEqual([0, 0])
    expect(await home.register(web(['*']))).toMatchObject([{ urls: [expect.any(String)] }])
  })

  test('cuts the visitors of all hosts that it takes', async () => {
    const wide = granted({ home: { hosts: ['a.example.com', '*'] } })
    const running = await world.gateway({ grants: wide })
    const home = await world.enroll(running, 'home-1', {
      name: 'home',
      services: [web(['a.example.com', '*'])],
    })
    const visit = world.visit(running.http, REQUEST)
    await home.visits.at(0)
    await running.gateway.reload(settings({ grants: granted({ home: {} }) }))
    expect((await home.heard('withdrawn')).services).toHaveLength(1)
    expect(await visit.over).toBe('reset')
  })

  test('cuts the visitors of a service that was taken back or withdrawn before, and that they outlived', async () => {
    const wide = granted({ home: { hosts: ['a.example.com', '*'], ports: [[1024, 65_535]] } })
    const running = await world.gateway({ grants: wide })
    const port = await freePort()
    const home = await world.enroll(running, 'home-1', {
      name: 'home',
      services: [web(['a.example.com', '*']), tcp(port)],
    })
    const visits = [world.visit(running.http, REQUEST), world.visit(port, 'hello')]
    await home.visits.at(1)
    await home.unregister([`tcp-${port}`])
    await running.gateway.reload(
      settings({ grants: granted({ home: { hosts: ['*'], ports: [[1024, 65_535]] } }) }),
    )
    expect((await status(running)).streams).toBe(2)
    await running.gateway.reload(settings({ grants: granted({ home: {} }) }))
    for (const visit of visits) expect(await visit.over).toBe('reset')
  })
})
