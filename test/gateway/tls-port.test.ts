import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ownListening } from '../../src/gateway/listening.ts'
import { TlsPort } from '../../src/gateway/tls-port.ts'
import { CLIENT_HELLO_BYTES, HANDSHAKE_MS } from '../../src/limits.ts'
import { tlsAlert } from '../../src/protocol/index.ts'
import { Moments } from '../client/moments.ts'
import { until } from '../net/joined.ts'
import { extension, hello, serverName } from '../protocol/hellos.ts'

const HOST = 'app.example.com'
const GOOD = hello(serverName(HOST))

let port: TlsPort
let at: number
/** Hosts of those let in, and why others were not. */
let visitors: Moments<string | undefined>
let turnedAway: Moments<string>
const sockets: Socket[] = []

beforeEach(async () => {
  visitors = new Moments()
  turnedAway = new Moments()
  port = new TlsPort({
    tunnel: (socket) => void socket.destroy(),
    visitor(socket, { serverName }) {
      socket.destroy()
      visitors.add(serverName)
    },
    turnedAway: (_address, why) => turnedAway.add(why),
    listening: ownListening,
  })
  ;({ port: at } = await port.listen({ host: '127.0.0.1', port: 0 }))
})
afterEach(async () => {
  vi.useRealTimers()
  for (const socket of sockets.splice(0)) socket.destroy()
  await port.close()
})

async function visitor(first?: Uint8Array): Promise<Socket> {
  const before = port.waiting
  const socket = connect({ host: '127.0.0.1', port: at, noDelay: true })
  sockets.push(socket)
  socket.on('error', () => {})
  await once(socket, 'connect')
  if (first === undefined) await until(() => port.waiting > before)
  else socket.write(first)
  return socket
}

/** All that comes until the end, which may be a reset. */
async function heard(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  await new Promise((resolve) => socket.once('close', resolve))
  return Buffer.concat(chunks)
}

describe('who comes by TLS', () => {
  test.each([
    ['with a NUL in the host', hello(serverName('app\0.example.com'))],
    ['for an address', hello(serverName('192.0.2.1'))],
    ['for a host of 300 characters', hello(serverName(`${'a'.repeat(59)}.`.repeat(5)))],
    ['for a host with a dot at its end', hello(serverName(`${HOST}.`))],
    ['for two hosts', hello(serverName(HOST), serverName(HOST))],
    ['with a hello past the longest', hello(serverName(HOST), extension(21, CLIENT_HELLO_BYTES))],
    ['with a length that lies', Buffer.concat([GOOD.subarray(0, 43), Buffer.of(0xff), GOOD.subarray(44)])],
  ])('%s is told that its hello cannot be read, and the log why', async (_what, bytes) => {
    expect(await heard(await visitor(bytes))).toEqual(Buffer.from(tlsAlert('decode_error')))
    expect(await turnedAway.at(0)).toMatch(/^a ClientHello /)
    await visitor(GOOD)
    expect(await visitors.at(0)).toBe(HOST)
    expect(visitors.all).toHaveLength(1)
  })

  test('in upper case is led to the same host', async () => {
    await visitor(hello(serverName(HOST.toUpperCase())))
    expect(await visitors.at(0)).toBe(HOST)
  })

  test('and says nothing, or half a hello byte by byte, has ten seconds in all', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    const silent = await visitor()
    const slow = await visitor()
    const ends = [silent, slow].map(heard)
    const bytes = GOOD.subarray(0, GOOD.length / 2)
    for (const [index, byte] of bytes.entries()) {
      vi.advanceTimersByTime((HANDSHAKE_MS - 1000) / bytes.length)
      slow.write(Buffer.of(byte))
      if (index % 10 === 0) await new Promise(setImmediate)
    }
    expect(port.waiting).toBe(2)
    vi.advanceTimersByTime(2000)
    expect(port.waiting).toBe(0)
    expect(await Promise.all(ends)).toEqual([Buffer.alloc(0), Buffer.alloc(0)])
    expect(turnedAway.all).toEqual(['no hello in time', 'no hello in time'])
  })

  test('and leaves with half a hello is forgotten', async () => {
    const socket = await visitor(GOOD.subarray(0, 20))
    await until(() => port.waiting === 1)
    socket.end()
    await once(socket, 'close')
    expect(port.waiting).toBe(0)
    expect(visitors.all).toEqual([])
  })
})
