import { afterEach, describe, expect, test } from 'vitest'
import { HALF_CLOSED_MS, HELD_BYTES } from '../../src/limits.ts'
import { turns, until } from '../net/joined.ts'
import { GET, later, OK, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const ask = (protocol = 'websocket'): string =>
  `GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: ${protocol}\r\nSec-WebSocket-Key: k\r\n\r\n`
const SWITCH =
  'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\n'

async function switched() {
  const proxy = await world.start({ stallMs: 1_000, idleMs: 1_000, responseMs: 1_000 })
  const asked = await proxy.asked(ask())
  asked.far.write(`${SWITCH}first frame`)
  await asked.visit.received('first frame')
  return { proxy, ...asked }
}

describe('an upgrade', () => {
  test('asks the target for the same, and brings its first frame with the 101', async () => {
    const { visit, far } = await switched()
    expect(far.text).toMatch(/\r\nConnection: upgrade\r\nUpgrade: websocket\r\n/)
    expect(far.text).not.toContain('keep-alive')
    expect(visit.text).toMatch(/^HTTP\/1\.1 101 Switching Protocols\r\n/)
    expect(visit.text).toMatch(/\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst frame$/)
    expect(visit.text).toContain('Sec-WebSocket-Accept: a\r\n')
  })

  test('carries whatever comes both ways, without looking at it', async () => {
    const { visit, far } = await switched()
    visit.write(`${GET}\r\n\0`)
    await far.received(`${GET}\r\n\0`)
    far.write(`${OK}\0\r\n`)
    await visit.received(`${OK}\0\r\n`)
  })

  test('carries what the visitor sent before it was told, in order, and reads on', async () => {
    const proxy = await world.start()
    const { visit, connection, far } = await proxy.asked(ask())
    visit.write(`early${'x'.repeat(2 * HELD_BYTES)}`)
    await until(() => connection.socket.isPaused())
    expect(far.text).not.toContain('early')
    far.write(SWITCH)
    await visit.received('101')
    visit.write('late')
    await far.received('late')
    expect(far.text.endsWith(`early${'x'.repeat(2 * HELD_BYTES)}late`)).toBe(true)
  })

  test('rests as long as it likes', async () => {
    const { visit, connection, far } = await switched()
    for (const hours of [1, 2]) connection.sweep(later(hours * 3_600_000))
    far.write('still here')
    await visit.received('still here')
  })

  test('ends as its sides do, each way by itself', async () => {
    const { proxy, visit, far } = await switched()
    visit.stays = true
    far.stream.end()
    expect(await visit.over).toBe('end')
    visit.write('last words')
    await far.received('last words')
    visit.socket.end()
    expect(await far.over).toBe('end')
    expect(await proxy.site.closes.at(0)).toBe('in order')
    expect(proxy.site.ended.all).toMatchObject([{ status: 101, problem: undefined }])
  })

  test('whose visitor sends no more still brings what the target says', async () => {
    const { proxy, visit, far } = await switched()
    visit.socket.end()
    expect(await far.over).toBe('end')
    far.write('last words')
    far.stream.end()
    expect(await visit.over).toBe('end')
    expect(visit.text).toMatch(/last words$/)
    expect(await proxy.site.closes.at(0)).toBe('in order')
  })

  test('of which one side has ended does not wait for ever for the other', async () => {
    const { visit, connection, far } = await switched()
    visit.stays = true
    visit.socket.end()
    expect(await far.over).toBe('end')
    connection.sweep(later(0))
    connection.sweep(later(HALF_CLOSED_MS + 1_000))
    expect(await visit.over).toBe('reset')
  })

  test('is reset as a whole, from either side', async () => {
    const one = await switched()
    one.visit.socket.resetAndDestroy()
    expect(await one.far.over).toMatchObject({ code: 'reset' })
    const two = await switched()
    two.far.stream.reset()
    expect(await two.visit.over).toBe('reset')
  })

  test('is held back by a side that reads nothing, and cut when that stalls', async () => {
    const proxy = await world.start({ stallMs: 1_000 })
    proxy.site.farsRead = false
    const { visit, connection, far } = await proxy.asked(ask())
    far.write(SWITCH)
    await visit.received('101')
    visit.write(Buffer.alloc(4_000_000, 'x'))
    await until(() => connection.socket.isPaused())
    await turns(50)
    expect(connection.bytesIn).toBeLessThan(1_000_000)
    far.readOn()
    await until(() => far.bytes > 4_000_000)
    far.reads = false
    visit.write(Buffer.alloc(4_000_000, 'x'))
    await until(() => connection.socket.isPaused())
    await turns(50)
    connection.sweep(later(0))
    connection.sweep(later(2_000))
    expect(await visit.over).toBe('reset')
    expect(await far.over).toMatchObject({ code: 'reset' })
  })
})

describe('an upgrade that the target does not do', () => {
  test('ends the connection after its answer, and what followed is never taken for requests', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(`${ask()}${GET}`)
    far.write(OK)
    expect(await visit.over).toBe('end')
    expect(visit.text).toContain('Connection: close\r\n\r\nhere')
    expect(far.text).not.toContain('GET / ')
    expect(proxy.site.fars.all).toHaveLength(1)
    expect(proxy.site.ended.all).toHaveLength(1)
  })

  test.each(['h2c', 'HTTP/2.0', 'TLS/1.0'])(
    'because we do not pass it on (%s) is a plain request',
    async (name) => {
      const proxy = await world.start()
      const { visit, far } = await proxy.asked(
        ask(name).replace('Upgrade\r\n', 'Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\n'),
      )
      expect(far.text).not.toMatch(/upgrade|settings|connection/i)
      far.write(OK)
      await visit.received('here')
      visit.write(GET)
      await far.received(GET)
      far.write(OK)
      await until(() => visit.text === OK + OK)
    },
  )
})
