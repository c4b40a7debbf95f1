import { afterEach, describe, expect, test, vi } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { KEPT_STREAM_SURE_MS, REPLAY_BYTES, RETRIES_ALWAYS } from '../../src/limits.ts'
import type { ServiceOffer } from '../../src/protocol/index.ts'
import { turns, until } from '../net/joined.ts'
import type { Carried, ScriptedClient } from './scripted-client.ts'
import { answer, ask, echoing, get, leave, request, streams, WITH_ADMIN, web } from './web.ts'
import { heldAt, type Running, status, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

interface Pair extends Running {
  one: ScriptedClient
  two: ScriptedClient
}

/** Two replicas; who is asked first does `first`, all others answer. */
async function pair(first: (visit: Carried) => unknown, offer: ServiceOffer = web([])): Promise<Pair> {
  const running = await world.gateway({ listen: WITH_ADMIN })
  const [one, two] = [
    await world.enroll(running, 'one', { services: [offer] }),
    await world.enroll(running, 'two', { services: [offer] }),
  ]
  one.serve = two.serve = (visit) => {
    one.serve = two.serve = echoing
    return first(visit)
  }
  return { ...running, one, two }
}

/** As it was sent, on each stream. */
function texts({ one, two }: Pair): string[] {
  return [...one.visits.all, ...two.visits.all].map(({ text }) => text)
}

const lost = (visit: Carried): void => visit.stream.reset()
const closed = (visit: Carried): void => visit.stream.end()

describe('a request that reached no target', () => {
  test.each(['GET', 'POST', 'DELETE', 'PATCH'])(
    'is sent to another, whole, whatever it is: %s',
    async (method) => {
      const body = 'x'.repeat(REPLAY_BYTES - 1_000)
      const running = await pair(async (visit) => {
        await visit.until((text) => text.endsWith('x'.repeat(1_000)) && text.length > body.length)
        visit.unreached('refused')
      })
      const visit = world.visit(running.http)
      await ask(visit, request(method, '/', [], body), '[/ by')
      const [a, b] = texts(running)
      expect(streams(running.one)).toBe(1)
      expect(streams(running.two)).toBe(1)
      expect(a).toBe(b)
      expect(a?.endsWith(`\r\n\r\n${body}`)).toBe(true)
      expect(visit.text.match(/HTTP\/1\.1/g)).toHaveLength(1)
    },
  )

  test('is not when its body is no longer at hand', async () => {
    const running = await pair(async (visit) => {
      await visit.until((text) => text.length > REPLAY_BYTES + 1_000)
      visit.unreached('refused')
    })
    const visit = world.visit(running.http)
    const body = 'x'.repeat(REPLAY_BYTES + 1_000)
    await ask(visit, request('PUT', '/', [], body), '502 Bad Gateway')
    expect(texts(running)).toHaveLength(1)
    expect((await status(running)).errors).toEqual({ refused: 1 })
  })

  test('is sent again with what has come of its body, and the rest follows', async () => {
    const running = await pair(async (visit) => {
      await visit.received('first half')
      visit.unreached('refused')
    })
    const visit = world.visit(
      running.http,
      'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na\r\nfirst half\r\n',
    )
    await until(() => texts(running).length === 2)
    await until(() => texts(running).every((text) => text.endsWith('a\r\nfirst half\r\n')))
    visit.write('3\r\nand\r\n0\r\n\r\n')
    await until(() => texts(running).some((text) => text.endsWith('first half\r\n3\r\nand\r\n0\r\n\r\n')))
    await visit.received('[/ by')
  })

  test('is not once a byte came back, whatever the client says', async () => {
    const running = await pair(async (visit) => {
      visit.write('H')
      // Its byte would not leave with the reset behind it.
      await turns(20)
      visit.unreached('refused')
    })
    await world.visit(running.http, get()).received('502 Bad Gateway')
    expect(texts(running)).toHaveLength(1)
    expect((await status(running)).errors).toEqual({ lost: 1 })
  })

  test('passes its replica over for a while, for others too', async () => {
    const running = await pair((visit) => visit.unreached('refused'))
    await world.visit(running.http, get()).received('[/ by')
    const served = [streams(running.one), streams(running.two)]
    // Both have one stream; the one that answered keeps it, and gets all that follows within that time.
    const clock = vi.spyOn(performance, 'now').mockReturnValue(performance.now())
    const visits = []
    for (let n = 0; n < 6; n += 1) visits.push(world.visit(running.http, request('POST', '/')))
    for (const visit of visits) await visit.received('[/ by')
    const more = [streams(running.one) - (served[0] ?? 0), streams(running.two) - (served[1] ?? 0)]
    clock.mockRestore()
    expect(more.toSorted((a, b) => a - b)).toEqual([0, 6])
  })
})

describe('a request that may have run', () => {
  test.each([
    ['GET', lost],
    ['HEAD', lost],
    ['OPTIONS', lost],
    ['GET', closed],
  ])('%s, and whose answer did not begin, is repeated once, on another replica', async (method, loses) => {
    const running = await pair(loses)
    await ask(world.visit(running.http), request(method, '/'), '\r\n\r\n')
    expect([streams(running.one), streams(running.two)]).toEqual([1, 1])
    expect((await status(running)).errors).toMatchObject({ retried: 1 })
  })

  test('is never repeated twice', async () => {
    const running = await pair(lost)
    running.one.serve = running.two.serve = lost
    await world.enroll(running, 'three', { services: [web([])], serve: lost })
    await world.visit(running.http, get()).received('502 Bad Gateway')
    expect((await status(running)).errors).toEqual({ lost: 1, retried: 1 })
    expect(texts(running).length).toBeLessThanOrEqual(2)
  })

  test.each([
    ['POST', lost, 'lost'],
    ['POST', closed, 'no_answer'],
    ['PUT', lost, 'lost'],
    ['DELETE', lost, 'lost'],
    ['PATCH', closed, 'no_answer'],
  ])('%s is never repeated: it is a 502', async (method, loses, problem) => {
    const running = await pair(loses)
    await world
      .visit(running.http, request(method, '/', ['Accept: application/json']))
      .received('502 Bad Gateway')
    expect(texts(running)).toHaveLength(1)
    expect((await status(running)).errors).toEqual({ [problem]: 1 })
  })

  test('is not repeated when it asks for an upgrade', async () => {
    const running = await pair(lost)
    const upgrade = get('/', 'Connection: upgrade', 'Upgrade: websocket')
    await world.visit(running.http, upgrade).received('502 Bad Gateway')
    expect(texts(running)).toHaveLength(1)
  })

  test('is not repeated once a byte of an answer came', async () => {
    const running = await pair((visit) => visit.write('HTTP/1.1 103 Early Hints\r\n\r\n'))
    const visit = world.visit(running.http, get())
    await visit.received('103 Early Hints')
    for (const carried of [...running.one.visits.all, ...running.two.visits.all]) carried.stream.reset()
    await visit.received('502 Bad Gateway')
    expect(texts(running)).toHaveLength(1)
  })

  test.each([
    ['PUT', true],
    ['DELETE', true],
    ['GET', true],
    ['POST', false],
    ['PATCH', false],
  ])('of a service with retry = "idempotent": %s is repeated: %s', async (method, repeated) => {
    const running = await pair(lost, web([], { retry: 'idempotent' }))
    const visit = world.visit(running.http)
    await ask(visit, request(method, '/', [], 'body'), repeated ? '[/ by' : '502 Bad Gateway')
    expect(texts(running)).toHaveLength(repeated ? 2 : 1)
    if (repeated) expect(texts(running)[1]).toMatch(/\r\n\r\nbody$/)
  })

  test('is repeated for a share of the requests only: a query of death does not visit every replica for ever', async () => {
    const running = await pair(lost)
    const always = (visit: Carried): void => visit.stream.reset()
    running.one.serve = running.two.serve = always
    const requests = RETRIES_ALWAYS + 20
    const visit = world.visit(running.http)
    for (let n = 0; n < requests; n += 1) await ask(visit, get(`/${n}`), '</small>')
    expect((await status(running)).errors).toEqual({ lost: requests, retried: RETRIES_ALWAYS })
    expect(texts(running)).toHaveLength(requests + RETRIES_ALWAYS)
  })

  test('whose only client died is held, and repeated when that is back', async () => {
    const running = await world.gateway()
    const client = await world.enroll(running, 'm', { services: [web([])], serve: () => {} })
    const visit = world.visit(running.http, get())
    await (await client.visits.at(0)).received('\r\n\r\n')
    client.tunnel.destroy(new TunnelError('closed', { scope: 'tunnel', detail: 'killed by the test' }))
    await until(async () => (await status(running)).routes[0]?.held === 1)
    await world.dial(running, 'm', { services: [web([])] }, echoing)
    await visit.received('[/ by')
  })

  test('and is a POST does not outlive its client', async () => {
    const running = await world.gateway()
    const client = await world.enroll(running, 'm', { services: [web([])], serve: () => {} })
    const visit = world.visit(running.http, request('POST', '/'))
    await (await client.visits.at(0)).received('\r\n\r\n')
    client.tunnel.destroy(new TunnelError('closed', { scope: 'tunnel', detail: 'killed by the test' }))
    await visit.received('502 Bad Gateway')
    expect(await heldAt(running)).toBe(0)
  })
})

describe('a stream that was used before', () => {
  /** The first visitor's stream waits for another, and is dead by then. */
  async function dead() {
    const running = await world.gateway({ listen: WITH_ADMIN })
    const client = await world.enroll(running, 'm', { services: [web([])], serve: echoing })
    return { ...running, client }
  }

  test('and dies before a byte came is replaced by a new one, once', async () => {
    const running = await dead()
    const visit = world.visit(running.http)
    await ask(visit, get('/1'), '[/1 by')
    const carried = await running.client.visits.at(0)
    let seen = false
    // It takes the next request, and is gone: the target had closed it meanwhile.
    void carried.received('/2').then(() => {
      seen = true
      carried.stream.reset()
    })
    carried.write = () => {}
    await ask(visit, get('/2'), '[/2 by')
    expect(seen).toBe(true)
    expect(streams(running.client)).toBe(2)
    expect((await status(running)).errors).toEqual({ retried: 1 })
  })

  test('and comes from another visitor is replaced too, and not by another used one', async () => {
    const running = await dead()
    const [a, b] = [world.visit(running.http), world.visit(running.http)]
    running.client.serve = () => {}
    a.write(get('/a'))
    b.write(get('/b'))
    const both = [await running.client.visits.at(0), await running.client.visits.at(1)]
    for (const carried of both) carried.write(answer('done'))
    for (const visit of [a, b]) {
      await visit.received('done')
      await leave(running, visit)
    }
    running.client.serve = echoing
    for (const carried of both) void carried.received('/c').then(() => carried.stream.reset())
    await ask(world.visit(running.http), get('/c'), '[/c by')
    expect(both.filter(({ text }) => text.includes('/c'))).toHaveLength(1)
    expect(streams(running.client)).toBe(3)
  })

  test('is not believed to have reached no target: a POST that was sent on it is a 502', async () => {
    const running = await dead()
    const visit = world.visit(running.http)
    await ask(visit, request('POST', '/1'), '[/1 by')
    const carried = await running.client.visits.at(0)
    carried.write = () => {}
    visit.write(request('POST', '/2'))
    await carried.received('/2')
    carried.unreached('refused')
    await visit.received('502 Bad Gateway')
    expect((await status(running)).errors).toEqual({ lost: 1 })
  })

  test('gets no POST when it has rested, since that could not be repeated', async () => {
    const running = await dead()
    const visit = world.visit(running.http)
    await ask(visit, request('POST', '/1'), '[/1 by')
    await ask(visit, request('POST', '/2'), '[/2 by')
    expect(streams(running.client)).toBe(1)
    const now = performance.now()
    const clock = vi.spyOn(performance, 'now').mockReturnValue(now + KEPT_STREAM_SURE_MS + 1_000)
    await ask(visit, request('POST', '/3'), '[/3 by')
    clock.mockRestore()
    expect(streams(running.client)).toBe(2)
    expect(await running.client.visits.all[0]?.over).toBe('end')
  })
})

describe('a request that waits for its client', () => {
  test.each([
    ['POST', false],
    ['GET', true],
  ])('again, and whose visitor sends no more: %s is kept: %s', async (method, kept) => {
    const running = await world.gateway({ listen: WITH_ADMIN })
    const client = await world.enroll(running, 'm', { services: [web([])] })
    const visit = world.visit(running.http)
    visit.socket.end(request(method, '/'))
    const carried = await client.visits.at(0)
    await carried.received('\r\n\r\n')
    await turns(20)
    carried.unreached('draining')
    if (kept) await until(async () => (await status(running)).routes[0]?.held === 1)
    const back = await world.dial(running, 'm', { services: [web([])] }, echoing)
    await back.welcome()
    await visit.received(kept ? '[/ by' : '503 Service Unavailable')
    await turns(10)
    expect(streams(back)).toBe(kept ? 1 : 0)
  })

  test('and whose visitor has gone is never sent, POST or GET', async () => {
    for (const method of ['POST', 'GET']) {
      const running = await world.gateway({ listen: WITH_ADMIN })
      const client = await world.enroll(running, 'm', { services: [web([])] })
      client.tunnel.end()
      await client.closed
      await until(async () => (await status(running)).routes[0]?.replicas === 0)
      const gone = world.visit(running.http, request(method, '/gone'))
      await until(async () => (await status(running)).routes[0]?.held === 1)
      // Its last word and its end come together.
      gone.socket.end()
      await until(async () => (await status(running)).routes[0]?.held === 0)
      const back = await world.dial(running, 'm', { services: [web([])] }, echoing)
      await back.welcome()
      await ask(world.visit(running.http), get('/here'), '[/here by')
      await turns(10)
      expect(back.visits.all.map(({ text }) => text).join()).not.toContain('/gone')
    }
  })
})
