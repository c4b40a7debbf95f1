import { once } from 'node:events'
import type { Socket } from 'node:net'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { Challenges } from '../../src/client/challenges.ts'
import { type Bounds, type Origin, Serving } from '../../src/client/serving.ts'
import { Tally } from '../../src/client/tally.ts'
import { Targets } from '../../src/client/targets.ts'
import type { CertificateSource } from '../../src/client/tls/certificate.ts'
import { CHALLENGE_VISITORS, FINISHING_POLL_MS, HANDSHAKE_MS, TARGET_CONNECT_MS } from '../../src/limits.ts'
import type { Stream } from '../../src/mux/index.ts'
import { encodeProxyHeader } from '../../src/protocol/index.ts'
import { End, type Recorder, settle } from '../mux/pair.ts'
import { fromNode, hello, serverName } from '../protocol/hellos.ts'
import { recordingLog, service, World } from './world.ts'

const world = new World()
afterEach(async () => {
  vi.useRealTimers()
  await world.close()
})

const NO_CERTIFICATE: CertificateSource = {
  current: undefined,
  trouble: undefined,
  transportSecurity: undefined,
  changed() {},
  start() {},
  close() {},
}

/** A gateway's session and a client's with `Serving` behind it, joined in memory: `turn` carries what waits. */
function pair(bounds: Partial<Bounds> = {}) {
  const { log, lines } = recordingLog()
  const tally = new Tally()
  const challenges = new Challenges(log)
  const serving = new Serving({
    log,
    tally,
    challenges,
    sources: { of: () => NO_CERTIFICATE, about: () => '' },
    bounds: { streams: 100, perService: 100, sockets: 100, dialsPerSecond: 100, dialsBurst: 100, ...bounds },
  })
  const codes = new Map<number, string>()
  let ended = 0
  const origin: Origin & { draining: boolean } = {
    gateway: 'gw:9001',
    draining: false,
    has: (name) => serving.services.has(name),
    unreached: (stream, code) => codes.set(stream, code),
    ended: () => (ended += 1),
  }
  const [near, far] = [new End({ role: 'client' }), new End({ role: 'server' })]
  near.onStream = (stream) => serving.accept(stream, origin)
  const turn = () => settle(near, far)
  near.onWake = () => setImmediate(turn)
  const visit = (name: string | undefined): { stream: Stream; sink: Recorder; id: number } => {
    const { stream, sink } = far.open()
    stream.write(name === undefined ? Uint8Array.of(13) : encodeProxyHeader({ tlvs: { service: name } }))
    turn()
    return { stream, sink, id: stream.id }
  }
  world.later(() => Promise.resolve(serving.close()))
  return { serving, challenges, origin, codes, visit, turn, tally, lines, ended: () => ended }
}

describe('a client', () => {
  it('serves no more visitors at once than it can, each service and all, and says that others are overloaded', async () => {
    const target = await world.target()
    const { serving, visit, codes, turn, lines } = pair({ streams: 4, perService: 2 })
    serving.services = new Map(['a', 'b', 'c'].map((name) => [name, service(name, target.port)]))
    const visits = ['a', 'a', 'a', 'b', 'b', 'c'].map(visit)
    turn()
    expect(visits.map(({ id }) => codes.get(id))).toEqual([
      undefined,
      undefined,
      'overloaded',
      undefined,
      undefined,
      'overloaded',
    ])
    expect(visits.map(({ sink }) => sink.error !== undefined)).toEqual([
      false,
      false,
      true,
      false,
      false,
      true,
    ])
    expect(serving.active).toBe(4)
    expect(lines.all.filter(({ level }) => level === 40)).toHaveLength(2)
  })

  it('has room again when a visitor has gone', async () => {
    const target = await world.target((socket) => socket.resume().end())
    const { serving, visit, codes, turn } = pair({ perService: 1 })
    serving.services = new Map([['a', service('a', target.port)]])
    const first = visit('a')
    const full = visit('a')
    expect(codes.get(full.id)).toBe('overloaded')
    first.stream.end()
    turn()
    await serving.quiet(30_000)
    const second = visit('a')
    turn()
    expect(codes.get(second.id)).toBeUndefined()
  })

  it('dials a target no more often than it may, however short the visits, and says that others are overloaded', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    const target = await world.target()
    const { serving, visit, codes, turn, lines } = pair({ dialsPerSecond: 2, dialsBurst: 3 })
    serving.services = new Map([
      ['a', service('a', target.port)],
      ['b', service('b', target.port)],
      ['here', service('here', 1, { serve: (duplex) => void duplex.resume() })],
    ])
    const refused = (name: string, times: number): number => {
      const visits = Array.from({ length: times }, () => {
        const made = visit(name)
        made.stream.reset()
        turn()
        return made
      })
      return visits.filter(({ id }) => codes.get(id) === 'overloaded').length
    }
    expect(refused('a', 10)).toBe(7)
    expect(serving.active).toBe(0)
    // Others have their own, and who is served here is not dialled.
    expect([refused('b', 3), refused('here', 10)]).toEqual([0, 0])
    vi.advanceTimersByTime(1_000)
    expect(refused('a', 10)).toBe(8)
    expect(lines.all.filter(({ level }) => level === 40)).toHaveLength(1)
  })

  it('keeps descriptors for its tunnels', async () => {
    const target = await world.target()
    const { serving, visit, codes, turn } = pair({ sockets: 1 })
    serving.services = new Map([
      ['a', service('a', target.port)],
      ['here', service('here', 1, { serve: () => {} })],
    ])
    const visits = ['a', 'a', 'here'].map(visit)
    turn()
    expect(visits.map(({ id }) => codes.get(id))).toEqual([undefined, 'overloaded', undefined])
  })

  it('leaves some of them to other services, whatever one has', async () => {
    const target = await world.target()
    const { serving, visit, codes, turn } = pair({ sockets: 16 })
    serving.services = new Map(['a', 'b'].map((name) => [name, service(name, target.port)]))
    const many = Array.from({ length: 16 }, () => visit('a'))
    const others = [visit('b'), visit('b'), visit('b')]
    turn()
    expect(many.filter(({ id }) => codes.get(id) === 'overloaded')).toHaveLength(2)
    expect(others.map(({ id }) => codes.get(id))).toEqual([undefined, undefined, 'overloaded'])
  })

  it('makes no more connections for a service than it may have visitors, however many each asks for', async () => {
    const target = await world.target()
    const warned: string[] = []
    const bounds = { sockets: 100, perService: 2, dialsPerSecond: 100, dialsBurst: 100 }
    const targets = new Targets(bounds, (_service, text) => warned.push(text))
    const [a, b] = [service('a', target.port), service('b', target.port)]
    const dial = (of: typeof a): Socket | undefined => {
      const socket = targets.dial(of)
      if (socket !== undefined) world.later(() => Promise.resolve(socket.destroy()))
      return socket
    }
    const first = dial(a)
    expect([dial(a), dial(b), dial(a)].map((socket) => socket !== undefined)).toEqual([true, true, false])
    expect(warned).toEqual(['service "a" is overloaded: 2 of 3 connections to targets'])
    first?.destroy()
    await once(first as Socket, 'close')
    expect(dial(a)).toBeDefined()
  })

  it('counts streams whose header does not come, and resets them after a while', () => {
    vi.useFakeTimers()
    const { serving, visit, codes, turn, ended } = pair({ streams: 2 })
    const silent = visit(undefined)
    vi.advanceTimersByTime(HANDSHAKE_MS / 2)
    const later = visit(undefined)
    const third = visit(undefined)
    turn()
    expect(codes.get(third.id)).toBe('overloaded')
    vi.advanceTimersByTime(HANDSHAKE_MS / 2)
    turn()
    expect([silent.sink.error !== undefined, later.sink.error !== undefined]).toEqual([true, false])
    vi.advanceTimersByTime(HANDSHAKE_MS / 2)
    turn()
    expect(later.sink.error).toBeDefined()
    // Not "unreached": what a stream without a header wanted is unknown.
    expect(codes.size).toBe(1)
    expect([serving.active, ended()]).toEqual([0, 3])
  })

  it('gives a visitor as long again for its ClientHello, and dials for none that it turns away', () => {
    vi.useFakeTimers()
    const { serving, visit, codes, turn, tally } = pair({ perService: 3, sockets: 1, dialsBurst: 1 })
    const web = service('web', '127.0.0.1:9', { type: 'https', tls: 'passthrough', hosts: ['a.example'] })
    serving.services = new Map([['web', web]])
    const silent = visit('web')
    const saying = (name: string) => {
      const made = visit('web')
      made.stream.write(hello(serverName(name)))
      turn()
      return made
    }
    for (let times = 0; times < 3; times++) {
      const foreign = saying('b.example')
      expect([foreign.sink.ended, codes.get(foreign.id)]).toEqual([true, undefined])
      foreign.stream.end()
      turn()
      vi.advanceTimersByTime(FINISHING_POLL_MS)
    }
    const welcome = saying('a.example')
    expect([welcome.sink.ended, codes.get(welcome.id), serving.active]).toEqual([false, undefined, 2])
    expect(codes.get(saying('a.example').id)).toBe('overloaded')
    // One that has not begun holds a place too.
    const third = visit('web')
    expect(codes.get(visit('web').id)).toBe('overloaded')
    third.stream.reset()
    vi.advanceTimersByTime(HANDSHAKE_MS)
    turn()
    expect(silent.sink.error).toBeDefined()
    expect(codes.get(silent.id)).toBeUndefined()
    expect(tally.counts).toMatchObject({ unknown_service: 3, overloaded: 2 })
  })

  it('lets nobody fill the room for visitors of challenges: the slow ones go', () => {
    const { serving, visit, codes, turn, tally, lines } = pair({ streams: 5_000, perService: 5_000 })
    serving.services = new Map([
      ['web', service('web', '127.0.0.1:9', { type: 'https', hosts: ['a.example'] })],
    ])
    const ask = (text: string) => {
      const made = visit('web')
      made.stream.write(Buffer.from(text))
      turn()
      return made
    }
    const slow = Array.from({ length: CHALLENGE_VISITORS + 3 }, () => ask('GET / HT'))
    expect(slow.filter(({ sink }) => sink.error !== undefined)).toEqual(slow.slice(0, 3))
    expect(serving.active).toBe(CHALLENGE_VISITORS)
    const quick = ask('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n')
    expect(quick.sink.text).toMatch(/^HTTP\/1\.1 404 /)
    // It was answered, and is nobody's rival.
    ask('GET / HT')
    expect(slow.filter(({ sink }) => sink.error !== undefined)).toEqual(slow.slice(0, 4))
    // What they wanted is not known, so nobody is told to try elsewhere.
    expect(codes.size).toBe(0)
    expect(tally.counts).toMatchObject({ overloaded: 4 })
    expect(lines.all.filter(({ level }) => level === 40)).toHaveLength(1)
  })

  it('gives a visitor of a challenge a bounded time to ask, and to shake hands', async () => {
    const { serving, challenges, visit, turn } = pair()
    serving.services = new Map([
      ['web', service('web', '127.0.0.1:9', { type: 'https', hosts: ['a.example'] })],
    ])
    const link = {
      gateway: 'gw',
      serves: () => true,
      say: ({ seq }: { seq: number }) => challenges.ready(link, { type: 'challenge_ready', seq }),
    }
    challenges.served(link)
    const order = { service: 'web', host: 'a.example', token: 't', keyAuthorization: 't.x' } as const
    await challenges.offer({ ...order, kind: 'tls-alpn-01' })
    vi.useFakeTimers()
    const [asking, shaking] = [visit('web'), visit('web')]
    asking.stream.write(Buffer.from('GET / HT'))
    shaking.stream.write(fromNode({ servername: 'a.example', ALPNProtocols: ['acme-tls/1'] }))
    turn()
    vi.advanceTimersByTime(HANDSHAKE_MS - 1)
    turn()
    expect([asking.sink.error, shaking.sink.error, serving.active]).toEqual([undefined, undefined, 2])
    vi.advanceTimersByTime(1)
    turn()
    expect([asking.sink.error !== undefined, shaking.sink.error !== undefined]).toEqual([true, true])
    expect(serving.active).toBe(0)
    challenges.close()
  })

  it('that drains says so to a visitor whose ClientHello comes meanwhile', () => {
    const { serving, visit, codes, turn, origin } = pair()
    const web = service('web', '127.0.0.1:9', { type: 'https', tls: 'passthrough', hosts: ['a.example'] })
    serving.services = new Map([['web', web]])
    const late = visit('web')
    origin.draining = true
    late.stream.write(hello(serverName('a.example')))
    turn()
    expect(codes.get(late.id)).toBe('draining')
  })

  it('gives a target that does not answer the dial a bounded time, and says so', () => {
    vi.useFakeTimers()
    const { serving, visit, codes, turn } = pair()
    // No packet has left in the same turn of the loop: it stays a connection that is being made.
    serving.services = new Map([['a', service('a', '127.0.0.1:9')]])
    const { id, sink } = visit('a')
    vi.advanceTimersByTime(TARGET_CONNECT_MS - 1)
    turn()
    expect(sink.error).toBeUndefined()
    vi.advanceTimersByTime(1)
    turn()
    expect(codes.get(id)).toBe('timeout')
    expect(sink.error).toBeDefined()
  })

  it('never says unreached of a visitor that it did connect', async () => {
    const target = await world.target((socket) => socket.once('data', () => socket.resetAndDestroy()))
    const { serving, visit, codes, turn } = pair()
    serving.services = new Map([['a', service('a', target.port)]])
    const { sink } = visit('a')
    await target.sockets.at(0)
    void serving.close()
    turn()
    await vi.waitFor(() => expect(sink.error).toBeDefined())
    expect(codes.size).toBe(0)
  })

  it('leaves nothing open when it is closed', async () => {
    const target = await world.target((socket) => socket.resume())
    const { serving, visit, ended } = pair()
    serving.services = new Map([
      ['a', service('a', target.port)],
      ['here', service('here', 1, { serve: () => {} })],
    ])
    for (const name of ['a', 'here', undefined]) visit(name)
    const socket = await target.sockets.at(0)
    // A reset, or an end where the dial had not come back yet.
    const gone = new Promise((resolve) => socket.once('error', resolve).once('end', resolve))
    void serving.close()
    expect([serving.active, ended()]).toEqual([0, 3])
    await gone
  })
})
