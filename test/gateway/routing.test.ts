import { afterEach, describe, expect, test } from 'vitest'
import type { ServiceOffer } from '../../src/protocol/index.ts'
import { turns, until } from '../net/joined.ts'
import type { ScriptedClient } from './scripted-client.ts'
import { answer, ask, get, request, streams, talking, WITH_ADMIN, web } from './web.ts'
import { granted, type Running, status, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

/** Says which service it is, and the target that it was asked for. */
const named = talking((head, visit) =>
  answer(`<${visit.header.service} ${head.split(' ')[1]} on ${visit.stream.id}>`),
)

interface Routed extends Running {
  client: ScriptedClient
}

async function routed(...services: ServiceOffer[]): Promise<Routed> {
  const running = await world.gateway({ listen: WITH_ADMIN })
  return { ...running, client: await world.enroll(running, 'm', { services, serve: named }) }
}

const at = (name: string, hosts: string[], path?: string): ServiceOffer =>
  web(hosts, { name, ...(path === undefined ? {} : { path }) })

/** The service that answers, or the status. */
async function who(running: Running, host: string, target = '/'): Promise<string> {
  const said = await ask(world.visit(running.http), get(target, `Host: ${host}`), /<\w+ \S+ on|<\/small>/)
  return /<(\w+) \S+ on/.exec(said)?.[1] ?? said.slice(9, 12)
}

describe('a host', () => {
  test('that a service names goes there; then its wildcard, then the default', async () => {
    const running = await routed(
      at('exact', ['app.example.com']),
      at('wild', ['*.example.com']),
      at('rest', []),
    )
    const asked = [
      'app.example.com',
      'other.example.com',
      'example.com',
      'a.b.example.com',
      'xexample.com',
      'elsewhere.example',
    ]
    const answers = []
    for (const host of asked) answers.push(await who(running, host))
    expect(answers).toEqual(['exact', 'wild', 'rest', 'rest', 'rest', 'rest'])
  })

  test.each([
    'app.example.com',
    'APP.Example.COM',
    'app.example.com.',
    'app.example.com:9000',
    'app.example.com:',
    'App.example.com.:80',
  ])('is the same in any case, with any port and with a final dot: %s', async (host) => {
    expect(await who(await routed(at('exact', ['app.example.com']), at('rest', [])), host)).toBe('exact')
  })

  test.each(['[2001:db8::1]', '[2001:DB8:0:0::1]:9000', '[2001:db8:0:0:0:0:0:1]'])(
    'may be an IPv6 address, however it is written: %s',
    async (host) => {
      expect(await who(await routed(at('six', ['[2001:db8::1]']), at('rest', [])), host)).toBe('six')
    },
  )

  test('in another alphabet is the one that browsers send', async () => {
    const running = await routed(at('umlaut', ['bücher.example.com']))
    expect(await who(running, 'xn--bcher-kva.example.com')).toBe('umlaut')
  })

  test('that nobody has is a 404, and the connection goes on', async () => {
    const running = await routed(at('exact', ['app.example.com']))
    const visit = world.visit(running.http)
    await ask(visit, get('/', 'Host: other.example.com'), '404 Not Found')
    await ask(visit, get('/', 'Host: app.example.com'), '<exact')
    expect(visit.text).not.toContain('Connection: close')
  })

  test('of a name is never answered by another: what it has no path for is a 404, whoever has the wildcard', async () => {
    const running = await world.gateway({
      grants: granted({ home: { hosts: ['*.example.com', '*'] }, guest: { hosts: ['guest.example.com'] } }),
    })
    const home = await world.enroll(running, 'h', {
      name: 'home',
      services: [at('wild', ['*.example.com']), at('rest', [])],
      serve: named,
    })
    await world.enroll(running, 'g', {
      name: 'guest',
      services: [at('guest', ['guest.example.com'], '/app')],
      serve: named,
    })
    expect(await who(running, 'guest.example.com', '/app/x')).toBe('guest')
    expect(await who(running, 'guest.example.com', '/login')).toBe('404')
    expect(await who(running, 'home.example.com', '/login')).toBe('wild')
    expect(home.visits.all).toHaveLength(1)
  })
})

describe('a path', () => {
  const tree = () =>
    routed(
      at('root', ['app.example.com']),
      at('api', ['app.example.com'], '/api'),
      at('deep', ['app.example.com'], '/api/v2'),
    )

  test.each([
    ['/', 'root'],
    ['/api', 'api'],
    ['/api?x=/y', 'api'],
    ['/api/', 'api'],
    ['/api/v1/v2', 'api'],
    ['/apix', 'root'],
    ['/api/v2', 'deep'],
    ['/api/v2/users', 'deep'],
    ['/api/v20', 'api'],
    ['/API', 'root'],
    ['/%61pi/%762', 'deep'],
    ['/x?/api', 'root'],
  ])('%s goes to the longest route, on whole segments: %s', async (target, name) => {
    expect(await who(await tree(), 'app.example.com', target)).toBe(name)
  })

  test.each([
    '/api/../admin',
    '/api/./x',
    '/x/..',
    '/api/%2e%2e/admin',
    '/api/.%2E/admin',
    '/api/..;/admin',
    '//api',
    '/x//api',
    '/api%2fv2',
    '/api%5cv2',
    '/api\\v2',
    '/api%00',
    '/api%2',
    '/%zz',
  ])('%s, which servers read differently, is a 400 where paths decide', async (target) => {
    const running = await tree()
    expect(await who(running, 'app.example.com', target)).toBe('400')
    expect(streams(running.client)).toBe(0)
  })

  test.each(['/a/../b', '//evil.example/x', '/a%2fb', '/a%00', '/a/%2e%2e/b', '/./.', '/%zz'])(
    '%s passes as it is where there is one route',
    async (target) => {
      const running = await routed(at('root', ['app.example.com']))
      expect(await who(running, 'app.example.com', target)).toBe('root')
      expect(running.client.visits.all[0]?.text).toMatch(
        new RegExp(`^GET ${target.replaceAll('.', '\\.')} HTTP`),
      )
    },
  )

  test('goes to its target as it was written', async () => {
    const running = await tree()
    const target = '/%61pi/a%20b;x?q=%2F..%2f'
    await who(running, 'app.example.com', target)
    expect(running.client.visits.all[0]?.text.startsWith(`GET ${target} HTTP/1.1\r\n`)).toBe(true)
  })

  test('in absolute form leaves as a path, and goes where that goes', async () => {
    const running = await tree()
    const visit = world.visit(running.http)
    await ask(visit, get('http://app.example.com/api?x', 'Host: app.example.com'), '<api')
    await ask(visit, get('http://app.example.com', 'Host: app.example.com'), '<root')
    const all = running.client.visits.all.map(({ text }) => text.split('\r\n')[0])
    expect(all).toEqual(['GET /api?x HTTP/1.1', 'GET / HTTP/1.1'])
    await ask(visit, get('http://evil.example/api', 'Host: app.example.com'), '400 Bad Request')
  })

  test('* of OPTIONS goes to the host’s root', async () => {
    const running = await tree()
    await ask(world.visit(running.http), request('OPTIONS', '*', ['Host: app.example.com']), '<root * on')
  })
})

describe('one connection', () => {
  test('reaches several services, one after another, and pipelined ones in their order', async () => {
    const running = await routed(at('a', ['a.example.com']), at('b', ['b.example.com']))
    const order = ['a', 'b', 'b', 'a', 'none', 'b']
    const visit = world.visit(running.http)
    visit.write(order.map((name, n) => get(`/${n}`, `Host: ${name}.example.com`)).join(''))
    await visit.received('<b /5')
    const said = [...visit.text.matchAll(/<(\w+) \/\d on|HTTP\/1\.1 (404)/g)].map(([, a, b]) => a ?? b)
    expect(said).toEqual(['a', 'b', 'b', 'a', '404', 'b'])
  })

  test('keeps one stream while it stays on a route', async () => {
    const running = await routed(at('a', ['a.example.com']))
    const visit = world.visit(running.http)
    for (let n = 0; n < 10; n += 1)
      await ask(visit, request(n % 2 === 0 ? 'GET' : 'POST', `/${n}`, ['Host: a.example.com']), `<a /${n} `)
    expect(streams(running.client)).toBe(1)
  })

  test('keeps it over the hosts and paths of one service', async () => {
    const running = await routed(at('a', ['a.example.com', 'b.example.com']))
    const visit = world.visit(running.http)
    for (const host of ['a', 'b', 'a']) await ask(visit, get('/', `Host: ${host}.example.com`), '<a / ')
    expect(streams(running.client)).toBe(1)
  })

  test('counts on the route that it asked last', async () => {
    const running = await routed(at('a', ['a.example.com']), at('b', ['b.example.com']))
    const visit = world.visit(running.http)
    running.client.serve = () => {}
    const streamsOf = async (): Promise<Record<string, number>> =>
      Object.fromEntries((await status(running)).routes.map(({ service, streams }) => [service, streams]))
    visit.write(get('/', 'Host: a.example.com'))
    await (await running.client.visits.at(0)).received('\r\n\r\n')
    expect(await streamsOf()).toEqual({ a: 1, b: 0 })
    running.client.visits.all[0]?.write(answer('one'))
    await visit.received('one')
    visit.write(get('/', 'Host: b.example.com'))
    await running.client.visits.at(1)
    expect(await streamsOf()).toEqual({ a: 0, b: 1 })
  })

  test('loses what it waits for when its route is taken away, and nothing else does', async () => {
    const running = await routed(at('a', ['a.example.com']), at('b', ['b.example.com']))
    running.client.serve = () => {}
    const [on, off] = [
      world.visit(running.http, get('/', 'Host: a.example.com')),
      world.visit(running.http, get('/', 'Host: b.example.com')),
    ]
    await until(() => streams(running.client) === 2)
    await running.client.unregister(['b'], true)
    await turns(5)
    const [a] = running.client.visits.all.filter(({ header }) => header.service === 'a')
    a?.write(answer('still here'))
    await on.received('still here')
    await ask(on, get('/', 'Host: b.example.com'), '404 Not Found')
    off.socket.destroy()
  })
})
