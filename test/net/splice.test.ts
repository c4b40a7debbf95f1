import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { HELD_BYTES, LINGER_MS, STREAM_QUEUE_BYTES, STREAM_WINDOW_BYTES } from '../../src/limits.ts'
import type { Stream } from '../../src/mux/index.ts'
import { idleSweep, type Splice, type SpliceOptions, type SpliceResult, splice } from '../../src/net/index.ts'
import { all, type Joined, type JoinedOptions, openedPerTest, pattern, turns, until } from './joined.ts'

const MiB = 1024 * 1024

const opened = openedPerTest()

interface Chain {
  joined: Joined
  visitor: Socket
  target: Socket
  gateway: Splice
  client: Splice
  /** How each splice ended. */
  gatewayEnd: Promise<SpliceResult>
  clientEnd: Promise<SpliceResult>
}

/** visitor ─ socket ═ stream ~ stream ═ socket ─ target */
async function chain(options: JoinedOptions = {}, gatewayOptions: SpliceOptions = {}): Promise<Chain> {
  const joined = opened.joined(options)
  const [visitorSide, visitor] = await opened.sockets()
  const [targetSide, target] = await opened.sockets()
  const [near, far] = await joined.open()
  const [gateway, gatewayEnd] = ending(visitorSide, near, gatewayOptions)
  const [client, clientEnd] = ending(targetSide, far)
  return { joined, visitor, target, gateway, client, gatewayEnd, clientEnd }
}

function ending(
  socket: Socket,
  stream: Stream,
  options: SpliceOptions = {},
): [Splice, Promise<SpliceResult>] {
  let end: (result: SpliceResult) => void = () => {}
  const ended = new Promise<SpliceResult>((resolve) => {
    end = resolve
  })
  const onEnd = (result: SpliceResult, spliced: Splice): void => {
    options.onEnd?.(result, spliced)
    end(result)
  }
  return [splice(socket, stream, { ...options, onEnd }), ended]
}

async function errorOf(socket: Socket): Promise<string | undefined> {
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
  return error.code
}

const peerReset = expect.objectContaining({ code: 'reset', remote: true })

describe('end', () => {
  it.each(['visitor', 'target'] as const)(
    'lets a %s send 4 MB and its end, and then read the whole answer',
    async (first) => {
      const { visitor, target, gatewayEnd, clientEnd } = await chain()
      const [asker, answerer] = first === 'visitor' ? [visitor, target] : [target, visitor]
      const question = pattern(4 * MiB)
      const answer = pattern(3 * MiB)
      const heard = all(asker)
      asker.end(question)
      expect((await all(answerer)).equals(question)).toBe(true)
      expect(asker.readableEnded).toBe(false)
      answerer.end(answer)
      expect((await heard).equals(answer)).toBe(true)
      const [up, down] = first === 'visitor' ? [4 * MiB, 3 * MiB] : [3 * MiB, 4 * MiB]
      expect(await gatewayEnd).toEqual({ bytesIn: up, bytesOut: down })
      expect(await clientEnd).toEqual({ bytesIn: down, bytesOut: up })
    },
  )

  it('closes sockets and streams when both have ended, and leaves no listener', async () => {
    const { joined, visitor, target, gateway, client, gatewayEnd, clientEnd } = await chain()
    visitor.end('question')
    target.end('answer')
    await Promise.all([all(visitor), all(target), gatewayEnd, clientEnd])
    await until(() => joined.server.streams === 0 && joined.client.streams === 0)
    for (const { socket } of [gateway, client]) {
      expect(socket.closed).toBe(true)
      expect(socket.listenerCount('connect')).toBe(0)
    }
  })

  it('carries an end alone, with nothing before it', async () => {
    const { visitor, target, gatewayEnd } = await chain()
    visitor.end()
    expect(await all(target)).toHaveLength(0)
    target.end('late')
    expect(String(await all(visitor))).toBe('late')
    expect(await gatewayEnd).toEqual({ bytesIn: 0, bytesOut: 4 })
  })

  it('survives segments of one byte, on the tunnel and from the visitor', async () => {
    const { visitor, target } = await chain({ segment: 1 })
    const question = pattern(2_000)
    for (const byte of question) visitor.write(Buffer.of(byte))
    visitor.end()
    target.end(question)
    const [asked, answered] = await Promise.all([all(target), all(visitor)])
    expect(asked.equals(question)).toBe(true)
    expect(answered.equals(question)).toBe(true)
  })

  it('gives a slow reader the whole answer when the peer wants no more questions after its end', async () => {
    const joined = opened.joined()
    const [near, visitor] = await opened.sockets()
    const [stream, peer] = await joined.open()
    const [spliced, ended] = ending(near, stream)
    visitor.pause()
    const answer: Buffer[] = []
    while (near.writableLength === 0) {
      answer.push(pattern(64 * 1024))
      peer.write(Buffer.from(answer.at(-1) ?? ''))
      await turns(2)
    }
    peer.end()
    await until(() => stream.readEnded)
    peer.reset()
    await until(() => stream.closed)
    // All that is left of the answer waits here, for a stream that is no more.
    expect(spliced.waiting).toBeGreaterThan(0)
    visitor.write('more questions')
    const heard = all(visitor)
    visitor.resume()
    expect((await heard).equals(Buffer.concat(answer))).toBe(true)
    visitor.end()
    expect(await ended).toEqual({ bytesIn: 0, bytesOut: answer.length * 64 * 1024 })
  })

  it('waits no longer than LINGER_MS for such a reader to take something, and then resets it', async () => {
    const joined = opened.joined()
    const [near, visitor] = await opened.sockets()
    const [stream, peer] = await joined.open()
    const [, ended] = ending(near, stream)
    visitor.pause()
    while (near.writableLength === 0) {
      peer.write(Buffer.alloc(64 * 1024))
      await turns(2)
    }
    peer.end()
    await until(() => stream.readEnded)
    peer.reset()
    await until(() => stream.closed)
    idleSweep.sweep(performance.now() + LINGER_MS - 1_000)
    expect(near.destroyed).toBe(false)
    // The kernel may have taken something meanwhile.
    idleSweep.sweep(performance.now() + 2 * LINGER_MS)
    expect(await ended).toMatchObject({ error: { code: 'idle' } })
    expect(near.destroyed).toBe(true)
    expect(idleSweep.size).toBe(0)
  })
})

describe('reset', () => {
  it.each(['visitor', 'target'] as const)('carries the reset of a %s to the other side', async (who) => {
    const { joined, visitor, target, gatewayEnd, clientEnd } = await chain()
    const [breaker, other] = who === 'visitor' ? [visitor, target] : [target, visitor]
    const seen = errorOf(other)
    breaker.write('half a')
    await once(other, 'data')
    breaker.resetAndDestroy()
    expect(await seen).toBe('ECONNRESET')
    expect(await gatewayEnd).toMatchObject({ error: peerReset })
    expect(await clientEnd).toMatchObject({ error: peerReset })
    await until(() => joined.server.streams === 0 && joined.client.streams === 0)
  })

  it('still carries a reset after one side has ended', async () => {
    const { visitor, target, gatewayEnd } = await chain()
    visitor.end('question')
    await all(target)
    const seen = errorOf(visitor)
    target.write('half an ans')
    await once(visitor, 'data')
    target.resetAndDestroy()
    expect(await seen).toBe('ECONNRESET')
    expect(await gatewayEnd).toMatchObject({ error: peerReset })
  })

  it('sends what was read before the reset first, and takes the reset for no end', async () => {
    const { visitor, target, clientEnd } = await chain()
    visitor.write('question')
    await once(target, 'data')
    let heard = ''
    visitor.on('data', (chunk: Buffer) => {
      heard += String(chunk)
    })
    // The kernel has both before anybody reads: libuv gives data and an end.
    target.write('half an ans', () => target.resetAndDestroy())
    expect(await clientEnd).toMatchObject({ error: peerReset, bytesIn: 11 })
    // Both come together here, too: which of the two it is told is up to libuv.
    await new Promise((resolve) => visitor.once('close', resolve).once('end', resolve))
    expect(heard).toBe('half an ans')
  })

  it('resets the visitor when the tunnel is gone', async () => {
    const { joined, visitor, gatewayEnd } = await chain()
    const seen = errorOf(visitor)
    joined.end(new TunnelError('silent', { scope: 'tunnel', remote: true, detail: 'no sign of life' }))
    expect(await seen).toBe('ECONNRESET')
    expect(await gatewayEnd).toMatchObject({ error: { code: 'silent' } })
  })

  it('ends both sides with the given reason on abort', async () => {
    const { visitor, target, gateway, gatewayEnd } = await chain()
    const seen = Promise.all([errorOf(visitor), errorOf(target)])
    gateway.abort(new TunnelError('revoked', { scope: 'visitor', detail: 'the client was revoked' }))
    expect(await seen).toEqual(['ECONNRESET', 'ECONNRESET'])
    expect(await gatewayEnd).toMatchObject({ error: { code: 'revoked' } })
  })

  it('destroys a unix target, which knows no reset', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'blindgate-net-'))
    try {
      const joined = opened.joined()
      const [near, target] = await opened.sockets(join(folder, 'target.sock'))
      const [gatewayEnd, clientEnd] = await joined.open()
      const [, ended] = ending(near, clientEnd)
      gatewayEnd.reset()
      expect(await ended).toMatchObject({ error: peerReset })
      target.resume()
      await once(target, 'end')
    } finally {
      await opened.close()
      await rm(folder, { recursive: true })
    }
  })

  it('takes the close of a unix target for an end', async () => {
    const joined = opened.joined()
    const path = join(tmpdir(), `blindgate-splice-${process.pid}.sock`)
    const [near, target] = await opened.sockets(path)
    const [gatewayEnd, clientEnd] = await joined.open()
    const told: string[] = []
    gatewayEnd.sink = {
      data: (stream, chunk) => stream.consume(chunk.length),
      end: () => told.push('end'),
      reset: () => told.push('reset'),
      drain: () => {},
    }
    splice(near, clientEnd)
    target.write('answer', () => target.destroy())
    await until(() => told.length > 0)
    expect(told).toEqual(['end'])
  })

  it('says once how it ended, and writes nothing after it', async () => {
    const results: SpliceResult[] = []
    const { gateway, joined } = await chain({}, { onEnd: (result) => results.push(result) })
    const near = gateway.socket
    gateway.abort(new TunnelError('closed', { scope: 'visitor', detail: 'over' }))
    const written = near.bytesWritten
    gateway.data(gateway.stream, Buffer.from('late'))
    gateway.end(gateway.stream)
    gateway.drain(gateway.stream)
    gateway.reset(gateway.stream, new TunnelError('reset', { scope: 'stream', detail: 'again' }))
    await until(() => near.closed)
    expect(near.bytesWritten).toBe(written)
    expect(results).toHaveLength(1)
    await until(() => joined.server.streams === 0)
  })
})

describe('back-pressure', () => {
  it('keeps no more than the window for a visitor that never reads, to the byte', async () => {
    const window = STREAM_WINDOW_BYTES
    const { visitor, target, gateway, client } = await chain({
      receiveWindow: window,
      sendWindow: window,
      maxWindow: window,
    })
    visitor.pause()
    const flood = (): void => {
      while (target.write(Buffer.alloc(64 * 1024)));
    }
    target.on('drain', flood)
    flood()
    let most = 0
    const { stream } = gateway
    // All windows and kernel buffers fill up; then nothing moves any more. Less than half a window may have
    // been consumed and not been granted again.
    await until(() => {
      most = Math.max(most, gateway.waiting)
      const blocked = gateway.socket.writableLength > 0 && client.socket.isPaused()
      return blocked && stream.unread > window / 2 && client.stream.queued > 0
    })
    await turns(50)
    expect(most).toBeLessThanOrEqual(window)
    expect(gateway.waiting).toBe(stream.unread)
    expect(gateway.waiting).toBeGreaterThan(window / 2)
    expect(client.stream.queued).toBeLessThan(STREAM_QUEUE_BYTES + 64 * 1024)
    expect(client.socket.readableLength).toBeLessThanOrEqual(2 * 64 * 1024)
    // And it all goes on when the visitor reads.
    const before = gateway.delivered
    visitor.resume()
    await until(() => gateway.delivered > before + 4 * MiB)
  })

  it('stops reading a visitor whose target never reads, and goes on when it does', async () => {
    const { visitor, target, gateway, client } = await chain({ maxWindow: 256 * 1024 })
    target.pause()
    const flood = (): void => {
      while (visitor.write(Buffer.alloc(64 * 1024)));
    }
    visitor.on('drain', flood)
    flood()
    await until(
      () => gateway.socket.isPaused() && client.socket.writableLength > 0 && client.waiting > 128 * 1024,
    )
    await turns(50)
    expect(client.waiting).toBe(client.stream.unread)
    expect(client.waiting).toBeLessThanOrEqual(256 * 1024)
    const before = client.delivered
    target.resume()
    await until(() => client.delivered > before + 4 * MiB)
  })

  it('lets the window of a stream grow when its reader takes everything', async () => {
    const window = 16 * 1024
    const { visitor, target, client, joined } = await chain({ receiveWindow: window, sendWindow: window })
    joined.client.ping(performance.now())
    joined.server.ping(performance.now())
    await until(() => joined.client.rtt !== undefined)
    const question = pattern(24 * MiB)
    const heard = all(target)
    let most = 0
    client.socket.on('drain', () => {})
    visitor.end(question)
    await until(() => {
      most = Math.max(most, client.stream.unread)
      return client.delivered === question.length
    })
    target.end()
    expect((await heard).equals(question)).toBe(true)
    expect(most).toBeLessThanOrEqual(8 * MiB)
  })

  it('keeps single bytes for a reader that takes none at the price of bytes', async () => {
    const window = STREAM_WINDOW_BYTES
    const joined = opened.joined({ receiveWindow: window, sendWindow: window, maxWindow: window })
    const [near, visitor] = await opened.sockets()
    visitor.pause()
    const [stream] = await joined.open()
    const spliced = splice(near, stream)
    // Fill the kernel; the stream's peer does not matter here.
    while (near.writableLength === 0) {
      spliced.data(stream, Buffer.alloc(64 * 1024))
      await turns(1)
    }
    const before = process.memoryUsage()
    for (let count = 0; count < 200_000; count += 1) spliced.data(stream, Buffer.of(count & 255))
    const after = process.memoryUsage()
    // 200 bytes for each would be 40 MB.
    expect(after.heapUsed + after.external - before.heapUsed - before.external).toBeLessThan(30 * MiB)
    expect(near.writableLength).toBeLessThan(64 * 1024 + 1)
  })
})

describe('a target that is being dialled', () => {
  it('gets what came before it was connected, and the end', async () => {
    const joined = opened.joined()
    const server = await opened.server()
    const [near, far] = await joined.open()
    const socket = opened.dial(server)
    expect(socket.connecting).toBe(true)
    const [spliced, ended] = ending(socket, far, { first: Buffer.from('what was read with the header, ') })
    expect(spliced.reached).toBe(false)
    near.write(Buffer.from('what came later'))
    near.end()
    const [target] = (await once(server, 'connection')) as [Socket]
    const asked = all(target)
    expect(String(await asked)).toBe('what was read with the header, what came later')
    expect(spliced.reached).toBe(true)
    target.end()
    expect(await ended).toEqual({ bytesIn: 0, bytesOut: 46 })
  })

  it('resets the stream with what the kernel said when it refuses, and says that not a byte reached it', async () => {
    const joined = opened.joined()
    const server = await opened.server()
    const { port } = server.address() as { port: number }
    await new Promise((resolve) => server.close(resolve))
    let told: string[] = []
    const [, far] = await joined.open({
      data: () => {},
      end: () => {},
      reset: () => told.push('stream reset'),
      drain: () => {},
    })
    const spliced = splice(opened.dial({ port }), far, {
      first: Buffer.from('a request'),
      onEnd: ({ error, bytesOut }, splice) => told.push(`${error?.code} ${bytesOut} ${splice.reached}`),
    })
    await until(() => told.length === 2)
    expect(told).toEqual(['refused 0 false', 'stream reset'])
    expect(spliced.socket.destroyed).toBe(true)
    told = []
    await turns(5)
    expect(told).toEqual([])
  })

  it('is let go at once when the stream is reset meanwhile', async () => {
    const joined = opened.joined()
    const server = await opened.server()
    const [near, far] = await joined.open()
    const socket = opened.dial(server)
    const [spliced, ended] = ending(socket, far, { first: Buffer.from('a request') })
    near.write(Buffer.from(', and more'))
    joined.end()
    expect(await ended).toMatchObject({ bytesOut: 0, error: { code: 'closed' } })
    expect(spliced.reached).toBe(false)
    expect(socket.destroyed).toBe(true)
  })

  it('may be given up with a reason of the dialler', async () => {
    const joined = opened.joined()
    const server = await opened.server()
    const [, far] = await joined.open()
    const [spliced, ended] = ending(opened.dial(server), far)
    spliced.abort(new TunnelError('timeout', { scope: 'stream', detail: 'no answer in 10 s' }))
    expect(await ended).toMatchObject({ error: { code: 'timeout' } })
    await until(() => joined.server.streams === 0)
  })
})

describe('what was before', () => {
  it('sends the prefix first, then an end that had come already', async () => {
    const joined = opened.joined()
    const [near, visitor] = await opened.sockets()
    visitor.end('held ')
    const prefix = [await all(near)]
    expect(near.readableEnded).toBe(true)
    const [stream, far] = await joined.open()
    const [targetSide, target] = await opened.sockets()
    splice(near, stream, { prefix })
    splice(targetSide, far)
    expect(String(await all(target))).toBe('held ')
    target.end('answered')
    expect(String(await all(visitor))).toBe('answered')
  })

  it('takes a stream that its peer has ended already', async () => {
    const joined = opened.joined()
    const [near, target] = await opened.sockets()
    const [stream, far] = await joined.open()
    const first: Uint8Array[] = []
    far.sink = { data: (_, chunk) => first.push(chunk), end: () => {}, reset: () => {}, drain: () => {} }
    stream.write(Buffer.from('all of it'))
    stream.end()
    await until(() => far.readEnded)
    const [, ended] = ending(near, far, { first })
    expect(String(await all(target))).toBe('all of it')
    target.end()
    expect(await ended).toEqual({ bytesIn: 0, bytesOut: 9 })
    expect(far.closed).toBe(true)
  })

  it('resets the stream of a socket that is closed already, after splice has returned', async () => {
    const joined = opened.joined()
    const [near] = await opened.sockets()
    near.destroy()
    await once(near, 'close')
    const [stream] = await joined.open()
    let returned = false
    const ended = new Promise<SpliceResult>((resolve) => {
      splice(near, stream, {
        onEnd: (result) => {
          expect(returned).toBe(true)
          resolve(result)
        },
      })
      returned = true
    })
    expect(await ended).toMatchObject({ error: peerReset })
    expect(stream.closed).toBe(true)
  })

  it('resets the socket of a stream that is reset already', async () => {
    const joined = opened.joined()
    const [near, visitor] = await opened.sockets()
    const [stream] = await joined.open()
    stream.reset()
    const seen = errorOf(visitor)
    const [, ended] = ending(near, stream)
    expect(await ended).toMatchObject({ error: peerReset })
    expect(await seen).toBe('ECONNRESET')
  })
})

describe('another try', () => {
  it('keeps the socket and what was sent when a stream is reset before it answered', async () => {
    const joined = opened.joined()
    const [near, visitor] = await opened.sockets()
    const [first, firstFar] = await joined.open()
    const results: SpliceResult[] = []
    let second: Splice | undefined
    splice(near, first, {
      prefix: [Buffer.from('GET ')],
      keep: HELD_BYTES,
      onEnd: (result) => results.push(result),
      onStreamReset: (splice_, reason) => {
        expect(reason.code).toBe('reset')
        expect(splice_.delivered).toBe(0)
        const { replay } = splice_
        void joined.open().then(([stream, far]) => {
          second = splice(near, stream, { prefix: replay, onEnd: (result) => results.push(result) })
          splice(targetSide, far)
        })
        return true
      },
    })
    const [targetSide, target] = await opened.sockets()
    visitor.end('/ping')
    await until(() => first.writeEnded)
    firstFar.reset()
    expect(String(await all(target))).toBe('GET /ping')
    target.end('pong')
    expect(String(await all(visitor))).toBe('pong')
    await until(() => results.length === 1)
    expect(second?.sent).toBe(9)
    expect(results).toEqual([{ bytesIn: 9, bytesOut: 4 }])
    expect(near.listenerCount('data')).toBe(0 + 1)
  })

  it('resets the socket when nobody takes it over', async () => {
    const { joined, visitor, gateway, gatewayEnd } = await chain({}, { onStreamReset: () => false })
    const seen = errorOf(visitor)
    joined.end()
    expect(await seen).toBe('ECONNRESET')
    expect(await gatewayEnd).toMatchObject({ error: { code: 'closed' } })
    expect(gateway.socket.listenerCount('data')).toBe(0)
  })

  it('keeps nothing once a byte came back', async () => {
    const { visitor, target, gateway } = await chain({}, { keep: HELD_BYTES })
    visitor.write('question')
    await once(target, 'data')
    expect(Buffer.concat(gateway.replay ?? []).toString()).toBe('question')
    target.write('a')
    await once(visitor, 'data')
    expect(gateway.delivered).toBe(1)
    expect(gateway.replay).toBe(undefined)
  })

  it('keeps exactly as much as it was asked to', async () => {
    const { visitor, target, gateway } = await chain({}, { keep: 1000 })
    target.resume()
    visitor.write(Buffer.alloc(1000))
    await until(() => gateway.sent === 1000)
    expect(Buffer.concat(gateway.replay ?? [])).toHaveLength(1000)
    visitor.write(Buffer.alloc(1))
    await until(() => gateway.sent === 1001)
    expect(gateway.replay).toBe(undefined)
  })

  it('lets go of a socket on detach, whole and paused, and resets the stream', async () => {
    const { visitor, target, gateway, joined } = await chain({}, { keep: HELD_BYTES })
    const broken = errorOf(target)
    visitor.write('one')
    await once(target, 'data')
    const { socket } = gateway
    gateway.detach()
    expect(await broken).toBe('ECONNRESET')
    for (const event of ['data', 'error', 'close'])
      expect([event, socket.listeners(event).filter((each) => each.name.startsWith('#on'))]).toEqual([
        event,
        [],
      ])
    expect(socket.destroyed).toBe(false)
    expect(socket.isPaused()).toBe(true)
    visitor.write(' two')
    const next = once(socket, 'data')
    socket.resume()
    expect(String((await next)[0])).toBe(' two')
    expect(Buffer.concat(gateway.replay ?? []).toString()).toBe('one')
    await until(() => joined.server.streams === 0)
  })
})
