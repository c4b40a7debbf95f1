import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { createServer, type TLSSocket, connect as tlsConnect } from 'node:tls'
import { afterEach, describe, expect, test } from 'vitest'
import type { ServiceSettings } from '../../src/config/index.ts'
import { createIdentity } from '../../src/identity/index.ts'
import { TUNNEL_ALPN } from '../../src/protocol/index.ts'
import { until } from '../net/joined.ts'
import { granted, type Running, settings, status, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const TLS = { listen: { http: { host: '127.0.0.1', port: 0 }, tls: { host: '127.0.0.1', port: 0 } } }

/** A private server that speaks TLS itself, and says its name and the host that it was asked for. */
async function target(name: string): Promise<number> {
  const { key, certificate: cert } = createIdentity()
  const server = createServer({ key, cert, ALPNProtocols: ['h2', 'http/1.1'] }, (socket) => {
    socket.on('error', () => {})
    socket.write(`${name} ${socket.servername} ${socket.alpnProtocol};`)
    socket.pipe(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  world.later(() => server.close())
  return (server.address() as { port: number }).port
}

function passthrough(name: string, host: string[], port: number): ServiceSettings {
  return {
    name,
    type: 'https',
    hosts: host,
    tls: 'passthrough',
    target: { kind: 'tcp', host: '127.0.0.1', port, text: `127.0.0.1:${port}` },
    idleMs: 0,
    proxyHeader: false,
  }
}

function portOf({ gateway }: Running): number {
  return gateway.tls?.port ?? 0
}

/** A visitor by TLS. */
function visit(port: number, options: { servername?: string; ALPNProtocols?: string[] }): TLSSocket {
  const socket = tlsConnect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options })
  socket.on('error', () => {})
  world.later(() => socket.destroy())
  return socket
}

async function said(socket: TLSSocket | Socket, text: string): Promise<string> {
  let got = ''
  socket.on('data', (chunk: Buffer) => (got += chunk.toString('latin1')))
  await until(() => got.includes(text))
  return got
}

async function refused(socket: TLSSocket): Promise<string> {
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
  return error.code ?? error.message
}

async function serving(): Promise<Running> {
  const running = await world.gateway(TLS)
  await (await world.enroll(running, 'm')).welcome()
  return running
}

describe('a visitor by TLS', () => {
  test('reaches the service of the host it asks for, and whoever answers has its handshake whole', async () => {
    const running = await serving()
    const [one, two] = [await target('one'), await target('two')]
    await world.client(running, 'm', [
      passthrough('one', ['one.example.com'], one),
      passthrough('two', ['*.example.com'], two),
    ])
    const first = visit(portOf(running), { servername: 'one.example.com', ALPNProtocols: ['h2'] })
    await said(first, 'one one.example.com h2;')
    const second = visit(portOf(running), { servername: 'other.example.com' })
    second.write('and back')
    await said(second, 'two other.example.com false;and back')
    expect((await status(running)).routes.map(({ route }) => route)).toEqual([
      'https:one.example.com',
      'https:*.example.com',
    ])
  })

  test.each([
    ['that nobody has', { servername: 'stranger.example.com' }],
    ['that it does not name', {}],
  ])('is told that there is no host %s', async (_what, options) => {
    const running = await serving()
    await world.client(running, 'm', [passthrough('one', ['one.example.com'], await target('one'))])
    expect(await refused(visit(portOf(running), options))).toBe('ERR_SSL_TLSV1_UNRECOGNIZED_NAME')
    await until(async () => (await running.gateway.status()).streams === 0)
  })

  test('waits while its client is away, and shakes hands when it is back', async () => {
    const running = await serving()
    const services = [passthrough('one', ['one.example.com'], await target('one'))]
    const client = await world.client(running, 'm', services)
    await client.close()
    const waiting = visit(portOf(running), { servername: 'one.example.com' })
    await until(async () => (await status(running)).routes[0]?.held === 1)
    await world.client(running, 'm', services)
    await said(waiting, 'one one.example.com')
  })

  test('whose client stays away is told that it is not its fault', async () => {
    const running = await world.gateway({ ...TLS, holdMs: 150 })
    await (await world.enroll(running, 'm')).welcome()
    const client = await world.client(running, 'm', [
      passthrough('one', ['one.example.com'], await target('one')),
    ])
    await client.close()
    const waiting = visit(portOf(running), { servername: 'one.example.com' })
    expect(await refused(waiting)).toBe('ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR')
    await until(async () => (await running.gateway.status()).streams === 0)
  })

  test('that offers our protocol among others is a visitor like any other', async () => {
    const running = await serving()
    await world.client(running, 'm', [passthrough('one', ['one.example.com'], await target('one'))])
    const both = visit(portOf(running), { servername: 'one.example.com', ALPNProtocols: [TUNNEL_ALPN, 'h2'] })
    await said(both, 'one one.example.com h2;')
  })
})

describe('the port of those who come by TLS', () => {
  test('takes clients too: a gateway needs no other for them', async () => {
    const running = await serving()
    expect(running.gateway.clients).toEqual(running.gateway.tls)
    await world.client(running, 'm', [passthrough('one', ['one.example.com'], await target('one'))])
    expect((await running.gateway.status()).clients[0]?.connected).toBe(true)
  })

  test('tells who speaks HTTP that it speaks TLS, and closes on anybody else', async () => {
    const running = await serving()
    const plain = connect({ host: '127.0.0.1', port: portOf(running) })
    world.later(() => plain.destroy())
    plain.write('GET / HTTP/1.1\r\nHost: one.example.com\r\n\r\n')
    expect(await said(plain, 'https://')).toMatch(/^HTTP\/1\.1 400 /)
    const other = connect({ host: '127.0.0.1', port: portOf(running) })
    other.write('\x00\x01\x02')
    const [hadError] = (await once(other, 'close')) as [boolean]
    expect(hadError).toBe(false)
  })

  test('reads a hello in single bytes', async () => {
    const running = await serving()
    await world.client(running, 'm', [passthrough('one', ['one.example.com'], await target('one'))])
    const raw = connect({ host: '127.0.0.1', port: portOf(running), noDelay: true })
    await once(raw, 'connect')
    const write = raw.write.bind(raw)
    let slow = true
    raw.write = (chunk: Buffer, ...rest: []) => {
      if (!slow) return write(chunk, ...rest)
      slow = false
      for (const byte of chunk) write(Buffer.of(byte))
      return true
    }
    const socket = tlsConnect({ socket: raw, rejectUnauthorized: false, servername: 'one.example.com' })
    world.later(() => socket.destroy())
    await said(socket, 'one one.example.com')
  })
})

describe('a host with nothing but https', () => {
  test('sends those who come by plain http there, by the host they asked for and no other', async () => {
    const running = await serving()
    await world.client(running, 'm', [passthrough('one', ['one.example.com'], await target('one'))])
    const there = world.visit(running.http, 'GET /a?b=c HTTP/1.1\r\nHost: One.example.com:80\r\n\r\n')
    await there.received('308 Permanent Redirect')
    await there.received(`Location: https://one.example.com:${portOf(running)}/a?b=c\r\n`)
    const stranger = world.visit(running.http, 'GET / HTTP/1.1\r\nHost: stranger.example.com\r\n\r\n')
    await stranger.received('404 Not Found')
    expect(stranger.text).not.toContain('Location')
  })

  test('belongs to one name, on either port', async () => {
    const grants = granted({
      home: { types: ['http', 'https'], hosts: ['one.example.com'] },
      guest: { types: ['http', 'https'], hosts: ['*.example.com'] },
    })
    const running = await world.gateway({ ...TLS, grants })
    const home = await world.enroll(running, 'home-1', { name: 'home' })
    const guest = await world.enroll(running, 'guest-1', { name: 'guest' })
    await home.register({ name: 'one', type: 'https', hosts: ['one.example.com'], tls: 'passthrough' })
    const [answer] = await guest.register({ name: 'web', type: 'http', hosts: ['one.example.com'] })
    expect(answer).toMatchObject({ error: { code: 'route_taken' } })
  })

  test('is refused where the gateway has no port for it', async () => {
    const running = await world.gateway({ listen: settings().listen })
    const client = await world.enroll(running, 'm')
    const [answer] = await client.register({ name: 'one', type: 'https', hosts: ['one.example.com'] })
    expect(answer).toMatchObject({ error: { code: 'unsupported' } })
  })
})
