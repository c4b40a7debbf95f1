import { once } from 'node:events'
import type { Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { HELD_BYTES } from '../../src/limits.ts'
import { HeldSocket, splice } from '../../src/net/index.ts'
import { all, openedPerTest, pattern, turns, until } from './joined.ts'

const opened = openedPerTest()

function holding(socket: Socket, onGone: (held: HeldSocket) => void): HeldSocket {
  return new HeldSocket(socket, { onGone })
}

describe('a held visitor', () => {
  it('is read, so that its end is seen, and is not gone then', async () => {
    const [near, visitor] = await opened.sockets()
    const ended = new Promise<HeldSocket>((resolve) => {
      const held: HeldSocket = new HeldSocket(near, { onEnded: resolve, onGone: () => resolve(held) })
    })
    visitor.end('GET /ping')
    const held = await ended
    expect(held.ended).toBe(true)
    expect(held.gone).toBe(false)
    expect(Buffer.concat(held.chunks).toString()).toBe('GET /ping')
    expect(held.bytes).toBe(9)
    expect(near.writable).toBe(true)
  })

  it('is gone at once when it resets', async () => {
    const [near, visitor] = await opened.sockets()
    const gone = new Promise<HeldSocket>((resolve) => {
      holding(near, resolve)
    })
    visitor.write('GET /ping')
    visitor.resetAndDestroy()
    const held = await gone
    expect(held.gone).toBe(true)
    expect(held.chunks).toEqual([])
    expect(near.destroyed).toBe(true)
  })

  it('is read no further than the mark and two reads', async () => {
    const [near, visitor] = await opened.sockets()
    const held = new HeldSocket(near)
    visitor.write(Buffer.alloc(8 * 1024 * 1024))
    await until(() => near.isPaused() && near.readableLength > 0)
    await turns(20)
    expect(held.bytes).toBeGreaterThanOrEqual(HELD_BYTES)
    expect(held.bytes).toBeLessThan(HELD_BYTES + 64 * 1024)
    expect(held.bytes + near.readableLength).toBeLessThanOrEqual(2 * (HELD_BYTES + 64 * 1024))
  })

  it('becomes a splice, with all that it sent meanwhile', async () => {
    const [near, visitor] = await opened.sockets()
    const held = new HeldSocket(near)
    const question = pattern(1024 * 1024)
    visitor.end(question)
    await until(() => held.bytes >= HELD_BYTES)
    const joined = opened.joined()
    const [stream, far] = await joined.open()
    const [targetSide, target] = await opened.sockets()
    splice(near, stream, { prefix: held.release() })
    splice(targetSide, far)
    expect((await all(target)).equals(question)).toBe(true)
    target.end('pong')
    expect(String(await all(visitor))).toBe('pong')
  })

  it('is told to nobody once it was released', async () => {
    const [near, visitor] = await opened.sockets()
    const told: string[] = []
    const held = new HeldSocket(near, { onGone: () => told.push('gone'), onEnded: () => told.push('ended') })
    expect(held.release()).toEqual([])
    expect(near.isPaused()).toBe(true)
    near.resume()
    visitor.resetAndDestroy()
    await new Promise((resolve) => near.once('close', resolve))
    expect(told).toEqual([])
    expect(near.listenerCount('data')).toBe(0)
  })

  it('is reset when it is dropped, and nobody else is told', async () => {
    const [near, visitor] = await opened.sockets()
    const told: string[] = []
    const held = new HeldSocket(near, { onGone: () => told.push('gone') })
    held.drop()
    visitor.resume()
    visitor.on('end', () => told.push('end'))
    const [error] = (await once(visitor, 'error')) as [NodeJS.ErrnoException]
    expect(error.code).toBe('ECONNRESET')
    await until(() => near.closed)
    expect(told).toEqual([])
  })

  it('may be held again with what the stream before it had kept', async () => {
    const joined = opened.joined()
    const [near, visitor] = await opened.sockets()
    const [stream, far] = await joined.open()
    let held: HeldSocket | undefined
    splice(near, stream, {
      keep: HELD_BYTES,
      onStreamReset: ({ socket, replay }) => {
        held = new HeldSocket(socket, { chunks: replay })
        return true
      },
    })
    visitor.write('GET ')
    await until(() => far.unread > 0)
    far.reset()
    await until(() => held !== undefined)
    visitor.write('/ping')
    await until(() => held?.bytes === 9)
    expect(Buffer.concat(held?.release() ?? []).toString()).toBe('GET /ping')
  })

  it('is gone when it was closed before it was held', async () => {
    const [near] = await opened.sockets()
    near.destroy()
    const gone = new Promise((resolve) => {
      expect(holding(near, resolve).gone).toBe(false)
    })
    await gone
  })
})
