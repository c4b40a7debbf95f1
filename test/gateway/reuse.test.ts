import { afterEach, describe, expect, test } from 'vitest'
import type { ServiceOffer } from '../../src/protocol/index.ts'
import { service } from '../client/world.ts'
import { turns, until } from '../net/joined.ts'
import type { Carried, ScriptedClient } from './scripted-client.ts'
import {
  answer,
  ask,
  echoing,
  gauge,
  get,
  leave,
  request,
  streams,
  talking,
  untilGauge,
  WITH_ADMIN,
  web,
} from './web.ts'
import { granted, type Running, status, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

interface Served extends Running {
  client: ScriptedClient
}

async function serving(
  serve: (visit: Carried) => unknown = echoing,
  offer: ServiceOffer = web([]),
  rest: Parameters<World['gateway']>[0] = {},
): Promise<Served> {
  const running = await world.gateway({ listen: WITH_ADMIN, ...rest })
  return { ...running, client: await world.enroll(running, 'm', { services: [offer], serve }) }
}

/** One visitor that asks once and goes; what it was told. */
async function once(
  running: Running,
  text = get('/'),
  wanted: string | RegExp = /by \d+\]/,
): Promise<string> {
  const others = await gauge(running, 'visitors')
  const visit = world.visit(running.http)
  const said = await ask(visit, text, wanted)
  // One that asked for a close is gone before it leaves.
  visit.socket.destroy()
  await untilGauge(running, 'visitors', (now) => now <= others)
  return said
}

describe('a stream of a visitor that rests', () => {
  test('is ended, or goes to whoever asks next, and the visitor that asks again gets another', async () => {
    const running = await serving()
    const [plain, posting] = [world.visit(running.http), world.visit(running.http)]
    await ask(plain, get('/plain'), /by \d+\]/)
    await ask(posting, request('POST', '/posting'), /by \d+\]/)
    expect(streams(running.client)).toBe(2)
    const [shareable, other] = running.client.visits.all
    // Both visitors are here still: the one stream that nobody may have is ended, and the other when nobody wants it.
    expect(await other?.over).toBe('end')
    expect(await gauge(running, 'visitors')).toBe(2)
    expect(await shareable?.over).toBe('end')
    expect(await ask(posting, request('POST', '/again'), /by \d+\]/)).toContain('/again')
    expect(streams(running.client)).toBe(3)
  })
})

describe('a stream of which nothing can be owed', () => {
  test('is opened without addresses, and carries several visitors one after another', async () => {
    const running = await serving()
    for (const path of ['/a', '/b', '/c']) expect(await once(running, get(path))).toContain(`[${path} by`)
    expect(await once(running, request('OPTIONS', '/d'))).toContain('[/d by')
    expect(streams(running.client)).toBe(1)
    const header = running.client.visits.all[0]?.header
    expect(header).toMatchObject({ command: 'PROXY', service: 'web' })
    expect(header).not.toHaveProperty('source')
    expect(header).not.toHaveProperty('destination')
    expect(await gauge(running, 'idle_streams')).toBe(1)
    expect((await status(running)).errors).toEqual({})
  })

  test('carries chunked answers, and those to visitors that asked for a close', async () => {
    const running = await serving(
      talking((_head, visit) => {
        const text = `[by ${visit.stream.id}]`
        return `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${text.length.toString(16)}\r\n${text}\r\n0\r\n\r\n`
      }),
    )
    for (let n = 0; n < 3; n += 1) await once(running, get('/', 'Connection: close'))
    expect(streams(running.client)).toBe(1)
  })

  test('says with each request whose it is', async () => {
    const running = await serving(echoing, web([]), { trustedProxies: ['127.0.0.1'] })
    await once(running, get('/', 'X-Forwarded-For: 203.0.113.1'))
    await once(running, get('/', 'X-Forwarded-For: 203.0.113.2'))
    const [carried] = running.client.visits.all
    expect(streams(running.client)).toBe(1)
    const requests = carried?.text.split('GET / ').slice(1) ?? []
    expect(requests[0]).toContain('X-Forwarded-For: 203.0.113.1, 127.0.0.1')
    expect(requests[0]).not.toContain('203.0.113.2')
    expect(requests[1]).toContain('X-Forwarded-For: 203.0.113.2, 127.0.0.1')
    expect(requests[1]).not.toContain('203.0.113.1')
  })

  test('is not given to two at once', async () => {
    const running = await serving(talking(() => undefined))
    await world.visit(running.http, get('/')).connected
    const first = await running.client.visits.at(0)
    world.visit(running.http, get('/'))
    await running.client.visits.at(1)
    expect(first.text.split('GET ')).toHaveLength(2)
  })
})

describe('a stream is no other visitor’s', () => {
  const plain = (visit: Carried): string => answer(`[by ${visit.stream.id}]`)
  const said =
    (head: string, body = ''): ((visit: Carried) => string) =>
    () =>
      `${head}\r\n${body}`

  test.each<[after: string, asked: string, told: (visit: Carried) => string]>([
    ['a POST with a body', request('POST', '/', [], 'body'), plain],
    ['a POST without one', request('POST', '/'), plain],
    ['HEAD', request('HEAD', '/'), said('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n')],
    ['a GET with a body', request('GET', '/', [], 'body'), plain],
    ['a GET with chunks', `${get('/', 'Transfer-Encoding: chunked')}0\r\n\r\n`, plain],
    ['a method of its own', request('PURGE', '/'), plain],
    ['Expect', get('/', 'Expect: 100-continue'), plain],
    ['Upgrade', get('/', 'Connection: upgrade', 'Upgrade: websocket'), plain],
    ['HTTP/1.0', 'GET / HTTP/1.0\r\nHost: x\r\n\r\n', plain],
    ['an answer with Connection: close', get(), () => answer('[by 0]', 'Connection: close')],
    ['an answer of HTTP/1.0', get(), said('HTTP/1.0 200 OK\r\nContent-Length: 6\r\n', '[by 0]')],
    ['Authorization: NTLM', get('/', 'Authorization: NTLM TlRMTVNTUAAB'), plain],
    ['Authorization: Negotiate', get('/', 'authorization: negotiate YII'), plain],
    ['an answer that asks for NTLM', get(), () => answer('[by 0]', 'WWW-Authenticate: NTLM')],
    ['one that asks for Negotiate too', get(), () => answer('[by 0]', 'WWW-Authenticate: Basic, Negotiate')],
  ])('after %s', async (_after, asked, told) => {
    let first = true
    const running = await serving(
      talking((head, visit) => {
        if (!first) return plain(visit)
        first = false
        return head === '' ? undefined : told(visit)
      }),
    )
    await once(running, asked, /\r\n\r\n/)
    expect(await gauge(running, 'idle_streams')).toBe(0)
    await once(running)
    expect(streams(running.client)).toBe(2)
    // It has ended, whichever way; nobody can be sent by it.
    const [carried] = running.client.visits.all
    await carried?.over
  })

  test('after an answer that ends with its connection', async () => {
    const running = await serving()
    running.client.serve = (visit) => visit.answer('HTTP/1.1 200 OK\r\n\r\n[by 0]')
    await once(running)
    running.client.serve = echoing
    await once(running)
    expect(streams(running.client)).toBe(2)
  })

  test('when its request was followed by one of those', async () => {
    const running = await serving()
    const visit = world.visit(running.http)
    await ask(visit, get('/1'), 'by')
    await ask(visit, request('POST', '/2'), 'by')
    await ask(visit, get('/3'), 'by')
    expect(streams(running.client)).toBe(1)
    await leave(running, visit)
    await once(running)
    expect(streams(running.client)).toBe(2)
  })

  test('when its service has share:false, and it then begins with the visitor’s address', async () => {
    const running = await serving(echoing, web([], { share: false }))
    await once(running)
    await once(running)
    expect(streams(running.client)).toBe(2)
    for (const { header } of running.client.visits.all)
      expect(header.source).toMatchObject({ address: '127.0.0.1' })
  })

  test('when its answer was not delivered whole', async () => {
    const running = await serving()
    running.client.serve = (visit) => visit.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf')
    const visit = world.visit(running.http, get())
    await visit.received('half')
    await leave(running, visit)
    running.client.serve = echoing
    expect(await once(running)).not.toContain('half')
    expect(streams(running.client)).toBe(2)
    expect(await running.client.visits.all[0]?.over).toMatchObject({ code: 'reset' })
  })

  test('when the service was registered anew, though as it was', async () => {
    for (const generation of [undefined, 'another']) {
      const running = await serving()
      await once(running)
      await running.client.register(web([], generation === undefined ? {} : { generation }))
      await once(running)
      expect(streams(running.client)).toBe(2)
    }
  })

  test('when that one keeps its connection, nor is it its own any more after a new registration', async () => {
    const running = await serving()
    const visit = world.visit(running.http)
    await ask(visit, get('/1'), 'by')
    await running.client.register(web([], { generation: 'another' }))
    await ask(visit, get('/2'), 'by')
    expect(streams(running.client)).toBe(2)
  })

  test('of another service, another name, or another tunnel', async () => {
    const running = await world.gateway({
      listen: WITH_ADMIN,
      grants: granted({ home: { hosts: ['*.home.example'] }, guest: { hosts: ['*.guest.example'] } }),
    })
    const services = [web(['a.home.example']), { ...web(['b.home.example']), name: 'other' }]
    const home = await world.enroll(running, 'h', { name: 'home', services, serve: echoing })
    const guest = await world.enroll(running, 'g', {
      name: 'guest',
      services: [web(['a.guest.example'])],
      serve: echoing,
    })
    const hosts = ['a.home.example', 'b.home.example', 'a.guest.example']
    for (const host of [...hosts, ...hosts]) await once(running, get('/', `Host: ${host}`))
    const seen = [...home.visits.all, ...guest.visits.all]
    expect(seen).toHaveLength(3)
    for (const [at, host] of hosts.entries()) {
      expect(seen[at]?.text.split(`\r\nHost: ${host}\r\n`)).toHaveLength(3)
      for (const other of hosts) if (other !== host) expect(seen[at]?.text).not.toContain(other)
    }
    // A second tunnel of the same machine is a replica with streams of its own.
    const second = await world.dial(running, 'g', { services: [web(['a.guest.example'])] }, echoing)
    await second.welcome()
    await once(running, get('/', 'Host: a.guest.example'))
    await once(running, get('/', 'Host: a.guest.example'))
    expect(streams(second)).toBe(1)
  })

  test('behind a proxy of ours that speaks for both on one connection', async () => {
    const running = await serving(echoing, web([]), { trustedProxies: ['127.0.0.1'] })
    const visit = world.visit(running.http)
    await ask(visit, request('POST', '/', ['X-Forwarded-For: 203.0.113.1'], 'a'), 'by')
    await ask(visit, request('POST', '/', ['X-Forwarded-For: 203.0.113.1'], 'b'), 'by')
    expect(streams(running.client)).toBe(1)
    await ask(visit, get('/', 'X-Forwarded-For: 203.0.113.2'), 'by')
    expect(streams(running.client)).toBe(2)
    // What anybody may follow on is the next one's too.
    await ask(visit, get('/', 'X-Forwarded-For: 203.0.113.3'), 'by')
    expect(streams(running.client)).toBe(2)
  })
})

describe('a target that says more than it was asked', () => {
  const EVIL = answer('evil')

  test('on a stream that waits has it reset, and counted; the next visitor hears nothing of it', async () => {
    const running = await serving()
    await once(running)
    const carried = await running.client.visits.at(0)
    carried.write(EVIL)
    expect(await carried.over).toMatchObject({ code: 'reset' })
    expect((await status(running)).errors).toEqual({ desync: 1 })
    expect(await once(running)).not.toContain('evil')
    expect(streams(running.client)).toBe(2)
  })

  test('while its visitor rests is the same', async () => {
    const running = await serving()
    const visit = world.visit(running.http)
    await ask(visit, get(), 'by')
    const carried = await running.client.visits.at(0)
    carried.write('x')
    expect(await carried.over).toMatchObject({ code: 'reset' })
    expect((await status(running)).errors).toEqual({ desync: 1 })
    expect(await ask(visit, get(), 'by')).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
    expect(streams(running.client)).toBe(2)
  })

  test('answers twice at once: the second answer is nobody’s', async () => {
    const running = await serving(talking((_head, visit) => `${answer(`[by ${visit.stream.id}]`)}${EVIL}`))
    expect(await once(running)).not.toContain('evil')
    expect(await once(running)).not.toContain('evil')
    expect(streams(running.client)).toBe(2)
    expect((await status(running)).errors).toEqual({ desync: 2 })
  })

  test('ignores a body and later answers it as a request (CL.0): only its sender’s stream is touched', async () => {
    const running = await serving(echoing)
    const visit = world.visit(running.http)
    const smuggled = get('/smuggled')
    const said = await ask(visit, request('POST', '/', [], smuggled), 'by')
    expect(said).toContain('[/ by')
    const [carried] = running.client.visits.all
    await carried?.received('/smuggled')
    await carried?.over
    const next = await once(running)
    expect(next).toContain('[/ by')
    expect(next).not.toContain('smuggled')
    expect(await ask(visit, get('/mine'), 'by')).toContain('[/mine by')
    expect(visit.text).not.toContain('[/smuggled')
  })

  test('answers HEAD with a body: it reaches neither that visitor’s next request nor anybody’s', async () => {
    const running = await serving(
      talking((head, visit) =>
        head.startsWith('HEAD') ? `${answer('')}${EVIL}` : answer(`[by ${visit.stream.id}]`),
      ),
    )
    const visit = world.visit(running.http)
    await ask(visit, request('HEAD', '/'), '\r\n\r\n')
    expect(await ask(visit, get(), 'by')).not.toContain('evil')
    expect(await once(running)).not.toContain('evil')
    expect((await status(running)).errors).toEqual({ desync: 1 })
  })

  test('answers 304 with a body, later: it is nobody’s', async () => {
    const running = await serving(talking(() => 'HTTP/1.1 304 Not Modified\r\n\r\n'))
    await once(running, get(), '304')
    const carried = await running.client.visits.at(0)
    carried.write(EVIL)
    expect(await carried.over).toMatchObject({ code: 'reset' })
    running.client.serve = echoing
    expect(await once(running)).not.toContain('evil')
  })

  test('answers 304 with a body that its visitor’s next request gets: the answer to that one is nobody’s', async () => {
    const running = await serving(() => {})
    const visit = world.visit(running.http, get('/1') + get('/2'))
    const carried = await running.client.visits.at(0)
    await carried.received('/1')
    carried.write('HTTP/1.1 304 Not Modified\r\n\r\n')
    await carried.received('/2')
    carried.write(EVIL)
    await visit.received('evil')
    await leave(running, visit)
    const other = world.visit(running.http, get('/3'))
    await until(() => streams(running.client) === 2 || carried.text.includes('/3'))
    carried.write(answer('for the first'))
    running.client.visits.all[1]?.write(answer('for the second'))
    await other.received('\r\n\r\nfor the')
    expect(other.text).toContain('for the second')
  })
})

describe('a client that drains', () => {
  test('has its idle streams ended at once, whoever they wait for', async () => {
    const running = await serving()
    const kept = world.visit(running.http)
    await ask(kept, get(), 'by')
    await once(running)
    const [first, second] = running.client.visits.all
    running.client.say({ type: 'drain', deadlineMs: 60_000 })
    expect(await first?.over).toBe('end')
    expect(await second?.over).toBe('end')
    await untilGauge(running, 'idle_streams', (idle) => idle === 0)
    // Its visitor is still here, and goes to the next one.
    await world.enroll(running, 'n', { services: [web([])], serve: echoing })
    await ask(kept, get(), 'by')
  })

  test('as the real one does is done with it long before its deadline', async () => {
    const running = await world.gateway({ listen: WITH_ADMIN })
    const target = await world.target((socket) => {
      socket.on('data', () => socket.write(answer('[by 0]')))
      socket.on('end', () => socket.end())
    })
    await world.enroll(running, 'm')
    const client = await world.client(running, 'm', [service('web', target.port)])
    const kept = world.visit(running.http)
    await ask(kept, get(), 'by')
    await once(running)
    await turns(5)
    await client.drain(10 * 60_000)
  })
})
