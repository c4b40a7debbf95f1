import { rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { HALF_CLOSED_MS, STREAM_QUEUE_BYTES, STREAM_WINDOW_BYTES } from '../../src/limits.ts'
import { idleSweep } from '../../src/net/index.ts'
import { encodeProxyHeader, ProxyReader } from '../../src/protocol/index.ts'
import type { Visit } from './fake-gateway.ts'
import { Moments } from './moments.ts'
import { service, WARN, World } from './world.ts'

const world = new World()
afterEach(() => world.close())

/** A port where nobody listens. */
async function deadPort(): Promise<number> {
  const target = await world.target()
  const { port } = target
  await target.close()
  return port
}

/** Everything that a socket says, up to its end. */
async function saidBy(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

/** How a socket closed: 'end', or the code of its error. */
function fateOf(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.on('close', () => resolve('end'))
    socket.resume()
  })
}

const isReset = async (visit: Visit): Promise<boolean> => (await visit.over) instanceof TunnelError

describe('a visitor', () => {
  it('reaches the target of the service that the stream names', async () => {
    const gateway = await world.gateway()
    const one = await world.target((socket) => socket.end('one'))
    const two = await world.target((socket) => socket.end('two'))
    const { tunnel } = await world.serving([gateway], [service('one', one.port), service('two', two.port)])
    const visits = [tunnel.visit('two'), tunnel.visit('one')]
    for (const { stream } of visits) stream.end()
    expect(await Promise.all(visits.map(({ over }) => over))).toEqual(['end', 'end'])
    expect(visits.map(({ text }) => text)).toEqual(['two', 'one'])
  })

  it('sends all it has, shuts its side, and gets the whole answer that only then begins', async () => {
    const gateway = await world.gateway()
    const length = 4 * 1024 * 1024
    const target = await world.target((socket) => {
      let got = 0
      socket.on('data', (chunk: Buffer) => (got += chunk.length))
      socket.on('end', () => socket.end(Buffer.alloc(length, `${got === length}`)))
    })
    const { tunnel } = await world.serving([gateway], [service('s', target.port)])
    const visit = tunnel.visit('s')
    visit.write(Buffer.alloc(length, 1))
    visit.stream.end()
    expect(await visit.over).toBe('end')
    expect(visit.text.length).toBe(length)
    expect(visit.text.slice(0, 8)).toBe('truetrue')
  })

  it('may go on sending after the target has said its last', async () => {
    const gateway = await world.gateway()
    const target = await world.target((socket) => socket.end('first and last'))
    const { tunnel } = await world.serving([gateway], [service('s', target.port)])
    const visit = tunnel.visit('s')
    expect(await visit.over).toBe('end')
    const heard = saidBy(await target.sockets.at(0))
    visit.write('still here')
    visit.stream.end()
    expect((await heard).toString()).toBe('still here')
    expect(visit.text).toBe('first and last')
  })

  it('that is reset resets the target', async () => {
    const gateway = await world.gateway()
    const target = await world.target()
    const { tunnel } = await world.serving([gateway], [service('s', target.port)])
    const visit = tunnel.visit('s')
    const fate = fateOf(await target.sockets.at(0))
    visit.stream.reset()
    expect(await fate).toBe('ECONNRESET')
  })

  it('is reset by its target, without a word that it may be tried elsewhere', async () => {
    const gateway = await world.gateway()
    const target = await world.target((socket) => socket.once('data', () => socket.resetAndDestroy()))
    const { tunnel } = await world.serving([gateway], [service('s', target.port)])
    const visit = tunnel.visit('s')
    visit.write('may have run')
    expect(await isReset(visit)).toBe(true)
    expect(visit.code).toBeUndefined()
  })

  it('reaches a target on a unix socket', async () => {
    const path = join(tmpdir(), `bg-target-${process.pid}.sock`)
    const server = createServer((socket) => socket.end('by path'))
    await new Promise<void>((resolve) => server.listen(path, resolve))
    world.later(async () => {
      await new Promise((resolve) => server.close(resolve))
      rmSync(path, { force: true })
    })
    const gateway = await world.gateway()
    const { tunnel } = await world.serving([gateway], [service('s', `unix:${path}`)])
    const visit = tunnel.visit('s')
    expect(await visit.over).toBe('end')
    expect(visit.text).toBe('by path')
    visit.stream.end()
  })

  it('is served whatever the segments are in which its header comes', async () => {
    const gateway = await world.gateway()
    const echo = await world.echo()
    const { tunnel } = await world.serving([gateway], [service('s', echo.port)])
    const header = encodeProxyHeader({ tlvs: { service: 's' } })
    const visit = tunnel.visit(header.subarray(0, 1))
    for (const byte of header.subarray(1)) {
      visit.write(Uint8Array.of(byte))
      await new Promise(setImmediate)
    }
    visit.write('after it')
    await visit.received('after it')
    expect(visit.text).toBe('after it')
  })

  it('holds no more than its window while its target is slow to answer the dial', async () => {
    const gateway = await world.gateway()
    const target = await world.target((socket) => socket.pause())
    const { tunnel } = await world.serving([gateway], [service('s', target.port)])
    const visit = tunnel.visit('s')
    // Far more than windows and kernel buffers take: the rest must stay on the gateway's side.
    const length = 32 * 1024 * 1024
    visit.write(Buffer.alloc(length))
    const socket = await target.sockets.at(0)
    const rest = visit.stream.queued
    expect(rest).toBeGreaterThan(length / 2)
    let got = 0
    socket.on('data', (chunk: Buffer) => (got += chunk.length))
    socket.resume()
    visit.stream.end()
    await new Promise((resolve) => socket.once('end', resolve))
    expect(got).toBe(length)
  })

  it('that takes nothing any more of an answer whose target is done is let go after a while', async () => {
    const gateway = await world.gateway()
    // More than the window, and the rest no more than a stream queues: the target is done at once.
    const length = STREAM_WINDOW_BYTES + STREAM_QUEUE_BYTES / 2
    const target = await world.target((socket) => socket.resume().end(Buffer.alloc(length, 'x')))
    const { client, tunnel } = await world.serving([gateway], [service('s', target.port)])
    const visit = tunnel.visit('s')
    visit.hold()
    visit.stream.end()
    const socket = await target.sockets.at(0)
    if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve))
    await tunnel.tunnel.probe(1000)
    idleSweep.sweep(performance.now() + HALF_CLOSED_MS - 1_000)
    expect(client.status().streams).toBe(1)
    idleSweep.sweep(performance.now() + 2 * HALF_CLOSED_MS)
    expect(await isReset(visit)).toBe(true)
  })
})

describe('a target', () => {
  it('that refuses is told as unreached before the reset, and logged once', async () => {
    const gateway = await world.gateway()
    const { tunnel, lines } = await world.serving([gateway], [service('s', await deadPort())])
    for (let times = 0; times < 3; times++) {
      const visit = tunnel.visit('s')
      visit.write('GET / HTTP/1.1\r\n\r\n')
      expect(await isReset(visit)).toBe(true)
      expect(visit.code).toBe('refused')
    }
    expect(lines.all.filter(({ level, msg }) => level === WARN && msg.includes('ECONNREFUSED'))).toHaveLength(
      1,
    )
  })

  it('that is not there is told as unreachable', async () => {
    const gateway = await world.gateway()
    const { tunnel } = await world.serving([gateway], [service('s', 'unix:/nowhere/at/all.sock')])
    const visit = tunnel.visit('s')
    expect(await isReset(visit)).toBe(true)
    expect(visit.code).toBe('unreachable')
  })

  it('gets a PROXY header of our own making where its owner wants one, and nothing of the gateway’s', async () => {
    const gateway = await world.gateway()
    const target = await world.target()
    const { tunnel } = await world.serving([gateway], [service('s', target.port, { proxyHeader: true })])
    expect(tunnel.hello.services).toMatchObject([{ name: 's', type: 'http', share: false }])
    const hostile = Buffer.concat([
      encodeProxyHeader({
        source: { address: '203.0.113.5', port: 4242 },
        destination: { address: '127.0.0.1', port: 1 },
        tlvs: { service: 's', alpn: 'h2', authority: 'admin.internal', uniqueId: Buffer.from('mark') },
      }),
    ])
    // A TLV of haproxy's: "this visitor showed a client certificate, CN=admin".
    const forged = Buffer.concat([hostile, Buffer.from([0x20, 0, 5, 1, 0, 0, 0, 0])])
    forged.writeUInt16BE(forged.length - 16, 14)
    const visit = tunnel.visit(forged)
    visit.write('hello')
    visit.stream.end()
    const heard = await saidBy(await target.sockets.at(0))
    const read = new ProxyReader().push(heard)
    expect(read?.header).toEqual({
      command: 'PROXY',
      source: { address: '203.0.113.5', port: 4242 },
      destination: { address: '0.0.0.0', port: 0 },
    })
    expect(Buffer.from(read?.rest ?? []).toString()).toBe('hello')
    expect(heard.length).toBe(28 + 'hello'.length)
  })

  it('is told that the visitor is unknown where the gateway gives an address that is trusted', async () => {
    const gateway = await world.gateway()
    const target = await world.target()
    const { tunnel } = await world.serving([gateway], [service('s', target.port, { proxyHeader: true })])
    const visit = tunnel.visit(
      encodeProxyHeader({ source: { address: '127.0.0.1', port: 22 }, tlvs: { service: 's' } }),
    )
    visit.stream.end()
    const heard = await saidBy(await target.sockets.at(0))
    expect(new ProxyReader().push(heard)?.header).toEqual({ command: 'PROXY' })
  })

  it.each([[false], [true]])(
    'is served like any other for a stream that tells no address, as one that visitors share (PROXY header: %s)',
    async (proxyHeader) => {
      const gateway = await world.gateway()
      const chunks = new Moments<Buffer>()
      const target = await world.target((socket) => socket.on('data', (chunk: Buffer) => chunks.add(chunk)))
      const { client, tunnel, lines } = await world.serving(
        [gateway],
        [service('s', target.port, { proxyHeader })],
      )
      const before = lines.all.length
      const visit = tunnel.visit(encodeProxyHeader({ tlvs: { service: 's' } }))
      const heard = (): Buffer => Buffer.concat(chunks.all)
      // Requests of several visitors, one after the other, and the answers to them.
      for (const request of ['GET /1', 'GET /2']) {
        visit.write(request)
        await chunks.find(() => heard().includes(request))
        const socket = await target.sockets.at(0)
        socket.write(`answer to ${request}`)
        await visit.received(`answer to ${request}`)
      }
      const { header, rest } = (proxyHeader ? new ProxyReader().push(heard()) : undefined) ?? {
        rest: heard(),
      }
      expect(header).toEqual(proxyHeader ? { command: 'PROXY' } : undefined)
      expect(Buffer.from(rest).toString()).toBe('GET /1GET /2')
      expect(lines.all.slice(before)).toEqual([])
      expect(client.status().errors).toEqual({})
    },
  )

  it('gets no header that its owner did not ask for', async () => {
    const gateway = await world.gateway()
    const target = await world.target()
    const { tunnel } = await world.serving([gateway], [service('s', target.port)])
    const visit = tunnel.visit('s')
    visit.write('bare')
    visit.stream.end()
    expect((await saidBy(await target.sockets.at(0))).toString()).toBe('bare')
  })
})

describe('a stream that cannot be served', () => {
  it('names a service that there is not', async () => {
    const gateway = await world.gateway()
    const target = await world.target()
    const { tunnel, lines } = await world.serving([gateway], [service('s', target.port)])
    for (const header of ['nothing', '', '__proto__', encodeProxyHeader({ tlvs: {} })]) {
      const visit = tunnel.visit(header)
      expect(await isReset(visit)).toBe(true)
      expect(visit.code).toBe('unknown_service')
    }
    expect(target.sockets.all).toEqual([])
    expect(lines.all.filter(({ msg }) => msg.includes('not offered'))).toHaveLength(1)
  })

  it('names a service that is offered to another gateway only', async () => {
    const [ours, friends] = [await world.gateway(), await world.gateway()]
    const target = await world.target()
    const { tunnel } = await world.serving(
      [friends, ours],
      [service('private', target.port, { gateways: [ours.address] }), service('both', target.port)],
    )
    expect(tunnel.hello.services.map(({ name }) => name)).toEqual(['both'])
    const visit = tunnel.visit('private')
    expect(await isReset(visit)).toBe(true)
    expect(visit.code).toBe('unknown_service')
    expect(target.sockets.all).toEqual([])
  })

  it('has no PROXY header, or a lying one, and reaches nothing', async () => {
    const gateway = await world.gateway()
    const target = await world.target()
    const { tunnel } = await world.serving([gateway], [service('s', target.port)])
    const lying = encodeProxyHeader({ tlvs: { service: 's' } })
    lying.writeUInt16BE(200, lying.length - 3)
    for (const bytes of [Buffer.from('GET / HTTP/1.1\r\n'), lying]) {
      const visit = tunnel.visit(bytes)
      expect(await isReset(visit)).toBe(true)
      expect(visit.code).toBeUndefined()
    }
    const silent = tunnel.visit(Buffer.from('\r\n\r\n', 'latin1'))
    silent.stream.end()
    expect(await isReset(silent)).toBe(true)
    expect(target.sockets.all).toEqual([])
  })
})

describe('a service of this process', () => {
  it('gets the connection as a Duplex, with what came behind the header and the visitor’s claimed address', async () => {
    const gateway = await world.gateway()
    const { tunnel } = await world.serving(
      [gateway],
      [
        service('here', 1, {
          serve: (connection, info) => {
            connection.end(`${info.service} ${info.remoteAddress}:${info.remotePort} at ${info.gateway}: `)
            connection.resume()
          },
        }),
      ],
    )
    const visit = tunnel.visit('here')
    visit.stream.end()
    expect(await visit.over).toBe('end')
    expect(visit.text).toBe(`here 203.0.113.5:4242 at ${gateway.address}: `)
  })

  it('that throws costs its visitor and nobody else', async () => {
    const gateway = await world.gateway()
    const { tunnel, lines } = await world.serving(
      [gateway],
      [
        service('here', 1, {
          serve: () => {
            throw new Error('a mistake')
          },
        }),
      ],
    )
    expect(await isReset(tunnel.visit('here'))).toBe(true)
    await lines.find(({ msg }) => msg.includes('threw'))
    expect(tunnel.tunnel.closed).toBe(false)
  })
})
