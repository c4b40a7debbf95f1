import { afterEach, describe, expect, test } from 'vitest'
import { all, pattern } from '../net/joined.ts'
import { ask, got, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

describe('a request by HTTP/2', () => {
  test('is one by HTTP/1.1 to its target, and who asks is said by us', async () => {
    const visitor = await world.visitor()
    const answer = ask(visitor, { ':path': '/a?b=c', 'x-one': '1', cookie: 'a=b', 'x-real-ip': '6.6.6.6' })
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    const lines = far.text.split('\r\n')
    expect(lines[0]).toBe('GET /a?b=c HTTP/1.1')
    expect(lines).toContain('host: x')
    expect(lines).toContain('x-one: 1')
    expect(lines).toContain('cookie: a=b')
    expect(lines).toContain('X-Real-IP: 192.0.2.7')
    expect(lines).toContain('X-Forwarded-Proto: https')
    expect(far.text).not.toContain('6.6.6.6')
    far.write(
      'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nKeep-Alive: timeout=5\r\nConnection: X-Own\r\nX-Own: 1\r\n\r\nhere',
    )
    const { status, headers, body, code } = await answer
    expect({ status, code, body: String(body) }).toEqual({ status: 200, code: 0, body: 'here' })
    expect(headers['set-cookie']).toEqual(['a=1', 'b=2'])
    expect(headers['content-length']).toBe('4')
    expect(headers).not.toHaveProperty('x-own')
    expect(headers).not.toHaveProperty('keep-alive')
    const exchange = await world.site.ended.at(0)
    expect(exchange).toMatchObject({ status: 200, problem: undefined, cut: undefined })
    expect(world.site.upstreams[0]?.usable).toBe(true)
  })

  test('carries bodies of many megabytes both ways, whole', async () => {
    world.http((request, response) => {
      response.writeHead(200, { 'x-length': request.headers['content-length'] ?? 'none' })
      request.pipe(response)
    })
    const visitor = await world.visitor()
    const body = pattern(5_000_000)
    const answer = await ask(visitor, { ':method': 'POST' }, body)
    expect(answer).toMatchObject({ status: 200, code: 0 })
    expect(answer.headers['x-length']).toBe('none')
    expect(answer.body.equals(body)).toBe(true)
  })

  test('keeps the length that it says', async () => {
    world.http((request, response) => {
      const { headers } = request
      void all(request).then(({ length }) =>
        response.end(`${headers['content-length']} ${length} ${headers['transfer-encoding']}`),
      )
    })
    const visitor = await world.visitor()
    const { body } = await ask(visitor, { ':method': 'PUT', 'content-length': 5 }, 'hello')
    expect(String(body)).toBe('5 5 undefined')
  })

  test('whose body is empty, and whose end comes before there is a target, has an end', async () => {
    world.http((request, response) => void all(request).then(({ length }) => response.end(String(length))))
    const visitor = await world.visitor()
    expect(String((await ask(visitor, { ':method': 'POST' }, '')).body)).toBe('0')
    const length = { ':method': 'POST', 'content-length': 0 }
    expect(String((await ask(visitor, length, '')).body)).toBe('0')
  })

  test('many at once each get their own answer', async () => {
    world.http((request, response) => void response.end(request.url))
    const visitor = await world.visitor()
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, index) => ask(visitor, { ':path': `/${index}` })),
    )
    expect(answers.map(({ body }) => String(body))).toEqual(answers.map((_, index) => `/${index}`))
  })

  test.each([204, 304])('that is answered by %s ends with the head', async (status) => {
    world.http((_request, response) => void response.writeHead(status).end())
    const answer = await ask(await world.visitor())
    expect(answer).toMatchObject({ status, code: 0 })
    expect(answer.body.length).toBe(0)
  })

  test('with HEAD keeps the length of what is not sent', async () => {
    world.http((_request, response) => void response.writeHead(200, { 'Content-Length': 1234 }).end())
    const answer = await ask(await world.visitor(), { ':method': 'HEAD' })
    expect(answer.headers['content-length']).toBe('1234')
    expect(answer).toMatchObject({ status: 200, code: 0 })
  })

  test('is told of what is on the way by 1xx answers', async () => {
    const visitor = await world.visitor()
    const stream = visitor.request({
      ':path': '/',
      ':authority': 'x',
      ':method': 'POST',
      expect: '100-continue',
    })
    const answer = got(stream)
    const far = await world.site.fars.at(0)
    await far.received('100-continue')
    far.write('HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n')
    await new Promise((resolve) => stream.once('continue', resolve))
    stream.end('body')
    await far.received('0\r\n\r\n')
    far.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
    const { status, interim } = await answer
    expect(status).toBe(200)
    expect(interim.map((head) => head[':status'])).toEqual([103, 100])
    expect(interim[0]?.link).toBe('</a.css>')
  })

  test('that is answered before its end may stop', async () => {
    const visitor = await world.visitor()
    const stream = visitor.request({ ':path': '/', ':authority': 'x', ':method': 'POST' })
    stream.write('some')
    const answer = got(stream)
    const far = await world.site.fars.at(0)
    await far.received('some')
    far.write('HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nfull')
    expect(await answer).toMatchObject({ status: 413, code: 0 })
    expect(await far.over).toMatchObject({ code: 'reset' })
    expect(await world.site.ended.at(0)).toMatchObject({ status: 413, cut: undefined })
    world.http((_request, response) => void response.end('next'))
    expect(String((await ask(visitor)).body)).toBe('next')
  })

  test('gets an answer without a length, to its end', async () => {
    const answer = ask(await world.visitor())
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    far.write('HTTP/1.0 200 OK\r\n\r\nall of it')
    far.stream.end()
    expect(String((await answer).body)).toBe('all of it')
  })

  test('gets a chunked answer without its chunks', async () => {
    const answer = ask(await world.visitor())
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    far.write(
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3\r\nall\r\n6;x=y\r\n of it\r\n0\r\nX: y\r\n\r\n',
    )
    const { body, trailers, headers } = await answer
    expect(String(body)).toBe('all of it')
    expect(trailers).toBeUndefined()
    expect(headers).not.toHaveProperty('trailer')
  })

  test('gets fields that a target sent twice where one should stand', async () => {
    const answer = ask(await world.visitor())
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    far.write(
      'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Content-Type-Options: nosniff\r\nX-Content-Type-Options: nosniff\r\nContent-Type: a/b\r\nContent-Type: a/b\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n',
    )
    const { status, headers } = await answer
    expect(status).toBe(200)
    expect(headers['set-cookie']).toEqual(['a', 'b'])
    expect(headers['x-content-type-options']).toContain('nosniff')
  })
})

describe('a request that comes to nothing', () => {
  test('has a page where its target leaves it without an answer', async () => {
    const answer = ask(await world.visitor(), { accept: 'application/json' })
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    far.stream.reset()
    const { status, headers, body, code } = await answer
    expect({ status, code }).toEqual({ status: 502, code: 0 })
    expect(headers['content-type']).toBe('application/json')
    expect(JSON.parse(String(body)).error.code).toBe('lost')
  })

  test('is reset where half an answer has come', async () => {
    const answer = ask(await world.visitor())
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    far.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf')
    await world.site.begun.at(0)
    far.stream.end()
    const { status, code } = await answer
    expect({ status, code }).toEqual({ status: 200, code: 2 })
  })

  test('is a 502 where the answer is no HTTP', async () => {
    const answer = ask(await world.visitor())
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    far.write('SSH-2.0-OpenSSH\r\n\r\n')
    expect((await answer).status).toBe(502)
  })

  test('resets its target when the visitor takes it back', async () => {
    const visitor = await world.visitor()
    const stream = visitor.request({ ':path': '/', ':authority': 'x' })
    stream.on('error', () => {})
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    stream.close(8)
    expect(await far.over).toMatchObject({ code: 'reset' })
    expect(await world.site.ended.at(0)).toMatchObject({ cut: 'reset', status: 0 })
  })

  test('resets its target when the visitor goes', async () => {
    const visitor = await world.visitor()
    const stream = visitor.request({ ':path': '/', ':authority': 'x' })
    stream.on('error', () => {})
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    visitor.destroy()
    expect(await far.over).toMatchObject({ code: 'reset' })
    await world.site.closes.at(0)
    expect(world.front.size).toBe(0)
  })

  test('for another host is a 421, and reaches no target', async () => {
    const { status } = await ask(await world.visitor(), { ':authority': 'other.example' })
    expect(status).toBe(421)
    expect(world.site.fars.all).toEqual([])
  })

  test('is sent again by another stream where the site has one', async () => {
    world.site.losing = (exchange) => {
      expect(exchange.replayable).toBe(true)
      void world.site.give(exchange)
    }
    const answer = ask(await world.visitor(), { ':method': 'POST' }, 'the body')
    const first = await world.site.fars.at(0)
    await first.received('0\r\n\r\n')
    first.stream.reset()
    const second = await world.site.fars.at(1)
    await second.received('0\r\n\r\n')
    expect(second.text).toBe(first.text)
    second.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    expect(String((await answer).body)).toBe('ok')
  })
})
