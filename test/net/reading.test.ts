import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, TLSSocket } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { createIdentity } from '../../src/identity/index.ts'
import { READ_PIECE_BYTES } from '../../src/limits.ts'
import { connectSocket, readShared } from '../../src/net/index.ts'
import { tunnelContext } from '../../src/transport/tls.ts'
import { all, openedPerTest, pattern, turns, until } from './joined.ts'

const opened = openedPerTest()

/** Both ends of a new connection, of which `near` reads by the shared buffer and is paused. */
type Ends = { near: Socket; far: Socket }

async function dialled(path?: string): Promise<Ends> {
  const server = await opened.server(path)
  const near = opened.keep(
    path === undefined
      ? // A name, for which Node tries several addresses with a handle for each.
        connectSocket({
          port: (server.address() as AddressInfo).port,
          host: 'localhost',
          allowHalfOpen: true,
        })
      : connectSocket({ path, allowHalfOpen: true }),
  )
  const accepted = once(server, 'connection')
  near.pause()
  const [far] = (await accepted) as [Socket]
  return { near, far }
}

async function accepted(): Promise<Ends> {
  const [near, far] = await opened.sockets()
  near.pause()
  return { near: readShared(near), far }
}

const context = tunnelContext(createIdentity())

async function secure(): Promise<Ends> {
  const [raw, dialler] = await opened.sockets()
  const far = opened.keep(connect({ socket: dialler, secureContext: context, rejectUnauthorized: false }))
  const near = opened.keep(new TLSSocket(raw, { isServer: true, secureContext: context }))
  near.allowHalfOpen = true
  far.allowHalfOpen = true
  await Promise.all([once(near, 'secure'), once(far, 'secureConnect')])
  near.pause()
  return { near: readShared(near), far }
}

const socketPath = join(tmpdir(), `blindgate-reading-${process.pid}.sock`)

describe.each([
  ['dialled', () => dialled()],
  ['dialled by a path', () => dialled(socketPath)],
  ['accepted', accepted],
  ['with TLS', secure],
] as const)('a socket that reads by the shared buffer, %s', (_how, connected) => {
  it('carries bytes both ways and ends each by itself', async () => {
    const { near, far } = await connected()
    const bytes = pattern(3_000_000)
    const [heardNear, heardFar] = [all(near), all(far)]
    near.resume()
    far.end(bytes)
    expect((await heardNear).equals(bytes)).toBe(true)
    near.end(bytes.subarray(0, 100_000))
    expect((await heardFar).equals(bytes.subarray(0, 100_000))).toBe(true)
  })

  it('tells chunks that nobody else writes to', async () => {
    const pairs = [await connected(), await accepted()]
    const heard: Uint8Array[][] = pairs.map(() => [])
    for (const [index, { near }] of pairs.entries()) {
      near.on('data', (chunk: Uint8Array) => heard[index]?.push(chunk))
      near.resume()
    }
    for (let round = 0; round < 20; round += 1) {
      for (const [index, { far }] of pairs.entries()) far.write(Buffer.alloc(1_000, index))
      await until(() => heard.every((each) => Buffer.concat(each).length === (round + 1) * 1_000))
    }
    for (const [index, each] of heard.entries())
      expect(Buffer.concat(each).equals(Buffer.alloc(20_000, index))).toBe(true)
  })

  it('takes no memory of its own for what is short', async () => {
    const { near, far } = await connected()
    const buffers = new Set<ArrayBufferLike>()
    let heard = 0
    near.on('data', ({ buffer, length }: Buffer) => {
      buffers.add(buffer)
      heard += length
    })
    near.resume()
    // Were Node to know another way to read, each would be a buffer of its own.
    for (let sent = 1; sent < 1_000; sent *= 2) {
      far.write(pattern(sent))
      await until(() => heard === 2 * sent - 1)
    }
    expect(buffers.size).toBeLessThanOrEqual(2)
    for (const { byteLength } of buffers) expect(byteLength).toBe(READ_PIECE_BYTES)
  })

  it('reads nothing while it is paused, from within a chunk too', async () => {
    const { near, far } = await connected()
    const bytes = pattern(8_000_000)
    let chunks = 0
    near.on('data', () => {
      chunks += 1
      near.pause()
    })
    far.end(bytes)
    await turns(50)
    expect(chunks).toBe(0)
    near.resume()
    await until(() => chunks === 1)
    await turns(50)
    expect(chunks).toBe(1)
    near.removeAllListeners('data')
    const rest = all(near)
    const already = near.bytesRead - near.readableLength
    near.resume()
    const heard = await rest
    if (near instanceof TLSSocket) expect(bytes.subarray(-heard.length).equals(heard)).toBe(true)
    else expect(heard.equals(bytes.subarray(already))).toBe(true)
  })
})

describe('a socket that begins to read by the shared buffer', () => {
  it('gives what it had read before first', async () => {
    const [near, far] = await opened.sockets()
    const bytes = pattern(200_000)
    far.end(bytes)
    // Not in flow yet: it reads ahead, by its own buffers.
    await until(() => near.readableLength > 0)
    readShared(near)
    await turns(20)
    expect((await all(near)).equals(bytes)).toBe(true)
  })

  it('gives what was put back first', async () => {
    const { near, far } = await accepted()
    near.unshift(Buffer.from('first '))
    far.end('second')
    expect(String(await all(near.resume()))).toBe('first second')
  })
})
