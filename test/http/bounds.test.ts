import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterEach, describe, expect, test } from 'vitest'
import { APOLOGY_LINGER_MS, BODY_PACE_MS, HELD_BYTES, KEPT_STREAM_REST_MS } from '../../src/limits.ts'
import { turns, until } from '../net/joined.ts'
import { GET, later, OK, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const POST = 'POST / HTTP/1.1\r\nHost: x\r\n'

describe('a body that is too large', () => {
  test('by its length is a 413 before any of it is sent, also when it comes along', async () => {
    const proxy = await world.start({ bodyBytes: 1_000 })
    proxy.site.refusal = ({ head, limits }) =>
      head.length > limits.bodyBytes ? { problem: 'body_too_large' } : undefined
    const visit = proxy.visit(`${POST}Content-Length: 200000\r\n\r\n${'x'.repeat(200_000)}`)
    await visit.received('413 Content Too Large')
    expect(visit.text).toContain('Connection: close')
    expect(await visit.over).toBe('end')
    expect(await proxy.site.closes.at(0)).toBe('in order')
    expect(proxy.site.fars.all).toEqual([])
  })

  test('by the count of its chunks is a 413 as soon as it is, also when more comes along', async () => {
    const proxy = await world.start({ bodyBytes: 1_000 })
    const { visit, far } = await proxy.asked(`${POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`)
    visit.write(`1000\r\n${'x'.repeat(4_096)}\r\n`.repeat(50))
    await visit.received('413 Content Too Large')
    expect(await visit.over).toBe('end')
    expect(await proxy.site.closes.at(0)).toBe('in order')
    expect(await far.over).toMatchObject({ code: 'reset' })
    expect(far.text).not.toContain('xx')
  })

  test('just as large as it may be is none', async () => {
    const proxy = await world.start({ bodyBytes: 3 })
    const { visit, far } = await proxy.asked(`${POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`)
    far.write(OK)
    await visit.received('\r\n\r\nhere')
  })
})

describe('a body that is none', () => {
  test('is a 400 and the end, and its target is reset and not ended', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(`${POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`)
    visit.write(`XYZ\r\n${GET}`)
    await visit.received('400 Bad Request')
    expect(await visit.over).toBe('end')
    expect(await far.over).toMatchObject({ code: 'reset' })
    expect(proxy.site.fars.all).toHaveLength(1)
  })

  test('whose answer has begun cuts it', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(`${POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`)
    far.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf')
    await visit.received('half')
    visit.write('XYZ\r\n')
    expect(await visit.over).toBe('reset')
    expect(await far.over).toMatchObject({ code: 'reset' })
  })
})

describe('a head', () => {
  test('that is too large is a 431', async () => {
    const proxy = await world.start({ headBytes: 1_024 })
    const visit = proxy.visit(`${GET.slice(0, -2)}X: ${'x'.repeat(2_000)}`)
    await visit.received('431 Request Header Fields Too Large')
    expect(await visit.over).toBe('end')
  })

  test('that dribbles is a 408, however many bytes still come', async () => {
    const proxy = await world.start({ headMs: 1_000 })
    const visit = proxy.visit(GET.slice(0, 5))
    const connection = await proxy.connections.at(0)
    await until(() => connection.bytesIn === 5)
    visit.write(GET.slice(5, 9))
    await until(() => connection.bytesIn === 9)
    connection.sweep(later(900))
    expect(visit.text).toBe('')
    connection.sweep(later(1_100))
    await visit.received('408 Request Timeout')
    expect(await visit.over).toBe('end')
    expect(proxy.site.malformedOnes.all).toMatchObject([{ problem: 'head_timeout' }])
  })

  test('that dribbles after other requests is one too, counted from its first byte', async () => {
    const proxy = await world.start({ headMs: 1_000, idleMs: 60_000 })
    const { visit, connection, far } = await proxy.asked(GET)
    far.write(OK)
    await visit.received('here')
    connection.sweep(later(30_000))
    visit.write('GET ')
    await until(() => connection.bytesIn === GET.length + 4)
    connection.sweep(later(900))
    connection.sweep(later(1_100))
    await visit.received('408 Request Timeout')
  })

  test('that never begins is an end without a word', async () => {
    const proxy = await world.start({ headMs: 1_000 })
    const visit = proxy.visit()
    const connection = await proxy.connections.at(0)
    connection.sweep(later(1_100))
    expect(await visit.over).toBe('end')
    expect(visit.text).toBe('')
  })

  test('is waited for by the clock, without anybody’s doing', async () => {
    const proxy = await world.start({ headMs: 100 })
    const visit = proxy.visit('GET ')
    await visit.received('408 Request Timeout')
  })
})

describe('between requests', () => {
  test('a connection ends without a word when its time is over, and its stream in order', async () => {
    const proxy = await world.start({ idleMs: 1_000 })
    const { visit, connection, far } = await proxy.asked(GET)
    far.write(OK)
    await visit.received('here')
    connection.sweep(later(900))
    connection.sweep(later(1_100))
    expect(await visit.over).toBe('end')
    expect(visit.text).toBe(OK)
    expect(await far.over).toBe('end')
  })

  test('a connection that rests says so, and not while it waits for an answer', async () => {
    const proxy = await world.start({ idleMs: 60_000 })
    const { visit, connection, far } = await proxy.asked(GET)
    connection.sweep(later(KEPT_STREAM_REST_MS + 100))
    expect(proxy.site.rested).toBe(0)
    far.write(OK)
    await visit.received('here')
    connection.sweep(later(KEPT_STREAM_REST_MS - 100))
    expect(proxy.site.rested).toBe(0)
    connection.sweep(later(KEPT_STREAM_REST_MS + 100))
    expect(proxy.site.rested).toBe(1)
  })

  test('the time is that of the route which was asked last', async () => {
    const proxy = await world.start({ idleMs: 60_000 })
    proxy.site.refusal = (exchange) => {
      exchange.limits = { ...exchange.limits, idleMs: 1_000 }
      return undefined
    }
    const { visit, connection, far } = await proxy.asked(GET)
    far.write(OK)
    await visit.received('here')
    connection.sweep(later(1_100))
    expect(await visit.over).toBe('end')
  })
})

describe('a body that comes too slowly', () => {
  test('is a 408', async () => {
    const proxy = await world.start({ bodyRate: 100 })
    const { visit, connection, far } = await proxy.asked(`${POST}Content-Length: 100000\r\n\r\n`)
    visit.write('x'.repeat(500))
    await until(() => far.text.endsWith('x'.repeat(500)))
    connection.sweep(later(BODY_PACE_MS - 1_000))
    expect(visit.text).toBe('')
    connection.sweep(later(BODY_PACE_MS + 1_000))
    await visit.received('408 Request Timeout')
    expect(await far.over).toMatchObject({ code: 'reset' })
  })

  test('whose answer is under way may take its time: the two talk', async () => {
    const proxy = await world.start({ bodyRate: 100 })
    const { visit, connection, far } = await proxy.asked(`${POST}Content-Length: 6\r\n\r\n`)
    far.write('HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf')
    await visit.received('half')
    connection.sweep(later(0))
    connection.sweep(later(BODY_PACE_MS + 1_000))
    visit.write('second')
    await far.received('second')
    far.write('half')
    await visit.received('halfhalf')
  })

  test('that never ends behind a whole answer ends its connection', async () => {
    const proxy = await world.start({ stallMs: 60_000 })
    const { visit, connection, far } = await proxy.asked(`${POST}Content-Length: 6\r\n\r\n`)
    far.write(OK)
    await visit.received('here')
    connection.sweep(later(0))
    connection.sweep(later(61_000))
    expect(await visit.over).toBe('end')
    expect(await far.over).toMatchObject({ code: 'reset' })
  })

  test('because its target reads nothing is not the visitor’s fault: a 504 when the target stalls', async () => {
    const proxy = await world.start({ bodyRate: 100, stallMs: 60_000 })
    proxy.site.farsRead = false
    const { visit, connection } = await proxy.asked(`${POST}Content-Length: 10000000\r\n\r\n`)
    visit.write(Buffer.alloc(1_000_000))
    await until(() => connection.exchange?.blocked === true)
    await turns(20)
    connection.sweep(later(0))
    connection.sweep(later(BODY_PACE_MS + 1_000))
    expect(visit.text).toBe('')
    connection.sweep(later(61_000))
    await visit.received('504 Gateway Timeout')
  })
})

describe('an answer', () => {
  test('that does not begin in time is a 504, and its target is reset', async () => {
    const proxy = await world.start({ responseMs: 1_000 })
    const { visit, connection, far } = await proxy.asked(GET)
    connection.sweep(later(900))
    expect(visit.text).toBe('')
    connection.sweep(later(1_100))
    await visit.received('504 Gateway Timeout')
    expect(visit.text).not.toContain('Connection: close')
    expect(await far.over).toMatchObject({ code: 'reset' })
    // What it says later is nobody's.
    far.write(OK)
    visit.write(GET)
    const second = await proxy.site.fars.at(1)
    await second.received('\r\n\r\n')
    second.write(OK)
    await visit.received('\r\n\r\nhere')
  })

  test('that has begun may take its time', async () => {
    const proxy = await world.start({ responseMs: 1_000, stallMs: 1_000 })
    const { visit, connection, far } = await proxy.asked(GET)
    far.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n')
    await visit.received('\r\n\r\n')
    for (const hours of [1, 2]) connection.sweep(later(hours * 3_600_000))
    far.write('4\r\nhere\r\n')
    await visit.received('here')
  })

  test('that its visitor does not take cuts it', async () => {
    const proxy = await world.start({ stallMs: 60_000 })
    const { visit, connection, far } = await proxy.asked(GET)
    visit.socket.pause()
    far.write('HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n')
    const chunk = Buffer.alloc(64 * 1024)
    while (connection.waiting === 0 || far.stream.queued < 500_000) {
      if (far.stream.queued < 1_000_000) far.write(chunk)
      await turns(1)
    }
    await turns(50)
    connection.sweep(later(0))
    connection.sweep(later(59_000))
    expect(connection.busy).toBe(true)
    connection.sweep(later(61_000))
    expect(await far.over).toMatchObject({ code: 'reset' })
    expect(await proxy.site.closes.at(0)).toBe('idle')
  })
})

describe('a visitor that was told the end', () => {
  test('and sends on and on is let go all the same', async () => {
    const proxy = await world.start()
    const visit = proxy.visit('NO REQUEST\r\n\r\n')
    visit.stays = true
    await visit.received('</small>')
    const connection = await proxy.connections.at(0)
    for (let ms = 500; ms <= APOLOGY_LINGER_MS + 1_000; ms += 500) {
      visit.write('x')
      const before = connection.bytesIn
      await until(() => connection.bytesIn > before || connection.socket.destroyed)
      connection.sweep(later(ms))
    }
    expect(connection.socket.destroyed).toBe(true)
  })
})

describe('what comes behind a request that is under way', () => {
  test('is read as far as is needed to see its sender leave, and then waits', async () => {
    const proxy = await world.start()
    const { visit, connection, far } = await proxy.asked(GET)
    visit.write(GET.repeat(100_000))
    await until(() => connection.socket.isPaused())
    await turns(50)
    // One read may have brought it past the bound.
    expect(connection.bytesIn).toBeLessThan(HELD_BYTES + 65_536 + GET.length)
    far.write(OK)
    await visit.received('here')
    await until(() => far.text === GET + GET)
  })
})

test('an idle connection keeps no byte of the requests that it has carried', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const proxy = await world.start()
  const seen: WeakRef<Uint8Array>[] = []
  proxy.site.refusal = ({ head }) => {
    seen.push(new WeakRef(head.bytes))
    return { problem: 'no_route' }
  }
  // The one here would remember each.
  proxy.site.done = () => {}
  const idle = proxy.visit(GET)
  await idle.received('404')
  // The tables, which all connections share, go on to another's.
  await proxy.visit(GET).received('404')
  await turns(20)
  collect()
  expect(seen).toHaveLength(2)
  expect(seen[0]?.deref()).toBeUndefined()
  expect((await proxy.connections.at(0)).idleSince).toBeDefined()
})
