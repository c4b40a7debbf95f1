import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { TunnelError } from '../../src/errors.ts'
import { SOCKET_STREAM_QUEUE_BYTES, SOCKET_STREAM_UNREAD_BYTES } from '../../src/limits.ts'
import type { Stream, StreamSink } from '../../src/mux/index.ts'
import { connectSocket, SocketStream } from '../../src/net/index.ts'
import { all, openedPerTest, pattern, turns, until } from './joined.ts'

const opened = openedPerTest()

/** Takes what comes, or lets it lie. */
class Sink implements StreamSink {
  readonly chunks: Uint8Array[] = []
  readonly told: string[] = []
  takes = true
  reason: TunnelError | undefined

  get bytes(): number {
    return this.chunks.reduce((sum, { length }) => sum + length, 0)
  }

  data(stream: Stream, chunk: Uint8Array): void {
    this.chunks.push(Buffer.from(chunk))
    if (this.takes) stream.consume(chunk.length)
  }

  end(): void {
    this.told.push('end')
  }

  reset(_stream: Stream, reason: TunnelError): void {
    this.told.push('reset')
    this.reason = reason
  }

  drain(): void {
    this.told.push('drain')
  }
}

async function joined(): Promise<{ stream: SocketStream; sink: Sink; far: Socket }> {
  const [near, far] = await opened.sockets()
  const sink = new Sink()
  return { stream: new SocketStream(near, sink), sink, far }
}

describe('a socket as a stream', () => {
  it('carries bytes and ends both ways, each by itself', async () => {
    const { stream, sink, far } = await joined()
    const heard = all(far)
    const bytes = pattern(300_000)
    stream.write(bytes)
    stream.end()
    expect((await heard).equals(bytes)).toBe(true)
    expect(stream.closed).toBe(false)
    far.end('answer')
    await until(() => sink.told.includes('end'))
    expect(Buffer.concat(sink.chunks).toString()).toBe('answer')
    expect(sink.told.filter((what) => what !== 'drain')).toEqual(['end'])
    await until(() => stream.closed)
    expect(stream.bytesIn).toBe(6)
    await until(() => stream.bytesOut === bytes.length)
  })

  it('reads ahead so much and no more, and goes on when that is taken', async () => {
    const { stream, sink, far } = await joined()
    sink.takes = false
    const bytes = pattern(4_000_000)
    far.end(bytes)
    await until(() => stream.unread >= SOCKET_STREAM_UNREAD_BYTES)
    await turns(50)
    expect(stream.unread).toBeLessThan(SOCKET_STREAM_UNREAD_BYTES + 2 * 65_536)
    sink.takes = true
    stream.consume(stream.unread)
    await until(() => sink.told.includes('end'))
    expect(Buffer.concat(sink.chunks).equals(bytes)).toBe(true)
  })

  it('asks a writer to wait while its other side takes nothing', async () => {
    const { stream, sink, far } = await joined()
    far.pause()
    const bytes = Buffer.alloc(64 * 1024)
    let sent = 0
    while (stream.write(bytes) && sent < 64 * 1024 * 1024) {
      sent += bytes.length
      await turns(2)
    }
    expect(stream.queued).toBeLessThanOrEqual(SOCKET_STREAM_QUEUE_BYTES + bytes.length)
    expect(sink.told).toEqual([])
    far.resume()
    await until(() => sink.told.includes('drain'))
    expect(stream.queued).toBeLessThan(SOCKET_STREAM_QUEUE_BYTES)
  })

  it('tells of a reset once, and of nothing after it', async () => {
    const { stream, sink, far } = await joined()
    far.resetAndDestroy()
    await until(() => sink.told.length > 0)
    expect(sink.reason).toMatchObject({ code: 'reset' })
    expect(stream.closed).toBe(true)
    stream.write(Buffer.from('x'))
    stream.end()
    stream.reset()
    await turns(5)
    expect(sink.told).toEqual(['reset'])
  })

  it('tells of a reset that comes right behind bytes, and of no end', async () => {
    const { sink, far } = await joined()
    far.write('half an ans')
    far.resetAndDestroy()
    await until(() => sink.told.length > 0)
    await turns(5)
    expect(sink.told).toEqual(['reset'])
  })

  it('tells of a reset that came while nothing was taken, and of no end', async () => {
    const server = await opened.server()
    const { port } = server.address() as { port: number }
    const arrived = new Promise<Socket>((resolve) => server.once('connection', resolve))
    const near = connectSocket({ port, host: '127.0.0.1', allowHalfOpen: true })
    const sink = new Sink()
    sink.takes = false
    const stream = new SocketStream(opened.keep(near), sink)
    const far = await arrived
    far.write(pattern(SOCKET_STREAM_UNREAD_BYTES))
    await until(() => stream.unread >= SOCKET_STREAM_UNREAD_BYTES)
    far.write('half an ans')
    far.resetAndDestroy()
    await turns(20)
    sink.takes = true
    stream.consume(stream.unread)
    await until(() => sink.told.length > 0)
    await turns(5)
    expect(sink.told).toEqual(['reset'])
  })

  it('takes the close of a unix target for an end', async () => {
    const path = join(tmpdir(), `blindgate-socket-stream-${process.pid}.sock`)
    const [near, far] = await opened.sockets(path)
    const sink = new Sink()
    void new SocketStream(near, sink)
    far.write('answer', () => far.destroy())
    await until(() => sink.told.length > 0)
    await turns(5)
    expect(sink.told).toEqual(['end'])
  })

  it('that could not be dialled says why', async () => {
    const server = await opened.server()
    const { port } = server.address() as { port: number }
    await new Promise((resolve) => server.close(resolve))
    const sink = new Sink()
    const stream = new SocketStream(opened.dial({ port }), sink)
    stream.write(Buffer.from('never'))
    await until(() => sink.told.length > 0)
    expect(sink.reason).toMatchObject({ code: 'refused' })
    expect(stream.acknowledged).toBe(false)
  })

  it('that is reset resets its other side, tells nobody, and drops what waits', async () => {
    const { stream, sink, far } = await joined()
    const broken = new Promise((resolve) => far.once('error', resolve))
    stream.reset()
    expect(await broken).toMatchObject({ code: 'ECONNRESET' })
    expect(sink.told).toEqual([])
  })

  it('that is aborted tells its owner why', async () => {
    const { stream, sink } = await joined()
    const { TunnelError } = await import('../../src/errors.ts')
    stream.abort(new TunnelError('timeout', { scope: 'stream', detail: 'too late' }))
    expect(sink.reason).toMatchObject({ code: 'timeout' })
    expect(sink.told).toEqual(['reset'])
  })

  it('writes to a connection that is still being made', async () => {
    const server = await opened.server()
    const stream = new SocketStream(opened.dial(server), new Sink())
    stream.write(Buffer.from('early'))
    const far = await new Promise<Socket>((resolve) => server.once('connection', resolve))
    const chunk = await new Promise<Buffer>((resolve) => far.once('data', resolve))
    expect(chunk.toString()).toBe('early')
    expect(stream.acknowledged).toBe(true)
  })
})
