import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { afterEach, describe, expect, test } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { Held, Http2Front } from '../../src/http2/index.ts'
import {
  APOLOGY_LINGER_MS,
  H2_EMPTY_BYTES_BURST,
  H2_RESETS_BURST,
  H2_STREAM_WINDOW_BYTES,
  H2_STREAMS,
  STALLED_MS,
} from '../../src/limits.ts'
import { later } from '../http/world.ts'
import { pattern, until } from '../net/joined.ts'
import { block, END_HEADERS, END_STREAM, fields, frame, PLAIN, RawVisitor, Type, uint32 } from './frames.ts'
import { ask, GET, got, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

async function raw(settings?: readonly (readonly [number, number])[]): Promise<RawVisitor> {
  return new RawVisitor(await world.socket(), settings)
}

/** Nobody answers, and nobody is dialled. */
function silent(): void {
  world.site.seeking = () => {}
}

/** Writes as fast as the other side takes it, until it is told off. */
async function flood(visitor: RawVisitor, chunk: (at: number) => Buffer, most: number): Promise<number> {
  let at = 0
  while (at < most && !visitor.socket.destroyed) {
    if (!visitor.socket.write(chunk(at++)))
      await Promise.race([once(visitor.socket, 'drain').catch(() => {}), visitor.over])
  }
  return at
}

describe('a visitor that', () => {
  test('takes its requests back at once is sent away', async () => {
    silent()
    const visitor = await raw()
    const sent = await flood(
      visitor,
      (at) => {
        const id = 1 + 2 * at
        return Buffer.concat([
          frame(Type.headers, END_HEADERS | END_STREAM, id, block(PLAIN)),
          frame(Type.rst, 0, id, uint32(8)),
        ])
      },
      10_000,
    )
    await visitor.over
    expect(await world.site.closes.at(0)).toMatch(/flood|reset/)
    expect(sent).toBeLessThan(10_000)
    expect(world.site.begun.all.length).toBeLessThanOrEqual(H2_RESETS_BURST + H2_STREAMS)
    expect(world.site.ended.all.length).toBe(world.site.begun.all.length)
  })

  test('takes back a page of requests, and another, is not', async () => {
    silent()
    const visitor = await raw()
    for (let page = 0; page < 3; page++) {
      for (let at = 0; at < H2_STREAMS; at++) visitor.ask(1 + 2 * (page * H2_STREAMS + at))
      await world.site.begun.at((page + 1) * H2_STREAMS - 1)
      for (let at = 0; at < H2_STREAMS; at++)
        visitor.write(frame(Type.rst, 0, 1 + 2 * (page * H2_STREAMS + at), uint32(8)))
      await world.site.ended.at((page + 1) * H2_STREAMS - 1)
    }
    expect(world.site.closes.all).toEqual([])
  })

  test('opens more streams than it may is sent away', async () => {
    silent()
    const visitor = await raw()
    await visitor.frames.find(({ type, flags }) => type === Type.settings && flags === 1)
    for (let at = 0; at <= H2_STREAMS; at++) visitor.ask(1 + 2 * at)
    await visitor.over
    expect(await world.site.closes.at(0)).toBe('reset')
    expect(world.site.begun.all.length).toBeLessThanOrEqual(H2_STREAMS)
  })

  test.each<[string, Buffer]>([
    ['settings', frame(Type.settings, 0, 0)],
    ['pings', frame(Type.ping, 0, 0, Buffer.alloc(8))],
    ['pings that are answers', frame(Type.ping, 1, 0, Buffer.alloc(8))],
    ['windows', frame(Type.window, 0, 0, uint32(1))],
    ['priorities', frame(Type.priority, 0, 1, Buffer.from([0, 0, 0, 0, 1]))],
    ['frames of a kind that is none', frame(99, 0, 0)],
  ])('sends %s without end is sent away', async (_what, one) => {
    const visitor = await raw()
    const connection = await world.connections.at(0)
    const many = Buffer.concat(Array.from({ length: 1_000 }, () => one))
    for (let sent = 0; sent <= 2 * H2_EMPTY_BYTES_BURST && !visitor.socket.destroyed; sent += many.length) {
      if (!visitor.socket.write(many))
        await Promise.race([once(visitor.socket, 'drain').catch(() => {}), visitor.over])
      connection.sweep(performance.now())
    }
    await visitor.over
    expect(await world.site.closes.at(0)).toMatch(/flood|reset/)
  })

  test.each([0, 1])(
    'sends a body in frames of %i bytes is sent away, and its target with it',
    async (length) => {
      const visitor = await raw()
      visitor.ask(1, fields({ ':method': 'POST' }), 0)
      const far = await world.site.fars.at(0)
      const connection = await world.connections.at(0)
      const many = Buffer.concat(
        Array.from({ length: 1_000 }, () => frame(Type.data, 0, 1, Buffer.alloc(length))),
      )
      for (let sent = 0; sent <= 3 * H2_EMPTY_BYTES_BURST && !visitor.socket.destroyed; sent += many.length) {
        if (!visitor.socket.write(many))
          await Promise.race([once(visitor.socket, 'drain').catch(() => {}), visitor.over])
        connection.sweep(performance.now())
      }
      await visitor.over
      expect(await far.over).toMatchObject({ code: 'reset' })
      expect(await world.site.closes.at(0)).toMatch(/flood|reset/)
    },
  )

  test('sends a head without end, in continuations, is sent away', async () => {
    silent()
    const visitor = await raw()
    visitor.write(frame(Type.headers, END_STREAM, 1, block(PLAIN)))
    await flood(
      visitor,
      (at) => frame(Type.continuation, 0, 1, block([[`x-${at}`, 'y'.repeat(1_000)]])),
      20_000,
    )
    await visitor.over
    expect(world.site.begun.all).toEqual([])
  })

  test('sends a head that is too large is told so', async () => {
    const visitor = await raw()
    visitor.ask(1, fields({}, [['a', 'y'.repeat(10_000)]]))
    await world.site.fars.at(0)
    const fat = fields(
      {},
      Array.from({ length: 4 }, (_, at): [string, string] => [`x-${at}`, 'y'.repeat(8_190)]),
    )
    const bytes = block(fat)
    visitor.write(
      frame(Type.headers, END_STREAM, 3, bytes.subarray(0, 16_000)),
      frame(Type.continuation, 0, 3, bytes.subarray(16_000, 32_000)),
      frame(Type.continuation, END_HEADERS, 3, bytes.subarray(32_000)),
    )
    expect(await visitor.fate(3)).toMatch(/^(431|reset 11)$/)
    expect(world.site.fars.all).toHaveLength(1)
  })

  test('sends more fields than a head may have is told so', async () => {
    const visitor = await raw()
    visitor.ask(
      1,
      fields(
        {},
        Array.from({ length: 300 }, (_, at): [string, string] => [`x-${at}`, '']),
      ),
    )
    expect(await visitor.fate(1)).toMatch(/^(431|reset 11)$/)
    const few = fields(
      {},
      Array.from({ length: 250 }, (_, at): [string, string] => [`x-${at}`, '']),
    )
    visitor.ask(3, few)
    await world.site.fars.at(0)
  })

  test('opens no window holds no more than its target may send unasked', async () => {
    // SETTINGS_INITIAL_WINDOW_SIZE.
    const visitor = await raw([[4, 0]])
    visitor.ask(1)
    const far = await world.site.fars.at(0)
    far.write('HTTP/1.1 200 OK\r\n\r\n')
    const body = pattern(64 * 1024)
    for (let at = 0; at < 64; at++) far.write(body)
    expect(await visitor.fate(1)).toBe('200')
    await until(() => (world.site.begun.all[0]?.held ?? 0) > 0)
    const connection = await world.connections.at(0)
    const { stream } = world.site.upstreams[0] as { stream: { bytesIn: number; unread: number } }
    expect(stream.bytesIn).toBeLessThan(1 << 20)
    connection.sweep(performance.now())
    connection.sweep(later(world.site.limits.stallMs + 1_000))
    expect(await far.over).toMatchObject({ code: 'reset' })
    expect(await world.site.ended.at(0)).toMatchObject({ cut: 'idle' })
  })

  test('sends a body that nobody takes is stopped by its window, and in the end told so', async () => {
    world.site.farsRead = false
    const session = await world.visitor()
    const stream = session.request({ ...GET, ':method': 'POST' })
    const answer = got(stream)
    const body = pattern(1 << 20)
    for (let at = 0; at < 8; at++) stream.write(body)
    const far = await world.site.fars.at(0)
    const exchange = await world.site.begun.at(0)
    const most = 2 * H2_STREAM_WINDOW_BYTES + (1 << 20)
    let before = -1
    while (before !== exchange.bytesIn) {
      before = exchange.bytesIn
      for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve))
    }
    expect(exchange.bytesIn + exchange.held).toBeLessThan(most)
    const connection = await world.connections.at(0)
    connection.sweep(performance.now())
    connection.sweep(later(world.site.limits.stallMs + 1_000))
    expect((await answer).status).toBe(504)
    expect(await far.over).toMatchObject({ code: 'reset' })
  })

  test('closes a stream in order while its answer waits does not keep it', async () => {
    const visitor = await raw([[4, 0]])
    visitor.ask(1)
    const far = await world.site.fars.at(0)
    far.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere')
    expect(await visitor.fate(1)).toBe('200')
    visitor.write(frame(Type.rst, 0, 1, uint32(0)), frame(Type.ping, 0, 0, Buffer.alloc(8)))
    await visitor.frames.find(({ type }) => type === Type.ping)
    const connection = await world.connections.at(0)
    connection.sweep(performance.now())
    connection.sweep(later(world.site.limits.stallMs + 1_000))
    await world.site.ended.at(0)
  })

  test('stands still while others need the memory is reset', async () => {
    const front = new Http2Front({ held: new Held(1_000) })
    world.front = front
    const visitor = await raw([[4, 0]])
    visitor.ask(1)
    visitor.ask(3)
    const [held, other] = [await world.site.fars.at(0), await world.site.fars.at(1)]
    held.write('HTTP/1.1 200 OK\r\n\r\n')
    held.write(pattern(10_000))
    const exchange = await world.site.begun.at(0)
    await until(() => exchange.held > 1_000)
    const connection = await world.connections.at(0)
    connection.sweep(performance.now())
    expect(exchange.closed).toBe(false)
    connection.sweep(later(STALLED_MS + 1_000))
    expect(await held.over).toMatchObject({ code: 'reset' })
    expect(await world.site.ended.at(0)).toMatchObject({ cut: 'out_of_memory' })
    other.write('HTTP/1.1 204 No Content\r\n\r\n')
    expect(await visitor.fate(3)).toBe('204')
  })

  test('sends its body too slowly is told so', async () => {
    const visitor = await raw()
    visitor.ask(1, fields({ ':method': 'POST' }), 0)
    await world.site.fars.at(0)
    visitor.write(frame(Type.data, 0, 1, Buffer.from('a')))
    await (await world.site.fars.at(0)).received('a')
    const connection = await world.connections.at(0)
    connection.sweep(later(60_000))
    expect(await visitor.fate(1)).toBe('408')
    expect(await world.site.ended.at(0)).toMatchObject({ problem: 'body_timeout' })
  })

  test('waits for a target that does not answer is told so', async () => {
    const answer = ask(await world.visitor())
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    const connection = await world.connections.at(0)
    connection.sweep(later(world.site.limits.responseMs - 1_000))
    connection.sweep(later(world.site.limits.responseMs + 1_000))
    expect((await answer).status).toBe(504)
  })
})

describe('a connection', () => {
  test('that is gone when it is handed over is over', async () => {
    const socket = await world.socket()
    await world.connections.at(0)
    socket.destroy()
    await world.site.closes.at(0)
    const dead = new PassThrough()
    dead.destroy()
    await once(dead, 'close')
    world.front.accept(dead, world.site)
    await world.site.closes.at(1)
    expect(world.front.size).toBe(0)
  })

  test('that asks for nothing is told to go, and goes, also when its visitor does not', async () => {
    const visitor = await raw()
    visitor.ask(1)
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    far.write('HTTP/1.1 204 No Content\r\n\r\n')
    await world.site.ended.at(0)
    const connection = await world.connections.at(0)
    connection.sweep(later(world.site.limits.idleMs - 1_000))
    expect(visitor.frames.all.some(({ type }) => type === Type.goaway)).toBe(false)
    connection.sweep(later(world.site.limits.idleMs + 1_000))
    await visitor.frames.find(({ type }) => type === Type.goaway)
    connection.sweep(later(world.site.limits.idleMs + APOLOGY_LINGER_MS + 2_000))
    await visitor.over
    expect(await world.site.closes.at(0)).toBe('in order')
    expect(world.front.size).toBe(0)
  })

  test('on which nothing is ever said ends', async () => {
    const socket = await world.socket()
    const connection = await world.connections.at(0)
    socket.resume()
    connection.sweep(later(world.site.limits.headMs + 1_000))
    connection.sweep(later(world.site.limits.headMs + APOLOGY_LINGER_MS + 2_000))
    await world.site.closes.at(0)
  })

  test('that is cut, and reads nothing, is gone all the same', async () => {
    const visitor = await raw()
    visitor.socket.pause()
    world.http((_request, response) => void response.end(pattern(4 << 20)))
    visitor.write(frame(Type.window, 0, 0, uint32(1 << 30)))
    const connection = await world.connections.at(0)
    visitor.ask(1)
    await until(() => (world.site.begun.all[0]?.bytesOut ?? 0) > 0)
    connection.cut(new TunnelError('closed', { scope: 'visitor', detail: 'the test says so' }))
    await world.site.ended.at(0)
    connection.sweep(later(APOLOGY_LINGER_MS + 1_000))
    expect(await world.site.closes.at(0)).toBe('closed')
    expect(world.front.size).toBe(0)
  })

  test('that drains answers what it was asked, and takes nothing else', async () => {
    const session = await world.visitor()
    const answer = ask(session)
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    const goaway = once(session, 'goaway')
    world.front.drain()
    await goaway
    far.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    expect(String((await answer).body)).toBe('ok')
    expect(await world.site.closes.at(0)).toBe('in order')
  })

  test('says for which hosts it is, and of HSTS what it is told', async () => {
    world.site.origins = ['https://x', 'https://y']
    world.site.hsts = 'max-age=86400'
    const session = await world.visitor()
    const [origins] = (await once(session, 'origin')) as [string[]]
    expect(origins).toEqual(['https://x', 'https://y'])
    world.site.seeking = (exchange) => exchange.answer(200, ['content-type', 'a/b'], Buffer.from('own'))
    const own = await ask(session)
    expect(own.headers).toMatchObject({ 'strict-transport-security': 'max-age=86400', 'content-type': 'a/b' })
    expect(String(own.body)).toBe('own')
    world.http(
      (_request, response) =>
        void response.writeHead(200, { 'Strict-Transport-Security': 'max-age=1' }).end(),
    )
    expect((await ask(session)).headers['strict-transport-security']).toBe('max-age=1')
  })
})
