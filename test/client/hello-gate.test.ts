import { once } from 'node:events'
import { type AddressInfo, type Socket } from 'node:net'
import { createServer as createTlsServer, type Server, connect as tlsConnect } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { asksFor, readHello } from '../../src/client/hello-gate.ts'
import type { ClientService } from '../../src/client/index.ts'
import { TunnelError } from '../../src/errors.ts'
import { createIdentity } from '../../src/identity/index.ts'
import { CLIENT_HELLO_BYTES, LINGER_MS } from '../../src/limits.ts'
import { duplexOf, idleSweep } from '../../src/net/index.ts'
import { encodeProxyHeader, ProxyReader, tlsAlert } from '../../src/protocol/index.ts'
import { End, settle } from '../mux/pair.ts'
import {
  alpn,
  extension,
  fromNode,
  hello,
  message,
  parts,
  records,
  serverName,
  vector,
} from '../protocol/hellos.ts'
import type { FakeTunnel, Visit } from './fake-gateway.ts'
import { Moments } from './moments.ts'
import { service, WARN, World } from './world.ts'

const world = new World()
afterEach(() => world.close())

const HOST = 'app.example.com'
const ALERT = Buffer.from(tlsAlert('unrecognized_name')).toString('latin1')

function https(target: number, rest: Partial<ClientService> = {}): ClientService {
  return service('web', target, {
    type: 'https',
    tls: 'passthrough',
    hosts: [HOST, '*.example.org'],
    ...rest,
  })
}

async function serving(...services: ClientService[]) {
  const gateway = await world.gateway()
  gateway.grant = ({ name }) => ({ name, urls: ['https://0.0.0.0:443'] })
  return world.serving([gateway], services)
}

/** A target that keeps what it hears. */
async function listener() {
  const chunks = new Moments<Buffer>()
  const target = await world.target((socket) => socket.on('data', (chunk: Buffer) => chunks.add(chunk)))
  const heard = (): Buffer => Buffer.concat(chunks.all)
  return { target, heard, until: (bytes: number) => chunks.find(() => heard().length >= bytes) }
}

const isReset = async (visit: Visit): Promise<boolean> => (await visit.over) instanceof TunnelError

describe('a hello asks for a host', () => {
  const hosts = [HOST, '*.example.org']
  const asks = (serverName: string | undefined): boolean =>
    asksFor({ serverName, alpn: [], alpnBytes: undefined }, hosts)

  it.each([[HOST], ['a.example.org'], ['xn--bcher-kva.example.org']])('that is the service’s: %s', (name) => {
    expect(asks(name)).toBe(true)
  })

  it.each([
    [undefined],
    ['example.org'],
    ['a.b.example.org'],
    ['example.com'],
    ['a.app.example.com'],
    ['localhost'],
    ['com'],
  ])('that is not: %s', (name) => {
    expect(asks(name)).toBe(false)
  })
})

describe('a visitor of an https service', () => {
  /** Ends TLS with a certificate of its own, and says what the visitor asked for. */
  async function tlsServer(): Promise<Server> {
    const { key, certificate } = createIdentity()
    const server = createTlsServer({ key, cert: certificate, ALPNProtocols: ['h2'] }, (socket) => {
      socket.write(`${String(socket.servername)} ${String(socket.alpnProtocol)} `)
      socket.pipe(socket)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    world.later(async () => void (await new Promise((resolve) => server.close(resolve))))
    return server
  }

  /** Shakes hands through the tunnel as a browser would, and says a word. */
  async function browse(tunnel: FakeTunnel): Promise<string> {
    const visit = tunnel.visit('web')
    const socket = tlsConnect({
      socket: duplexOf(visit.stream),
      servername: HOST,
      ALPNProtocols: ['h2'],
      rejectUnauthorized: false,
    })
    socket.end('hello')
    let said = ''
    for await (const chunk of socket.setEncoding('utf8')) said += String(chunk)
    return said
  }

  it('speaks TLS with the target, whose certificate it sees', async () => {
    const server = await tlsServer()
    const { tunnel, lines } = await serving(https((server.address() as AddressInfo).port))
    expect(tunnel.hello.services).toEqual([
      { name: 'web', type: 'https', hosts: [HOST, '*.example.org'], tls: 'passthrough' },
    ])
    expect(await browse(tunnel)).toBe(`${HOST} h2 hello`)
    expect(lines.all.filter(({ level }) => level >= WARN)).toEqual([])
  })

  it('speaks TLS with a server of this process', async () => {
    const server = await tlsServer()
    const serve = (connection: unknown): void => void server.emit('connection', connection)
    const { tunnel } = await serving(https(1, { serve }))
    expect(await browse(tunnel)).toBe(`${HOST} h2 hello`)
  })

  it('is not dialled for before its hello is whole, and then loses no byte and no order', async () => {
    const { target, heard, until } = await listener()
    const { tunnel } = await serving(https(target.port))
    // In records of nine bytes, as tools against censors cut it, each byte in a frame of its own.
    const bytes = records(message(parts(serverName(HOST), alpn('h2'))), [9])
    const visit = tunnel.visit('web')
    for (const byte of bytes.subarray(0, -1)) {
      visit.write(Uint8Array.of(byte))
      await new Promise(setImmediate)
    }
    await tunnel.tunnel.probe(1_000)
    expect(target.sockets.all).toEqual([])
    visit.write(Buffer.concat([bytes.subarray(-1), Buffer.from('early ')]))
    visit.write('data')
    visit.stream.end()
    const whole = Buffer.concat([bytes, Buffer.from('early data')])
    await until(whole.length)
    const socket = await target.sockets.at(0)
    if (!socket.readableEnded) await once(socket, 'end')
    expect(heard()).toEqual(whole)
    socket.end('answer')
    expect(await visit.over).toBe('end')
    expect(visit.text).toBe('answer')
  })

  it('has its hello even when it comes with the PROXY header in one piece', async () => {
    const { target, heard, until } = await listener()
    const { tunnel } = await serving(https(target.port))
    const bytes = fromNode({ servername: 'shop.example.org' })
    tunnel.visit(Buffer.concat([encodeProxyHeader({ tlvs: { service: 'web' } }), bytes]))
    await until(bytes.length)
    expect(heard()).toEqual(bytes)
  })

  it('holds no more than its window while its target takes nothing', async () => {
    const target = await world.target((socket) => socket.pause())
    const { tunnel } = await serving(https(target.port))
    const visit = tunnel.visit('web')
    const first = hello(serverName(HOST))
    const length = 32 * 1024 * 1024
    visit.write(first)
    visit.write(Buffer.alloc(length))
    const socket: Socket = await target.sockets.at(0)
    expect(visit.stream.queued).toBeGreaterThan(length / 2)
    let got = 0
    socket.on('data', (chunk: Buffer) => (got += chunk.length))
    socket.resume()
    visit.stream.end()
    await once(socket, 'end')
    expect(got).toBe(first.length + length)
  })

  it('is told to its target by what the client itself has read, not by what the gateway says', async () => {
    const { target, heard, until } = await listener()
    const { tunnel } = await serving(https(target.port, { proxyHeader: true }))
    const protocols = alpn('h2', 'http/1.1')
    const bytes = hello(serverName('App.Example.com'), protocols)
    const visit = tunnel.visit(
      encodeProxyHeader({
        source: { address: '203.0.113.5', port: 4242 },
        tlvs: {
          service: 'web',
          authority: 'admin.internal',
          alpn: '\0\u0003\u0002h3',
          uniqueId: Buffer.of(1),
        },
      }),
    )
    visit.write(bytes)
    const header = encodeProxyHeader({
      source: { address: '203.0.113.5', port: 4242 },
      tlvs: { authority: HOST, alpn: Buffer.from(protocols.content).toString('latin1') },
    })
    await until(header.length + bytes.length)
    expect(heard()).toEqual(Buffer.concat([header, bytes]))
  })

  it('that offers no protocols is told to have offered none', async () => {
    const { target, heard, until } = await listener()
    const { tunnel } = await serving(https(target.port, { proxyHeader: true }))
    const visit = tunnel.visit(
      encodeProxyHeader({ tlvs: { service: 'web', authority: HOST, alpn: '\0\u0003\u0002h2' } }),
    )
    const bytes = hello(serverName(HOST))
    visit.write(bytes)
    const header = encodeProxyHeader({ tlvs: { authority: HOST } })
    await until(header.length + bytes.length)
    expect(new ProxyReader().push(heard())?.header).toEqual({ command: 'PROXY', authority: HOST })
  })
})

describe('a visitor that a gateway sends to a service', () => {
  it.each([
    ['of another host', hello(serverName('evil.example'))],
    ['two labels below a pattern', hello(serverName('a.b.example.org'))],
    ['that names none', hello(alpn('h2'))],
  ])('%s gets the alert that says so, and no target hears of it', async (_what, bytes) => {
    const { target } = await listener()
    const { client, tunnel, lines } = await serving(https(target.port))
    // The gateway says what it likes.
    const visit = tunnel.visit(encodeProxyHeader({ tlvs: { service: 'web', authority: HOST } }))
    visit.write(Buffer.concat([bytes, Buffer.from('and more')]))
    expect(await visit.over).toBe('end')
    expect(visit.text).toBe(ALERT)
    // What it still sends is taken, until it leaves.
    visit.write(Buffer.alloc(256 * 1024))
    visit.stream.end()
    await visit.drained()
    await client.drain(30_000)
    expect(tunnel.unreached(visit)).toBeUndefined()
    expect(target.sockets.all).toEqual([])
    expect(client.status().errors).toEqual({ unknown_service: 1 })
    expect(lines.all.filter(({ level }) => level >= WARN).map(({ msg }) => msg)).toEqual([
      expect.stringMatching(
        /^gateway .* sends service "web" a visitor .*, which is not its own: turned away$/,
      ),
    ])
  })

  it('of another host and that does not leave is reset after a while', async () => {
    const { target } = await listener()
    const { client, tunnel } = await serving(https(target.port))
    const visit = tunnel.visit('web')
    visit.write(hello(serverName('evil.example')))
    expect(await visit.over).toBe('end')
    await tunnel.tunnel.probe(1_000)
    idleSweep.sweep(performance.now() + LINGER_MS - 1_000)
    expect([client.status().streams, visit.stream.closed]).toEqual([1, false])
    idleSweep.sweep(performance.now() + 2 * LINGER_MS)
    await client.drain(30_000)
    expect(visit.stream.closed).toBe(true)
  })

  it('of another host again and again is one line of the log', async () => {
    const { target } = await listener()
    const { client, tunnel, lines } = await serving(https(target.port))
    for (let times = 0; times < 3; times++) {
      const visit = tunnel.visit('web')
      visit.write(hello(serverName(`evil-${times}.example`)))
      expect(await visit.over).toBe('end')
      visit.stream.end()
    }
    expect(lines.all.filter(({ msg }) => msg.includes('turned away'))).toHaveLength(1)
    expect(client.status().errors).toEqual({ unknown_service: 3 })
  })

  it.each([
    ['plain HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n')],
    ['a server’s message', Buffer.concat([Buffer.of(22, 3, 3), vector(2, Buffer.of(2, 0, 0, 0))])],
    ['a hello without end', records(message(parts(extension(35, CLIENT_HELLO_BYTES))))],
    ['two names', hello(serverName(HOST, 'evil.example'))],
  ])('with %s is reset, and no target hears of it', async (_what, bytes) => {
    const { target } = await listener()
    const { client, tunnel } = await serving(https(target.port))
    const visit = tunnel.visit('web')
    visit.write(bytes)
    expect(await isReset(visit)).toBe(true)
    expect([visit.code, visit.text]).toEqual([undefined, ''])
    expect(target.sockets.all).toEqual([])
    expect(client.status().errors).toEqual({ bad_message: 1 })
  })

  it('and that leaves before its hello is whole, leaves nothing behind', async () => {
    const { target } = await listener()
    const { client, tunnel } = await serving(https(target.port))
    const [ended, reset] = [tunnel.visit('web'), tunnel.visit('web')]
    for (const visit of [ended, reset]) visit.write(hello(serverName(HOST)).subarray(0, 20))
    ended.stream.end()
    expect(await isReset(ended)).toBe(true)
    reset.stream.reset()
    await client.drain(30_000)
    expect(client.status().streams).toBe(0)
    expect(target.sockets.all).toEqual([])
  })
})

it('a hello that is not whole is not consumed', () => {
  const [near, far] = [new End({ role: 'client' }), new End({ role: 'server' })]
  const bytes = records(message(parts(serverName(HOST))), [50])
  const { stream } = far.open()
  stream.write(bytes.subarray(0, 1))
  settle(near, far)
  const [accepted] = near.accepted
  if (accepted === undefined) throw new Error('no stream came')
  let first: readonly Uint8Array[] | undefined
  // The one byte that `Recorder` has consumed does not count.
  readHello(accepted.stream, bytes.subarray(0, 1), {
    hello: (_hello, all) => (first = all),
    failed: (reason) => {
      throw reason
    },
  })
  for (const byte of bytes.subarray(1, -1)) stream.write(Uint8Array.of(byte))
  settle(near, far)
  expect([first, accepted.stream.unread]).toEqual([undefined, bytes.length - 2])
  stream.write(Buffer.concat([bytes.subarray(-1), Buffer.from('x')]))
  settle(near, far)
  expect(Buffer.concat(first ?? [])).toEqual(Buffer.concat([bytes, Buffer.from('x')]))
  expect(accepted.stream.unread).toBe(bytes.length)
})
