import { describe, expect, it } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import {
  CLOSED_STREAMS_REMEMBERED,
  EMPTY_FRAMES_BURST,
  EMPTY_FRAMES_PER_SECOND,
  PENDING_RESETS,
  SKIPPED_STREAM_IDS,
  UNACKNOWLEDGED_STREAMS,
  YAMUX_WINDOW_BYTES,
} from '../../src/limits.ts'
import { End, frame, frames } from './pair.ts'

const DATA = 0
const WINDOW_UPDATE = 1
const PING = 2
const GO_AWAY = 3
const SYN = 1
const ACK = 2
const FIN = 4
const RST = 8
const U32_MAX = 0xffff_ffff

/** Feeds a server what a peer sent, expects the rule to be named, and the GoAway to be all that is still sent. */
function refused(server: End, code: string, ...bytes: Uint8Array[]): string {
  let error: unknown
  try {
    for (const chunk of bytes) server.session.receive(chunk, 0)
  } catch (thrown) {
    error = thrown
  }
  if (!(error instanceof TunnelError)) throw new Error('nothing was refused', { cause: error })
  expect([error.code, error.scope, error.remote]).toEqual([code, 'tunnel', true])
  for (const { stream } of server.accepted) stream.write(Buffer.from('more'))
  expect(server.take()).toEqual(frame(GO_AWAY, 0, 0, 1))
  server.session.receive(frame(DATA, SYN, 101, 1, Buffer.from('x')), 0)
  expect(server.session.pending).toBe(false)
  return error.message
}

/** A server with the client's stream 1 open. */
function server(): End {
  const end = new End({ role: 'server' })
  end.session.receive(frame(WINDOW_UPDATE, SYN, 1, 0), 0)
  end.take()
  return end
}

const body = (length: number): Buffer => Buffer.alloc(length, 0x61)

describe('a peer ends its session by', () => {
  const cases: [what: string, code: string, says: RegExp, ...bytes: Buffer[]][] = [
    ['another version', 'protocol_error', /version 1/, frame(DATA, 0, 1, 0, body(0), 1)],
    ['a type that there is not', 'protocol_error', /type 4/, frame(4, 0, 1, 0)],
    ['flags that there are not', 'protocol_error', /flags 0x10/, frame(DATA, 16, 1, 0)],
    ['garbage', 'protocol_error', /version 71/, Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
    ['a SYN for a stream that lives', 'protocol_error', /stream 1: used/, frame(DATA, SYN, 1, 0)],
    [
      'a SYN for a stream that ended',
      'protocol_error',
      /stream 1: used/,
      frame(DATA, RST, 1, 0),
      frame(DATA, SYN, 1, 0),
    ],
    ['a SYN for an id of ours', 'protocol_error', /stream 2, whose parity/, frame(WINDOW_UPDATE, SYN, 2, 0)],
    ['a SYN for stream 0', 'protocol_error', /stream 0/, frame(WINDOW_UPDATE, SYN, 0, 0)],
    [
      'a SYN far past its last id',
      'protocol_error',
      /out of order/,
      frame(DATA, SYN, 1 + 2 * (SKIPPED_STREAM_IDS + 2), 0),
    ],
    ['data for stream 0', 'protocol_error', /stream 0, which was never/, frame(DATA, 0, 0, 0)],
    [
      'a frame for a stream never opened',
      'protocol_error',
      /stream 3, which was never/,
      frame(DATA, 0, 3, 0),
    ],
    [
      'a window update for a stream of ours that is not',
      'protocol_error',
      /stream 2/,
      frame(WINDOW_UPDATE, 0, 2, 9),
    ],
    ['a reset of a stream never opened', 'protocol_error', /stream 5/, frame(WINDOW_UPDATE, RST, 5, 0)],
    ['a length of 2^32 - 1', 'window_exceeded', /4294967295 bytes/, frame(DATA, 0, 1, U32_MAX)],
    ['one byte past the window', 'window_exceeded', /262145/, frame(DATA, 0, 1, YAMUX_WINDOW_BYTES + 1)],
    ['a window past 2^32 - 1', 'protocol_error', /2\^32/, frame(WINDOW_UPDATE, 0, 1, U32_MAX)],
    [
      'data after its FIN',
      'protocol_error',
      /after FIN/,
      frame(DATA, FIN, 1, 0),
      frame(DATA, 0, 1, 1, body(1)),
    ],
    ['a second FIN', 'protocol_error', /second FIN/, frame(DATA, FIN, 1, 0), frame(WINDOW_UPDATE, FIN, 1, 0)],
    ['a ping on a stream', 'protocol_error', /ping on stream 1/, frame(PING, SYN, 1, 0)],
    ['a ping that neither asks nor answers', 'protocol_error', /ping with flags/, frame(PING, 0, 0, 0)],
    ['a GoAway on a stream', 'protocol_error', /GoAway on stream 1/, frame(GO_AWAY, 0, 1, 0)],
  ]
  it.each(cases)('%s', (_what, code, says, ...bytes) => {
    expect(refused(server(), code, ...bytes)).toMatch(says)
  })

  it('bytes past what is left of its window, over many frames', () => {
    const end = server()
    end.onStream = undefined
    const [one] = end.accepted
    if (one === undefined) throw new Error('no stream')
    one.sink.hold = true
    for (let i = 0; i < 16; i++) end.session.receive(frame(DATA, 0, 1, 16_384, body(16_384)), 0)
    expect(one.stream.unread).toBe(YAMUX_WINDOW_BYTES)
    refused(end, 'window_exceeded', frame(DATA, 0, 1, 1))
    expect(one.stream.unread).toBe(YAMUX_WINDOW_BYTES)
  })

  it("keeping to yamux's window when it was told a smaller one", () => {
    const end = new End({ role: 'server', receiveWindow: 65_536 })
    refused(end, 'window_exceeded', frame(DATA, SYN, 1, 65_537))
  })

  it('a flood of pings, of empty data, of empty updates, of answers to no ping, and of GoAways', () => {
    const floods = [
      frame(PING, SYN, 0, 7),
      frame(PING, ACK, 0, 7),
      frame(DATA, 0, 1, 0),
      frame(WINDOW_UPDATE, ACK, 1, 0),
      frame(GO_AWAY, 0, 0, 0),
    ]
    for (const one of floods) {
      const end = server()
      const flood = Buffer.concat(Array.from({ length: EMPTY_FRAMES_BURST }, () => one))
      end.session.receive(flood, 0)
      end.take()
      // The answer to a GoAway is none, so one more passes: the first counted as news.
      refused(end, 'flood', Buffer.concat([one, one]))
    }
  })

  it('pinging without reading the answers, however slowly', () => {
    const end = server()
    for (let i = 0; i < EMPTY_FRAMES_BURST; i++) end.session.receive(frame(PING, SYN, 0, i), i * 100)
    refused(end, 'flood', frame(PING, SYN, 0, 0))
  })

  it('opening streams past the bound again and again', () => {
    const end = new End({ role: 'server', maxStreams: 2 })
    const opens = (from: number, count: number): Buffer =>
      Buffer.concat(Array.from({ length: count }, (_, i) => frame(DATA, SYN, 1 + 2 * (from + i), 1, body(1))))
    end.session.receive(opens(0, 2 + EMPTY_FRAMES_BURST), 0)
    expect(end.accepted.length).toBe(2)
    expect(frames(end.take()).filter(({ flags }) => flags === RST).length).toBe(EMPTY_FRAMES_BURST)
    refused(end, 'too_many_streams', opens(2 + EMPTY_FRAMES_BURST, 1))
  })

  it('opening streams without reading that they were reset', () => {
    const end = new End({ role: 'server' })
    end.onStream = (stream) => stream.reset()
    for (let i = 0; i < PENDING_RESETS; i++) end.session.receive(frame(DATA, SYN, 1 + 2 * i, 0), 0)
    refused(end, 'flood', frame(DATA, SYN, 1 + 2 * PENDING_RESETS, 0))
  })

  it('more bytes for a closed stream than its window had left', () => {
    const end = server()
    end.session.receive(frame(DATA, 0, 1, 100_000, body(100_000)), 0)
    end.accepted[0]?.stream.reset()
    const left = YAMUX_WINDOW_BYTES - 100_000
    end.session.receive(frame(DATA, 0, 1, left, body(left)), 0)
    refused(end, 'window_exceeded', frame(DATA, 0, 1, 1))
  })

  it('data for a stream that it first heard of with its reset', () => {
    const end = server()
    end.open().stream.reset()
    end.take()
    refused(end, 'window_exceeded', frame(DATA, 0, 2, 1))
  })

  it('data for a stream that it had ended itself', () => {
    const end = server()
    end.accepted[0]?.stream.end()
    end.session.receive(frame(DATA, FIN, 1, 0), 0)
    end.take()
    expect(end.session.streams).toBe(0)
    refused(end, 'window_exceeded', frame(DATA, 0, 1, 1))
  })
})

describe('a peer may', () => {
  it('open and reset streams for ever without reading: nothing waits for it', () => {
    const end = new End({ role: 'server' })
    for (let id = 1; id < 20_000; id += 2) {
      end.session.receive(frame(DATA, SYN, id, 0), 0)
      end.session.receive(frame(DATA, RST, id, 0), 0)
      expect(end.session.pending).toBe(false)
    }
    expect([end.accepted.length, end.session.streams, end.take().length]).toEqual([10_000, 0, 0])
  })

  it('ping at the rate that is allowed, for ever', () => {
    const end = server()
    for (let i = 0; i < 5_000; i++) {
      end.session.receive(frame(PING, SYN, 0, i), (i * 1000) / EMPTY_FRAMES_PER_SECOND)
      expect(end.take().length).toBe(12)
    }
  })

  it('use ids that it left out, each once', () => {
    const end = new End({ role: 'server' })
    for (const id of [5, 1, 3]) end.session.receive(frame(DATA, SYN, id, 0), 0)
    expect(end.accepted.map(({ stream }) => stream.id)).toEqual([5, 1, 3])
    refused(end, 'protocol_error', frame(DATA, SYN, 3, 0))
  })

  it('leave out ids for good: those too far behind count as used', () => {
    const end = new End({ role: 'server' })
    const last = 1 + 4 * SKIPPED_STREAM_IDS
    for (let id = 5; id <= last; id += 4) end.session.receive(frame(DATA, SYN | RST, id, 0), 0)
    end.session.receive(frame(DATA, SYN, last - 2, 0), 0)
    refused(end, 'protocol_error', frame(DATA, SYN, 3, 0))
  })

  it('open 256 streams before it is answered; one more is reset and the session lives', () => {
    const end = new End({ role: 'server' })
    for (let i = 0; i <= UNACKNOWLEDGED_STREAMS; i++) end.session.receive(frame(DATA, SYN, 1 + 2 * i, 0), 0)
    expect(end.accepted.length).toBe(UNACKNOWLEDGED_STREAMS)
    const sent = frames(end.take())
    expect(sent.filter(({ flags }) => flags === ACK).length).toBe(UNACKNOWLEDGED_STREAMS)
    expect(sent.at(-1)).toMatchObject({ flags: RST, id: 1 + 2 * UNACKNOWLEDGED_STREAMS })
    end.session.receive(frame(DATA, SYN, 3 + 2 * UNACKNOWLEDGED_STREAMS, 0), 0)
    expect(end.accepted.length).toBe(UNACKNOWLEDGED_STREAMS + 1)
  })

  it("send what a refused stream's window allows before it hears of the reset", () => {
    const end = new End({ role: 'server', maxStreams: 0 })
    end.session.receive(frame(DATA, SYN, 1, 1000, body(1000)), 0)
    const left = YAMUX_WINDOW_BYTES - 1000
    end.session.receive(frame(DATA, 0, 1, left, body(left)), 0)
    expect(end.session.streams).toBe(0)
    refused(end, 'window_exceeded', frame(DATA, 0, 1, 1))
  })

  it('finish a frame in whose middle its stream was reset', () => {
    const end = server()
    end.session.receive(frame(DATA, 0, 1, 1000, body(400)), 0)
    end.accepted[0]?.stream.reset()
    end.session.receive(body(600), 0)
    const left = YAMUX_WINDOW_BYTES - 1000
    end.session.receive(frame(DATA, 0, 1, left, body(left)), 0)
    refused(end, 'window_exceeded', frame(DATA, 0, 1, 1))
  })

  it('send ends, resets, answers and updates for a stream that closed meanwhile', () => {
    const end = server()
    const mine = end.open().stream
    mine.write(Buffer.from('x'))
    end.take()
    mine.reset()
    end.take()
    for (const late of [
      frame(WINDOW_UPDATE, ACK, 2, 0),
      frame(DATA, 0, 2, 5, body(5)),
      frame(WINDOW_UPDATE, 0, 2, 1000),
      frame(WINDOW_UPDATE, FIN, 2, 0),
      frame(WINDOW_UPDATE, RST, 2, 0),
    ]) {
      end.session.receive(late, 0)
    }
    expect(end.session.pending).toBe(false)
    refused(end, 'window_exceeded', frame(DATA, 0, 2, 1))
  })

  it('not send such frames without end', () => {
    const end = server()
    end.accepted[0]?.stream.reset()
    end.take()
    const late = frame(WINDOW_UPDATE, 0, 1, 1000)
    refused(end, 'flood', Buffer.concat(Array.from({ length: 2 * EMPTY_FRAMES_BURST }, () => late)))
  })

  it('race with the end of thousands of streams: their windows are counted, though not remembered one by one', () => {
    const end = new End({ role: 'server' })
    end.onStream = (stream) => stream.reset()
    const extra = 10
    for (let i = 0; i < CLOSED_STREAMS_REMEMBERED + extra; i++) {
      end.session.receive(frame(DATA, SYN, 1 + 2 * i, 0), 0)
      end.take()
    }
    // The first ten are forgotten one by one and remembered as a sum; it does not matter whose bytes come.
    for (let i = 0; i < extra; i++) {
      end.session.receive(frame(DATA, 0, 1, YAMUX_WINDOW_BYTES, body(YAMUX_WINDOW_BYTES)), 0)
    }
    const last = 1 + 2 * (CLOSED_STREAMS_REMEMBERED + extra - 1)
    end.session.receive(frame(DATA, 0, last, YAMUX_WINDOW_BYTES, body(YAMUX_WINDOW_BYTES)), 0)
    refused(end, 'window_exceeded', frame(DATA, 0, 3, 1))
  })
})
