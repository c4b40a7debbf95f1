import { afterEach, describe, expect, test } from 'vitest'
import { turns, until } from '../net/joined.ts'
import { dribble, GET, later, OK, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const get = (path: string, ...lines: string[]): string =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`
const ok = (body: string, ...lines: string[]): string =>
  `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n${body}`

describe('requests of one connection', () => {
  test('follow one another on one stream, and each gets its own answer', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(get('/1'))
    far.write(ok('one'))
    await visit.received('one')
    visit.write(get('/2'))
    await far.received('GET /2')
    far.write(ok('two'))
    await visit.received('two')
    expect(visit.text).toBe(ok('one') + ok('two'))
    expect(proxy.site.fars.all).toHaveLength(1)
  })

  test('that come all at once are sent one at a time, and answered in their order', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(get('/1') + get('/2') + get('/3'))
    await turns(20)
    expect(far.text).not.toContain('/2')
    for (const [at, path] of ['/1', '/2', '/3'].entries()) {
      await far.received(`GET ${path}`)
      far.write(ok(`answer ${at}`))
      await visit.received(`answer ${at}`)
    }
    expect(visit.text).toBe(ok('answer 0') + ok('answer 1') + ok('answer 2'))
  })

  test('with bodies end where they say, and the next begins there', async () => {
    const proxy = await world.start()
    const chunked = 'POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n'
    const { visit, far } = await proxy.asked(
      `POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET /${chunked}${get('/c')}`,
    )
    await until(() => far.text.endsWith('\r\n\r\nGET /'))
    far.write(ok('a'))
    await far.received('5\r\nGET /\r\n0\r\n\r\n')
    expect(far.text).not.toContain('/c')
    far.write(ok('b'))
    await far.received('GET /c HTTP/1.1')
    far.write(ok('c'))
    await until(() => visit.text === ok('a') + ok('b') + ok('c'))
  })

  test('in segments of one byte are the same requests', async () => {
    const proxy = await world.start()
    const visit = proxy.visit()
    await visit.connected
    const body = 'POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n'
    await dribble(visit.socket, get('/a') + body)
    const far = await proxy.site.fars.at(0)
    await far.received('\r\n\r\n')
    expect(far.text).toBe(get('/a'))
    far.write(OK)
    await far.received('3\r\nabc\r\n0\r\n\r\n')
    expect(far.text).toBe(
      get('/a') + body.replace('3;x=y', '3').replace(/(Host: x\r\n)(.*?)\r\n/, '$1$2\r\n'),
    )
    far.write(OK)
    await until(() => visit.text === OK + OK)
  })

  test('of which one asks for a close are the last, and what follows is dropped', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(get('/1', 'Connection: close') + get('/2'))
    far.write(OK)
    expect(await visit.over).toBe('end')
    expect(visit.text).toContain('\r\nConnection: close\r\n')
    expect(visit.text).toMatch(/here$/)
    expect(far.text).not.toContain('/2')
  })

  test('go on after an answer that closes the target’s connection, on another stream', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(get('/1'))
    far.write(ok('one', 'Connection: close'))
    await visit.received('one')
    expect(visit.text).not.toContain('close')
    expect(await far.over).toBe('end')
    visit.write(get('/2'))
    const second = await proxy.site.fars.at(1)
    await second.received('/2')
    second.write(ok('two'))
    await visit.received('two')
  })

  test('that are none get a page and the end, and nothing after them is looked at', async () => {
    const proxy = await world.start()
    const visit = proxy.visit(`NO REQUEST\r\n\r\n${GET}`)
    await visit.received('400 Bad Request')
    expect(await visit.over).toBe('end')
    const [told] = proxy.site.malformedOnes.all
    expect(told?.problem).toBe('bad_request')
    expect(visit.text).toContain(`X-Request-Id: ${told?.requestId}`)
    expect(proxy.site.fars.all).toEqual([])
  })

  test('that are none behind a good one come after its answer', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(`${get('/1')}NO REQUEST\r\n\r\n`)
    far.write(OK)
    expect(await visit.over).toBe('end')
    expect(visit.text.startsWith(OK)).toBe(true)
    expect(visit.text.slice(OK.length)).toMatch(/^HTTP\/1\.1 400 /)
  })

  test('are refused by the site one by one, and the connection goes on', async () => {
    const proxy = await world.start()
    proxy.site.refusal = ({ head }) => (head.target === '/no' ? { problem: 'no_route' } : undefined)
    const { visit, far } = await proxy.asked(get('/no') + get('/yes'))
    far.write(OK)
    await visit.received('\r\n\r\nhere')
    expect(visit.text).toMatch(/^HTTP\/1\.1 404 [\s\S]*HTTP\/1\.1 200 /)
    expect(visit.text).not.toContain('Connection: close')
  })
})

describe('a visitor of HTTP/1.0', () => {
  test('gets a chunked answer without its chunks, ended by the close', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked('GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n')
    expect(far.text).toMatch(/^GET \/ HTTP\/1\.1\r\n/)
    expect(far.text).not.toContain('keep-alive')
    far.write('HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
    far.write('4\r\nhe')
    far.write('re\r\n3\r\n...\r\n0\r\nX-Trailer: x\r\n\r\n')
    expect(await visit.over).toBe('end')
    expect(visit.text).toBe('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhere...')
  })

  test('is reset when that answer breaks off, as it could not tell it from a whole one', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked('GET / HTTP/1.0\r\nHost: x\r\n\r\n')
    far.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhere\r\n')
    await visit.received('here')
    far.stream.end()
    expect(await visit.over).toBe('reset')
  })
})

describe('Expect: 100-continue', () => {
  const HEAD = 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n'

  test('is the target’s to answer: its 100 is passed on, then the body, then the answer', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(HEAD)
    expect(far.text).toContain('Expect: 100-continue\r\n')
    far.write('HTTP/1.1 100 Continue\r\n\r\n')
    await visit.received('100 Continue')
    visit.write('body')
    await far.received('body')
    far.write(OK)
    await visit.received('here')
    expect(visit.text).not.toContain('close')
  })

  test('that is answered at once closes: whether the body still comes is not known', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(HEAD)
    far.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno')
    expect(await visit.over).toBe('end')
    expect(visit.text).toBe('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno')
    // The target waits for a body that will not come.
    expect(await far.over).toMatchObject({ code: 'reset' })
  })

  test('whose target takes its time is not the visitor’s slowness', async () => {
    const proxy = await world.start({ bodyRate: 100, responseMs: 60_000 })
    const { visit, connection, far } = await proxy.asked(HEAD)
    connection.sweep(later(20_000))
    far.write('HTTP/1.1 100 Continue\r\n\r\n')
    await visit.received('100 Continue')
    visit.write('body')
    await far.received('body')
    far.write(OK)
    await visit.received('here')
  })

  test('whose target never says anything is a 504', async () => {
    const proxy = await world.start({ responseMs: 60_000 })
    const { visit, connection, far } = await proxy.asked(HEAD)
    connection.sweep(later(61_000))
    await visit.received('504 Gateway Timeout')
    expect(await far.over).toMatchObject({ code: 'reset' })
  })
})

describe('an answer that comes before the request is whole', () => {
  test('goes to the visitor at once, and the rest of the request to the target', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf')
    far.write(OK)
    await visit.received('here')
    visit.write(`rest${get('/next')}`)
    await far.received('halfrest')
    await far.received('GET /next')
    far.write(ok('next'))
    await visit.received('next')
    expect(proxy.site.fars.all).toHaveLength(1)
  })

  test('and closes the target’s connection ends the visitor’s, after the answer', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf')
    far.write(ok('too much', 'Connection: close'))
    expect(await visit.over).toBe('end')
    expect(visit.text).toContain('Connection: close')
    expect(await far.over).toMatchObject({ code: 'reset' })
  })

  test('by a target that then goes is whole all the same, and the rest is for nobody', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf')
    far.write(OK)
    await visit.received('here')
    far.stream.reset()
    await turns(5)
    visit.write(`rest${get('/next')}`)
    const second = await proxy.site.fars.at(1)
    await second.received('GET /next')
    second.write(ok('next'))
    await visit.received('next')
  })
})

describe('a connection that drains', () => {
  test('ends at once when it is idle', async () => {
    const proxy = await world.start()
    const { visit, connection, far } = await proxy.asked(GET)
    far.write(OK)
    await visit.received('here')
    connection.drain()
    expect(await visit.over).toBe('end')
  })

  test('ends after the answer that is under way, which says so, and takes no other request', async () => {
    const proxy = await world.start()
    const { visit, connection, far } = await proxy.asked(get('/1') + get('/2'))
    connection.drain()
    far.write(OK)
    expect(await visit.over).toBe('end')
    expect(visit.text).toContain('\r\nConnection: close\r\n\r\nhere')
    expect(far.text).not.toContain('/2')
  })

  test('answers the request whose first bytes have come', async () => {
    const proxy = await world.start()
    const visit = proxy.visit(GET.slice(0, 20))
    const connection = await proxy.connections.at(0)
    await until(() => connection.bytesIn === 20)
    connection.drain()
    visit.write(GET.slice(20))
    ;(await proxy.site.fars.at(0)).write(OK)
    expect(await visit.over).toBe('end')
    expect(visit.text).toContain('Connection: close\r\n\r\nhere')
  })
})
