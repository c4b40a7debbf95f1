import { afterEach, describe, expect, test } from 'vitest'
import { HTTP_RESPONSE_HEAD_BYTES, INTERIM_RESPONSES } from '../../src/limits.ts'
import { turns, until } from '../net/joined.ts'
import { GET, OK, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

describe('an answer that is no proper HTTP', () => {
  test.each([
    ['no HTTP at all', 'SSH-2.0-OpenSSH_9.9\r\n\r\n'],
    ['both framings', 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nhere'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nhere'],
    ['another coding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n'],
    ['chunks of HTTP/1.0', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
    ['a bare line feed', 'HTTP/1.1 200 OK\nContent-Length: 4\n\nhere'],
    ['a 101 that nobody asked for', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n'],
    ['a head without end', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(HTTP_RESPONSE_HEAD_BYTES)}`],
  ])('%s is a 502, and the target is reset', async (_what, answer) => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(GET)
    far.write(answer)
    await visit.received('502 Bad Gateway')
    expect(visit.text).toContain('an answer that is not proper HTTP')
    expect(visit.text).not.toMatch(/SSH|gzip|xxx/)
    expect(await far.over).toMatchObject({ code: 'reset' })
    // The visitor's connection is as good as before.
    visit.write(GET)
    const second = await proxy.site.fars.at(1)
    second.write(OK)
    await visit.received('\r\n\r\nhere')
  })

  test('from the middle of its body on cuts the visitor', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(GET)
    far.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhere\r\n')
    await visit.received('here')
    far.write('no chunk\r\n')
    expect(await visit.over).toBe('reset')
    expect(await far.over).toMatchObject({ code: 'reset' })
    expect(proxy.site.ended.all[0]).toMatchObject({ problem: 'bad_response', status: 200 })
  })
})

describe('an answer that breaks off', () => {
  test.each([
    ['by an end', 'length', 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf'],
    ['by an end', 'chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n'],
    ['by a reset', 'length', 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf'],
    ['by a reset', 'its close', 'HTTP/1.1 200 OK\r\n\r\nhalf'],
  ])('%s, framed by %s, resets the visitor, who could take it for whole', async (how, _framing, answer) => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(GET)
    far.write(answer)
    await visit.received('half')
    const problem = how === 'by an end' ? 'bad_response' : 'lost'
    if (how === 'by an end') far.stream.end()
    else far.stream.reset()
    expect(await visit.over).toBe('reset')
    expect(proxy.site.ended.all[0]).toMatchObject({ status: 200, problem })
  })

  test('as soon as it has begun resets the visitor and does not end it first: after an end there is no reset', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(GET)
    visit.stays = true
    const failed = new Promise((resolve) => visit.socket.once('error', resolve))
    // What came together with a reset is followed by an end here; only a write tells.
    visit.socket.once('end', () => visit.socket.write(Buffer.alloc(0)))
    far.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf')
    far.stream.end()
    expect(await failed).toMatchObject({ code: 'ECONNRESET' })
    expect(visit.text).toContain('half')
  })

  test('in its head is a 502', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(GET)
    far.write('HTTP/1.1 200 OK\r\nContent-')
    await turns(5)
    far.stream.end()
    await visit.received('502 Bad Gateway')
    expect(proxy.site.lostOnes.all).toEqual([])
  })

  test('before it has begun is the site’s to answer', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(GET)
    far.stream.end()
    await visit.received('502 Bad Gateway')
    expect(proxy.site.lostOnes.all).toEqual(['closed'])
    visit.write(GET)
    ;(await proxy.site.fars.at(1)).stream.reset()
    await until(() => visit.text.split('502 Bad Gateway</h1>').length === 3)
    expect(proxy.site.lostOnes.all).toEqual(['closed', 'reset'])
  })
})

describe('an answer that ends with its connection', () => {
  test.each(['HTTP/1.0 200 OK\r\n\r\n', 'HTTP/1.1 200 OK\r\n\r\n'])(
    '%j ends the visitor’s too',
    async (head) => {
      const proxy = await world.start()
      const { visit, far } = await proxy.asked(GET)
      far.write(`${head}all of `)
      await visit.received('all of ')
      far.write('it')
      far.stream.end()
      expect(await visit.over).toBe('end')
      expect(visit.text).toBe('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it')
      expect(await far.over).toBe('end')
      expect(await proxy.site.closes.at(0)).toBe('in order')
    },
  )
})

describe('an answer without a body', () => {
  test.each([
    ['to HEAD', 'HEAD / HTTP/1.1\r\nHost: x\r\n\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n'],
    ['304', GET, 'HTTP/1.1 304 Not Modified\r\nContent-Length: 400\r\n\r\n'],
    ['204', GET, 'HTTP/1.1 204 No Content\r\n\r\n'],
  ])('%s is whole with its head', async (_what, asked, answer) => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(asked)
    far.write(answer)
    await visit.received(answer)
    await proxy.site.ended.at(0)
    visit.write(GET)
    await until(() => far.text === asked + GET)
    far.write(OK)
    await until(() => visit.text === answer + OK)
  })
})

describe('interim answers', () => {
  test('pass as they come, before the one that counts', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(GET)
    const hints = 'HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n'
    far.write(hints)
    await visit.received(hints)
    far.write(OK)
    await until(() => visit.text === hints + OK)
    expect(proxy.site.ended.all[0]).toMatchObject({ status: 200 })
  })

  test('without end are a 502', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(GET)
    for (let n = 0; n <= INTERIM_RESPONSES; n += 1) far.write('HTTP/1.1 102 Processing\r\n\r\n')
    await visit.received('502 Bad Gateway')
    expect(visit.text.split('102 Processing')).toHaveLength(INTERIM_RESPONSES + 1)
    expect(await far.over).toMatchObject({ code: 'reset' })
  })
})

describe('bytes behind an answer', () => {
  test('reach nobody: the stream is reset, and the next request gets another', async () => {
    const proxy = await world.start()
    const { visit, far } = await proxy.asked(GET)
    far.write(`${OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil`)
    await visit.received('here')
    expect(await far.over).toMatchObject({ code: 'reset' })
    visit.write(GET)
    const second = await proxy.site.fars.at(1)
    second.write(OK)
    await until(() => visit.text === OK + OK)
  })

  test('that come while the answer is still on its way to its visitor reach nobody either', async () => {
    const proxy = await world.start()
    const { visit, connection, far } = await proxy.asked(GET + GET)
    visit.socket.pause()
    // More than two kernels' buffers take.
    const size = 24_000_000
    const head = `HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`
    far.write(head)
    far.write(Buffer.alloc(size, 'x'))
    await until(() => connection.waiting > 0 && connection.exchange?.answered !== true)
    far.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil')
    visit.socket.resume()
    const second = await proxy.site.fars.at(1)
    await second.received(GET)
    expect(await far.over).toMatchObject({ code: 'reset' })
    second.write(OK)
    await until(() => visit.bytes >= head.length + size + OK.length)
    expect(visit.text.endsWith(`x${OK}`)).toBe(true)
  })
})
