import { once } from 'node:events'
import { type ClientHttp2Session, connect, createServer, type IncomingHttpHeaders } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { until } from '../../net/joined.ts'
import { bodyOf, get, secure, TlsWorld } from './people.ts'

let world: TlsWorld
beforeEach(async () => {
  world = await TlsWorld.start()
})
afterEach(() => world.close())

const HOST = 'app.example.com'

/** A visitor that speaks HTTP/2. */
async function visitor(host = HOST): Promise<ClientHttp2Session> {
  const socket = world.dialTls(host, { ALPNProtocols: ['h2', 'http/1.1'] })
  await once(socket, 'secureConnect')
  expect(socket.alpnProtocol).toBe('h2')
  const session = connect(`https://${host}`, { createConnection: () => socket })
  session.on('error', () => {})
  world.later(() => session.destroy())
  return session
}

interface Got {
  headers: IncomingHttpHeaders
  text: string
}

async function ask(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body?: Buffer,
): Promise<Got> {
  const stream = session.request({ ':path': '/', ':authority': HOST, ...headers })
  const answered = once(stream, 'response') as Promise<[IncomingHttpHeaders]>
  stream.end(body)
  let text = ''
  stream.setEncoding('latin1').on('data', (chunk: string) => (text += chunk))
  const [got] = await answered
  await once(stream, 'close')
  return { headers: got, text }
}

describe('a visitor by HTTP/2', () => {
  test('is answered by a target of HTTP/1.1, many requests at once', async () => {
    const web = await world.web((request, response) => {
      void bodyOf(request).then((body) => {
        const { method, url, headers } = request
        response.end(JSON.stringify({ method, url, headers, bytes: body.length }))
      })
    })
    await world.offer([secure('web', [HOST], web.port)])
    const session = await visitor()
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) => ask(session, { ':method': 'GET', ':path': `/${n}` })),
    )
    answers.forEach(({ headers, text }, n) => {
      expect(headers[':status']).toBe(200)
      expect(JSON.parse(text)).toMatchObject({
        url: `/${n}`,
        headers: { host: HOST, 'x-forwarded-proto': 'https' },
      })
    })
    const sent = await ask(session, { ':method': 'POST' }, Buffer.alloc(2_000_000))
    expect(JSON.parse(sent.text)).toMatchObject({ method: 'POST', bytes: 2_000_000 })
    // Connections to the target serve one request after the other.
    const before = web.connections()
    for (let n = 0; n < 20; n += 1) await ask(session, {})
    expect(web.connections()).toBe(before)
  })

  test('hears which hosts the connection is for, and 421 for others', async () => {
    let asked = 0
    const web = await world.web((_request, response) => {
      asked += 1
      response.end('here')
    })
    await world.offer([
      secure('web', [HOST, '*.example.org', 'b.example.com'], web.port),
      secure('other', ['c.example.com'], web.port),
    ])
    const session = await visitor()
    const [origins] = (await once(session, 'origin')) as [string[]]
    expect(origins).toEqual([`https://${HOST}`, 'https://b.example.com'])
    for (const authority of ['c.example.com', 'example.org', 'stranger.example'])
      expect((await ask(session, { ':authority': authority })).headers[':status']).toBe(421)
    expect(asked).toBe(0)
    expect((await ask(session, { ':authority': 'x.example.org' })).headers[':status']).toBe(200)
  })

  test('is drained with the client', async () => {
    const held: (() => void)[] = []
    const web = await world.web((_request, response) => held.push(() => response.end('here')))
    const client = await world.offer([secure('web', [HOST], web.port)])
    const session = await visitor()
    const answer = ask(session, {})
    await until(() => held.length === 1)
    const goaway = once(session, 'goaway')
    const drained = client.drain(10_000)
    await goaway
    held[0]?.()
    expect((await answer).text).toBe('here')
    await drained
  })

  test('finds a target that is gone a 502, and one that closed a resting connection no error', async () => {
    const web = await world.web((_request, response) => response.end('here'))
    await world.offer([secure('web', [HOST], web.port)])
    const session = await visitor()
    expect((await ask(session, {})).headers[':status']).toBe(200)
    web.server.closeAllConnections()
    expect((await ask(session, {})).headers[':status']).toBe(200)
    web.server.close()
    web.server.closeAllConnections()
    const { headers, text } = await ask(session, {})
    expect(headers[':status']).toBe(502)
    expect(text).not.toContain('127.0.0.1')
  })
})

describe('a target that speaks HTTP/2 without TLS', () => {
  async function h2cTarget(): Promise<number> {
    const server = createServer()
    server.on('stream', (stream, headers) => {
      stream.on('error', () => {})
      const said = { ':status': 200, 'x-path': headers[':path'], 'x-proto': headers['x-forwarded-proto'] }
      stream.respond(said, { waitForTrailers: true })
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
      stream.pipe(stream)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    world.later(() => server.close())
    return (server.address() as AddressInfo).port
  }

  test('carries streams both ways, with trailers', async () => {
    await world.offer([secure('grpc', [HOST], `h2c://127.0.0.1:${await h2cTarget()}`)])
    const session = await visitor()
    const stream = session.request({
      ':method': 'POST',
      ':path': '/a.B/C',
      te: 'trailers',
      'content-type': 'application/grpc',
    })
    const [headers] = (await once(stream, 'response')) as [IncomingHttpHeaders]
    expect(headers).toMatchObject({ ':status': 200, 'x-path': '/a.B/C', 'x-proto': 'https' })
    stream.write('ping')
    expect(String(((await once(stream, 'data')) as [Buffer])[0])).toBe('ping')
    const trailers = once(stream, 'trailers') as Promise<[IncomingHttpHeaders]>
    stream.end()
    expect((await trailers)[0]).toMatchObject({ 'grpc-status': '0' })
  })

  test('is for nobody who speaks anything else', async () => {
    await world.offer([secure('grpc', [HOST], `h2c://127.0.0.1:${await h2cTarget()}`)])
    const other = world.dialTls(HOST, { ALPNProtocols: ['http/1.1'] })
    expect(((await once(other, 'error')) as [NodeJS.ErrnoException])[0].code).toMatch(/ALERT|ERR_SSL/)
    // Who names no protocol gets an answer that it can read.
    const browser = await world.visitor(HOST)
    expect(await browser.ask(get(HOST), '</small>')).toMatch(
      /^HTTP\/1\.1 505 [^]*only HTTP\/2 is spoken here/,
    )
  })

  test('that is away is a 502', async () => {
    await world.offer([secure('away', ['away.example.com'], 'h2c://127.0.0.1:1')])
    const other = await visitor('away.example.com')
    expect((await ask(other, { ':authority': 'away.example.com' })).headers[':status']).toBe(502)
  })
})
