import { afterEach, describe, expect, test } from 'vitest'
import { APOLOGY_LINGER_MS, HALF_CLOSE_GRACE_MS } from '../../src/limits.ts'
import { turns, until } from '../net/joined.ts'
import { GET, OK, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const HALF = 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf'
const BEGUN = 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun'

describe('a visitor that vanishes', () => {
  test.each([
    ['in the middle of its request, by a reset', HALF, '', true],
    ['in the middle of its request, by an end', HALF, '', false],
    ['while it waits for an answer, by a reset', GET, '', true],
    ['in the middle of its answer, by a reset', GET, BEGUN, true],
    ['in the middle of its answer, by an end', GET, BEGUN, false],
    ['in the middle of both, by an end', HALF, BEGUN, false],
  ])('%s has its target’s stream reset, and not ended', async (_when, asked, answer, resets) => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(asked)
    if (answer !== '') {
      far.write(answer)
      await visit.received('begun')
    }
    if (resets) visit.socket.resetAndDestroy()
    else visit.socket.destroy()
    expect(await far.over).toMatchObject({ code: 'reset' })
    const exchange = await proxy.site.ended.at(0)
    expect(exchange.answered).toBe(false)
    expect(await proxy.site.closes.at(0)).toBe('reset')
  })

  test('between requests has its stream ended in order', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(GET)
    far.write(OK)
    await visit.received('here')
    visit.socket.end()
    expect(await far.over).toBe('end')
    expect(await proxy.site.closes.at(0)).toBe('in order')
  })

  test('with half a head costs nothing, and is told nothing', async () => {
    const proxy = await world.start()
    const visit = proxy.visit(GET.slice(0, 9))
    await until(() => proxy.connections.all[0]?.bytesIn === 9)
    visit.socket.end()
    expect(await visit.over).toBe('end')
    expect(visit.text).toBe('')
  })

  test('from a request that has no stream yet is asked about at the site', async () => {
    const proxy = await world.start()
    proxy.site.seeking = () => {}
    const visit = proxy.visit(GET)
    await until(() => proxy.connections.all[0]?.busy === true)
    visit.socket.end()
    expect(await proxy.site.closes.at(0)).toBe('reset')
    expect(proxy.site.fars.all).toEqual([])
  })

  test('is nobody whose answer is on its way', async () => {
    const proxy = await world.start()
    proxy.site.seeking = () => {}
    proxy.site.takesForLeft = false
    const visit = proxy.visit(GET)
    const connection = await proxy.connections.at(0)
    await until(() => connection.busy)
    visit.socket.end()
    await turns(20)
    await proxy.site.give(connection.exchange as NonNullable<typeof connection.exchange>)
    ;(await proxy.site.fars.at(0)).write(OK)
    expect(await visit.over).toBe('end')
    expect(visit.text).toContain('Connection: close\r\n\r\nhere')
  })
})

describe('a FIN', () => {
  test('that comes with the request says only that no other follows: its answer comes, and the end', async () => {
    const proxy = await world.start()
    const visit = proxy.visit()
    visit.socket.end(GET)
    const far = await proxy.site.fars.at(0)
    await far.received('\r\n\r\n')
    await turns(20)
    far.write(OK)
    expect(await visit.over).toBe('end')
    expect(visit.text).toContain('Connection: close\r\n\r\nhere')
    expect(await proxy.site.closes.at(0)).toBe('in order')
  })

  test('behind several requests ends the connection after the last of their answers', async () => {
    const proxy = await world.start()
    const visit = proxy.visit()
    visit.socket.end(GET + GET + GET)
    const far = await proxy.site.fars.at(0)
    for (let n = 1; n <= 3; n += 1) {
      await until(() => far.text === GET.repeat(n))
      far.write(OK)
      await until(() => visit.text.split('here').length === n + 1)
    }
    expect(await visit.over).toBe('end')
    expect(visit.text.split('Connection: close')).toHaveLength(2)
  })

  test('behind several requests takes none of their answers away, whoever gives them', async () => {
    const proxy = await world.start()
    proxy.site.refusal = ({ head }) => (head.target === '/no' ? { problem: 'no_route' } : undefined)
    const no = GET.replace('/', '/no')
    const visit = proxy.visit()
    visit.socket.end(GET + no + GET + no)
    const far = await proxy.site.fars.at(0)
    await far.received('\r\n\r\n')
    await turns(20)
    far.write(OK)
    await until(() => far.text === GET + GET)
    far.write(OK)
    expect(await visit.over).toBe('end')
    expect(visit.text.match(/HTTP\/1\.1 \d+/g)).toEqual(
      [200, 404, 200, 404].map((status) => `HTTP/1.1 ${status}`),
    )
  })

  test('long after the request is taken for leaving', async () => {
    const proxy = await world.start()
    const { visit, connection, far } = await proxy.asked(GET)
    const { exchange } = connection
    // The request came long ago.
    if (exchange !== undefined) exchange.requestDoneAt -= HALF_CLOSE_GRACE_MS + 1
    visit.socket.end()
    expect(await far.over).toMatchObject({ code: 'reset' })
  })

  test('that was no FIN but a reset which the same poll found is a reset', async () => {
    const proxy = await world.start()
    const visit = proxy.visit()
    await visit.connected
    visit.socket.write(GET)
    visit.socket.resetAndDestroy()
    expect(await proxy.site.closes.at(0)).toBe('reset')
  })
})

describe('a visitor that asked for a close', () => {
  const LAST = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'

  test.each([
    ['and nothing more', LAST],
    ['and asks on all the same', LAST + GET],
  ])('%s gets its answer and an end', async (_what, asked) => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(asked)
    far.write(OK)
    expect(await visit.over).toBe('end')
    expect(visit.text).toMatch(/\r\nConnection: close\r\n\r\nhere$/)
    expect(await proxy.site.closes.at(0)).toBe('in order')
    expect(proxy.site.ended.all).toHaveLength(1)
  })

  test('is not waited for', async () => {
    const proxy = await world.start()
    const visit = proxy.visit()
    visit.stays = true
    visit.write(LAST)
    const far = await proxy.site.fars.at(0)
    const answered = performance.now()
    far.write(OK)
    expect(await proxy.site.closes.at(0)).toBe('in order')
    expect(performance.now() - answered).toBeLessThan(APOLOGY_LINGER_MS)
    expect(visit.socket.writable).toBe(true)
  })

  test('has all of a long answer first', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(LAST)
    const body = Buffer.alloc(4 * 1024 * 1024, 'b')
    far.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`)
    far.write(body)
    expect(await visit.over).toBe('end')
    expect(visit.text.endsWith(`\r\n\r\n${String(body)}`)).toBe(true)
  })
})

describe('a connection that is cut', () => {
  test('is reset, and so is its target', async () => {
    const proxy = await world.start()
    const { visit, connection, far } = await proxy.asked(GET)
    const { TunnelError } = await import('../../src/errors.ts')
    connection.cut(new TunnelError('closed', { scope: 'visitor', detail: 'by the test' }))
    expect(await visit.over).toBe('reset')
    expect(await far.over).toMatchObject({ code: 'reset' })
    expect(proxy.site.closes.all).toEqual(['closed'])
    expect(proxy.site.ended.all).toHaveLength(1)
  })
})
