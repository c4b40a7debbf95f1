import { afterEach, describe, expect, test } from 'vitest'
import { DEFAULT_HTTP_LIMITS, type GatewaySettings, type HttpLimits } from '../../src/config/index.ts'
import { until } from '../net/joined.ts'
import type { Carried, ScriptedClient } from './scripted-client.ts'
import { ask, echoing, gauge, get, leave, request, streams, untilGauge, WITH_ADMIN, web } from './web.ts'
import { type Running, settings, status, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

interface Served extends Running {
  client: ScriptedClient
}

const general = (limits: Partial<HttpLimits>): Partial<GatewaySettings> => ({
  limits: { ...DEFAULT_HTTP_LIMITS, ...limits },
})
const forRoute = (route: string, limits: Partial<HttpLimits>): Partial<GatewaySettings> => ({
  routeLimits: new Map([[route, limits]]),
})

/** A service on two hosts, a.example.com and b.example.com. */
async function serving(
  changes: Partial<GatewaySettings>,
  serve: (visit: Carried) => unknown = echoing,
): Promise<Served> {
  const running = await world.gateway({ listen: WITH_ADMIN, ...changes })
  const services = [web(['a.example.com', 'b.example.com'])]
  return { ...running, client: await world.enroll(running, 'm', { services, serve }) }
}

const A = 'Host: a.example.com'
const B = 'Host: b.example.com'

describe('requests per second', () => {
  test('past the burst are a 429 that says when to come again; the connection goes on', async () => {
    const running = await serving(general({ requests: 1, requestBurst: 3 }))
    const visit = world.visit(running.http)
    for (let n = 0; n < 3; n += 1) await ask(visit, get(`/${n}`, A), `[/${n} by`)
    const said = await ask(visit, get('/3', A), '</small>')
    expect(said).toMatch(/^HTTP\/1\.1 429 Too Many Requests\r\n/)
    expect(said).toMatch(/\r\nRetry-After: 1\r\n/)
    expect(said).not.toContain('Connection: close')
    // Another route has a measure of its own.
    await ask(visit, get('/4', B), '[/4 by')
    expect((await status(running)).errors).toEqual({ too_many_requests: 1 })
    expect(running.client.visits.all[0]?.text).not.toContain('/3')
    // Whoever watches the route sees it, though no client did.
    expect(await gauge(running, 'http_requests_total{route="a.example.com/",status="4xx"}')).toBe(1)
  })

  test('count for an address over all its connections, and for the one that a trusted proxy names', async () => {
    const running = await serving({
      ...general({ requests: 1, requestBurst: 1 }),
      trustedProxies: ['127.0.0.1'],
    })
    const from = (address: string): string => get('/', A, `X-Forwarded-For: ${address}`)
    await ask(world.visit(running.http), from('203.0.113.1'), '[/ by')
    await ask(world.visit(running.http), from('203.0.113.1'), '429')
    const proxy = world.visit(running.http)
    await ask(proxy, from('203.0.113.2'), '[/ by')
    await ask(proxy, from('203.0.113.2'), '429')
    // IPv6 by /64.
    await ask(proxy, from('2001:db8::1'), '[/ by')
    await ask(proxy, from('2001:db8::ffff:2'), '429')
    await ask(proxy, from('2001:db8:0:1::1'), '[/ by')
  })

  test('of all addresses together are bounded too', async () => {
    const running = await serving({
      ...general({ routeRequests: 1, routeRequestBurst: 2 }),
      trustedProxies: ['127.0.0.1'],
    })
    const visit = world.visit(running.http)
    for (const [n, wanted] of ['[/ by', '[/ by', '429'].entries())
      await ask(visit, get('/', A, `X-Forwarded-For: 203.0.113.${n}`), wanted)
  })
})

describe('connections', () => {
  test('of one address on a route are bounded while they are there', async () => {
    const running = await serving(forRoute('a.example.com/', { connections: 2 }))
    const here = [world.visit(running.http), world.visit(running.http)]
    for (const visit of here) await ask(visit, get('/', A), '[/ by')
    const third = world.visit(running.http)
    await ask(third, get('/', A), '429 Too Many Requests')
    await ask(third, get('/', B), '[/ by')
    // One that has gone, or asks elsewhere now, makes room.
    await leave(running, here[0] as (typeof here)[0])
    await ask(third, get('/', A), '[/ by')
    const fourth = world.visit(running.http)
    await ask(fourth, get('/', A), '429')
    await ask(here[1] as (typeof here)[0], get('/', B), '[/ by')
    await ask(fourth, get('/', A), '[/ by')
  })
})

describe('sizes', () => {
  test('of bodies are those of the route', async () => {
    const running = await serving({
      ...general({ bodyBytes: 10 }),
      ...forRoute('b.example.com/', { bodyBytes: 20 }),
    })
    const visit = world.visit(running.http)
    await ask(visit, request('POST', '/', [A], 'x'.repeat(10)), '[/ by')
    await ask(visit, request('POST', '/', [B], 'x'.repeat(20)), '[/ by')
    await ask(visit, request('POST', '/', [A], 'x'.repeat(11)), '413 Content Too Large')
    const chunked = `${request('POST', '/', [B, 'Transfer-Encoding: chunked'])}15\r\n${'x'.repeat(21)}\r\n0\r\n\r\n`
    await ask(world.visit(running.http), chunked, '413 Content Too Large')
  })

  test.each([
    ['more than others', 2_000, 4_000],
    ['less than others', 4_000, 2_000],
  ])('of heads are those of the route, where it takes %s', async (_what, headBytes, own) => {
    const running = await serving({
      ...general({ headBytes }),
      ...forRoute('b.example.com/', { headBytes: own }),
    })
    const [large, small] = headBytes > own ? [A, B] : [B, A]
    const visit = world.visit(running.http)
    const padded = (host: string): string => get('/', host, `X: ${'x'.repeat(3_000)}`)
    await ask(visit, padded(large), '[/ by')
    await ask(visit, padded(small), '431 Request Header Fields Too Large')
    await ask(world.visit(running.http), get('/', A, `X: ${'x'.repeat(5_000)}`), '431')
  })
})

describe('times', () => {
  test('to an answer are those of the route, and a replica that takes longer is passed over', async () => {
    const running = await serving(forRoute('a.example.com/', { responseMs: 100 }), () => {})
    const [slow] = [running.client]
    const visit = world.visit(running.http, get('/', A))
    await slow.visits.at(0)
    const fast = await world.enroll(running, 'n', {
      services: [web(['a.example.com', 'b.example.com'])],
      serve: echoing,
    })
    await visit.received('504 Gateway Timeout')
    expect((await status(running)).errors).toEqual({ response_timeout: 1 })
    // Both carry nothing now; without that failure they would take turns.
    for (let n = 0; n < 4; n += 1) await ask(world.visit(running.http), request('POST', '/', [A]), '[/ by')
    expect(streams(fast)).toBe(4)
    expect(streams(slow)).toBe(1)
  })
})

describe('a reload', () => {
  test('changes what requests may do, on connections that are here already', async () => {
    const running = await serving({})
    const visit = world.visit(running.http)
    await ask(visit, request('POST', '/', [A], 'x'.repeat(100)), '[/ by')
    const reload = (changes: Partial<GatewaySettings>) =>
      running.gateway.reload(settings({ listen: WITH_ADMIN, ...changes }))
    await reload(forRoute('a.example.com/', { requests: 1, requestBurst: 1 }))
    await ask(visit, get('/', A), '[/ by')
    await ask(visit, get('/', A), '429')
    await reload({})
    await ask(visit, get('/', A), '[/ by')
    await reload(general({ bodyBytes: 10 }))
    await ask(visit, request('POST', '/', [A], 'x'.repeat(100)), '413')
  })
})

describe('the counters of a route', () => {
  test('grow while a transfer goes on, both ways, and not only at its end', async () => {
    const running = await serving({}, () => {})
    const out = 'route_bytes_out_total{route="a.example.com/"}'
    const into = 'route_bytes_in_total{route="a.example.com/"}'
    const visit = world.visit(running.http, request('POST', '/', [A, 'Transfer-Encoding: chunked']))
    const carried = await running.client.visits.at(0)
    visit.write(`1000\r\n${'x'.repeat(4_096)}\r\n`)
    await untilGauge(running, into, (bytes) => bytes > 4_096)
    carried.write('HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n')
    carried.write('x'.repeat(50_000))
    await untilGauge(running, out, (bytes) => bytes > 50_000)
    expect(await gauge(running, 'http_requests_total{route="a.example.com/",status="2xx"}')).toBeNaN()
    visit.write('0\r\n\r\n')
    carried.write('x'.repeat(50_000))
    await untilGauge(
      running,
      'http_requests_total{route="a.example.com/",status="2xx"}',
      (count) => count === 1,
    )
    expect(await gauge(running, out)).toBeGreaterThan(100_000)
  })

  test('are of registered routes only: what visitors ask for makes no series', async () => {
    const running = await serving({})
    for (const host of ['evil1.example', 'evil2.example'])
      await ask(world.visit(running.http), get(`/${host}`, `Host: ${host}`), '404')
    const text = await (await fetch(`http://127.0.0.1:${running.gateway.admin?.port}/metrics`)).text()
    expect(text).not.toContain('evil')
    expect(text).toContain('blindgate_errors_total{code="no_route"} 2')
  })
})

describe('the access log', () => {
  async function logged(access: 'json' | 'combined' | 'off', rest: Partial<GatewaySettings['log']> = {}) {
    const written: string[] = []
    const state = undefined
    const running = await world.gateway(
      { listen: WITH_ADMIN, log: { access, address: 'full', query: false, ...rest } },
      state,
      (text, done) => {
        written.push(text)
        done()
      },
    )
    const client = await world.enroll(running, 'm', { services: [web(['a.example.com'])], serve: echoing })
    const lines = async (count: number): Promise<string[]> => {
      await until(() => written.join('').split('\n').length > count)
      return written.join('').trim().split('\n')
    }
    return { ...running, client, lines, written }
  }

  test('has a line for each request, good or refused, with what was said in its page', async () => {
    const running = await logged('json')
    const visit = world.visit(running.http)
    await ask(visit, get('/a?token=secret', A, 'User-Agent: test', 'Referer: http://x/?secret'), '[/a?token')
    const page = await ask(visit, get('/b', 'Host: nobody.example'), '</small>')
    const [good, refused] = (await running.lines(2)).map(
      (line) => JSON.parse(line) as Record<string, unknown>,
    )
    expect(good).toMatchObject({
      address: '127.0.0.1',
      route: 'a.example.com/',
      service: 'web',
      method: 'GET',
      host: 'a.example.com',
      target: '/a',
      version: '1.1',
      status: 200,
      userAgent: 'test',
      referer: 'http://x/',
    })
    expect(good?.replica).toMatch(/^sha256:/)
    expect(good).not.toHaveProperty('error')
    expect(good?.firstByteMs).toBeLessThanOrEqual(good?.totalMs as number)
    // No route: not that of the request before.
    expect(refused).toMatchObject({ route: '', host: 'nobody.example', status: 404, error: 'no_route' })
    expect(refused).not.toHaveProperty('service')
    expect(page).toContain(`X-Request-Id: ${refused?.requestId as string}`)
  })

  test('says of one that was cut that it was, and whose doing it was', async () => {
    const running = await logged('json')
    running.client.serve = (visit) => visit.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf')
    const left = world.visit(running.http, get('/left', A))
    await left.received('half')
    left.socket.resetAndDestroy()
    const lost = world.visit(running.http, get('/lost', A))
    await lost.received('half')
    running.client.visits.all[1]?.stream.reset()
    const lines = (await running.lines(2)).map((line) => JSON.parse(line) as Record<string, unknown>)
    const by = (target: string) => lines.find((line) => line.target === target)
    expect(by('/left')).toMatchObject({ status: 200, error: 'reset' })
    expect(by('/lost')).toMatchObject({ status: 200, error: 'lost' })
  })

  test('in combined form is one line of printable characters, whatever the visitor says', async () => {
    const running = await logged('combined', { address: 'truncated', query: true })
    await ask(world.visit(running.http), get('/a?b', A, 'User-Agent: a"b\\ü'), '[/a')
    const [line = ''] = await running.lines(1)
    expect(line).toMatch(/^127\.0\.0\.0 - - \[/)
    expect(line).toContain('"GET /a?b HTTP/1.1" 200 ')
    expect(line).toContain('"a\\"b\\\\\\xc3\\xbc"')
    expect(line).toMatch(/^[ -~]+$/)
  })

  test('is off unless it is asked for', async () => {
    const running = await logged('off')
    const visit = world.visit(running.http)
    await ask(visit, get('/', A), '[/ by')
    await leave(running, visit)
    await running.gateway.close()
    expect(running.written).toEqual([])
  })

  test('takes a reload for what it shows', async () => {
    const running = await logged('json')
    const visit = world.visit(running.http)
    await ask(visit, get('/1?q', A), '[/1')
    await running.lines(1)
    await running.gateway.reload(
      settings({ listen: WITH_ADMIN, log: { access: 'json', address: 'none', query: true } }),
    )
    await ask(visit, get('/2?q', A), '[/2')
    const [first, second] = (await running.lines(2)).map(
      (line) => JSON.parse(line) as Record<string, unknown>,
    )
    expect(first).toMatchObject({ address: '127.0.0.1', target: '/1' })
    expect(second).toMatchObject({ address: '-', target: '/2?q' })
  })
})
