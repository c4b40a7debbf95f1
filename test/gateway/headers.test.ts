import { afterEach, describe, expect, test } from 'vitest'
import type { GatewaySettings } from '../../src/config/index.ts'
import type { ServiceOffer } from '../../src/protocol/index.ts'
import { until } from '../net/joined.ts'
import type { ScriptedClient } from './scripted-client.ts'
import { answer, ask, get, request, streams, talking, WITH_ADMIN, web } from './web.ts'
import { type Running, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

interface Served extends Running {
  client: ScriptedClient
}

async function serving(
  offer: ServiceOffer = web([]),
  settings: Partial<GatewaySettings> = {},
  ...said: string[]
): Promise<Served> {
  const running = await world.gateway({ listen: WITH_ADMIN, ...settings })
  const serve = talking(() => answer('[done]', ...said))
  return { ...running, client: await world.enroll(running, 'm', { services: [offer], serve }) }
}

/** The request as its target saw it, line by line. */
async function seen(running: Served, text: string): Promise<string[]> {
  const before = streams(running.client)
  await ask(world.visit(running.http), text, '[done]')
  return (await running.client.visits.at(before)).text.split('\r\n')
}

/** A visitor's own lines, and then ours: who it is. */
const OURS = [
  'X-Forwarded-For: 127.0.0.1',
  'X-Real-IP: 127.0.0.1',
  'X-Forwarded-Proto: http',
  'X-Forwarded-Host: x',
]

describe('a request on its way', () => {
  test('keeps its lines, their order and spelling, and has ours behind them', async () => {
    const running = await serving()
    const lines = [
      'host: x',
      'ACCEPT: */*',
      'Cookie: a=1',
      'cookie: b=2',
      'x-Odd_Name:  spaced\t',
      'X-Empty:',
    ]
    const got = await seen(running, `GET /a?b HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`)
    expect(got.slice(0, 7)).toEqual(['GET /a?b HTTP/1.1', ...lines])
    expect(got.slice(7, 11)).toEqual(OURS)
    expect(got[11]).toMatch(/^X-Request-Id: [0-9a-f]{12}-[0-9a-z]+$/)
    expect(got.slice(12)).toEqual(['', ''])
  })

  test('says its own host and id, whatever the one before it on its connection said', async () => {
    const running = await serving()
    const visit = world.visit(running.http)
    const asked = [
      get('/1', 'Host: a'),
      get('/2', 'Host: a'),
      get('/3', 'Host: B', 'X-Request-Id: own'),
      get('/4', 'Host: B'),
    ]
    visit.write(asked.join(''))
    const carried = await running.client.visits.at(0)
    await until(() => carried.text.includes('/4') && carried.text.endsWith('\r\n\r\n'))
    const heads = carried.text.split('\r\n\r\n').slice(0, 4)
    expect(heads.map((head) => /X-Forwarded-Host: (.*)/.exec(head)?.[1])).toEqual(['a', 'a', 'B', 'B'])
    const ids = heads.map((head) => head.match(/X-Request-Id: .*/g) ?? [])
    expect(ids.map(({ length }) => length)).toEqual([1, 1, 1, 1])
    expect(ids[2]).toEqual(['X-Request-Id: own'])
    expect(new Set(ids.flat()).size).toBe(4)
  })

  test('says nothing of the visitor but what its connection says', async () => {
    const running = await serving()
    const invented = [
      'Forwarded: for=1.1.1.1',
      'X-Forwarded-For: 1.1.1.1',
      'X-Real-Ip: 1.1.1.1',
      'x_forwarded_for: 1.1.1.1',
      'X-Forwarded-Proto: https',
      'X-Forwarded-Whatever: 1.1.1.1',
    ]
    const got = await seen(running, get('/', ...invented))
    expect(got.join('\n')).not.toMatch(/1\.1\.1\.1|https/)
    expect(got).toEqual(expect.arrayContaining(OURS))
  })

  test('by a trusted proxy says what that says, and the proxy’s own address behind it', async () => {
    const running = await serving(web([]), { trustedProxies: ['127.0.0.0/8'] })
    const got = await seen(
      running,
      get('/', 'X-Forwarded-For: 9.9.9.9, 203.0.113.9', 'X-Forwarded-Proto: https', 'X-Real-IP: 203.0.113.9'),
    )
    expect(got).toEqual(
      expect.arrayContaining([
        'X-Forwarded-For: 9.9.9.9, 203.0.113.9, 127.0.0.1',
        'X-Forwarded-Proto: https',
        'X-Real-IP: 203.0.113.9',
        'X-Forwarded-Host: x',
      ]),
    )
    expect(got.filter((line) => /^x-forwarded-for/i.test(line))).toHaveLength(1)
    const alone = await seen(running, get('/', 'Connection: close'))
    expect(alone.filter((line) => /^x-real-ip/i.test(line))).toEqual(['X-Real-IP: 127.0.0.1'])
  })

  test('loses what was for its connection alone, and what that nominates', async () => {
    const running = await serving()
    const got = await seen(
      running,
      get(
        '/',
        'Connection: keep-alive, X-Secret',
        'Keep-Alive: timeout=5',
        'Proxy-Connection: keep-alive',
        'Proxy-Authorization: Basic eA==',
        'TE: trailers',
        'X-Secret: nominated',
        'X-Other: stays',
      ),
    )
    expect(got.join('\n')).not.toMatch(/connection|keep-alive|proxy-|^te:|secret/im)
    expect(got).toContain('X-Other: stays')
  })

  test.each([
    'Host',
    'Content-Length',
    'transfer-encoding',
    'Authorization',
    'Cookie',
    'X-Forwarded-For',
    'x-real-ip',
    'Forwarded',
    'X_Forwarded_Proto',
  ])('that nominates %s is a 400: its target would miss what was meant for it', async (name) => {
    const running = await serving()
    const visit = world.visit(running.http, get('/', `Connection: close, ${name}`))
    await visit.received('400 Bad Request')
    expect(streams(running.client)).toBe(0)
  })

  test('of HTTP/1.0 leaves as one of 1.1', async () => {
    const running = await serving()
    const got = await seen(running, 'GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n')
    expect(got.slice(0, 3)).toEqual(['GET / HTTP/1.1', 'Host: x', OURS[0]])
  })
})

describe('an answer on its way', () => {
  test('keeps its lines, and loses what was for the target’s connection alone', async () => {
    const running = await serving(
      web([]),
      {},
      'Set-Cookie: a=1',
      'set-cookie: b=2',
      'Connection: keep-alive, X-Hop',
      'Keep-Alive: timeout=5',
      'X-Hop: nominated',
      'Proxy-Authenticate: Basic',
      'Server: home',
    )
    const said = await ask(world.visit(running.http), get(), '[done]')
    expect(said).toBe(
      'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nServer: home\r\n\r\n[done]',
    )
  })
})

describe('a request id', () => {
  test('of the visitor’s is kept, where it is of the form that logs take', async () => {
    const running = await serving()
    const got = await seen(running, get('/', 'X-Request-Id: trace.1_a-B'))
    expect(got.filter((line) => /^x-request-id/i.test(line))).toEqual(['X-Request-Id: trace.1_a-B'])
    for (const id of ['a b', 'x'.repeat(65), '"><script>']) {
      const made = await seen(running, request('POST', '/', [`X-Request-Id: ${id}`]))
      const lines = made.filter((line) => /^x-request-id/i.test(line))
      expect(lines).toHaveLength(1)
      expect(lines[0]).toMatch(/^X-Request-Id: [0-9a-f]{12}-[0-9a-z]+$/)
    }
  })

  test('is the same in the page and in the log', async () => {
    const running = await serving()
    running.client.serve = (visit) => visit.unreached('refused')
    const said = await ask(world.visit(running.http), get(), '</small>')
    const id = /X-Request-Id: (\S+)/.exec(said)?.[1]
    expect(said).toContain(`request ${id}`)
    const line = await running.lines.find(({ msg }) => msg.includes('not answered'))
    expect(line).toMatchObject({ requestId: id, problem: 'refused', status: 502, route: 'default' })
    const kept = await ask(world.visit(running.http), get('/', 'X-Request-Id: mine'), '</small>')
    expect(kept).toContain('X-Request-Id: mine\r\n')
  })

  test('is another one for each request', async () => {
    const running = await serving()
    const visit = world.visit(running.http)
    for (let n = 0; n < 3; n += 1) await ask(visit, get(`/${n}`), '[done]')
    const ids = running.client.visits.all[0]?.text.match(/X-Request-Id: \S+/g) ?? []
    expect(new Set(ids).size).toBe(3)
  })
})

describe('what a service wants changed', () => {
  test('is its Host, its headers, and its path', async () => {
    const running = await serving(
      web(['app.example.com'], {
        path: '/api',
        rewrite: {
          host: 'intern.local:8080',
          headers: [
            ['X-From', 'blindgate'],
            ['authorization', 'Basic b3Vycw=='],
          ],
          stripPath: true,
        },
      }),
    )
    const got = await seen(
      running,
      get(
        '/api/users?id=1',
        'Host: App.example.com:9000',
        'X-From: a visitor',
        'X_From: in disguise',
        'Authorization: Basic dGhlaXJz',
        'X-Other: stays',
      ),
    )
    expect(got.slice(0, 3)).toEqual(['GET /users?id=1 HTTP/1.1', 'Host: intern.local:8080', 'X-Other: stays'])
    expect(got).toContain('X-Forwarded-Host: App.example.com:9000')
    expect(got.slice(-5, -3)).toEqual(['X-From: blindgate', 'authorization: Basic b3Vycw=='])
    expect(got.at(-3)).toMatch(/^X-Request-Id: /)
    expect(got.join('\n')).not.toMatch(/a visitor|disguise|dGhlaXJz/)
  })

  test.each([
    ['/api', '/'],
    ['/api/', '/'],
    ['/api?x=1', '/?x=1'],
    ['/%61pi/x', '/x'],
    ['/api/x/api', '/x/api'],
  ])('is a path that begins with one slash: %s becomes %s', async (target, left) => {
    const running = await serving(web(['app.example.com'], { path: '/api', rewrite: { stripPath: true } }))
    const got = await seen(running, get(target, 'Host: app.example.com'))
    expect(got[0]).toBe(`GET ${left} HTTP/1.1`)
  })

  test('is never a path that names another host', async () => {
    const running = await serving(web(['app.example.com'], { path: '/api', rewrite: { stripPath: true } }))
    const visit = world.visit(running.http)
    await ask(visit, get('/api//evil.example/', 'Host: app.example.com'), '400 Bad Request')
    expect(streams(running.client)).toBe(0)
  })

  test('is only for hosts that it names: not on the default route, where anybody’s name may lead', async () => {
    const running = await world.gateway()
    const client = await world.enroll(running, 'm')
    for (const hosts of [[], ['*'], ['app.example.com', '*']]) {
      const [result] = await client.register(web(hosts, { rewrite: { host: 'intern.local' } }))
      expect(result).toMatchObject({ error: { code: 'bad_service' } })
    }
    const [result] = await client.register(web(['app.example.com'], { rewrite: { host: 'intern.local' } }))
    expect(result).toMatchObject({ urls: [expect.any(String)] })
  })
})
