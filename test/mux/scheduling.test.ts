import { describe, expect, it } from 'vitest'
import { FRAME_PAYLOAD_BYTES, NEW_STREAMS_IN_A_ROW } from '../../src/limits.ts'
import type { Stream } from '../../src/mux/index.ts'
import { End, type Frame, frames, settle } from './pair.ts'

const DATA = 0
const WINDOW_UPDATE = 1
const PING = 2
const ACK = 2
const RST = 8
const FRAME = FRAME_PAYLOAD_BYTES + 12
const MiB = 1024 * 1024

/** A client whose peer grants all it wants, with the control stream and `count` others, all acknowledged. */
function busy(count: number): { client: End; server: End; control: Stream; streams: Stream[] } {
  const client = new End({ role: 'client', sendWindow: 100 * MiB })
  const server = new End({ role: 'server', receiveWindow: 100 * MiB })
  const [control, ...streams] = Array.from({ length: count + 1 }, () => client.open().stream)
  settle(client, server)
  return { client, server, control: control as Stream, streams }
}

/** The next `count` full frames' worth of bytes. */
function next(end: End, count: number): Frame[] {
  return frames(end.take(count * FRAME))
}

const ids = (list: Frame[]): number[] => list.map(({ id }) => id)

describe('turns', () => {
  it('go round: streams that all want to send get the same', () => {
    const { client, streams } = busy(4)
    for (const stream of streams) stream.write(Buffer.alloc(MiB))
    expect(ids(next(client, 8))).toEqual([3, 5, 7, 9, 3, 5, 7, 9])
  })

  it('let a small write pass ten bulk streams: it is in the next frame', () => {
    const { client, streams } = busy(11)
    const small = streams.pop() as Stream
    for (const stream of streams) stream.write(Buffer.alloc(MiB))
    next(client, 25)
    small.write(Buffer.alloc(16, 1))
    expect(next(client, 1)[0]).toMatchObject({ id: small.id, length: 16 })
  })

  it('do not let a stream past the others more than twice in a round, however often it wakes', () => {
    const { client, streams } = busy(6)
    const pushy = streams.pop() as Stream
    for (const stream of streams) stream.write(Buffer.alloc(MiB))
    next(client, 5)
    const sent: number[] = []
    for (let i = 0; i < 36; i++) {
      if (pushy.queued === 0) pushy.write(Buffer.alloc(16))
      sent.push(...ids(frames(client.take(FRAME))))
    }
    const bulk = sent.filter((id) => id !== pushy.id).length
    expect(sent.length - bulk).toBeLessThanOrEqual((2 * bulk) / 5)
  })

  it('come to bulk streams too while new ones keep waking', () => {
    const { client, server, streams } = busy(1)
    streams[0]?.write(Buffer.alloc(8 * MiB))
    next(client, 1)
    const sent: number[] = []
    for (let i = 0; i < 40; i++) {
      for (let j = 0; j < 10; j++) client.open().stream.write(Buffer.alloc(16))
      const bytes = client.take(10 * 28)
      sent.push(...ids(frames(bytes)))
      // Acknowledges, so that more may be opened.
      server.session.receive(bytes, 0)
      client.session.receive(server.take(), 0)
    }
    const bulk = sent.filter((id) => id === 3).length
    expect(bulk).toBeGreaterThanOrEqual(Math.floor(sent.length / (NEW_STREAMS_IN_A_ROW + 1)) - 1)
  })

  it('skip a stream that the peer gives no window, until it does', () => {
    const client = new End({ role: 'client', sendWindow: 10 })
    const server = new End({ role: 'server' })
    const streams = [client.open(), client.open(), client.open()].map(({ stream }) => stream)
    for (const stream of streams.slice(1)) stream.write(Buffer.alloc(30))
    expect(frames(client.take()).map(({ id, length }) => [id, length])).toEqual([
      [1, 0],
      [3, 10],
      [5, 10],
    ])
    expect(client.session.pending).toBe(false)
    expect(server.session.pending).toBe(false)
    const grant = Buffer.from('000100000000000500000014', 'hex')
    client.session.receive(grant, 0)
    expect(frames(client.take()).map(({ id, length }) => [id, length])).toEqual([[5, 20]])
  })
})

describe('the order of frames', () => {
  it('is answers and updates, the control stream, resets, data', () => {
    const { client, server, control, streams } = busy(3)
    const [bulk, cut, read] = streams as [Stream, Stream, Stream]
    bulk.write(Buffer.alloc(MiB))
    cut.write(Buffer.alloc(MiB))
    cut.reset()
    server.accepted[3]?.stream.write(Buffer.alloc(200_000))
    server.session.ping(0)
    client.session.receive(server.take(), 0)
    control.write(Buffer.from('unreached 5'))
    const sent = next(client, 4).map(({ type, flags, id }) => [type, flags, id])
    expect(sent.slice(0, 5)).toEqual([
      [PING, ACK, 0],
      [PING, 1, 0],
      [WINDOW_UPDATE, 0, read.id],
      [DATA, 0, control.id],
      [WINDOW_UPDATE, RST, cut.id],
    ])
    expect(sent[5]).toEqual([DATA, 0, bulk.id])
  })

  it('holds resets back while the control stream has anything unsent, and data does not wait for them', () => {
    const client = new End({ role: 'client', sendWindow: 4 })
    const server = new End({ role: 'server' })
    const control = client.open().stream
    const cut = client.open().stream
    const other = client.open().stream
    settle(client, server)
    control.write(Buffer.from('unreached'))
    cut.reset()
    other.write(Buffer.from('data'))
    expect(frames(client.take()).map(({ id, flags }) => [id, flags])).toEqual([
      [1, 0],
      [5, 0],
    ])
    expect(client.session.pending).toBe(false)
    client.session.receive(Buffer.from('000100000000000100000100', 'hex'), 0)
    expect(frames(client.take()).map(({ id, flags }) => [id, flags])).toEqual([
      [1, 0],
      [3, RST],
    ])
  })

  it('lets resets go when the control stream itself ends', () => {
    const client = new End({ role: 'client', sendWindow: 4 })
    const control = client.open().stream
    const cut = client.open().stream
    client.take()
    control.write(Buffer.from('unreached'))
    client.take()
    cut.reset()
    expect(client.session.pending).toBe(false)
    const wakes = client.wakes
    control.reset()
    expect(client.wakes).toBe(wakes + 1)
    expect(frames(client.take()).map(({ id, flags }) => [id, flags])).toEqual([
      [3, RST],
      [1, RST],
    ])
  })
})
