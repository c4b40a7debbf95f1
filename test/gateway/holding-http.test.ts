import { afterEach, describe, expect, test } from 'vitest'
import { HELD_BYTES, RELEASE_PER_TURN } from '../../src/limits.ts'
import { turns, until } from '../net/joined.ts'
import type { Carried, ScriptedClient } from './scripted-client.ts'
import type { Visit } from './visit.ts'
import { ask, echoing, get, request, WITH_ADMIN, web } from './web.ts'
import { heldAt, type Running, status, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

async function serving(settings: Parameters<World['gateway']>[0] = {}) {
  const running = await world.gateway({ listen: WITH_ADMIN, ...settings })
  const client = await world.enroll(running, 'm', { services: [web([])], serve: echoing })
  return { ...running, client }
}

async function goes(running: Running & { client: ScriptedClient }): Promise<void> {
  running.client.tunnel.end()
  await running.client.closed
  await until(async () => (await status(running)).routes[0]?.replicas === 0)
}

const back = (running: Running, serve: (visit: Carried) => unknown = echoing): Promise<ScriptedClient> =>
  world.dial(running, 'm', { services: [web([])] }, serve)

async function held(running: Running, count: number): Promise<void> {
  for (let turn = 0; turn < 100_000 && (await heldAt(running)) !== count; turn += 1) await turns(1)
  expect(await heldAt(running)).toBe(count)
}

describe('a request whose client is away', () => {
  test('waits by itself: the connection, and the requests before it, have nothing to do with that', async () => {
    const running = await serving()
    const visit = world.visit(running.http)
    await ask(visit, get('/1'), '[/1 by')
    await goes(running)
    // At rest it is nobody who waits.
    expect(await heldAt(running)).toBe(0)
    visit.write(get('/2') + get('/3'))
    await held(running, 1)
    await back(running)
    await visit.received('[/3 by')
    expect(visit.text.match(/\[\/\d by/g)).toEqual(['[/1 by', '[/2 by', '[/3 by'])
    expect(await heldAt(running)).toBe(0)
    expect((await status(running)).errors).toEqual({})
  })

  test('waits again each time', async () => {
    const running = await serving()
    const visit = world.visit(running.http)
    await goes(running)
    let client: ScriptedClient | undefined
    for (const path of ['/1', '/2', '/3']) {
      visit.write(get(path))
      await held(running, 1)
      client = await back(running)
      await visit.received(`[${path} by`)
      await goes({ ...running, client })
    }
  })

  test('that waited too long is a 503 that says when to come again, and the next one waits anew', async () => {
    const running = await serving({ holdMs: 100 })
    await goes(running)
    const visit = world.visit(running.http)
    const said = await ask(visit, get('/1'), '</small>')
    expect(said).toMatch(/^HTTP\/1\.1 503 Service Unavailable\r\n/)
    expect(said).toMatch(/\r\nRetry-After: 5\r\n/)
    expect(said).not.toContain('Connection: close')
    visit.write(get('/2'))
    await held(running, 1)
    await back(running)
    await visit.received('[/2 by')
  })

  test('keeps little of a large body, and all of it arrives when the client is back', async () => {
    const running = await serving()
    await goes(running)
    const body = 'abcdefgh'.repeat(60_000)
    const visit = world.visit(running.http, request('POST', '/', [], body))
    await held(running, 1)
    await turns(100)
    // One read may bring it past the bound, before it is paused.
    expect((await status(running)).bytes.in).toBeLessThanOrEqual(HELD_BYTES + 65_536)
    let got = ''
    await back(running, async (carried) => {
      await until(() => carried.stream.bytesIn > body.length)
      await carried.until((text) => text.length > body.length && text.endsWith('abcdefgh'))
      got = carried.text.slice(carried.text.indexOf('\r\n\r\n') + 4)
      carried.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n[done]')
    })
    await visit.received('[done]')
    expect(got === body).toBe(true)
  })

  test('is noticed to be gone while it waits, also where it had sent all that is kept', async () => {
    const running = await serving()
    await goes(running)
    const visits = [world.visit(running.http, get()), world.visit(running.http, get() + get('/2'))]
    await held(running, 2)
    for (const { socket } of visits) socket.destroy()
    await held(running, 0)
  })

  test('is answered by what its client says when it is back and reaches nothing', async () => {
    const running = await serving()
    await goes(running)
    const visit = world.visit(running.http, get())
    await held(running, 1)
    await back(running, (carried) => carried.unreached('refused'))
    await visit.received('502 Bad Gateway')
    expect(visit.text).toContain('refused the connection')
  })

  test('is told that its connection ends when the gateway drains', async () => {
    const running = await serving()
    await goes(running)
    const visit = world.visit(running.http, get())
    await held(running, 1)
    const drained = running.gateway.drain(5_000)
    await visit.received('503 Service Unavailable')
    expect(visit.text).toContain('Connection: close')
    expect(await visit.over).toBe('end')
    await drained
  })
})

test('many held requests are let go some per turn of the loop', async () => {
  const running = await serving()
  await goes(running)
  const visits: Visit[] = []
  const count = 3 * RELEASE_PER_TURN
  for (let n = 0; n < count; n += 1) visits.push(world.visit(running.http, request('POST', `/${n}`)))
  await held(running, count)
  const perTurn = new Map<number, number>()
  let turn = 0
  const tick = (): void => {
    turn += 1
    ticking = setImmediate(tick)
  }
  let ticking = setImmediate(tick)
  await back(running, (carried) => {
    perTurn.set(turn, (perTurn.get(turn) ?? 0) + 1)
    return echoing(carried)
  })
  for (const [n, visit] of visits.entries()) await visit.received(`[/${n} by`)
  clearImmediate(ticking)
  expect(Math.max(...perTurn.values())).toBeLessThanOrEqual(RELEASE_PER_TURN)
})

describe('a gateway that drains', () => {
  test('lets answers finish, ends connections at rest at once, and is done then', async () => {
    const running = await serving()
    const [rests, asks] = [world.visit(running.http), world.visit(running.http)]
    await ask(rests, get('/rests'), '[/rests by')
    running.client.serve = () => {}
    // A stream of its own, as the other's is still its visitor's.
    asks.write(request('POST', '/asks'))
    const carried = await running.client.visits.at(1)
    await carried.received('/asks')
    const drained = running.gateway.drain(20_000)
    expect(await rests.over).toBe('end')
    carried.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n[done]')
    await asks.received('[done]')
    expect(asks.text).toContain('Connection: close')
    expect(await asks.over).toBe('end')
    await drained
  })
})
