import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { pino } from 'pino'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { DEFAULT_HTTP_LIMITS } from '../../src/config/index.ts'
import { Authority } from '../../src/gateway/authority.ts'
import { ChallengeDesk } from '../../src/gateway/challenge-desk.ts'
import type { ConnectedClient } from '../../src/gateway/connected-client.ts'
import { LimitsOf } from '../../src/gateway/limits-of.ts'
import { Routes } from '../../src/gateway/routes.ts'
import { TrustedProxies } from '../../src/gateway/trusted.ts'
import { Visitors } from '../../src/gateway/visitors.ts'
import { HELD_PER_ADDRESS, HELD_PER_ROUTE, IDLE_SPARED_MS, RELEASE_PER_TURN } from '../../src/limits.ts'
import { MemoryBudget } from '../../src/mux/index.ts'
import { turns, until } from '../net/joined.ts'
import { ACK, DATA, frame, HELLO, RawPeer, WINDOW_UPDATE } from '../transport/raw-peer.ts'
import { enrolled } from './people.ts'
import type { Carried } from './scripted-client.ts'
import { Visit } from './visit.ts'
import { ANSWER, freePort, HTTP, heldAt, REQUEST, type Running, status, tcp, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const answering = (visit: Carried): void => visit.answer(ANSWER)

/** A gateway whose one client, of the default route and a port, has just gone. */
async function absent(holdMs?: number): Promise<Running & { port: number }> {
  const port = await freePort()
  const running = await world.gateway(holdMs === undefined ? {} : { holdMs })
  const client = await world.enroll(running, 'm', { services: [HTTP, tcp(port)] })
  client.tunnel.end()
  await client.closed
  await until(async () => (await status(running)).routes.every(({ replicas }) => replicas === 0))
  return { ...running, port }
}

const back = (running: Running & { port: number }, serve = answering) =>
  world.dial(running, 'm', { services: [HTTP, tcp(running.port)] }, serve)

describe('a visitor whose client is away', () => {
  test('waits, and is answered when it is back', async () => {
    const running = await absent()
    const visits = [world.visit(running.http, REQUEST), world.visit(running.port, 'hello')]
    await until(async () => (await status(running)).routes.every(({ held }) => held === 1))
    await back(running)
    for (const visit of visits) await visit.received('here')
    expect((await status(running)).routes.map(({ held }) => held)).toEqual([0, 0])
  })

  test('that came with a lot of bytes loses none of them', async () => {
    const running = await absent()
    const visit = world.visit(running.port)
    const sent = Buffer.alloc(300_000, 'abcdefg')
    visit.write(sent)
    await until(async () => (await status(running)).routes.some(({ held }) => held === 1))
    const client = await back(running, () => {})
    const carried = await client.visits.at(0)
    await until(() => carried.text.length === sent.length)
    expect(carried.text).toBe(sent.toString('latin1'))
  })

  test('and who shuts its sending side then is told by a reset that nothing comes of it', async () => {
    const running = await absent()
    const visit = world.visit(running.port, 'hello')
    await until(async () => (await status(running)).routes.some(({ held }) => held === 1))
    visit.socket.end()
    expect(await visit.over).toBe('reset')
    await until(async () => (await status(running)).routes.every(({ held }) => held === 0))
  })

  test('waits no longer than it may: then 503 for http, a reset for tcp, and the page says nothing of what lies behind', async () => {
    const running = await absent(150)
    const [request, visit] = [world.visit(running.http, REQUEST), world.visit(running.port, 'hello')]
    await request.received('is not connected')
    expect(request.text).toContain('503 Service Unavailable')
    expect(request.text).toContain('Retry-After: 5')
    expect(request.text).not.toMatch(/127\.0\.0\.1|home|web/)
    expect(await visit.over).toBe('reset')
  })

  test.each(['by an end', 'by a reset'])('is dropped at once when it leaves %s', async (how) => {
    const running = await absent()
    const visits = [world.visit(running.http, REQUEST), world.visit(running.port, 'hello')]
    await until(async () => (await status(running)).routes.every(({ held }) => held === 1))
    for (const { socket } of visits) {
      if (how === 'by an end') socket.destroy()
      else socket.resetAndDestroy()
    }
    await until(async () => (await status(running)).routes.every(({ held }) => held === 0))
    // And nothing is sent in its name.
    const client = await back(running)
    await client.welcome()
    await world.visit(running.http, REQUEST).received('here')
    expect(client.visits.all).toHaveLength(1)
  })

  test('is not held where nobody ever served, nor where the client left long ago', async () => {
    const running = await world.gateway()
    await world.visit(running.http, REQUEST).received('404 Not Found')
    const authority = enrolled(['home'], undefined)
    authority.claim('default', 'home')
    authority.markLive('default')
    authority.markGone('default', Date.now() - 700_000)
    const visitors = lobby(authority)
    const [visit] = await arrive(visitors, 1)
    await visit?.received('503')
    expect(visitors.heldAll).toBe(0)
  })

  test('is held by a gateway that has just started, where a client was when it stopped', async () => {
    const first = await absent()
    await (await back(first)).welcome()
    await first.gateway.close()
    const second = { ...(await world.gateway({}, first.state)), port: first.port }
    const visit = world.visit(second.http, REQUEST)
    await until(async () => (await status(second)).routes.some(({ held }) => held === 1))
    await back(second)
    await visit.received('here')
  })

  test('goes when the gateway drains or closes', async () => {
    const running = await absent()
    const visit = world.visit(running.http, REQUEST)
    await until(async () => (await status(running)).routes.some(({ held }) => held === 1))
    await running.gateway.drain(1_000)
    await visit.received('503')
  })
})

describe('many held visitors', () => {
  test('are let go some per turn of the loop, longest waiting first', async () => {
    const running = await absent()
    const visits: Visit[] = []
    for (let n = 0; n < 3 * RELEASE_PER_TURN; n += 1) {
      const visit = world.visit(running.port, `visitor ${n};`)
      visits.push(visit)
      await visit.connected
    }
    await until(async () => (await status(running)).routes.some(({ held }) => held === visits.length))
    const order: string[] = []
    const perTurn = new Map<number, number>()
    let turn = 0
    const count = (): void => {
      turn += 1
      ticking = setImmediate(count)
    }
    let ticking = setImmediate(count)
    const client = await back(running, (visit) => {
      perTurn.set(turn, (perTurn.get(turn) ?? 0) + 1)
      order.push(visit.text)
      visit.answer('here')
    })
    for (const visit of visits) await visit.received('here')
    clearImmediate(ticking)
    expect(client.visits.all).toHaveLength(visits.length)
    expect(Math.max(...perTurn.values())).toBeLessThanOrEqual(RELEASE_PER_TURN)
    expect(order).toEqual(visits.map((_visit, n) => `visitor ${n};`))
  })

  test('of one address are bounded, others still wait', async () => {
    const visitors = lobby(recentlyServed())
    const first = await arrive(visitors, HELD_PER_ADDRESS + 5, '203.0.113.5')
    await until(() => visitors.heldAll === HELD_PER_ADDRESS)
    for (const visit of first.slice(-5)) await visit.received('503')
    await arrive(visitors, 1, '203.0.113.6')
    await until(() => visitors.heldAll === HELD_PER_ADDRESS + 1)
    expect(visitors.errors.get('held_address_full')).toBe(5)
  })

  test('of one IPv6 /64 are one address', async () => {
    const visitors = lobby(recentlyServed())
    await arrive(visitors, HELD_PER_ADDRESS, (n) => `2001:db8::${n.toString(16)}`)
    await until(() => visitors.heldAll === HELD_PER_ADDRESS)
    const [more] = await arrive(visitors, 1, '2001:db8::ffff:1')
    await more?.received('503')
    await arrive(visitors, 1, '2001:db8:0:1::1')
    await until(() => visitors.heldAll === HELD_PER_ADDRESS + 1)
  })

  test('of one route are bounded', async () => {
    const visitors = lobby(recentlyServed())
    const address = (n: number): string => `203.0.${n >> 6}.7`
    const all = await arrive(visitors, HELD_PER_ROUTE + 2, address)
    await until(() => visitors.heldAll === HELD_PER_ROUTE)
    await all.at(-1)?.received('503')
    expect(visitors.errors.get('held_route_full')).toBe(2)
  })
})

describe('visitors', () => {
  test('of one address are bounded, but not those of this machine, behind which a proxy may be', async () => {
    const visitors = lobby(recentlyServed(), { perAddress: 2 })
    const strangers = await arrive(visitors, 3)
    expect(await strangers[2]?.over).toBe('reset')
    expect(visitors.errors.get('address_full')).toBe(1)
    await arrive(visitors, 1, '203.0.113.2')
    await arrive(visitors, 3, '127.0.0.1')
    await until(() => visitors.heldAll === 6)
    strangers[0]?.socket.resetAndDestroy()
    await until(() => visitors.heldAll === 5)
    await arrive(visitors, 1)
    await until(() => visitors.heldAll === 6)
  })

  test('past what the process may open are reset, those who were only told goodbye included', async () => {
    const visitors = lobby(recentlyServed(), { capacity: 3, holdMs: 0 })
    const told = await arrive(visitors, 3, (n) => `203.0.113.${n + 1}`)
    for (const visit of told) await visit.received('503')
    // They may ask for something else, so they are here still.
    expect(visitors.size).toBe(3)
    const [more] = await arrive(visitors, 1, '203.0.113.9')
    expect(await more?.over).toBe('reset')
    expect(visitors.errors.get('busy')).toBe(1)
    for (const { socket } of told) socket.destroy()
    await until(() => visitors.size === 0)
    await (await arrive(visitors, 1))[0]?.received('503')
  })

  test('past that take the place of whoever asked longest ago, but not of one who is served or held', async () => {
    const visitors = lobby(recentlyServed(), { capacity: 3 })
    await arrive(visitors, 1, '203.0.113.1')
    await until(() => visitors.heldAll === 1)
    const [first] = await arrive(visitors, 1, '203.0.113.2', '')
    const [second] = await arrive(visitors, 1, '203.0.113.3', 'GET / HTTP/1.1\r\n')
    await until(() => visitors.bytes.in > REQUEST.length)
    const clock = vi.spyOn(performance, 'now')
    const now = performance.now()
    clock.mockReturnValue(now + IDLE_SPARED_MS + 100)
    await arrive(visitors, 1, '203.0.113.4')
    await until(() => visitors.heldAll === 2)
    expect(await first?.over).toBe('reset')
    expect(second?.socket.destroyed).toBe(false)
    // Who has just come is let be, so there is room once more and not twice.
    await arrive(visitors, 1, '203.0.113.5', '')
    expect(await second?.over).toBe('reset')
    const [last] = await arrive(visitors, 1, '203.0.113.6')
    expect(await last?.over).toBe('reset')
    expect(visitors.errors.get('busy')).toBe(1)
    clock.mockRestore()
  })

  test('are refused while the memory for unread bytes is full', async () => {
    const memory = new MemoryBudget(10)
    memory.hold(11)
    const visitors = lobby(recentlyServed(), { memory })
    const [visit] = await arrive(visitors, 1)
    await visit?.received('too many visitors')
  })

  test('past 256 that the client has not acknowledged wait, and are served when it has', async () => {
    const running = await world.gateway()
    const port = await freePort()
    await world.enroll(running, 'm')
    const peer = await RawPeer.dial(running.gateway.clients.port, await world.machine('m'))
    peer.say({ ...HELLO, services: [tcp(port)] })
    await peer.heard('welcome')
    const visits = Array.from({ length: 300 }, (_, n) => world.visit(port, `visitor ${n};`))
    await until(() => peer.opened.length === 256)
    await until(async () => (await status(running)).routes[0]?.held === 44)
    expect(await status(running)).toMatchObject({ streams: 256 })
    peer.write(...peer.opened.slice(0, 44).map((id) => frame(WINDOW_UPDATE, ACK, id)))
    await until(() => peer.opened.length === 300)
    peer.write(...peer.opened.map((id) => frame(DATA, ACK, id, Buffer.from('here'))))
    for (const visit of visits) await visit.received('here')
    expect(await heldAt(running, `tcp:${port}`)).toBe(0)
    peer.socket.destroy()
  })

  test('that shut their sending side while there is only no room are not sent away', async () => {
    const running = await world.gateway()
    const port = await freePort()
    await world.enroll(running, 'm')
    const peer = await RawPeer.dial(running.gateway.clients.port, await world.machine('m'))
    peer.say({ ...HELLO, services: [tcp(port)] })
    await peer.heard('welcome')
    for (let n = 0; n < 256; n += 1) world.visit(port, 'x')
    await until(() => peer.opened.length === 256)
    const visit = world.visit(port, 'my last word')
    visit.socket.end()
    await until(async () => (await status(running)).routes[0]?.held === 1)
    // Time enough for its end to be noticed.
    await turns(100)
    expect(await heldAt(running, `tcp:${port}`)).toBe(1)
    peer.write(...peer.opened.map((id) => frame(WINDOW_UPDATE, ACK, id)))
    await until(() => peer.opened.length === 257)
    const id = peer.opened.at(-1) ?? 0
    await peer.frames.find((one) => one.id === id && one.body.includes('my last word'))
    peer.write(frame(DATA, ACK, id, Buffer.from('here')))
    await visit.received('here')
    peer.socket.destroy()
  })
})

// ── A room of visitors alone, whose addresses are the test's to say ───────────────────────────────────────

function recentlyServed(): Authority {
  const authority = enrolled(['home'], undefined)
  authority.claim('default', 'home')
  authority.markLive('default')
  authority.markGone('default', Date.now())
  return authority
}

const sockets: Socket[] = []

function lobby(
  authority: Authority,
  rest: Partial<ConstructorParameters<typeof Visitors>[0]> = {},
): Visitors {
  sockets.length = 0
  const routes = new Routes<ConnectedClient>({ isLive: () => true })
  const log = pino({ level: 'silent' })
  const visitors = new Visitors({
    authority,
    routes,
    challenges: new ChallengeDesk({ authority, routes, log }),
    memory: new MemoryBudget(1_000_000),
    holdMs: 10_000,
    limits: () => new LimitsOf({ limits: DEFAULT_HTTP_LIMITS, routeLimits: new Map() }),
    trusted: () => new TrustedProxies([]),
    access: undefined,
    tlsPort: () => 443,
    log,
    ...rest,
  })
  world.later(() => visitors.close())
  return visitors
}

/** So many visitors, seen from so many addresses, arrive one after another. */
async function arrive(
  visitors: Visitors,
  count: number,
  address: string | ((n: number) => string) = '203.0.113.1',
  text: string = REQUEST,
): Promise<Visit[]> {
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const visits: Visit[] = []
  for (let n = 0; n < count; n += 1) {
    const accepted = once(server, 'connection') as Promise<[Socket]>
    const visit = new Visit(port, text)
    world.later(() => visit.socket.destroy())
    const [socket] = await accepted
    const remoteAddress = typeof address === 'string' ? address : address(n)
    Object.defineProperty(socket, 'remoteAddress', { value: remoteAddress })
    sockets.push(socket)
    visitors.arriveHttp(socket)
    visits.push(visit)
  }
  server.close()
  return visits
}
