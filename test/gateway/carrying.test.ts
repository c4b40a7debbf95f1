import { afterEach, describe, expect, test } from 'vitest'
import { STREAM_WINDOW_MAX_BYTES } from '../../src/limits.ts'
import { service } from '../client/world.ts'
import { turns, until } from '../net/joined.ts'
import {
  ACK,
  DATA,
  FIN,
  frame,
  GO_AWAY,
  HELLO,
  PING,
  RawPeer,
  RST,
  SYN,
  WINDOW_UPDATE,
} from '../transport/raw-peer.ts'
import type { Carried, ScriptedClient } from './scripted-client.ts'
import { ANSWER, freePort, HTTP, REQUEST, type Running, status, tcp, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const answering = (visit: Carried): void => visit.answer(ANSWER)

interface Pair extends Running {
  port: number
  one: ScriptedClient
  two: ScriptedClient
}

/** Two machines of one name that serve the same. */
async function pair(serve?: (visit: Carried) => unknown): Promise<Pair> {
  const port = await freePort()
  const running = await world.gateway()
  const services = [tcp(port), HTTP]
  const one = await world.enroll(running, 'one', { services, ...(serve === undefined ? {} : { serve }) })
  const two = await world.enroll(running, 'two', { services, ...(serve === undefined ? {} : { serve }) })
  return { ...running, port, one, two }
}

describe('a visitor that is served', () => {
  test('comes with its address, a unique id and the name of the service, and its bytes go both ways', async () => {
    const port = await freePort()
    const running = await world.gateway()
    const client = await world.enroll(running, 'm', { services: [tcp(port, 'ssh')] })
    const visit = world.visit(port, 'to the target')
    const carried = await client.visits.at(0)
    await carried.received('to the target')
    expect(carried.header).toMatchObject({
      command: 'PROXY',
      service: 'ssh',
      source: { address: '127.0.0.1', port: visit.socket.localPort },
      destination: { address: '127.0.0.1', port },
    })
    expect(carried.header.uniqueId?.length).toBe(16)
    carried.answer('to the visitor')
    await visit.received('to the visitor')
    expect(await visit.over).toBe('end')
    expect(await carried.over).toBe('end')
    await until(async () => (await status(running)).streams === 0)
    const { length: inBytes } = 'to the target'
    const { length: outBytes } = 'to the visitor'
    expect(await status(running)).toMatchObject({ bytes: { in: inBytes, out: outBytes } })
    expect(client.tunnel.session.streams).toBe(1)
  })

  test('keeps its end an end and its reset a reset, in both directions', async () => {
    const port = await freePort()
    const running = await world.gateway()
    const client = await world.enroll(running, 'm', { services: [tcp(port)] })
    const half = world.visit(port, 'question')
    half.socket.end()
    const asked = await client.visits.at(0)
    expect(await asked.over).toBe('end')
    asked.answer('answer')
    await half.received('answer')
    expect(await half.over).toBe('end')

    const gone = world.visit(port, 'hello')
    const left = await client.visits.at(1)
    gone.socket.resetAndDestroy()
    expect(await left.over).toMatchObject({ code: 'reset' })

    const cut = world.visit(port, 'hello')
    ;(await client.visits.at(2)).stream.reset()
    expect(await cut.over).toBe('reset')
    await until(async () => (await status(running)).streams === 0)
  })

  test('is counted while it is here, and its descriptor is free when it has gone', async () => {
    const running = await pair()
    const { port } = running
    const visits = Array.from({ length: 10 }, () => world.visit(port, 'x'))
    await until(async () => (await status(running)).streams === 10)
    expect((await status(running)).routes.find(({ route }) => route === `tcp:${port}`)).toMatchObject({
      replicas: 2,
      streams: 10,
      service: `tcp-${port}`,
      type: 'tcp',
    })
    for (const { socket } of visits) socket.resetAndDestroy()
    await until(async () => (await status(running)).streams === 0)
    await until(() => running.one.tunnel.session.streams + running.two.tunnel.session.streams === 2)
  })
})

describe('replicas', () => {
  test('share visitors: the one with the fewest gets the next', async () => {
    const { one, two, port } = await pair()
    const visits = []
    for (let n = 0; n < 6; n += 1) {
      visits.push(world.visit(port, `${n}`))
      await until(() => one.visits.all.length + two.visits.all.length === n + 1)
    }
    expect([one.visits.all.length, two.visits.all.length]).toEqual([3, 3])
    for (const visit of one.visits.all) visit.answer('bye')
    for (const { socket } of visits) socket.end()
    await until(() => one.tunnel.session.streams === 1)
    for (let n = 0; n < 3; n += 1) {
      world.visit(port, 'more')
      await until(() => one.visits.all.length === 4 + n)
    }
    expect(two.visits.all).toHaveLength(3)
  })

  test('die alone: killing one tunnel resets what it carried and nothing else', async () => {
    const running = await pair()
    const { one, two, port } = running
    const visits = [world.visit(port, 'a'), world.visit(port, 'b')]
    await until(() => one.visits.all.length === 1 && two.visits.all.length === 1)
    const [a] = one.visits.all
    const lost = a?.text === 'a' ? visits[0] : visits[1]
    const kept = a?.text === 'a' ? visits[1] : visits[0]
    one.tunnel.destroy(await anError())
    expect(await lost?.over).toBe('reset')
    two.visits.all[0]?.write('still here')
    await kept?.received('still here')
    world.visit(port, 'next')
    await until(() => two.visits.all.length === 2)
    expect((await status(running)).routes.find(({ route }) => route === `tcp:${port}`)?.replicas).toBe(1)
  })
})

describe('a visitor that reached no target', () => {
  test('is tried on another replica, with every byte it had sent', async () => {
    const { one, two, http } = await pair()
    const first = new Promise<string>((resolve) => {
      one.serve = two.serve = async (visit) => {
        one.serve = two.serve = answering
        await visit.received('\r\n\r\n')
        resolve(visit.text)
        visit.unreached('refused')
      }
    })
    const visit = world.visit(http, REQUEST)
    await visit.received('here')
    const sent = await first
    expect(sent).toMatch(/^GET \/ HTTP\/1\.1\r\nHost: x\r\nX-Forwarded-For: 127\.0\.0\.1\r\n/)
    expect([...one.visits.all, ...two.visits.all].map(({ text }) => text)).toEqual([sent, sent])
  })

  test('is told so when every replica said it: 502 by code for http, a reset for tcp, and no words of the peer', async () => {
    const running = await pair((visit) => visit.unreached('unreachable'))
    const { http, port } = running
    const request = world.visit(http, REQUEST)
    await request.received('502 Bad Gateway')
    expect(await world.visit(port, 'hello').over).toBe('reset')
    expect(running.one.visits.all.length + running.two.visits.all.length).toBe(4)
    expect((await status(running)).errors).toMatchObject({ unreachable: 2 })
  })

  test('is never tried again once a byte came back, nor without that word', async () => {
    const { one, two, port, http } = await pair(async (visit) => {
      visit.write('begun')
      await begun.received('begun')
      visit.unreached('refused')
    })
    const begun = world.visit(port, 'x')
    expect(await begun.over).toBe('reset')
    expect(one.visits.all.length + two.visits.all.length).toBe(1)
    one.serve = two.serve = (visit) => visit.stream.reset()
    expect(await world.visit(port, 'y').over).toBe('reset')
    expect(one.visits.all.length + two.visits.all.length).toBe(2)
    one.serve = two.serve = (visit) => visit.write('HTTP/1.1 200 OK\r\n')
    const half = world.visit(http, REQUEST)
    await until(() => one.visits.all.length + two.visits.all.length === 3)
    await turns(20)
    for (const visit of [...one.visits.all, ...two.visits.all]) visit.unreached('refused')
    await half.received('502 Bad Gateway')
    expect(one.visits.all.length + two.visits.all.length).toBe(3)
    // And one whose answer was under way is cut, or half of it would look whole.
    one.serve = two.serve = (visit) => visit.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf')
    const cut = world.visit(http, REQUEST)
    await cut.received('half')
    for (const visit of [...one.visits.all, ...two.visits.all]) visit.unreached('refused')
    expect(await cut.over).toBe('reset')
    expect(one.visits.all.length + two.visits.all.length).toBe(4)
  })

  test('is not tried again when it had sent more than is kept', async () => {
    const { one, two, http } = await pair(async (visit) => {
      await until(() => visit.text.length >= 80_000)
      visit.unreached('refused')
    })
    const visit = world.visit(http, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 80000\r\n\r\n')
    visit.write(Buffer.alloc(80_000, 'x'))
    await visit.received('502')
    expect(one.visits.all.length + two.visits.all.length).toBe(1)
  })

  test('because its client drains is taken by another at once, and the draining one gets nobody else', async () => {
    const { one, two, port } = await pair()
    one.serve = (visit) => visit.unreached('draining')
    two.serve = (visit) => visit.answer('here')
    for (let n = 0; n < 4; n += 1) await world.visit(port, `${n}`).received('here')
    expect(one.visits.all.length).toBe(1)
  })

  test('does not hang on an `unreached` for a stream that is none of that client’s', async () => {
    const { one, two, port } = await pair()
    const visit = world.visit(port, 'x')
    await until(() => one.visits.all.length + two.visits.all.length === 1)
    for (const client of [one, two]) client.say({ type: 'unreached', stream: 4_000, code: 'refused' })
    const [carried] = [...one.visits.all, ...two.visits.all]
    carried?.answer('here')
    await visit.received('here')
  })
})

describe('a visitor on its way to a client that leaves', () => {
  /** A client that has been sent a visitor and has said nothing to it, beside one that would serve it. */
  async function onTheWay(running: Running, port: number) {
    await world.enroll(running, 'leaving')
    const leaving = await RawPeer.dial(running.gateway.clients.port, await world.machine('leaving'))
    leaving.say({ ...HELLO, services: [tcp(port)] })
    await leaving.heard('welcome')
    const visit = world.visit(port, 'hello')
    await leaving.frames.find(({ id }) => id === 2)
    await world.enroll(running, 'staying', { services: [tcp(port)], serve: answering })
    return { leaving, visit }
  }

  test('in order goes to another: what that client had not acknowledged by its GoAway it never took', async () => {
    const { leaving, visit } = await onTheWay(await world.gateway(), await freePort())
    leaving.write(frame(GO_AWAY, 0, 0))
    await visit.received('here')
  })

  test('is reset if it had been acknowledged, or if that client was lost without a GoAway', async () => {
    const [running, port, other] = [await world.gateway(), await freePort(), await freePort()]
    const taken = await onTheWay(running, port)
    taken.leaving.write(frame(WINDOW_UPDATE, ACK, 2), frame(GO_AWAY, 0, 0))
    expect(await taken.visit.over).toBe('reset')
    const lost = await onTheWay(running, other)
    lost.leaving.socket.destroy()
    expect(await lost.visit.over).toBe('reset')
  })
})

describe('a client that drains', () => {
  test('costs no visitor: those it has finish, new ones go to its replica, or wait for one', async () => {
    const port = await freePort()
    const running = await world.gateway()
    const one = await world.enroll(running, 'one', { services: [tcp(port)] })
    const under = world.visit(port, 'a')
    const carried = await one.visits.at(0)
    one.say({ type: 'drain', deadlineMs: 10_000 })
    await until(async () => (await status(running)).routes[0]?.replicas === 0)
    const waiting = world.visit(port, 'b')
    await until(async () => (await status(running)).routes[0]?.held === 1)
    carried.answer('finished')
    await under.received('finished')
    one.tunnel.end()
    const two = await world.enroll(running, 'two', { services: [tcp(port)], serve: answering })
    await waiting.received('here')
    expect(two.visits.all).toHaveLength(1)
    expect(one.visits.all).toHaveLength(1)
  })

  test('as the real client does: not one of many visitors is lost', async () => {
    const running = await world.gateway()
    const target = await world.target((socket) => {
      socket.once('data', () => socket.end(ANSWER))
    })
    await (await world.enroll(running, 'm')).welcome()
    const web = service('web', target.port)
    let client = await world.client(running, 'm', [web])
    const visits = []
    for (let round = 0; round < 5; round += 1) {
      for (let n = 0; n < 5; n += 1) visits.push(world.visit(running.http, REQUEST))
      const drained = client.drain(5_000)
      for (let n = 0; n < 5; n += 1) visits.push(world.visit(running.http, REQUEST))
      await drained
      client = await world.client(running, 'm', [web])
    }
    for (const visit of visits) await visit.received('here')
  })
})

describe('a tunnel whose bytes silently vanish', () => {
  test('is found by both sides, its visitors are reset, and the client is back at once', async () => {
    const running = await world.gateway({ keepaliveSeconds: 1 })
    const port = await freePort()
    const target = await world.target((socket) => socket.pipe(socket))
    await world.enroll(running, 'm')
    const relay = await world.relay(running)
    const client = await world.client(running, 'm', [service('echo', target.port, { type: 'tcp', port })], {
      gateways: [{ addresses: [relay.address], pin: running.gateway.pin }],
    })
    const disconnected = new Promise<string>((resolve) => {
      client.on('disconnected', ({ reason }) => resolve(reason.code))
    })
    const back = new Promise<void>((resolve) => client.on('connected', () => resolve()))
    const visit = world.visit(port, 'hello')
    await visit.received('hello')
    relay.fallSilent()
    const gone = running.lines.find(({ msg, code }) => msg.startsWith('client gone') && code === 'silent')
    expect(await Promise.all([disconnected, visit.over, gone.then(({ code }) => code)])).toEqual([
      'silent',
      'reset',
      'silent',
    ])
    await back
    await world.visit(port, 'again').received('again')
  })
})

describe('a client that does not follow the protocol', () => {
  test.each<[string, string, (id: number) => Buffer[]]>([
    [
      'sends past the window of a visitor',
      'window_exceeded',
      (id) => [frame(DATA, 0, id, Buffer.alloc(70_000))],
    ],
    ['opens a stream of our parity', 'protocol_error', () => [frame(DATA, SYN, 8, Buffer.from('x'))]],
    ['opens a second stream', 'protocol_error', () => [frame(DATA, SYN, 3, Buffer.from('x'))]],
    ['speaks on a stream never opened', 'protocol_error', () => [frame(DATA, 0, 100, Buffer.from('x'))]],
    ['floods with pings', 'flood', () => Array.from({ length: 1_100 }, () => frame(PING, SYN, 0))],
    [
      'sends past what a closed stream had left',
      'window_exceeded',
      (id) => [
        frame(WINDOW_UPDATE, RST, id),
        ...Array.from({ length: 30 }, () => frame(DATA, 0, id, Buffer.alloc(60_000))),
      ],
    ],
    [
      'sends data after its end',
      'protocol_error',
      (id) => [frame(WINDOW_UPDATE, FIN, id), frame(DATA, 0, id, Buffer.from('x'))],
    ],
  ])(
    'and %s loses its tunnel, with %s in the log; others and the gateway stay',
    async (_what, code, frames) => {
      const port = await freePort()
      const running = await world.gateway()
      const other = await world.enroll(running, 'other', { services: [HTTP], serve: answering })
      await world.enroll(running, 'm')
      const peer = await RawPeer.dial(running.gateway.clients.port, await world.machine('m'))
      peer.say({ ...HELLO, services: [tcp(port)] })
      await peer.heard('welcome')
      const visit = world.visit(port, 'hello')
      await peer.frames.find(({ id }) => id === 2)
      peer.write(...frames(2))
      await peer.closed
      expect(peer.last).toMatchObject({ type: GO_AWAY, length: 1 })
      const line = await running.lines.find(({ msg }) => msg.startsWith('client gone'))
      const gone = await running.lines.find((one) => one.msg.startsWith('client gone') && one.code === code)
      expect(gone.level).toBe(40)
      expect(line.msg.length).toBeLessThan(300)
      // Reset; or it had heard an end before, and has had its answer.
      await visit.over
      expect((await status(running)).errors[code]).toBeGreaterThan(0)
      await world.visit(running.http, REQUEST).received('here')
      expect(other.tunnel.closed).toBe(false)
    },
  )

  test('never reads its answers: its tunnel ends, and the gateway holds no more than its bound for it', async () => {
    const running = await world.gateway()
    await world.enroll(running, 'm')
    const relay = await world.relay(running)
    const peer = await RawPeer.dial(relay.port, await world.machine('m'))
    peer.say(HELLO)
    await peer.heard('welcome')
    peer.socket.pause()
    const offers = Array.from({ length: 400 }, (_, n) => ({ name: `Not A Name ${n}`, type: 'tcp' as const }))
    const end = { over: false }
    const gone = running.lines
      .find(({ msg, code }) => msg.startsWith('client gone') && code !== 'closed')
      .then(({ code }) => {
        end.over = true
        return code
      })
    for (let seq = 1; !end.over && seq < 2_000; seq += 1) {
      peer.write(frame(DATA, 0, 1, controlOf(seq, offers)))
      await until(() => end.over || !peer.socket.writableNeedDrain)
      for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    }
    expect(['flood', 'overloaded']).toContain(await gone)
    peer.socket.destroy()
  })
})

describe('a visitor that does not read', () => {
  test('holds a download back at its target, and memory at a window: nothing is lost when it reads on', async () => {
    const running = await world.gateway({
      listen: {
        http: { host: '127.0.0.1', port: 0 },
        tunnel: { host: '127.0.0.1', port: 0 },
        admin: { host: '127.0.0.1', port: 0 },
      },
    })
    const port = await freePort()
    const size = 64 * 1024 * 1024
    let sent = 0
    let stalled = 0
    const target = await world.target((socket) => {
      const chunk = Buffer.alloc(64 * 1024, 'z')
      const more = (): void => {
        while (sent < size) {
          sent += chunk.length
          if (!socket.write(chunk)) {
            stalled = performance.now()
            socket.once('drain', more)
            return
          }
        }
        socket.end()
      }
      more()
    })
    await world.enroll(running, 'm')
    const client = await world.client(running, 'm', [service('bulk', target.port, { type: 'tcp', port })])
    const visit = world.visit(port)
    visit.socket.pause()
    // Until nothing has moved for a while: what the kernel takes is not ours.
    await quiet(() => stalled)
    expect(sent).toBeLessThan(size)
    const unread = await metric(running, 'blindgate_unread_bytes')
    expect(unread).toBeGreaterThan(0)
    expect(unread).toBeLessThanOrEqual(STREAM_WINDOW_MAX_BYTES / 2)
    const { bytes, streams } = client.status()
    expect(streams).toBe(1)
    expect(sent - bytes.out).toBeLessThan(16 * 1024 * 1024)
    visit.socket.resume()
    expect(await visit.over).toBe('end')
    expect(visit.bytes).toBe(size)
    expect(await metric(running, 'blindgate_unread_bytes')).toBe(0)
  })

  test('and one that sends and whose target does not read are held back too', async () => {
    const port = await freePort()
    const running = await world.gateway()
    const target = await world.target((socket) => socket.pause())
    await world.enroll(running, 'm')
    await world.client(running, 'm', [service('sink', target.port, { type: 'tcp', port })])
    const visit = world.visit(port)
    const chunk = Buffer.alloc(64 * 1024)
    let stalled = 0
    let sent = 0
    const more = (): void => {
      while (sent < 64 * 1024 * 1024) {
        sent += chunk.length
        if (!visit.socket.write(chunk)) {
          stalled = performance.now()
          visit.socket.once('drain', more)
          return
        }
      }
    }
    await visit.connected
    more()
    await quiet(() => stalled)
    expect(sent).toBeLessThan(64 * 1024 * 1024)
    expect((await status(running)).bytes.in).toBeLessThan(sent)
    const socket = await target.sockets.at(0)
    let received = 0
    const whole = new Promise<void>((resolve) => {
      socket.on('data', ({ length }: Buffer) => {
        received += length
        if (received >= sent) resolve()
      })
    })
    socket.resume()
    await whole
  })
})

/** Turns of the loop until `moved` (a time, 0 for not yet) lies 300 ms back: what the kernel takes has no event. */
async function quiet(moved: () => number): Promise<void> {
  while (moved() === 0 || performance.now() - moved() < 300) {
    await new Promise((resolve) => setImmediate(resolve))
  }
}

async function metric(running: Running, name: string): Promise<number> {
  const port = running.gateway.admin?.port ?? 0
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  const line = text.split('\n').find((one) => one.startsWith(`${name} `))
  return Number(line?.split(' ')[1])
}

function controlOf(seq: number, services: { name: string; type: 'tcp' }[]): Buffer {
  const json = Buffer.from(JSON.stringify({ type: 'register', seq, services }))
  const length = Buffer.alloc(4)
  length.writeUInt32BE(json.length)
  return Buffer.concat([length, json])
}

async function anError() {
  const { TunnelError } = await import('../../src/errors.ts')
  return new TunnelError('closed', { scope: 'tunnel', detail: 'killed by the test' })
}
