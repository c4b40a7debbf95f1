import { once } from 'node:events'
import {
  constants,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type Settings,
} from 'node:http2'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { TargetSessions } from '../../src/http2/index.ts'
import {
  H2_STREAM_WINDOW_BYTES,
  H2C_CLOSING_MS,
  H2C_IDLE_MS,
  H2C_WAITING,
  TARGET_CONNECT_MS,
} from '../../src/limits.ts'
import { Moments } from '../client/moments.ts'
import { later } from '../http/world.ts'
import { pattern } from '../net/joined.ts'
import { block, END_HEADERS, END_STREAM, fields, frame, RawVisitor, Type } from './frames.ts'
import { ask, GET, got, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

interface Target {
  server: Http2Server
  sessions: Moments<ServerHttp2Session>
  streams: Moments<{ stream: ServerHttp2Stream; headers: IncomingHttpHeaders }>
  pool: TargetSessions
  port: number
  /** What it does with a stream, besides. */
  answers: (stream: ServerHttp2Stream) => void
}

/** A target that does what its test says. */
async function target(settings: Settings = {}, port = 0): Promise<Target> {
  const server = createServer({ settings })
  const sessions = new Moments<ServerHttp2Session>()
  const streams = new Moments<{ stream: ServerHttp2Stream; headers: IncomingHttpHeaders }>()
  server.on('session', (session) => {
    session.on('error', () => {})
    sessions.add(session)
  })
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {})
    streams.add({ stream, headers })
    each.answers(stream)
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  world.keep({
    close: (callback) => {
      // A session of Node's that has said GOAWAY does not see the end of its connection.
      for (const each of sessions.all) each.destroy()
      server.close(callback)
    },
  })
  const bound = (server.address() as AddressInfo).port
  const each: Target = { server, sessions, streams, pool: world.h2c(bound), port: bound, answers: () => {} }
  return each
}

function ok(stream: ServerHttp2Stream): void {
  stream.respond({ ':status': 200 })
  stream.end('ok')
}

describe('a target of HTTP/2', () => {
  test('gets the request as it is, less what is of the connection, and who asks by us', async () => {
    const { streams } = await target()
    const visitor = await world.visitor()
    const answer = ask(
      visitor,
      {
        ':path': '/a?b',
        ':method': 'PATCH',
        'x-forwarded-for': '6.6.6.6',
        x_real_ip: '6.6.6.6',
        te: 'trailers',
        'grpc-timeout': '5S',
        cookie: ['a=b', 'c=d'] as never,
      },
      'body',
    )
    const { stream, headers } = await streams.at(0)
    expect(headers).toMatchObject({
      ':method': 'PATCH',
      ':path': '/a?b',
      ':authority': 'x',
      ':scheme': 'http',
      te: 'trailers',
      'grpc-timeout': '5S',
      cookie: 'a=b; c=d',
      'x-forwarded-for': '192.0.2.7',
      'x-real-ip': '192.0.2.7',
      'x-forwarded-proto': 'https',
    })
    for (const name of ['host', 'transfer-encoding', 'x_real_ip', 'connection'])
      expect(headers).not.toHaveProperty(name)
    stream.additionalHeaders({ ':status': 103, link: '<a>' })
    stream.respond({ ':status': 201, 'x-a': ['1', '2'], 'set-cookie': ['a', 'b'] }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-end': 'it', 'x-request-id': 'of no trailer' }))
    stream.pipe(stream)
    const { status, interim, body, trailers, headers: back, code } = await answer
    expect({ status, code, body: String(body) }).toEqual({ status: 201, code: 0, body: 'body' })
    expect(interim.map((head) => head.link)).toEqual(['<a>'])
    expect(back['x-a']).toBe('1, 2')
    expect(back['set-cookie']).toEqual(['a', 'b'])
    expect(trailers).toMatchObject({ 'x-end': 'it' })
    expect(trailers).not.toHaveProperty('x-request-id')
  })

  test('gets trailers, but for those that would speak for us', async () => {
    const { streams } = await target()
    const visitor = await world.visitor()
    const asked = visitor.request({ ...GET, ':method': 'POST' }, { endStream: false, waitForTrailers: true })
    asked.on('wantTrailers', () =>
      asked.sendTrailers({ 'x-sum': '1', 'x-real-ip': '6.6.6.6', authorization: 'x' }),
    )
    asked.end('body')
    const answer = got(asked)
    const { stream } = await streams.at(0)
    stream.resume()
    const [trailers] = (await once(stream, 'trailers')) as [IncomingHttpHeaders]
    expect(Object.entries(trailers)).toEqual([['x-sum', '1']])
    stream.respond({ ':status': 204 }, { endStream: true })
    expect((await answer).status).toBe(204)
  })

  test('carries megabytes both ways', async () => {
    const each = await target()
    each.answers = (stream) => {
      stream.respond({ ':status': 200 })
      stream.pipe(stream)
    }
    const body = pattern(5_000_000)
    const { body: back } = await ask(await world.visitor(), { ':method': 'POST' }, body)
    expect(back.equals(body)).toBe(true)
  })

  test('is stopped where its visitor takes nothing, and goes on where that does', async () => {
    const each = await target()
    const body = pattern(4 << 20)
    each.answers = (stream) => {
      stream.respond({ ':status': 200 })
      stream.end(body)
    }
    const asked = (await world.visitor()).request(GET)
    const exchange = await world.site.begun.at(0)
    const { stream } = await each.streams.at(0)
    let before = -1
    while (before !== exchange.bytesOut || before === 0) {
      before = exchange.bytesOut
      for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve))
    }
    // What lies in all windows and streams between the two.
    expect(exchange.bytesOut).toBeLessThan(2 << 20)
    expect(exchange.held).toBeLessThan(2 * H2_STREAM_WINDOW_BYTES)
    expect(stream.writableFinished).toBe(false)
    const { body: whole, code } = await got(asked)
    expect(code).toBe(0)
    expect(whole.equals(body)).toBe(true)
  })

  test('that stops reading stops its visitor', async () => {
    const each = await target()
    const asked = (await world.visitor()).request({ ...GET, ':method': 'POST' }, { endStream: false })
    const body = pattern(4 << 20)
    asked.end(body)
    const answer = got(asked)
    const exchange = await world.site.begun.at(0)
    const { stream } = await each.streams.at(0)
    let before = -1
    while (before !== exchange.bytesIn) {
      before = exchange.bytesIn
      for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve))
    }
    expect(exchange.bytesIn + exchange.held).toBeLessThan(2 << 20)
    stream.respond({ ':status': 200 })
    stream.pipe(stream)
    expect((await answer).body.equals(body)).toBe(true)
  })

  test.each([2, 8, 11])('that resets a request by %i has it reset by the same', async (code) => {
    const { streams } = await target()
    const answer = ask(await world.visitor())
    ;(await streams.at(0)).stream.close(code)
    expect(await answer).toMatchObject({ status: 0, code })
    expect(await world.site.ended.at(0)).toMatchObject({ problem: 'lost' })
  })

  test.each([2, 8, 11])('learns that the visitor took its request back by %i', async (code) => {
    const { streams } = await target()
    const asked = (await world.visitor()).request(GET)
    asked.on('error', () => {})
    const { stream } = await streams.at(0)
    asked.close(code)
    await new Promise((resolve) => stream.once('close', resolve))
    expect(stream.rstCode).toBe(code)
  })

  test('learns that the visitor has gone', async () => {
    const { streams } = await target()
    const visitor = await world.visitor()
    visitor.request({ ...GET, ':method': 'POST' }).on('error', () => {})
    const { stream } = await streams.at(0)
    visitor.destroy()
    await new Promise((resolve) => stream.once('close', resolve))
    expect(stream.rstCode).not.toBe(0)
  })

  test('that is lost in the midst of an answer resets it, and before it is a page', async () => {
    const { streams, sessions } = await target()
    const visitor = await world.visitor()
    const [half, none] = [ask(visitor), ask(visitor)]
    const { stream } = await streams.at(0)
    stream.respond({ ':status': 200 })
    stream.write('half')
    await streams.at(1)
    const asked = await world.site.begun.at(0)
    while (asked.bytesOut === 0) await new Promise((resolve) => setImmediate(resolve))
    sessions.all[0]?.destroy()
    const answers = await Promise.all([half, none])
    expect(answers.map(({ status, code }) => [status, code])).toEqual(
      expect.arrayContaining([
        [200, expect.any(Number)],
        [502, 0],
      ]),
    )
    expect(answers.find(({ status }) => status === 200)?.code).not.toBe(0)
  })

  test('that takes few streams has the others wait, and no more connections than are needed', async () => {
    const each = await target({ maxConcurrentStreams: 2 })
    each.answers = ok
    const visitor = await world.visitor()
    const answers = await Promise.all(Array.from({ length: 80 }, () => ask(visitor)))
    expect(answers.every(({ status }) => status === 200)).toBe(true)
    expect(each.sessions.all.length).toBeLessThanOrEqual(16)
    expect(each.pool.size.waiting).toBe(0)
  })

  test('that answers before it has all keeps no place', async () => {
    const { pool } = await target().then((each) => {
      each.answers = (stream) => {
        stream.respond({ ':status': 404 })
        stream.end('no')
        stream.close(0)
      }
      return each
    })
    const visitor = new RawVisitor(await world.socket())
    // The windows are as wide as it says from then on.
    await visitor.frames.find(({ type, flags }) => type === Type.settings && flags === 0)
    for (let id = 1; id < 10; id += 2) {
      visitor.ask(id, fields({ ':method': 'POST' }), 0)
      for (let at = 0; at < 10; at++) visitor.write(frame(Type.data, 0, id, Buffer.alloc(16_000)))
    }
    for (let id = 1; id < 10; id += 2) expect(await visitor.fate(id)).toBe('404')
    await world.site.ended.at(4)
    while (pool.size.streams > 0) await new Promise((resolve) => setImmediate(resolve))
  })

  test('that goes away is asked anew for what it did not look at', async () => {
    const each = await target()
    const visitor = await world.visitor()
    const first = ask(visitor, { ':method': 'POST' }, 'kept')
    const { stream } = await each.streams.at(0)
    // As a server does that drains: it refuses what came too late, and goes.
    each.sessions.all[0]?.goaway(0, 0)
    stream.close(7)
    each.answers = ok
    expect(await first).toMatchObject({ status: 200, code: 0 })
    expect(each.sessions.all).toHaveLength(2)
  })

  test('that refuses each time refuses', async () => {
    const each = await target()
    each.answers = (stream) => stream.close(7)
    expect(await ask(await world.visitor())).toMatchObject({ status: 0, code: 7 })
    expect(each.streams.all).toHaveLength(2)
  })

  test('that is not there is a 502 at once, and is asked again by the next', async () => {
    const { port, server } = await target()
    server.close()
    world.h2c(port)
    const visitor = await world.visitor()
    expect((await ask(visitor)).status).toBe(502)
    expect((await world.site.ended.at(0)).problem).toBe('refused')
    const back = await target({}, port)
    back.answers = ok
    expect((await ask(visitor)).status).toBe(200)
  })

  test('that speaks HTTP/1.1, or says nothing, is a page', async () => {
    const talks = createTcpServer((socket) => {
      world.opened.keep(socket)
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')
    })
    talks.listen(0, '127.0.0.1')
    await once(talks, 'listening')
    world.keep(talks)
    world.h2c((talks.address() as AddressInfo).port)
    const visitor = await world.visitor()
    expect((await ask(visitor)).status).toBe(502)

    const silent = createTcpServer((socket) => void world.opened.keep(socket))
    silent.listen(0, '127.0.0.1')
    await once(silent, 'listening')
    world.keep(silent)
    const pool = world.h2c((silent.address() as AddressInfo).port)
    const answer = ask(visitor)
    await world.site.begun.at(1)
    pool.sweep(later(TARGET_CONNECT_MS + 1))
    expect((await answer).status).toBe(504)
  })

  test('is let go of when it carries nothing', async () => {
    const each = await target()
    each.answers = ok
    await ask(await world.visitor())
    each.pool.sweep(later(H2C_IDLE_MS - 1_000))
    expect(each.pool.size.sessions).toBe(1)
    const [session] = each.sessions.all
    each.pool.sweep(later(H2C_IDLE_MS + 1_000))
    if (session?.closed === false) await once(session, 'close')
    while (each.pool.size.sessions > 0) await new Promise((resolve) => setImmediate(resolve))
  })

  test('has so many wait for a place on it, and not more', async () => {
    const { pool, sessions } = await target({ maxConcurrentStreams: 0 })
    const denied: string[] = []
    for (let at = 0; at <= H2C_WAITING; at++)
      pool.want({ given: () => {}, denied: (problem) => void denied.push(problem) })
    expect(denied).toEqual(['overloaded'])
    await sessions.at(0)
    pool.sweep(later(TARGET_CONNECT_MS + 1))
    expect(denied).toHaveLength(H2C_WAITING + 1)
    expect(denied[1]).toBe('timeout')
    pool.close()
    pool.want({ given: () => {}, denied: (problem) => void denied.push(problem) })
    expect(denied.at(-1)).toBe('draining')
  })

  test('learns of a request that its visitor took back while it waited for a place', async () => {
    const each = await target({ maxConcurrentStreams: 0 })
    const visitor = await world.visitor()
    const asked = visitor.request(GET)
    asked.on('error', () => {})
    await each.sessions.at(0)
    expect(each.pool.size.waiting).toBe(1)
    asked.close(8)
    await world.site.ended.at(0)
    expect(each.pool.size.waiting).toBe(0)
    expect(each.streams.all).toEqual([])
  })
})

test('a connection on which the target broke the protocol is given up, and another is made', async () => {
  let connections = 0
  let heard = Buffer.alloc(0)
  const server = createTcpServer((socket) => {
    connections += 1
    const first = connections === 1
    socket.on('data', (chunk: Buffer) => (heard = Buffer.concat([heard, chunk])))
    world.opened.keep(socket)
    socket.on('error', () => {})
    socket.write(frame(Type.settings, 0, 0))
    socket.once('data', () => {
      socket.write(frame(Type.settings, 1, 0))
      const answer = frame(Type.headers, END_HEADERS | END_STREAM, 1, block([[':status', '204']]))
      // The one speaks of a stream that never was, and does not close what it has spoilt.
      socket.write(first ? frame(Type.data, 0, 99, Buffer.from('x')) : answer)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  world.keep(server)
  const pool = world.h2c((server.address() as AddressInfo).port)
  const visitor = await world.visitor()
  const stream = visitor.request(GET)
  stream.on('error', () => {})
  const goaway = frame(Type.goaway, 0, 0).subarray(3)
  await vi.waitFor(() => expect(heard.includes(goaway)).toBe(true))
  // Newer Nodes end their streams with it; older ones tell nobody.
  stream.close(constants.NGHTTP2_CANCEL)
  await world.site.ended.at(0)
  const now = performance.now()
  pool.sweep(now)
  pool.sweep(now + H2C_CLOSING_MS + 1)
  await vi.waitFor(() => expect(pool.size).toEqual({ sessions: 0, streams: 0, waiting: 0 }))
  expect(await ask(visitor)).toMatchObject({ status: 204 })
  expect(connections).toBe(2)
})
