import { once } from 'node:events'
import type { AddressInfo, Server, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connectSocket } from '../../src/net/index.ts'
import { all, Opened, openHandles, pattern, turns, until } from './joined.ts'

let opened: Opened
const handles = openHandles()

beforeEach(() => {
  opened = new Opened()
})

afterEach(async () => {
  await opened.close()
  await until(() => openHandles() === handles)
})

/** Both ends of a new connection to `server`; ours may still be connecting. */
async function connected(server: Server): Promise<{ near: Socket; far: Socket }> {
  const address = server.address() as AddressInfo | string
  const near = opened.keep(
    typeof address === 'string'
      ? connectSocket({ path: address, allowHalfOpen: true })
      : // A name, for which Node tries several addresses with a handle for each.
        connectSocket({ port: address.port, host: 'localhost', allowHalfOpen: true }),
  )
  const accepted = once(server, 'connection')
  near.pause()
  const [far] = (await accepted) as [Socket]
  return { near, far }
}

describe('a socket that reads by a shared buffer', () => {
  it.each(['a port', 'a unix socket'])(
    'carries bytes both ways and ends each by itself, by %s',
    async (by) => {
      const path = join(tmpdir(), `blindgate-connect-${process.pid}.sock`)
      const { near, far } = await connected(await opened.server(by === 'a port' ? undefined : path))
      const bytes = pattern(3_000_000)
      const [heardNear, heardFar] = [all(near), all(far)]
      near.resume()
      far.end(bytes)
      expect((await heardNear).equals(bytes)).toBe(true)
      near.end(bytes.subarray(0, 100_000))
      expect((await heardFar).equals(bytes.subarray(0, 100_000))).toBe(true)
    },
  )

  it('tells chunks that nobody else writes to', async () => {
    const server = await opened.server()
    const pairs = [await connected(server), await connected(server)]
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

  it('reads nothing while it is paused, from within a chunk too', async () => {
    const { near, far } = await connected(await opened.server())
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
    const already = near.bytesRead
    near.resume()
    expect((await rest).equals(bytes.subarray(already))).toBe(true)
  })
})
