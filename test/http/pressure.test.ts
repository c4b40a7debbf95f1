import { afterEach, describe, expect, test, vi } from 'vitest'
import { type Exchange, Upstream } from '../../src/http/index.ts'
import { HeadReader } from '../../src/http1/index.ts'
import { Moments } from '../client/moments.ts'
import { pattern, turns, until } from '../net/joined.ts'
import { dribble, Far, GET, later, OK, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

/** More than two kernels' buffers take. */
const SIZE = 24_000_000
const BIG = `HTTP/1.1 200 OK\r\nContent-Length: ${SIZE}\r\n\r\n`

describe('a visitor that reads nothing', () => {
  test('holds its target back, costs a window, and has every byte when it reads on', async () => {
    const proxy = await world.start()
    const { visit, connection, far } = await proxy.asked(GET)
    visit.socket.pause()
    const sent = pattern(SIZE)
    far.write(BIG)
    far.write(sent)
    await until(() => connection.waiting > 0)
    let waiting = -1
    while (waiting !== far.stream.queued) {
      waiting = far.stream.queued
      await turns(50)
    }
    // The kernel between them takes as much as it likes.
    expect(far.stream.queued).toBeGreaterThan(SIZE / 16)
    // Whatever waits here is counted in the stream's window.
    const { unread } = connection.exchange?.upstream?.stream ?? { unread: 0 }
    expect(connection.waiting).toBeLessThanOrEqual(unread)
    visit.socket.resume()
    await until(() => visit.bytes === BIG.length + SIZE)
    expect(visit.text.slice(BIG.length)).toBe(sent.toString('latin1'))
  })

  test('and is gone leaves its stream’s window as it was for the next', async () => {
    const proxy = await world.start()
    const { visit, connection, far } = await proxy.asked(GET)
    const { upstream } = connection.exchange ?? {}
    visit.socket.pause()
    // More than the kernel takes, so that some of the answer is here when its visitor goes.
    far.write(BIG)
    far.write(Buffer.alloc(SIZE - 1))
    await until(() => connection.waiting > 0)
    visit.socket.resume()
    await until(() => visit.bytes >= BIG.length + SIZE - 1)
    // A whole answer which no byte of leaves before its visitor is cut.
    far.write(`x`)
    await until(() => connection.exchange?.answered === true || proxy.site.ended.all.length === 1)
    visit.socket.resetAndDestroy()
    await proxy.site.closes.at(0)
    expect(upstream?.stream.unread).toBe(0)
  })
})

describe('a target that reads nothing', () => {
  test('pauses the visitor, and gets every byte when it reads on', async () => {
    const proxy = await world.start()
    proxy.site.farsRead = false
    const { visit, connection, far } = await proxy.asked(
      `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${SIZE}\r\n\r\n`,
    )
    const sent = pattern(SIZE)
    visit.write(sent)
    await until(() => connection.socket.isPaused())
    await turns(50)
    expect(connection.bytesIn).toBeLessThan(1_000_000)
    const head = far.text.indexOf('\r\n\r\n') + 4
    far.readOn()
    await until(() => far.bytes === head + SIZE)
    expect(far.text.slice(head)).toBe(sent.toString('latin1'))
    far.write(OK)
    await visit.received('here')
  })

  test('and has answered already pauses the visitor all the same', async () => {
    const proxy = await world.start({ stallMs: 60_000 })
    proxy.site.farsRead = false
    const { visit, connection, far } = await proxy.asked(
      `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${SIZE}\r\n\r\n`,
    )
    far.write(OK)
    await visit.received('here')
    visit.write(Buffer.alloc(SIZE))
    await until(() => connection.socket.isPaused())
    await turns(50)
    expect(connection.bytesIn).toBeLessThan(1_000_000)
    connection.sweep(later(0))
    connection.sweep(later(61_000))
    // Its answer was whole: there is only an end to make.
    expect(await visit.over).toBe('end')
    expect(await far.over).toMatchObject({ code: 'reset' })
  })

  test('and goes when it has answered lets the visitor finish', async () => {
    const proxy = await world.start()
    proxy.site.farsRead = false
    const { visit, connection, far } = await proxy.asked(
      `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${SIZE}\r\n\r\n`,
    )
    far.write(OK)
    await visit.received('here')
    visit.write(Buffer.alloc(SIZE))
    await until(() => connection.socket.isPaused())
    far.stream.reset()
    visit.write(GET)
    const second = await proxy.site.fars.at(1)
    await second.received(GET)
    second.write(OK)
    await until(() => visit.text === OK + OK)
  })
})

describe('a request in thousands of small pieces', () => {
  test('that waits for a stream is kept in few, and is sent whole', async () => {
    const proxy = await world.start()
    const waiting = new Moments<Exchange>()
    proxy.site.seeking = (exchange) => waiting.add(exchange)
    const chunks = 2_000
    const post = 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n'
    proxy.visit(post + '1;\r\nx\r\n'.repeat(chunks))
    const exchange = await waiting.at(0)
    await until(() => exchange.bodyBytes === chunks)

    const [near, far] = await world.opened.joined().open()
    const write = vi.spyOn(near, 'write')
    const target = new Far(far, true)
    exchange.use(new Upstream(near, true), { added: '' })
    // Each would be a buffer of a hundred bytes or more: 1.5 MiB for a visitor that has sent 64 KiB.
    expect(write.mock.calls.length).toBeLessThan(chunks / 100)
    const body = '1\r\nx\r\n'.repeat(chunks)
    await target.received(body)
    expect(target.text.endsWith(`\r\n\r\n${body}`)).toBe(true)
  })

  test('that come behind another one are kept in few', async () => {
    const proxy = await world.start()
    const { visit, connection, far } = await proxy.asked(GET)
    const pipelined = GET.repeat(10)
    await dribble(visit.socket, pipelined)
    await until(() => connection.bytesIn === GET.length + pipelined.length)
    const begun = vi.spyOn(HeadReader.prototype, 'push')
    far.write(OK)
    await until(() => connection.requests === 2)
    const calls = begun.mock.calls.filter(([, , max]) => max === connection.site.limits.headBytes).length
    begun.mockRestore()
    expect(calls).toBe(1)
  })
})
