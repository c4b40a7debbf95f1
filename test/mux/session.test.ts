import { describe, expect, it } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import {
  FRAME_PAYLOAD_BYTES,
  MUX_COPY_BYTES,
  RTT_LOADED_BYTES,
  RTT_SAMPLES,
  RTT_STALE_MS,
  UNACKNOWLEDGED_STREAMS,
} from '../../src/limits.ts'
import { MemoryBudget, Session, type Stream } from '../../src/mux/index.ts'
import { End, frame, frames, Recorder, settle } from './pair.ts'

const DATA = 0
const WINDOW_UPDATE = 1
const GO_AWAY = 3
const SYN = 1
const ACK = 2
const FIN = 4
const RST = 8

function pair(): [End, End] {
  return [new End({ role: 'client' }), new End({ role: 'server' })]
}

function accepted(end: End, index = 0): { stream: Stream; sink: Recorder } {
  const one = end.accepted[index]
  if (one === undefined) throw new Error(`no stream ${index} was accepted`)
  return one
}

function kinds(bytes: Buffer): [number, number, number, number][] {
  return frames(bytes).map(({ type, flags, id, length }) => [type, flags, id, length])
}

const GONE = new TunnelError('silent', { scope: 'tunnel', detail: 'gone' })

describe('a stream', () => {
  it('carries bytes both ways, and ends when both sides have', () => {
    const [client, server] = pair()
    const { stream, sink } = client.open()
    stream.write(Buffer.from('ping'))
    stream.end()
    server.onStream = (peer, recorder) => {
      recorder.onEnd = () => {
        peer.write(Buffer.from('pong'))
        peer.end()
      }
    }
    settle(client, server)
    expect(accepted(server).sink.text).toBe('ping')
    expect(sink.text).toBe('pong')
    expect(sink.ended).toBe(true)
    expect([stream.closed, stream.acknowledged, stream.readEnded, stream.writeEnded]).toEqual(
      Array(4).fill(true),
    )
    expect([stream.bytesIn, stream.bytesOut]).toEqual([4, 4])
    expect([client.session.streams, server.session.streams]).toEqual([0, 0])
  })

  it('is acknowledged at once, before its target has answered', () => {
    const [client, server] = pair()
    const { stream } = client.open()
    stream.write(Buffer.from('x'))
    server.session.receive(client.take(), 0)
    expect(kinds(server.take())).toEqual([[WINDOW_UPDATE, ACK, 1, 0]])
  })

  it('without a byte opens by itself', () => {
    const [client, server] = pair()
    client.open()
    expect(client.session.pending).toBe(true)
    const opening = client.take()
    expect(kinds(opening)).toEqual([[WINDOW_UPDATE, SYN, 1, 0]])
    server.session.receive(opening, 0)
    expect(server.accepted.length).toBe(1)
  })

  it('stays until the last bytes are consumed, though both sides have ended', () => {
    const [client, server] = pair()
    const { stream } = client.open()
    stream.write(Buffer.from('slow'))
    stream.end()
    server.onStream = (peer, sink) => {
      sink.hold = true
      peer.end()
    }
    settle(client, server)
    expect(stream.closed).toBe(true)
    const { stream: peer } = accepted(server)
    expect([peer.closed, peer.unread, server.session.streams]).toEqual([false, 4, 1])
    peer.consume(4)
    expect([peer.closed, server.session.streams]).toEqual([true, 0])
    expect(server.session.pending).toBe(false)
  })

  it("that both sides have ended is whole: neither a reset nor the session's end takes what came", () => {
    const memory = new MemoryBudget(1_000)
    const client = new End({ role: 'client' })
    const server = new End({ role: 'server', memory })
    const { stream } = client.open()
    stream.write(Buffer.from('whole'))
    stream.end()
    server.onStream = (peer, sink) => {
      sink.hold = true
      peer.end()
    }
    server.session.receive(client.take(), 0)
    server.take()
    const { stream: peer, sink } = accepted(server)
    server.session.receive(frame(WINDOW_UPDATE, RST, 1, 0), 0)
    server.session.abort(GONE)
    expect([sink.error, peer.closed, memory.unread]).toEqual([undefined, false, 5])
    peer.consume(5)
    expect([peer.closed, memory.unread, server.session.streams]).toEqual([true, 0, 0])
  })

  it('that both sides have ended may be reset without a word to the peer', () => {
    const [client, server] = pair()
    const { stream } = client.open()
    stream.write(Buffer.from('x'))
    stream.end()
    server.onStream = (peer, sink) => {
      sink.hold = true
      peer.end()
    }
    settle(client, server)
    accepted(server).stream.reset()
    expect([server.session.streams, server.session.pending]).toEqual([0, false])
  })

  it('lets data through after its own end, and ignores writes after it', () => {
    const [client, server] = pair()
    const { stream, sink } = client.open()
    stream.end()
    expect(stream.write(Buffer.from('late'))).toBe(true)
    settle(client, server)
    accepted(server).stream.write(Buffer.from('answer'))
    settle(client, server)
    expect(accepted(server).sink.text).toBe('')
    expect(sink.text).toBe('answer')
    expect(stream.closed).toBe(false)
  })

  it('that is reset drops what it queued, tells the peer, and hears nothing more', () => {
    const [client, server] = pair()
    const { stream, sink } = client.open()
    settle(client, server)
    stream.write(Buffer.alloc(100_000))
    stream.reset()
    stream.reset()
    expect([stream.closed, stream.queued, client.session.streams]).toEqual([true, 0, 0])
    expect(kinds(client.take())).toEqual([[WINDOW_UPDATE, RST, 1, 0]])
    accepted(server).stream.write(Buffer.from('crossing'))
    client.session.receive(server.take(), 0)
    expect([sink.text, sink.error, sink.ended]).toEqual(['', undefined, false])
  })

  it('that the peer resets says so once, after its data, and sends nothing more', () => {
    const [client, server] = pair()
    const { stream, sink } = client.open()
    settle(client, server)
    accepted(server).stream.write(Buffer.from('some'))
    client.session.receive(server.take(), 0)
    stream.write(Buffer.from('unsent'))
    stream.end()
    accepted(server).stream.reset()
    client.session.receive(server.take(), 0)
    expect(sink.text).toBe('some')
    expect([sink.error?.code, sink.error?.scope, sink.error?.remote]).toEqual(['reset', 'stream', true])
    expect(client.take().length).toBe(0)
    expect(client.session.streams).toBe(0)
  })

  it('hears a reset on either type of frame', () => {
    for (const type of [DATA, WINDOW_UPDATE]) {
      const { session, open } = opened()
      session.receive(frame(type, RST, 1, 0), 0)
      expect(open.sink.error?.code).toBe('reset')
    }
  })

  it('hears an end on either type of frame, and on one with the last data', () => {
    for (const last of [
      frame(DATA, FIN, 1, 0),
      frame(WINDOW_UPDATE, FIN, 1, 0),
      frame(DATA, FIN, 1, 2, Buffer.from('ab')),
    ]) {
      const { session, open } = opened()
      session.receive(last, 0)
      expect(open.sink.ended).toBe(true)
      expect(open.sink.text).toBe(last.length > 12 ? 'ab' : '')
    }
  })

  it('may be granted window with its SYN and its ACK', () => {
    const server = new End({ role: 'server' })
    server.session.sendWindow = 10
    server.session.receive(frame(WINDOW_UPDATE, SYN, 1, 5), 0)
    accepted(server).stream.write(Buffer.alloc(100))
    expect(kinds(server.take())).toEqual([
      [WINDOW_UPDATE, ACK, 1, 0],
      [DATA, 0, 1, 15],
    ])
    const { stream } = server.open()
    stream.write(Buffer.alloc(100))
    expect(kinds(server.take())).toEqual([[DATA, SYN, 2, 10]])
    server.session.receive(frame(WINDOW_UPDATE, ACK, 2, 50), 0)
    expect(kinds(server.take())).toEqual([[DATA, 0, 2, 50]])
  })

  it('is acknowledged by any frame: hashicorp/yamux sends no ACK for one that it saw end first', () => {
    const { session, open } = opened()
    expect(open.stream.acknowledged).toBe(false)
    session.receive(frame(DATA, 0, 1, 1, Buffer.from('x')), 0)
    expect(open.stream.acknowledged).toBe(true)
  })

  it('that nobody takes over is reset', () => {
    const events = { stream() {}, wake() {}, goAway() {}, idsLow() {} }
    const server = new Session({ role: 'server', events })
    server.receive(frame(DATA, SYN, 1, 3, Buffer.from('abc')), 0)
    const out: Uint8Array[] = []
    server.take(out, 1000)
    expect(kinds(Buffer.concat(out))).toEqual([[WINDOW_UPDATE, RST, 1, 0]])
    expect(server.streams).toBe(0)
  })

  it('may be reset, and its session aborted, out of its own sink', () => {
    for (const act of ['reset', 'abort'] as const) {
      const server = new End({ role: 'server' })
      server.onStream = (_stream, sink) => {
        sink.onData = (stream) => (act === 'reset' ? stream.reset() : server.session.abort(GONE))
      }
      const bytes = Buffer.concat([
        frame(DATA, SYN, 1, 4, Buffer.from('abcd')),
        frame(DATA, 0, 1, 2, Buffer.from('ef')),
        frame(DATA, SYN, 3, 1, Buffer.from('g')),
      ])
      server.session.receive(bytes.subarray(0, 14), 0)
      server.session.receive(bytes.subarray(14), 0)
      expect(accepted(server).sink.text).toBe('ab')
      expect(server.accepted.length).toBe(act === 'reset' ? 2 : 1)
    }
  })
})

describe('a session', () => {
  it('wakes its driver once until all is taken', () => {
    const [client] = pair()
    const { stream } = client.open()
    stream.write(Buffer.from('a'))
    stream.write(Buffer.from('b'))
    expect(client.wakes).toBe(1)
    client.take(13)
    expect(client.session.pending).toBe(true)
    stream.write(Buffer.from('c'))
    expect(client.wakes).toBe(1)
    client.take()
    expect(client.session.pending).toBe(false)
    stream.write(Buffer.from('d'))
    expect(client.wakes).toBe(2)
  })

  it('wakes its driver again when what was left is gone, and was never taken', () => {
    // Driver and session as they are in a tunnel: whoever took a part looks at `pending` when that part has been sent.
    const [client] = pair()
    const { stream } = client.open()
    client.session.receive(frame(WINDOW_UPDATE, ACK, 1, 1 << 20), 0)
    stream.write(Buffer.alloc(64 * 1024))
    client.take(12 + FRAME_PAYLOAD_BYTES)
    expect(client.session.pending).toBe(true)
    client.session.receive(frame(WINDOW_UPDATE, RST, 1, 0), 0)
    expect(client.session.pending).toBe(false)
    const wakes = client.wakes
    client.open().stream.write(Buffer.from('next'))
    expect(client.wakes).toBe(wakes + 1)
    expect(client.take().toString('latin1')).toContain('next')
  })

  it('wakes its driver again when what was left may not go any more', () => {
    const [client] = pair()
    const { stream: control } = client.open()
    const { stream } = client.open()
    control.write(Buffer.alloc(256 * 1024))
    stream.write(Buffer.from('x'))
    client.take()
    stream.reset()
    expect(client.session.pending).toBe(true)
    // The peer has granted the control stream nothing more, and resets do not pass it.
    control.write(Buffer.from('y'))
    expect(client.session.pending).toBe(false)
    const wakes = client.wakes
    client.session.receive(frame(WINDOW_UPDATE, ACK, 1, 1), 0)
    expect(client.wakes).toBe(wakes + 1)
  })

  it('takes at most its budget, and loses nothing by small ones', () => {
    const [client, server] = pair()
    const text = Buffer.from(Array.from({ length: 5_000 }, (_, i) => i))
    const { stream } = client.open()
    stream.write(text)
    stream.end()
    while (client.session.pending) server.session.receive(client.take(13 + (stream.queued % 97)), 0)
    expect(accepted(server).sink.received).toEqual(text)
    expect(accepted(server).sink.ended).toBe(true)
  })

  it('joins small frames in one buffer and passes large payloads on uncopied', () => {
    const [client] = pair()
    const large = Buffer.alloc(MUX_COPY_BYTES, 1)
    for (let i = 0; i < 10; i++) client.open().stream.write(Buffer.from(`small ${i}`))
    const out: Uint8Array[] = []
    client.session.take(out, 1 << 20)
    expect(out.length).toBe(1)
    client.open().stream.write(large)
    out.length = 0
    client.session.take(out, 1 << 20)
    expect(out[1]).toBe(large)
  })

  it('gathers queued chunks of a stream into one frame, and leaves a chunk as its owner wrote it', () => {
    const [client] = pair()
    const { stream } = client.open()
    const parts = ['one', 'two', 'three', 'x'.repeat(3_000), 'y'.repeat(3_000), 'z'.repeat(5_000), 'end']
    for (const part of parts) stream.write(Buffer.from(part))
    const sent = frames(client.take())
    expect(sent.length).toBe(1)
    expect(sent[0]?.body.toString()).toBe(parts.join(''))
  })

  it('keeps what was taken unchanged while more is written', () => {
    const [client] = pair()
    const { stream } = client.open()
    const taken: { view: Uint8Array; copy: Buffer }[] = []
    for (let i = 0; i < 2_000; i++) {
      stream.write(Buffer.alloc(100, i))
      const out: Uint8Array[] = []
      client.session.take(out, 50 + (i % 3) * 100)
      for (const view of out) taken.push({ view, copy: Buffer.from(view) })
    }
    for (const { view, copy } of taken) expect(copy.equals(view)).toBe(true)
  })

  it('asks for a pause when a stream queues too much, and says when to go on', () => {
    const [client, server] = pair()
    const { stream, sink } = client.open()
    expect(stream.write(Buffer.alloc(65_535))).toBe(true)
    expect(stream.write(Buffer.alloc(1))).toBe(false)
    server.session.receive(client.take(12 + 20_000), 0)
    expect(sink.drains).toBe(0)
    settle(client, server)
    expect([sink.drains, stream.queued]).toEqual([1, 0])
  })

  it('says when to go on also after the end, for owners that pass on what they consume', () => {
    const [client, server] = pair()
    const { stream, sink } = client.open()
    stream.write(Buffer.alloc(100_000))
    stream.end()
    settle(client, server)
    expect(sink.drains).toBe(1)
  })

  it('says nothing of a drain after a reset in the same round', () => {
    const [client] = pair()
    const one = client.open()
    const two = client.open()
    for (const { stream } of [one, two]) stream.write(Buffer.alloc(70_000))
    one.sink.onDrain = () => two.stream.reset()
    client.take()
    expect([one.sink.drains, two.sink.drains]).toEqual([1, 0])
  })

  it('gives nothing to a take out of take, and keeps it for the next', () => {
    const [client] = pair()
    const { stream, sink } = client.open()
    stream.write(Buffer.alloc(70_000))
    let inner = -1
    sink.onDrain = () => {
      stream.write(Buffer.from('more'))
      inner = client.session.take([], 1000)
    }
    client.take()
    expect(inner).toBe(0)
    expect(client.wakes).toBe(1)
    expect(client.session.pending).toBe(true)
    expect(kinds(client.take())).toEqual([[DATA, 0, 1, 4]])
  })

  it('keeps the order of bytes that come while it is reading', () => {
    const server = new End({ role: 'server' })
    server.onStream = (_stream, sink) => {
      sink.onData = () => {
        sink.onData = undefined
        server.session.receive(frame(DATA, 0, 1, 3, Buffer.from('xyz')), 0)
      }
    }
    server.session.receive(
      Buffer.concat([frame(DATA, SYN, 1, 3, Buffer.from('abc')), frame(DATA, 0, 1, 3, Buffer.from('def'))]),
      0,
    )
    expect(accepted(server).sink.text).toBe('abcdefxyz')
  })

  it('lets two ends talk without a wire between them', () => {
    const [client, server] = pair()
    client.onWake = () => server.session.receive(client.take(), 0)
    server.onWake = () => client.session.receive(server.take(), 0)
    server.onStream = (_peer, sink) => {
      sink.onData = (stream, chunk) => stream.write(Uint8Array.from(chunk))
      sink.onEnd = (stream) => stream.end()
    }
    const { stream, sink } = client.open()
    stream.write(Buffer.from('round '))
    stream.write(Buffer.from('trip'))
    stream.end()
    settle(client, server)
    expect([sink.text, sink.ended]).toEqual(['round trip', true])
  })

  it('resets all its streams when it is aborted, and is silent after', () => {
    const [client, server] = pair()
    const sinks = [client.open(), client.open(), client.open()]
    settle(client, server)
    sinks[0]?.stream.write(Buffer.from('x'))
    sinks[0]!.sink.onReset = () => sinks[1]?.stream.reset()
    client.session.abort(GONE)
    client.session.abort(GONE)
    expect(sinks.map(({ sink }) => sink.error?.code)).toEqual(['silent', undefined, 'silent'])
    expect([client.session.streams, client.session.pending, client.take().length]).toEqual([0, false, 0])
    expect(client.session.open(new Recorder())).toBeUndefined()
    expect(client.session.whyNotOpen()).toBe('closed')
    client.session.receive(frame(DATA, 0, 1, 1, Buffer.from('x')), 0)
    sinks[2]?.stream.write(Buffer.from('x'))
    sinks[2]?.stream.consume(1)
    expect(client.session.pending).toBe(false)
  })

  it('counts the bytes of the wire', () => {
    const [client, server] = pair()
    client.open().stream.write(Buffer.from('12345'))
    settle(client, server)
    expect([client.session.bytesOut, server.session.bytesIn]).toEqual([17, 17])
    expect([server.session.bytesOut, client.session.bytesIn]).toEqual([12, 12])
  })

  it('measures the round trip with one ping at a time, and keeps the least', () => {
    const [client, server] = pair()
    client.session.ping(100)
    client.session.ping(120)
    expect(client.session.rtt).toBeUndefined()
    settle(client, server, 150)
    expect(client.session.rtt).toBe(50)
    client.session.ping(1000)
    settle(client, server, 1080)
    expect(client.session.rtt).toBe(50)
    client.session.ping(2000)
    settle(client, server, 2010)
    expect(client.session.rtt).toBe(10)
  })

  it('does not take the queue of a transfer for the way, unless it knows of nothing else for minutes', () => {
    const [client, server] = pair()
    client.session.ping(0)
    settle(client, server, 20)
    const { stream } = client.open()
    settle(client, server, 20)
    // The answers come at once in this test: what is late is the time that they are told.
    const late = (from: number, took: number): void => {
      client.session.ping(from)
      const ping = client.take()
      stream.write(Buffer.alloc(RTT_LOADED_BYTES))
      settle(client, server, from)
      server.session.receive(ping, from)
      client.session.receive(server.take(), from + took)
    }
    for (let n = 1; n <= 2 * RTT_SAMPLES; n++) late(n * 1_000, 200)
    expect(client.session.rtt).toBe(20)
    late(100_000, 15)
    expect(client.session.rtt).toBe(15)
    for (let n = 1; n <= RTT_SAMPLES; n++) late(100_000 + n * RTT_STALE_MS, 200)
    expect(client.session.rtt).toBe(200)
  })
})

describe('a GoAway', () => {
  it('is the last frame, behind all that could leave, and stops what is written later', () => {
    const [client, server] = pair()
    const { stream } = client.open()
    settle(client, server)
    stream.write(Buffer.alloc(40_000))
    client.session.goAway(0)
    expect(stream.write(Buffer.from('too late'))).toBe(true)
    expect(client.session.whyNotOpen()).toBe('going_away')
    const sent: Buffer[] = []
    while (client.session.pending) sent.push(client.take(20_000))
    const list = kinds(Buffer.concat(sent))
    expect(list.at(-1)).toEqual([GO_AWAY, 0, 0, 0])
    expect(list.slice(0, -1).reduce((sum, [, , , length]) => sum + length, 0)).toBe(40_000)
    stream.reset()
    client.session.ping(0)
    expect(client.session.pending).toBe(false)
    server.session.receive(Buffer.concat(sent), 0)
    expect(server.goAways).toEqual([0])
    expect(server.session.open(new Recorder())).toBeUndefined()
    expect(accepted(server).sink.received.length).toBe(40_000)
  })

  it('does not wait for data that the peer gives no window for', () => {
    const [client, server] = pair()
    client.session.sendWindow = 10
    client.open().stream.write(Buffer.alloc(100))
    settle(client, server)
    client.session.goAway(2)
    expect(kinds(client.take())).toEqual([[GO_AWAY, 0, 0, 2]])
  })

  it('lets streams that live finish', () => {
    const [client, server] = pair()
    const { sink } = client.open()
    settle(client, server)
    server.session.goAway(0)
    settle(client, server)
    server.session.receive(frame(DATA, SYN, 3, 2, Buffer.from('no')), 0)
    expect(server.accepted.length).toBe(1)
    expect([client.goAways, sink.error]).toEqual([[0], undefined])
  })
})

describe('opening streams', () => {
  it('stops at 256 that the peer has not acknowledged, and says when there is room', () => {
    const [client, server] = pair()
    for (let i = 0; i < UNACKNOWLEDGED_STREAMS; i++) client.open()
    expect(client.session.canOpen()).toBe(false)
    expect(client.session.open(new Recorder())).toBeUndefined()
    expect(client.session.whyNotOpen()).toBe('unacknowledged')
    expect(client.openedCalls).toBe(0)
    settle(client, server)
    expect(client.openedCalls).toBe(1)
    expect(client.session.canOpen()).toBe(true)
  })

  it('counts one that was reset unsent until its only frame has left', () => {
    const [client, server] = pair()
    for (let i = 0; i < UNACKNOWLEDGED_STREAMS; i++) client.open().stream.reset()
    expect(client.session.whyNotOpen()).toBe('unacknowledged')
    const sent = client.take()
    expect(new Set(frames(sent).map(({ flags }) => flags))).toEqual(new Set([SYN | RST]))
    expect(client.session.canOpen()).toBe(true)
    server.session.receive(sent, 0)
    expect(server.accepted.length).toBe(0)
    client.open().stream.write(Buffer.from('x'))
    settle(client, server)
    expect(accepted(server).sink.text).toBe('x')
  })

  it('stops at the bound on live streams, and says when there is room', () => {
    const [client, server] = [new End({ role: 'client', maxStreams: 2 }), new End({ role: 'server' })]
    const { stream } = client.open()
    client.open()
    settle(client, server)
    expect(client.session.open(new Recorder())).toBeUndefined()
    expect(client.session.whyNotOpen()).toBe('max_streams')
    stream.reset()
    expect(client.openedCalls).toBe(1)
    client.open()
  })

  it('says once that the ids run low, on both sides, and ends at twice that', () => {
    const client = new End({ role: 'client', idDrain: 9 })
    const server = new End({ role: 'server', idDrain: 9 })
    const ids: number[] = []
    while (client.session.canOpen()) {
      const { stream } = client.open()
      ids.push(stream.id)
      expect(client.idsLowCalls).toBe(stream.id + 2 > 9 ? 1 : 0)
      settle(client, server)
      stream.reset()
    }
    expect(ids).toEqual([1, 3, 5, 7, 9, 11, 13, 15, 17])
    expect(client.session.whyNotOpen()).toBe('ids')
    expect([client.idsLowCalls, server.idsLowCalls]).toEqual([1, 1])
  })

  it('uses frames of at most 16 KiB with their header', () => {
    const [client] = pair()
    client.open().stream.write(Buffer.alloc(100_000))
    expect(Math.max(...frames(client.take()).map(({ length }) => length))).toBe(FRAME_PAYLOAD_BYTES)
  })
})

/** A client with one stream whose SYN has left. */
function opened(): { session: End['session']; open: { stream: Stream; sink: Recorder } } {
  const client = new End({ role: 'client' })
  const open = client.open()
  client.take()
  return { session: client.session, open }
}
