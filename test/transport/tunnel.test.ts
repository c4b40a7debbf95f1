import type { TLSSocket } from 'node:tls'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { TunnelError } from '../../src/errors.ts'
import { createIdentity, type Identity } from '../../src/identity/index.ts'
import type { Stream, StreamSink } from '../../src/mux/index.ts'
import type { ClientMessage, GatewayMessage } from '../../src/protocol/index.ts'
import { Tunnel, type TunnelOptions } from '../../src/transport/index.ts'
import { Moments } from '../client/moments.ts'
import { turns, until } from '../net/joined.ts'
import { Door } from './door.ts'
import {
  ACK,
  control,
  DATA,
  FIN,
  type Frame,
  frame,
  GO_AWAY,
  HELLO,
  PING,
  RawPeer,
  RST,
  SYN,
  WINDOW_UPDATE,
} from './raw-peer.ts'

let identity: Identity
let door: Door | undefined
const closing: (() => void)[] = []

beforeAll(async () => {
  identity = createIdentity()
})

afterEach(async () => {
  vi.useRealTimers()
  for (const close of closing.splice(0)) close()
  await door?.close()
  door = undefined
})

const silent: StreamSink = { data: () => {}, end: () => {}, reset: () => {}, drain: () => {} }

interface Joined {
  tunnel: Tunnel
  peer: RawPeer
  socket: TLSSocket
  heard: Moments<ClientMessage | GatewayMessage>
  streams: Moments<Stream>
  ended: Promise<TunnelError>
  /** What the handler was told, in order. */
  told: Moments<string>
}

/** A tunnel, and whoever the test is at its other end. TLS roles do not matter to it. */
async function join(options: TunnelOptions = { role: 'gateway' }): Promise<Joined> {
  const heard = new Moments<ClientMessage | GatewayMessage>()
  const streams = new Moments<Stream>()
  const told = new Moments<string>()
  let end: (reason: TunnelError) => void = () => {}
  const ended = new Promise<TunnelError>((resolve) => (end = resolve))
  let tunnel: Tunnel | undefined
  door ??= await Door.open(identity, undefined, ({ socket, authenticated }) => {
    authenticated()
    tunnel = new Tunnel(
      socket,
      {
        message: (message) => {
          told.add(`message ${message.type}`)
          heard.add(message)
        },
        stream: (stream) => {
          told.add(`stream ${stream.id}`)
          stream.sink = silent
          streams.add(stream)
        },
        closed: (reason) => {
          told.add(`closed ${reason.code}`)
          end(reason)
        },
        openable: () => told.add('openable'),
        idsLow: () => told.add('idsLow'),
      },
      options,
    )
  })
  const peer = await RawPeer.dial(door.port, identity)
  const { socket } = await door.arrivals.at(0)
  if (tunnel === undefined) throw new Error('nobody came')
  const made = tunnel
  closing.push(() => peer.socket.destroy())
  return { tunnel: made, peer, socket, heard, streams, ended, told }
}

async function established(options?: TunnelOptions): Promise<Joined> {
  const joined = await join(options)
  const { peer, tunnel, heard } = joined
  if (tunnel.role === 'gateway') {
    peer.say(HELLO)
    await heard.at(0)
  } else await peer.frames.at(0)
  tunnel.establish({ peerStreamWindow: 65_536, keepaliveSeconds: 10 })
  return joined
}

const isGoAway = ({ type }: Frame): boolean => type === GO_AWAY

describe('a tunnel before its welcome', () => {
  test('carries the hello to its owner', async () => {
    const { peer, heard, tunnel } = await join()
    peer.say(HELLO)
    expect(await heard.at(0)).toMatchObject({ type: 'hello', agent: 'test/0' })
    expect(tunnel.established).toBe(false)
  })

  test('knows the other side by a plain IPv4 address, however the socket writes it', async () => {
    const { tunnel } = await join()
    expect(tunnel.remoteAddress).toBe('127.0.0.1')
    const mapped = {
      remoteAddress: '::ffff:192.0.2.7',
      on: () => {},
      destroy: () => {},
    } as unknown as TLSSocket
    const other = new Tunnel(
      mapped,
      { message: () => {}, stream: () => {}, closed: () => {} },
      { role: 'gateway' },
    )
    expect(other.remoteAddress).toBe('192.0.2.7')
    other.destroy((await tunnelError()) as TunnelError)
  })

  test.each([
    ['is not JSON', 'not json'],
    ['is not UTF-8', '{"type":"\ud800"'],
    ['has no type', '[]'],
    ['has the wrong shape', '{"type":"hello","protocol":1}'],
    ['is a hello without services', JSON.stringify({ ...HELLO, services: undefined })],
    ['has an invite’s secret of the wrong length', JSON.stringify({ ...HELLO, enroll: { secret: 'abc' } })],
  ])('answers a control message that %s with a reject, then GoAway, then the end', async (_what, text) => {
    const { peer, ended, told } = await join()
    peer.say(text)
    expect(await peer.heard('reject')).toMatchObject({ code: 'protocol_error', final: false })
    await peer.closed
    expect(peer.last).toMatchObject({ type: GO_AWAY, length: 1 })
    expect((await ended).code).toBe('protocol_error')
    expect(told.all).toEqual(['closed protocol_error'])
  })

  test('answers a control message that is announced too long at its announcement', async () => {
    const { peer, ended } = await join()
    peer.write(frame(DATA, SYN, 1, Buffer.from([0, 1, 0, 1])))
    expect((await peer.heard('reject')).message).toContain('65537')
    expect((await ended).code).toBe('protocol_error')
  })

  test('hears nothing that comes after a broken message, not even in the same packet', async () => {
    const { peer, ended, told } = await join()
    peer.write(
      frame(DATA, SYN, 1, control('nonsense')),
      frame(DATA, 0, 1, Buffer.concat([control(HELLO), control(HELLO)])),
    )
    await ended
    expect(told.all).toEqual(['closed protocol_error'])
  })

  test('hears nothing after a message whose answer is the end, not even in the same packet', async () => {
    const { peer, tunnel, ended, told } = await join()
    const { handler } = tunnel
    tunnel.handler = {
      ...handler,
      message: (message) => {
        handler.message(message)
        tunnel.end()
      },
    }
    peer.write(frame(DATA, SYN, 1, Buffer.concat([control(HELLO), control(HELLO)])))
    await ended
    expect(told.all).toEqual(['message hello', 'closed closed'])
  })

  test('takes no more than 64 KiB', async () => {
    const { peer, heard, ended } = await join()
    const padded = JSON.stringify({ ...HELLO, agent: 'short', ignored: 'x'.repeat(60_000) })
    peer.say(padded)
    await heard.at(0)
    peer.say(JSON.stringify({ type: 'nobody knows', ignored: 'x'.repeat(6_000) }))
    expect((await peer.heard('reject')).message).toContain('65536 bytes before a welcome')
    expect((await ended).code).toBe('protocol_error')
  })

  test('takes one stream, and that is stream 1', async () => {
    const { peer, ended, told } = await join()
    peer.write(frame(DATA, SYN, 3, control(HELLO)))
    expect((await ended).message).toContain('stream 1')
    expect(told.all).toEqual(['closed protocol_error'])
    await peer.closed
    expect(peer.last).toMatchObject({ type: GO_AWAY, length: 1 })
  })

  test('takes no second stream, then or later', async () => {
    const { peer, ended } = await established()
    peer.write(frame(DATA, SYN, 3, Buffer.from('more')))
    expect((await peer.heard('reject')).code).toBe('protocol_error')
    expect((await ended).message).toContain('not 3')
  })

  test('as a client resets what the gateway opens before its welcome', async () => {
    const { peer, told, tunnel } = await join({ role: 'client' })
    tunnel.send(HELLO)
    await peer.frames.at(0)
    peer.write(frame(DATA, SYN, 2, Buffer.from('early')))
    await peer.frames.find(({ id, flags }) => id === 2 && (flags & RST) !== 0)
    expect(told.all).toEqual([])
  })
})

/** Any. */
async function tunnelError(): Promise<unknown> {
  const { TunnelError } = await import('../../src/errors.ts')
  return new TunnelError('closed', { scope: 'tunnel', detail: 'the test is over' })
}

describe('a tunnel whose peer breaks the rules of yamux', () => {
  const bad = Buffer.from(frame(PING, SYN, 0))
  bad[0] = 1
  test.each<[string, string, Buffer[]]>([
    ['a wrong version', 'protocol_error', [bad]],
    ['an unknown type', 'protocol_error', [frame(9, 0, 1)]],
    ['a SYN on a live id', 'protocol_error', [frame(WINDOW_UPDATE, SYN, 1)]],
    ['a SYN of our parity', 'protocol_error', [frame(WINDOW_UPDATE, SYN, 4)]],
    ['a frame for an id never opened', 'protocol_error', [frame(DATA, 0, 77, Buffer.from('x'))]],
    ['data of 2³² bytes', 'window_exceeded', [frame(DATA, 0, 1, 0xffff_ffff)]],
    [
      'windows past 2³²',
      'protocol_error',
      [frame(WINDOW_UPDATE, 0, 1, 0xffff_ffff), frame(WINDOW_UPDATE, 0, 1, 0xffff_ffff)],
    ],
    ['a flood of pings', 'flood', Array.from({ length: 1_100 }, () => frame(PING, SYN, 0))],
    ['a flood of empty data', 'flood', Array.from({ length: 1_100 }, () => frame(DATA, 0, 1))],
  ])(
    'ends on %s: GoAway(1) is the last frame, and the reason says what it was',
    async (_what, code, frames) => {
      const { peer, ended } = await established()
      peer.write(...frames)
      await peer.closed
      expect(peer.last).toMatchObject({ type: GO_AWAY, length: 1 })
      expect(await ended).toMatchObject({ code, scope: 'tunnel', remote: true })
    },
  )

  test('ends on a flood of control messages, those of unknown types too', async () => {
    const { peer, ended } = await established()
    const one = control('{"type":"?"}')
    for (let sent = 0; sent < 5_200; sent += 200) {
      peer.write(frame(DATA, 0, 1, Buffer.concat(Array.from({ length: 200 }, () => one))))
    }
    expect((await ended).code).toBe('flood')
    await peer.closed
    expect(peer.last).toMatchObject({ type: GO_AWAY, length: 1 })
  })

  test('ends when control messages pile up for a peer that does not read', async () => {
    const { peer, tunnel, ended } = await established()
    peer.socket.pause()
    const message = 'x'.repeat(60_000)
    for (let sent = 0; sent < 1_000 && !tunnel.closed; sent += 1) {
      tunnel.send({ type: 'reject', code: 'overloaded', message, final: false })
      await turns(1)
    }
    expect(await ended).toMatchObject({ code: 'flood', remote: true })
  })

  test('ends when the control stream is reset, and in order when it is ended', async () => {
    const one = await established()
    one.peer.write(frame(WINDOW_UPDATE, RST, 1))
    expect((await one.ended).code).toBe('reset')
    await door?.close()
    door = undefined
    const two = await established()
    two.peer.write(frame(WINDOW_UPDATE, FIN, 1))
    expect((await two.ended).code).toBe('closed')
    await two.peer.closed
    expect(two.peer.last).toMatchObject({ type: GO_AWAY, length: 0 })
  })
})

describe('the end of a tunnel', () => {
  test('in order: what was written leaves, and GoAway(0) is the last frame', async () => {
    const { peer, tunnel, ended } = await established()
    const stream = tunnel.open(silent)
    stream?.write(Buffer.alloc(60_000, 'a'))
    tunnel.send({ type: 'drain', deadlineMs: 1 })
    tunnel.end()
    expect(tunnel.ending).toBe(true)
    await peer.closed
    expect(peer.bytes(2).length).toBe(60_000)
    expect(await peer.heard('drain')).toMatchObject({ deadlineMs: 1 })
    expect(peer.last).toMatchObject({ type: GO_AWAY, length: 0 })
    expect(peer.frames.all.filter(isGoAway)).toHaveLength(1)
    expect((await ended).code).toBe('closed')
  })

  test('delivers megabytes that a slow reader had not taken yet', async () => {
    const { peer, tunnel } = await established()
    peer.socket.pause()
    const streams = Array.from({ length: 40 }, () => tunnel.open(silent))
    for (const stream of streams) stream?.write(Buffer.alloc(65_536, 'b'))
    tunnel.end()
    await turns(20)
    peer.socket.resume()
    await peer.closed
    for (const stream of streams) expect(peer.bytes(stream?.id ?? 0).length).toBe(65_536)
    expect(peer.last).toMatchObject({ type: GO_AWAY, length: 0 })
  })

  test('is bounded for a peer that does not read', async () => {
    const { peer, tunnel, ended } = await established()
    peer.socket.pause()
    for (let n = 0; n < 200; n += 1) tunnel.open(silent)?.write(Buffer.alloc(65_536))
    await turns(10)
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    tunnel.end()
    await vi.advanceTimersByTimeAsync(1_999)
    expect(tunnel.closed).toBe(false)
    await vi.advanceTimersByTimeAsync(1)
    expect((await ended).code).toBe('closed')
  })

  test('opens nothing, hears nothing, and tells its owner once, after every stream', async () => {
    const { peer, tunnel, ended, told } = await established()
    const stream = tunnel.open({ ...silent, reset: () => told.add('stream reset') })
    expect(stream).toBeDefined()
    await peer.frames.find(({ id }) => id === 2)
    tunnel.end()
    expect(tunnel.open(silent)).toBeUndefined()
    peer.say({ type: 'drain', deadlineMs: 5 })
    await ended
    expect(tunnel.closed).toBe(true)
    expect(told.all).toEqual(['message hello', 'stream reset', 'closed closed'])
    tunnel.destroy(await ended)
    tunnel.end()
    tunnel.send({ type: 'drain', deadlineMs: 5 })
    await turns(5)
    expect(told.all).toHaveLength(3)
  })

  test('by destroy: nothing is written any more', async () => {
    const { peer, tunnel, socket, ended } = await established()
    const stream = tunnel.open(silent)
    await peer.frames.find(({ id }) => id === 2)
    let writes = 0
    const write = socket.write.bind(socket)
    socket.write = ((...args: Parameters<typeof write>) => {
      writes += 1
      return write(...args)
    }) as typeof socket.write
    stream?.write(Buffer.alloc(1_000))
    tunnel.destroy((await tunnelError()) as TunnelError)
    stream?.write(Buffer.alloc(1_000))
    tunnel.send({ type: 'drain', deadlineMs: 1 })
    await ended
    await turns(5)
    await peer.closed
    expect(writes).toBe(0)
  })

  test('by the peer’s GoAway is orderly, and says with which code it came', async () => {
    const one = await established()
    one.peer.write(frame(GO_AWAY, 0, 0, 0))
    expect(await one.ended).toMatchObject({ code: 'closed', remote: true })
    await door?.close()
    door = undefined
    const two = await established()
    two.peer.write(frame(GO_AWAY, 0, 0, 2))
    expect((await two.ended).message).toContain('code 2')
  })

  test('by a connection that breaks is told as such', async () => {
    const { peer, ended } = await established()
    peer.socket.destroy()
    const { code, remote } = await ended
    // A FIN, or a RST if something of ours was under way.
    expect(['closed', 'reset']).toContain(code)
    expect(remote).toBe(true)
  })
})

describe('what leaves a tunnel', () => {
  test('is one write per turn of the loop, however many streams speak', async () => {
    const { peer, tunnel, socket } = await established()
    const streams = Array.from({ length: 100 }, () => tunnel.open(silent) as Stream)
    await until(() => peer.opened.length === 100)
    peer.write(...streams.map(({ id }) => frame(WINDOW_UPDATE, ACK, id)))
    await until(() => streams.every(({ acknowledged }) => acknowledged))
    const inner = socket as unknown as Record<'_write' | '_writev', (...args: unknown[]) => void>
    let writes = 0
    for (const name of ['_write', '_writev'] as const) {
      const real = inner[name].bind(inner)
      inner[name] = (...args) => {
        writes += 1
        real(...args)
      }
    }
    for (const stream of streams) stream.write(Buffer.alloc(100, 'x'))
    for (const stream of streams) stream.write(Buffer.alloc(5_000, 'y'))
    await until(() => streams.every(({ id }) => peer.bytes(id).length === 5_100))
    // 510 kB are two rounds of what the socket is given at a time.
    expect(writes).toBeLessThanOrEqual(3)
    writes = 0
    for (const stream of streams) stream.write(Buffer.alloc(100, 'x'))
    await until(() => streams.every(({ id }) => peer.bytes(id).length === 5_200))
    expect(writes).toBe(1)
  })

  test('has the control stream before all others, and a RST after its `unreached`', async () => {
    const { peer, tunnel, streams } = await established({ role: 'client' })
    peer.write(frame(DATA, SYN, 2, Buffer.from('visitor')), frame(DATA, SYN, 4, Buffer.from('visitor')))
    const [first, second] = [await streams.at(0), await streams.at(1)]
    await peer.frames.find(({ id }) => id === 4)
    second.write(Buffer.alloc(50_000))
    first.reset()
    tunnel.send({ type: 'unreached', stream: 2, code: 'refused' })
    const before = peer.frames.all.length
    await peer.frames.find(({ id, flags }) => id === 2 && (flags & RST) !== 0)
    const order = peer.frames.all
      .slice(before)
      .filter(({ type }) => type < PING)
      .map(({ id }) => id)
    expect(order.slice(0, 2)).toEqual([1, 2])
    expect(order.slice(2).every((id) => id === 4)).toBe(true)
  })

  test('waits for ACKs past 256 streams, and says when there is room', async () => {
    const { peer, tunnel, told } = await established()
    for (let n = 0; n < 256; n += 1) expect(tunnel.open(silent)).toBeDefined()
    expect(tunnel.open(silent)).toBeUndefined()
    await until(() => peer.opened.length === 256)
    peer.write(frame(WINDOW_UPDATE, ACK, 2))
    await told.find((what) => what === 'openable')
    expect(tunnel.open(silent)).toBeDefined()
  })

  test('is marked to be replaced before its ids run out', async () => {
    const { tunnel, told } = await established({ role: 'gateway', idDrain: 8 })
    for (let n = 0; n < 4; n += 1) tunnel.open(silent)
    expect(told.all).toContain('idsLow')
    expect(tunnel.open(silent)).toBeDefined()
  })
})

describe('the sign of life', () => {
  async function watched(keepaliveSeconds: number): Promise<Joined> {
    // Before the tunnel looks at the clock for the first time.
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    const joined = await join()
    joined.peer.say(HELLO)
    await joined.heard.at(0)
    joined.tunnel.establish({ peerStreamWindow: 65_536, keepaliveSeconds })
    return joined
  }

  /** Time passes in steps, and what the sockets have is looked at after each: as it is when nobody fakes it. */
  async function pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 100) {
      await vi.advanceTimersByTimeAsync(Math.min(left, 100))
      await turns(2)
    }
  }

  test('is asked for after one keepalive of silence, and without it the tunnel is dead after two', async () => {
    const { tunnel, ended, told } = await watched(2)
    await pass(3_900)
    expect(tunnel.closed).toBe(false)
    await pass(200)
    expect(await ended).toMatchObject({ code: 'silent', remote: true })
    expect(told.all.at(-1)).toBe('closed silent')
  })

  test('is any byte: an answer to the ping, or data', async () => {
    const { peer, tunnel } = await watched(2)
    let answered = 0
    for (let n = 0; n < 5; n += 1) {
      await pass(2_100)
      const pings = peer.frames.all.filter(({ type, flags }) => type === PING && flags === SYN)
      for (const { length } of pings.slice(answered)) peer.write(frame(PING, ACK, 0, length))
      answered = pings.length
      await until(() => !peer.socket.writableNeedDrain)
      await turns(50)
    }
    expect(tunnel.closed).toBe(false)
  })

  test.each([
    [0, 1_000],
    [1_000_000, 10_000],
  ])('is asked for at a pace that the peer cannot choose: %d s is %d ms', async (seconds, ms) => {
    const { tunnel, ended } = await watched(seconds)
    await pass(2 * ms - 100)
    expect(tunnel.closed).toBe(false)
    await pass(300)
    expect((await ended).code).toBe('silent')
  })

  test('answers a probe; without it the tunnel is suspect until any byte comes', async () => {
    const { peer, tunnel, told } = await watched(10)
    const silentProbe = tunnel.probe(2_000)
    await pass(1_999)
    expect(tunnel.suspect).toBe(false)
    await pass(1)
    expect(await silentProbe).toBe(false)
    expect(tunnel.suspect).toBe(true)
    peer.write(frame(PING, SYN, 0, 7))
    await until(() => !tunnel.suspect)
    expect(told.all).toContain('openable')
    const probe = tunnel.probe(2_000)
    peer.write(frame(PING, SYN, 0, 8))
    expect(await probe).toBe(true)
    expect(tunnel.suspect).toBe(false)
  })

  test('is not awaited from a tunnel that has ended', async () => {
    const { tunnel, peer } = await watched(10)
    const probe = tunnel.probe(2_000)
    peer.socket.destroy()
    expect(await probe).toBe(false)
    expect(await tunnel.probe(2_000)).toBe(false)
  })
})
