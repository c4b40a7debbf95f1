import { once } from 'node:events'
import { Agent, createServer, request, type Server } from 'node:http'
import { finished } from 'node:stream/promises'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ORDERLY_CLOSE_MS, STREAM_QUEUE_BYTES, STREAM_WINDOW_BYTES } from '../../src/limits.ts'
import type { Stream } from '../../src/mux/index.ts'
import { duplexOf, type StreamDuplex, splice } from '../../src/net/index.ts'
import {
  all,
  type Joined,
  type JoinedOptions,
  type Opened,
  openedPerTest,
  pattern,
  turns,
  until,
} from './joined.ts'

const MiB = 1024 * 1024

const opened = openedPerTest()
// Before what was opened is closed, which waits.
afterEach(() => {
  vi.useRealTimers()
})

interface Ends {
  joined: Joined
  near: StreamDuplex
  far: StreamDuplex
  stream: Stream
  peer: Stream
}

/** A stream with a duplex at either end. */
async function ends(options: JoinedOptions = {}): Promise<Ends> {
  const joined = opened.joined(options)
  const [stream, peer] = await joined.open()
  const [near, far] = [duplexOf(stream), duplexOf(peer)]
  // A test that cares listens itself.
  for (const duplex of [near, far]) duplex.on('error', () => {})
  return { joined, stream, peer, near, far }
}

async function codeOf(duplex: StreamDuplex): Promise<string | undefined> {
  return ((await once(duplex, 'error')) as [NodeJS.ErrnoException])[0].code
}

describe('a duplex', () => {
  it('carries an end each way by itself, after 4 MB', async () => {
    const { near, far, joined } = await ends()
    const question = pattern(4 * MiB)
    near.end(question)
    expect((await all(far)).equals(question)).toBe(true)
    expect(far.writable).toBe(true)
    const closed = Promise.all([finished(near), finished(far)])
    far.end(question)
    expect((await all(near)).equals(question)).toBe(true)
    await closed
    await until(() => joined.client.streams === 0 && joined.server.streams === 0)
    expect(near.destroyed && far.destroyed).toBe(true)
  })

  it('survives segments of one byte and writes of one byte', async () => {
    const { near, far } = await ends({ segment: 1 })
    const question = pattern(1_000)
    for (const byte of question) near.write(Buffer.of(byte))
    near.end()
    expect((await all(far)).equals(question)).toBe(true)
    far.end()
    near.resume()
  })

  it('is destroyed with ECONNRESET when the peer resets', async () => {
    const { near, far } = await ends()
    const seen = codeOf(far)
    near.write('half')
    near.resetAndDestroy()
    expect(await seen).toBe('ECONNRESET')
    expect(far.destroyed).toBe(true)
  })

  it('is destroyed with ECONNRESET when the tunnel is gone, a write that waits too', async () => {
    const { near, far, joined } = await ends()
    far.pause()
    const seen = Promise.all([codeOf(near), codeOf(far)])
    const written = new Promise((resolve) => near.write(Buffer.alloc(4 * MiB), resolve))
    await turns(5)
    joined.end()
    expect(await seen).toEqual(['ECONNRESET', 'ECONNRESET'])
    expect(await written).toMatchObject({ code: 'ECONNRESET' })
  })

  it('sends what was written, and an end, when it is destroyed', async () => {
    const { near, far, joined } = await ends()
    near.write('the last words')
    near.destroy()
    expect(String(await all(far))).toBe('the last words')
    far.end('nobody reads this')
    await until(() => joined.client.streams === 0 && joined.server.streams === 0)
  })

  it('resets a peer that goes on after it was destroyed, once it had time to stop', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    try {
      const { near, far, stream } = await ends()
      const seen = codeOf(far)
      near.end('the last words')
      await once(far, 'data')
      near.destroy()
      far.write('and another thing')
      await until(() => stream.bytesIn > 0)
      expect(stream.unread).toBe(0)
      vi.advanceTimersByTime(ORDERLY_CLOSE_MS)
      expect(await seen).toBe('ECONNRESET')
      expect(stream.closed).toBe(true)
      expect(vi.getTimerCount()).toBe(0)
    } finally {
      vi.useRealTimers()
    }
  })

  it('gives what came before it first, and an end that had come', async () => {
    const joined = opened.joined()
    const [stream, peer] = await joined.open()
    const chunks: Uint8Array[] = []
    peer.sink = { data: (_, chunk) => chunks.push(chunk), end: () => {}, reset: () => {}, drain: () => {} }
    stream.write(Buffer.from('all of it'))
    stream.end()
    await until(() => peer.readEnded)
    const duplex = duplexOf(peer, {
      first: Buffer.concat(chunks),
      remoteAddress: '2001:db8::1',
      remotePort: 7,
    })
    expect(duplex).toMatchObject({ remoteAddress: '2001:db8::1', remotePort: 7, remoteFamily: 'IPv6' })
    expect(String(await all(duplex))).toBe('all of it')
    duplex.end()
    await until(() => peer.closed)
  })

  it('does not care what its writer does to a buffer that was written', async () => {
    const { near, far } = await ends()
    const buffer = Buffer.alloc(16 * 1024, 'a')
    near.write(buffer, () => buffer.fill('b'))
    near.end()
    expect(String(await all(far))).toBe('a'.repeat(16 * 1024))
    far.end()
    near.resume()
  })

  it('emits timeout when nothing moved, and not while something does', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const { near, far } = await ends()
    const seen: string[] = []
    near.setTimeout(40, () => seen.push('timeout'))
    expect(near.timeout).toBe(40)
    far.resume()
    for (let moved = 0; moved < 4; moved += 1) {
      vi.advanceTimersByTime(39)
      near.write('.')
      await turns(1)
    }
    expect(seen).toEqual([])
    vi.advanceTimersByTime(40)
    expect(seen).toEqual(['timeout'])
    near.setTimeout(0)
    near.destroy()
    near.setTimeout(10)
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('back-pressure of a duplex', () => {
  it('keeps no more than the window, and what Node asked for, for a reader that never reads', async () => {
    const window = STREAM_WINDOW_BYTES
    const { near, far, peer, stream } = await ends({
      receiveWindow: window,
      sendWindow: window,
      maxWindow: window,
    })
    far.pause()
    let accepted = 0
    while (near.write(Buffer.alloc(16 * 1024))) accepted += 1
    for (let more = 0; more < 100; more += 1) near.write(Buffer.alloc(16 * 1024))
    await until(() => peer.unread > window / 2)
    await turns(20)
    expect(accepted).toBeLessThan(20)
    expect(peer.unread).toBeLessThanOrEqual(window)
    // A mark's worth, and the frame that passed it.
    expect(far.readableLength).toBeLessThan(far.readableHighWaterMark + 16 * 1024)
    expect(stream.queued).toBeLessThan(STREAM_QUEUE_BYTES + 16 * 1024)
    expect(near.writableNeedDrain).toBe(true)
    const drained = once(near, 'drain')
    far.resume()
    await drained
  })

  it('hands out byte by byte what is read byte by byte', async () => {
    const { near, far } = await ends()
    const question = pattern(3_000)
    near.end(question)
    const bytes: Buffer[] = []
    await new Promise<void>((resolve) => {
      far.on('readable', () => {
        for (let byte = far.read(1) as Buffer | null; byte !== null; byte = far.read(1) as Buffer | null)
          bytes.push(byte)
      })
      far.once('end', resolve)
    })
    expect(Buffer.concat(bytes).equals(question)).toBe(true)
    expect(bytes).toHaveLength(3_000)
    far.end()
    near.resume()
  })
})

describe('a Node http server that is fed with duplexes', () => {
  let server: Server

  beforeEach(() => {
    server = createServer()
  })

  /** A visitor's raw connection to the server, through a splice and a stream. */
  async function visit(): Promise<ReturnType<Opened['keep']>> {
    const joined = opened.joined()
    const [near, visitor] = await opened.sockets()
    const [stream, peer] = await joined.open()
    splice(near, stream)
    const duplex = duplexOf(peer, { remoteAddress: '192.0.2.7', remotePort: 4711 })
    duplex.on('error', () => {})
    server.emit('connection', duplex)
    return visitor
  }

  it('answers several requests on one connection, and knows the visitor', async () => {
    server.on('request', (req, res) => {
      req.resume()
      res.end(`${req.method} ${req.url} for ${req.socket.remoteAddress}:${req.socket.remotePort}`)
    })
    const visitor = await visit()
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    agent.createConnection = () => visitor
    for (const path of ['/one', '/two', '/three']) {
      const asked = request({ path, agent, host: 'localhost' }).end()
      const [answer] = (await once(asked, 'response')) as [import('node:http').IncomingMessage]
      expect(String(await all(answer))).toBe(`GET ${path} for 192.0.2.7:4711`)
      await turns(5)
    }
    agent.destroy()
  })

  it('takes an upload of 4 MB and gives it back', async () => {
    server.on('request', (req, res) => req.pipe(res))
    const visitor = await visit()
    const body = pattern(4 * MiB)
    const asked = request({
      method: 'POST',
      path: '/echo',
      host: 'localhost',
      createConnection: () => visitor,
    })
    asked.end(body)
    const [answer] = (await once(asked, 'response')) as [import('node:http').IncomingMessage]
    expect((await all(answer)).equals(body)).toBe(true)
  })

  it('gives the whole of a last answer to a slow reader, and then the end', async () => {
    const body = pattern(8 * MiB)
    server.on('request', (_req, res) => {
      res.setHeader('connection', 'close')
      res.end(body)
    })
    const visitor = await visit()
    visitor.pause()
    visitor.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await turns(200)
    visitor.resume()
    const answer = await all(visitor)
    expect(answer.subarray(answer.length - body.length).equals(body)).toBe(true)
  })

  it('tells a visitor that sends nonsense', async () => {
    const visitor = await visit()
    visitor.write('nonsense\r\n\r\n')
    expect(String(await all(visitor))).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/)
  })

  it('upgrades, and both sides talk until both have ended', async () => {
    server.on('upgrade', (_req, socket, head) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
      socket.unshift(head)
      socket.pipe(socket)
    })
    const visitor = await visit()
    visitor.end(
      'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello, and more',
    )
    const [head, body] = String(await all(visitor)).split('\r\n\r\n')
    expect(head).toMatch(/^HTTP\/1\.1 101 /)
    expect(body).toBe('hello, and more')
  })

  it('tells its handler when the visitor resets', async () => {
    const gone = new Promise<string>((resolve) => {
      server.on('request', (req, res) => {
        req.socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''))
        res.write('half')
      })
    })
    const visitor = await visit()
    visitor.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await once(visitor, 'data')
    visitor.resetAndDestroy()
    expect(await gone).toBe('ECONNRESET')
  })

  it('lets a kept connection go when its time is over, with an end', async () => {
    server.keepAliveTimeout = 20
    server.on('request', (_req, res) => res.end('pong'))
    const visitor = await visit()
    visitor.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    expect(String(await all(visitor))).toMatch(/pong$/)
  })

  it('ends the connection of a handler that destroys it', async () => {
    server.on('request', (req, res) => {
      // Once it is written: newer Nodes keep it back for the turn, and lose it, with a net.Socket too.
      res.write('half', () => req.socket.destroySoon())
    })
    const visitor = await visit()
    visitor.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    expect(String(await all(visitor))).toMatch(/half\r\n$/)
  })
})
