import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createIdentity, type Identity, peerPin } from '../../src/identity/index.ts'
import { TUNNEL_ALPN } from '../../src/protocol/index.ts'
import { dialTls, type TunnelListenerOptions, tunnelContext } from '../../src/transport/index.ts'
import { Door, strangeKeys } from './door.ts'
import { dialRawTls, RawPeer, silentConnection } from './raw-peer.ts'

let gateway: Identity
let client: Identity
const opened: { destroy(): unknown }[] = []
const doors: Door[] = []

beforeAll(async () => {
  gateway = createIdentity()
  client = createIdentity()
})

afterEach(async () => {
  for (const socket of opened.splice(0)) socket.destroy()
  for (const door of doors.splice(0)) await door.close()
})

async function open(bounds?: TunnelListenerOptions<string>['bounds']): Promise<Door> {
  const door = await Door.open(gateway, bounds)
  doors.push(door)
  return door
}

function keep<T extends { destroy(): unknown }>(socket: T): T {
  opened.push(socket)
  return socket
}

async function dial(
  door: Door,
  ...args: [Pick<Identity, 'key' | 'certificate'>?, object?]
): Promise<RawPeer> {
  const peer = await RawPeer.dial(door.port, ...args)
  keep(peer.socket)
  return peer
}

function plain(door: Door): Socket {
  const socket = keep(connect({ host: '127.0.0.1', port: door.port }))
  socket.on('error', () => {})
  return socket
}

/** Its end, whatever it is told on the way. */
async function over(socket: Socket): Promise<void> {
  if (!socket.closed) await new Promise<void>((resolve) => socket.once('close', () => resolve()))
}

const SHORT = { total: 100, perAddress: 100, patience: 100 }

describe('the tunnel port', () => {
  test('lets in a client whose TLS proves an Ed25519 key, and says which', async () => {
    const door = await open()
    await dial(door, client)
    const { pin } = await door.arrivals.at(0)
    expect(pin).toBe(client.pin)
    expect(door.turnedAway.all).toEqual([])
  })

  test.each([
    ['garbage', Buffer.alloc(600, 0xa5)],
    ['a plain HTTP request', Buffer.from('GET / HTTP/1.1\r\nHost: gateway\r\n\r\n')],
    ['a TLS record that lies about its length', Buffer.from([0x16, 3, 1, 0xff, 0xff, 1, 2, 3])],
  ])('closes on %s, with one line, and keeps nothing', async (_what, bytes) => {
    const door = await open(SHORT)
    const socket = plain(door)
    socket.write(bytes)
    socket.resume()
    await over(socket)
    await door.turnedAway.at(0)
    expect(door.turnedAway.all).toHaveLength(1)
    expect(door.listener.waiting).toBe(0)
    expect(door.arrivals.all).toEqual([])
  })

  test.each([
    ['without ALPN', undefined],
    ['that is a browser', ['h2', 'http/1.1']],
    ['that offers our protocol and another one', [TUNNEL_ALPN, 'http/1.1']],
    ['that offers another protocol and ours', ['h2', TUNNEL_ALPN]],
    ['that offers our protocol twice', [TUNNEL_ALPN, TUNNEL_ALPN]],
  ])('closes on a TLS client %s, though its key would do', async (_what, protocols) => {
    const door = await open()
    const peer = await dial(door, client, { ALPNProtocols: protocols })
    await peer.closed
    await door.turnedAway.at(0)
    expect(door.turnedAway.all).toHaveLength(1)
    expect(door.arrivals.all).toEqual([])
    expect(door.listener.waiting).toBe(0)
  })

  test('closes on a client without a certificate', async () => {
    const door = await open()
    const peer = await dial(door)
    await peer.closed
    expect(await door.turnedAway.at(0)).toContain('Ed25519')
    expect(door.arrivals.all).toEqual([])
  })

  test.each(['RSA', 'P-256'] as const)('closes on a client with an %s key', async (kind) => {
    const door = await open()
    const peer = await dial(door, await strangeKeys(kind))
    await peer.closed
    expect(await door.turnedAway.at(0)).toContain('Ed25519')
    expect(door.arrivals.all).toEqual([])
  })

  test('looks at nothing of a certificate but its key: not at its dates, not at its names', async () => {
    const door = await open()
    const expired = { name: 'CN=localhost, O=Somebody Else', notAfter: new Date('1971-01-01') }
    await dial(door, await strangeKeys('Ed25519', expired))
    await door.arrivals.at(0)
    await dial(door, await strangeKeys('Ed25519', { notBefore: new Date('2090-01-01') }))
    await door.arrivals.at(1)
    expect(door.turnedAway.all).toEqual([])
  })

  test('speaks TLS 1.3 and nothing older', async () => {
    const door = await open()
    const peer = await dial(door, client, { maxVersion: 'TLSv1.2' })
    await peer.closed
    await door.turnedAway.at(0)
    expect(door.arrivals.all).toEqual([])
  })

  test('closes on silence when its patience is over, with one line', async () => {
    const door = await open(SHORT)
    const socket = plain(door)
    socket.resume()
    await over(socket)
    expect(door.turnedAway.all).toEqual(['no login within 0.1 s'])
    expect(door.listener.waiting).toBe(0)
  })

  test('closes on a peer that sends its handshake byte by byte and never ends it', async () => {
    const door = await open(SHORT)
    const socket = plain(door)
    const drip = setInterval(() => socket.write(Buffer.from([0x16])), 10)
    socket.resume()
    await over(socket)
    clearInterval(drip)
    expect(door.arrivals.all).toEqual([])
  })

  test('closes on a client that has proved its key and does not log in', async () => {
    const door = await open(SHORT)
    const peer = await dial(door, client)
    await peer.closed
    expect(door.arrivals.all).toHaveLength(1)
    expect(door.turnedAway.all).toEqual(['no login within 0.1 s'])
  })

  test('leaves a client that has logged in alone, however long it says nothing', async () => {
    const door = await open(SHORT)
    const peer = await dial(door, client)
    ;(await door.arrivals.at(0)).authenticated()
    const silent = plain(door)
    silent.resume()
    // Younger than the client, and gone already.
    await over(silent)
    expect(peer.socket.destroyed).toBe(false)
  })

  test('whoever comes and leaves again is forgotten at once', async () => {
    const door = await open()
    const socket = await silentConnection(door.port)
    socket.destroy()
    const peer = await dial(door, client)
    const { authenticated } = await door.arrivals.at(0)
    authenticated()
    expect(door.listener.waiting).toBe(0)
    peer.socket.destroy()
  })

  test('is not kept by 2 000 silent connections from a client that comes after them', async () => {
    const door = await open()
    for (let at = 0; at < 2_000; at += 100) {
      await Promise.all(Array.from({ length: 100 }, async () => keep(await silentConnection(door.port))))
    }
    await dial(door, client)
    await door.arrivals.at(0)
    expect(door.listener.waiting).toBe(128)
    expect(door.turnedAway.all.at(-1)).toBe('too many connections that did not log in')
  })

  test('drops the oldest of an address that has its share, and the oldest first', async () => {
    const door = await open({ total: 100, perAddress: 3, patience: 60_000 })
    const sockets: Socket[] = []
    for (let n = 0; n < 3; n += 1) sockets.push(keep(await silentConnection(door.port)))
    const [first, second, third] = sockets as [Socket, Socket, Socket]
    for (const socket of sockets) socket.resume()
    keep(await silentConnection(door.port))
    await over(first)
    expect(second.destroyed).toBe(false)
    keep(await silentConnection(door.port))
    await over(second)
    expect(third.destroyed).toBe(false)
  })

  test('bounds those who have not logged in over all addresses', async () => {
    const door = await open({ total: 2, perAddress: 100, patience: 60_000 })
    const first = keep(await silentConnection(door.port))
    first.resume()
    keep(await silentConnection(door.port))
    keep(await silentConnection(door.port))
    await over(first)
    expect(door.listener.waiting).toBe(2)
  })

  test('closing drops who has not logged in, and ends', async () => {
    const door = await open()
    const socket = await silentConnection(door.port)
    socket.resume()
    const peer = await dial(door, client)
    await door.arrivals.at(0)
    await door.listener.close()
    await over(socket)
    await peer.closed
  })
})

describe('a TLS session of a tunnel', () => {
  /** A session as a client gets it, ticket and all. */
  async function session(door: Door): Promise<Buffer> {
    const socket = keep(dialRawTls(door.port, client))
    socket.on('error', () => {})
    const [ticket] = (await once(socket, 'session')) as [Buffer]
    return ticket
  }

  // Early data rides on a resumed session and on nothing else, so this holds for it too.
  test('is not resumed: who offers one proves its key again', async () => {
    const door = await open()
    const offered = await session(door)
    const again = keep(dialRawTls(door.port, client, { session: offered }))
    await once(again, 'secureConnect')
    expect(again.isSessionReused()).toBe(false)
    expect((await door.arrivals.at(1)).pin).toBe(client.pin)
  })

  test('is no way in for somebody who has the session and not the key', async () => {
    const door = await open()
    const offered = await session(door)
    const thief = keep(dialRawTls(door.port, undefined, { session: offered }))
    thief.on('error', () => {})
    thief.resume()
    await over(thief)
    expect(await door.turnedAway.at(0)).toContain('Ed25519')
    expect(door.arrivals.all).toHaveLength(1)
  })
})

describe('dialling', () => {
  const verify = (): void => {}

  test('gives a socket on which not one byte was written, after the check', async () => {
    const door = await open()
    let checked = ''
    const socket = keep(
      await dialTls({
        host: '127.0.0.1',
        port: door.port,
        context: tunnelContext(client),
        verify: (certificate) => (checked = peerPin(certificate) ?? ''),
      }),
    )
    expect(checked).toBe(gateway.pin)
    expect(socket.bytesWritten).toBe(0)
  })

  test('does not offer or take a session', async () => {
    const door = await open()
    const dialled = { host: '127.0.0.1', port: door.port, context: tunnelContext(client), verify }
    const first = keep(await dialTls(dialled))
    const second = keep(await dialTls(dialled))
    expect([first.isSessionReused(), second.isSessionReused()]).toEqual([false, false])
  })

  test('says what to check when nobody is there', async () => {
    const door = await open()
    const { port } = door
    await door.listener.close()
    await expect(
      dialTls({ host: '127.0.0.1', port, context: tunnelContext(client), verify }),
    ).rejects.toMatchObject({ code: 'dial_failed', scope: 'tunnel' })
  })

  test('is over at once when it is cancelled, before and while it runs', async () => {
    const door = await open()
    const abort = new AbortController()
    const options = { host: '127.0.0.1', port: door.port, context: tunnelContext(client), verify }
    const under = dialTls({ ...options, signal: abort.signal })
    abort.abort()
    await expect(under).rejects.toMatchObject({ code: 'closed' })
    await expect(dialTls({ ...options, signal: abort.signal })).rejects.toMatchObject({ code: 'closed' })
  })

  test('a gateway that speaks TLS 1.2 alone is none', async () => {
    const { createServer } = await import('node:tls')
    const keys = await strangeKeys('P-256')
    const server = createServer({ key: keys.key, cert: keys.certificate, maxVersion: 'TLSv1.2' })
    server.on('tlsClientError', () => {})
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    await expect(
      dialTls({ host: '127.0.0.1', port, context: tunnelContext(client), verify }),
    ).rejects.toMatchObject({ code: 'handshake_failed' })
    server.close()
  })
})
