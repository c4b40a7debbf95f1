import {
  type AddressInfo,
  connect,
  createServer as createTcpServer,
  type Server,
  type Socket,
} from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { createIdentity } from '../../src/identity/index.ts'
import { REPEATED_LOG_FIRST, TUNNELS_PER_GATEWAY } from '../../src/limits.ts'
import type { FakeGateway, FakeTunnel } from './fake-gateway.ts'
import { type Event, service, WARN, World } from './world.ts'

const world = new World()
afterEach(() => world.close())

const is =
  <Name extends Event['event']>(name: Name) =>
  (event: Event): event is Extract<Event, { event: Name }> =>
    event.event === name

/** Listens until the test ends; gives the port. */
async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  world.later(() => new Promise((resolve) => server.close(resolve)))
  return (server.address() as AddressInfo).port
}

/** A TCP relay in front of a gateway that can swallow everything, both ways, without a word. */
async function relayTo(gateway: FakeGateway): Promise<{ port: number; silence(): void; cut(): void }> {
  const pairs: [Socket, Socket][] = []
  const server = createTcpServer((near) => {
    const far = connect(gateway.port, '127.0.0.1')
    pairs.push([near, far])
    near.on('error', () => far.destroy()).on('close', () => far.destroy())
    far.on('error', () => near.destroy()).on('close', () => near.destroy())
    near.pipe(far)
    far.pipe(near)
  })
  const port = await listening(server)
  world.later(() => {
    for (const sockets of pairs) for (const socket of sockets) socket.destroy()
    return Promise.resolve()
  })
  return {
    port,
    silence() {
      for (const [near, far] of pairs) {
        near.unpipe().on('data', () => {})
        far.unpipe().on('data', () => {})
      }
    },
    cut() {
      for (const [near] of pairs) near.resetAndDestroy()
    },
  }
}

describe('a client', () => {
  it('says who it is, and what it offers', async () => {
    const gateway = await world.gateway()
    const { tunnel } = await world.serving(
      [gateway],
      [service('web', 80), service('ssh', 22, { type: 'tcp', port: 2222 })],
    )
    expect(tunnel.hello).toMatchObject({
      protocol: { min: 1, max: 1 },
      agent: 'blindgate/0.0.0',
      instance: 'test-instance',
      process: expect.stringMatching(/^[0-9a-f]{32}$/) as string,
      streamWindow: 65_536,
      services: [
        { name: 'web', type: 'http' },
        { name: 'ssh', type: 'tcp', port: 2222 },
      ],
    })
    expect(tunnel.hello).not.toHaveProperty('enroll')
  })

  it('enrolls in its hello, with the tunnel that then serves, and says the secret no more after that', async () => {
    const gateway = await world.gateway()
    const secret = 'c2VjcmV0LXNlY3JldC0xNg'
    const echo = await world.echo()
    const { tunnel } = await world.serving([gateway], [service('s', echo.port)], { enroll: { secret } })
    expect(tunnel.hello.enroll).toEqual({ secret })
    const visit = tunnel.visit('s')
    visit.write('served')
    await visit.received('served')
    tunnel.tunnel.end()
    expect((await gateway.tunnel(1)).hello).not.toHaveProperty('enroll')
  })

  it('sends the secret again while there was no answer', async () => {
    const gateway = await world.gateway()
    const secret = 'c2VjcmV0LXNlY3JldC0xNg'
    gateway.answer = (tunnel) => (gateway.tunnels.all.length === 0 ? tunnel.tunnel.end() : tunnel.welcome())
    await world.serving([gateway], [], { enroll: { secret } })
    expect((await gateway.tunnel(1)).hello.enroll).toEqual({ secret })
  })

  it('offers services that do not fit the hello right after it', async () => {
    const gateway = await world.gateway()
    const services = Array.from({ length: 600 }, (_, at) => service(`${at}`.padStart(200, 's'), 80))
    const { client, tunnel } = await world.serving([gateway], services)
    // The answers fill a `welcome` to the brim, and more of them come behind it in the same packet.
    expect(gateway.connections).toBe(1)
    expect(tunnel.hello.services.length).toBeLessThan(600)
    expect(client.status().routes.filter(({ urls }) => urls.length === 1)).toHaveLength(600)
  })

  it('stops at a wrong key before it has written one byte, and goes on with its other gateways', async () => {
    const honest = await world.gateway()
    const identity = createIdentity()
    const { pin } = createIdentity()
    let connections = 0
    let bytes = 0
    const gone: Promise<unknown>[] = []
    const impostor = createTlsServer({
      key: identity.key,
      cert: identity.certificate,
      ALPNProtocols: ['blindgate/1'],
      requestCert: true,
      rejectUnauthorized: false,
    })
    impostor.on('connection', (socket: Socket) => {
      connections += 1
      gone.push(new Promise((resolve) => socket.once('close', resolve)))
    })
    impostor.on('secureConnection', (socket) => socket.on('data', (chunk: Buffer) => (bytes += chunk.length)))
    impostor.on('tlsClientError', () => {})
    const port = await listening(impostor)
    const { client, events } = await world.client([honest], [service('s', 80)], {
      gateways: [
        { addresses: [`127.0.0.1:${port}`, honest.address], pin },
        { addresses: [honest.address], pin: honest.pin },
      ],
    })
    client.start()
    await expect(client.ready()).rejects.toMatchObject({ code: 'wrong_pin' })
    const { about } = await events.find(is('failed'))
    for (const word of [pin, identity.pin, '--replace']) expect(about.message).toContain(word)
    await events.find(is('connected'))
    expect(client.status().gateways.map(({ connected }) => connected)).toEqual([false, true])
    await Promise.all(gone)
    await (await honest.tunnel()).tunnel.probe(1000)
    expect(bytes).toBe(0)
    // Neither again nor at another address: its back-off is 0, so it would have come long since.
    expect([connections, honest.connections]).toEqual([1, 1])
  })

  it('never sends an invite’s secret to a wrong key', async () => {
    const impostor = await world.gateway()
    const { pin } = createIdentity()
    const { client } = await world.client([impostor], [], {
      gateways: [{ addresses: [impostor.address], pin }],
      enroll: { secret: 'c2VjcmV0LXNlY3JldC0xNg' },
    })
    client.start()
    await expect(client.ready()).rejects.toMatchObject({ code: 'wrong_pin' })
    expect(impostor.tunnels.all).toEqual([])
    expect(impostor.bytesRead).toBe(0)
  })

  it.each([['revoked'], ['unknown_client'], ['invite_used'], ['invite_expired']] as const)(
    'stops dialling when it is told %s for good',
    async (code) => {
      const gateway = await world.gateway()
      gateway.answer = (tunnel) => {
        tunnel.send({ type: 'reject', code, message: 'key \u001b[31m is red', final: true })
        tunnel.tunnel.end()
      }
      const { client, events } = await world.client([gateway], [])
      client.start()
      const error = await client.ready().then(
        () => undefined,
        (error: unknown) => error as TunnelError,
      )
      expect(error).toBeInstanceOf(TunnelError)
      expect(error?.code).toBe(code)
      expect(error?.message).toContain('\\x1b[31m is red')
      if (code === 'invite_used') expect(error?.message).toContain('blindgate revoke KEY')
      expect(events.all.map(({ event }) => event)).toEqual(['failed'])
      expect(gateway.tunnels.all).toHaveLength(1)
    },
  )

  it('is cut and stops when its key is revoked while it serves', async () => {
    const gateway = await world.gateway()
    const echo = await world.echo()
    const { tunnel, events } = await world.serving([gateway], [service('s', echo.port)])
    const visit = tunnel.visit('s')
    visit.write('x')
    await visit.received('x')
    const target = await echo.sockets.at(0)
    const closed = new Promise((resolve) => target.once('close', resolve))
    tunnel.send({ type: 'reject', code: 'revoked', message: '', final: true })
    expect((await events.find(is('failed'))).about.code).toBe('revoked')
    expect((await events.find(is('disconnected'))).about.retryMs).toBeUndefined()
    await Promise.all([closed, tunnel.closed])
  })

  it('dials again when it is rejected for now, after the pause that it is asked for', async () => {
    const gateway = await world.gateway()
    gateway.answer = (tunnel) => {
      const retryAfter = gateway.tunnels.all.length === 0 ? 1 : 0
      if (gateway.tunnels.all.length < 2) {
        tunnel.send({ type: 'reject', code: 'draining', message: '', final: false, retryAfter })
        tunnel.tunnel.end()
      } else tunnel.welcome()
    }
    const { events } = await world.serving([gateway], [])
    const waits = events.all.filter(is('disconnected')).map(({ about }) => about.retryMs)
    expect(waits).toEqual([1000, 0])
  })

  it('waits as long when welcome and reject come in one packet', async () => {
    const gateway = await world.gateway()
    gateway.answer = (tunnel) => {
      tunnel.welcome()
      if (gateway.tunnels.all.length > 0) return
      tunnel.send({ type: 'reject', code: 'draining', message: '', final: false, retryAfter: 1 })
      tunnel.tunnel.end()
    }
    const { client, events } = await world.client([gateway], [])
    const start = performance.now()
    client.start()
    const { about } = await events.find(is('disconnected'))
    expect(about.retryMs).toBeGreaterThan(0)
    expect(gateway.connections).toBe(1)
    await gateway.tunnel(1)
    expect(performance.now() - start).toBeGreaterThan(1_000)
  })

  // 250, 500, 1000 and 2000 ms, each once; or 500 and 250 at least, where the next dial is under way when one is lost,
  // and each dial that led to a tunnel takes half back.
  it.each([
    ['in one packet', 3_700, 5],
    ['when the next is there', 700, Infinity],
  ] as const)(
    'backs off from a gateway that welcomes and drops each tunnel %s',
    async (when, least, most) => {
      const gateway = await world.gateway()
      gateway.answer = (tunnel) => {
        const index = gateway.tunnels.all.length
        const id = `${index}`
        if (when === 'in one packet') {
          tunnel.welcome()
          tunnel.tunnel.end()
        } else {
          // Another is wanted always.
          tunnel.welcome({ gateway: { id, version: '0', ids: [id, 'another'] } })
          void gateway.tunnel(index + 1).then(() => tunnel.tunnel.end())
        }
      }
      let lots = 0
      const random = (): number => {
        lots += 1
        return 0.999
      }
      const { client } = await world.client([gateway], [], { random })
      client.start()
      await gateway.tunnel(0)
      const start = performance.now()
      await gateway.tunnel(4)
      expect(performance.now() - start).toBeGreaterThan(least)
      expect(lots).toBeLessThanOrEqual(most)
    },
  )

  it('has its streams reset and dials again when the connection is cut, with a line for each', async () => {
    const gateway = await world.gateway()
    const relay = await relayTo(gateway)
    const echo = await world.echo()
    const { client, events, lines } = await world.client([gateway], [service('s', echo.port)], {
      gateways: [{ addresses: [`127.0.0.1:${relay.port}`], pin: gateway.pin }],
    })
    client.start()
    await client.ready()
    const visit = (await gateway.tunnel()).visit('s')
    visit.write('x')
    await visit.received('x')
    const target = await echo.sockets.at(0)
    const fate = new Promise((resolve) =>
      target.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code)),
    )
    relay.cut()
    expect(await fate).toBe('ECONNRESET')
    const again = (await gateway.tunnel(1)).visit('s')
    again.write('back')
    await again.received('back')
    expect(events.all.map(({ event }) => event)).toEqual([
      'connected',
      'service',
      'disconnected',
      'connected',
    ])
    const told = lines.all.filter(({ msg }) => /lost gateway|connected to/.test(msg)).map(({ msg }) => msg)
    expect(told).toHaveLength(3)
    expect(told[1]).toMatch(/^lost gateway .*; dialling again in 0\.0 s$/)
  })

  it('finds a gateway that fell silent, and dials again at once', async () => {
    const gateway = await world.gateway()
    gateway.answer = (tunnel) => tunnel.welcome({ keepalive: 1 })
    const relay = await relayTo(gateway)
    const { client, events } = await world.client([gateway], [], {
      gateways: [{ addresses: [`127.0.0.1:${relay.port}`], pin: gateway.pin }],
      random: () => 0.999,
    })
    client.start()
    await client.ready()
    relay.silence()
    const { about } = await events.find(is('disconnected'))
    expect(about.reason.code).toBe('silent')
    expect(about.retryMs).toBe(0)
    await events.find(is('connected'), 2)
  })

  it('tries the addresses of a gateway in order, and says of each why not', async () => {
    const gateway = await world.gateway()
    const gone = await world.gateway()
    const dead = gone.address
    await gone.close()
    const { client, events } = await world.client([gateway], [], {
      gateways: [{ addresses: [dead, gateway.address], pin: gateway.pin }],
    })
    client.start()
    await client.ready()
    expect((await events.find(is('connected'))).about.gateway).toBe(dead)
    const both = await world.client([gateway], [], {
      gateways: [{ addresses: [dead, dead.replace('127.0.0.1', '127.0.0.2')], pin: gateway.pin }],
    })
    both.client.start()
    const { about } = await both.events.find(is('disconnected'))
    expect(about.reason.code).toBe('dial_failed')
    expect(about.reason.message).toContain('127.0.0.1')
    expect(about.reason.message).toContain('127.0.0.2')
  })

  it('logs a gateway that cannot be reached once, not at every dial', async () => {
    const gateway = await world.gateway()
    await gateway.close()
    const { client, events, lines } = await world.client([gateway], [])
    client.start()
    await events.find(is('disconnected'), 20)
    expect(lines.all.filter(({ level }) => level === WARN)).toHaveLength(1)
  })

  it('logs a gateway that comes and goes a few times, not at every turn', async () => {
    const gateway = await world.gateway()
    gateway.answer = (tunnel) => {
      tunnel.welcome()
      tunnel.tunnel.end()
    }
    const { client, events, lines } = await world.client([gateway], [])
    client.start()
    await events.find(is('disconnected'), 40)
    const count = (text: string) => lines.all.filter(({ msg }) => msg.startsWith(text)).length
    expect([count('connected to'), count('lost gateway')]).toEqual([REPEATED_LOG_FIRST, REPEATED_LOG_FIRST])
  })
})

describe('a gateway of several', () => {
  /** Each dial reaches the next of `ids`, and then the first again. */
  function behind(gateway: FakeGateway, ids: string[]): void {
    let dials = 0
    gateway.answer = (tunnel: FakeTunnel) => {
      const id = ids[dials++ % ids.length] ?? ''
      tunnel.welcome({ gateway: { id, version: '0', ids } })
    }
  }

  it('gets a tunnel for each id, and no dial more', async () => {
    const gateway = await world.gateway()
    behind(gateway, ['a', 'b', 'c'])
    const { client, events } = await world.serving([gateway], [service('s', 80)])
    const tunnels = [await gateway.tunnel(0), await gateway.tunnel(1), await gateway.tunnel(2)]
    for (const { messages } of tunnels.slice(1)) await messages.find(({ type }) => type === 'register')
    // Only the first can be sure that it is no second one.
    expect(tunnels.map(({ hello }) => hello.services.length)).toEqual([1, 0, 0])
    await tunnels[2]?.tunnel.probe(1000)
    expect(gateway.connections).toBe(3)
    expect(client.status().gateways).toMatchObject([{ connected: true }])
    expect(events.all.map(({ event }) => event)).toEqual(['connected', 'service'])
  })

  it('keeps the tunnel that works when a dial leads to the same id again', async () => {
    const gateway = await world.gateway()
    const order = ['a', 'a', 'b']
    gateway.answer = (tunnel) => {
      const id = order[gateway.tunnels.all.length] ?? 'c'
      tunnel.welcome({ gateway: { id, version: '0', ids: ['a', 'b'] } })
    }
    const { tunnel } = await world.serving([gateway], [service('s', 80)])
    const second = await gateway.tunnel(1)
    expect((await second.closed).code).toBe('closed')
    expect(second.hello.services).toEqual([])
    expect(second.messages.all.map(({ type }) => type)).toEqual(['hello'])
    await (await gateway.tunnel(2)).messages.find(({ type }) => type === 'register')
    expect(tunnel.tunnel.closed).toBe(false)
    expect(gateway.connections).toBe(3)
  })

  it('dials when it learns of another id, and when one is lost', async () => {
    const gateway = await world.gateway()
    const order = ['a', 'b', 'b']
    gateway.answer = (tunnel) => {
      const at = gateway.tunnels.all.length
      tunnel.welcome({ gateway: { id: order[at] ?? '', version: '0', ids: at === 0 ? ['a'] : ['a', 'b'] } })
    }
    const { tunnel, events } = await world.serving([gateway], [])
    tunnel.send({ type: 'gateways', ids: ['a', 'b'] })
    const other = await gateway.tunnel(1)
    other.tunnel.end()
    await gateway.tunnel(2)
    expect(tunnel.tunnel.closed).toBe(false)
    expect(events.all.map(({ event }) => event)).toEqual(['connected'])
  })

  it('that names more ids than anybody has gets a bounded number of tunnels, and one warning', async () => {
    const gateway = await world.gateway()
    const ids = Array.from({ length: 6_000 }, (_, at) => `${at}`)
    behind(gateway, ids)
    gateway.answer = (tunnel) => {
      const at = gateway.tunnels.all.length
      tunnel.welcome({ gateway: { id: `${at}`, version: '0', ids: ids.slice(0, 5000) } })
    }
    const { client, lines } = await world.client([gateway], [])
    client.start()
    const last = await gateway.tunnel(TUNNELS_PER_GATEWAY - 1)
    last.send({ type: 'gateways', ids })
    await last.tunnel.probe(1000)
    expect(gateway.connections).toBe(TUNNELS_PER_GATEWAY)
    expect(lines.all.filter(({ level }) => level === WARN)).toHaveLength(1)
  })
})

describe('a drain', () => {
  it('of the gateway leads to another tunnel at once, and keeps the old one until its last visitor is done', async () => {
    const gateway = await world.gateway()
    const echo = await world.echo()
    const { tunnel, events } = await world.serving([gateway], [service('s', echo.port)])
    const visit = tunnel.visit('s')
    visit.write('before')
    await visit.received('before')
    tunnel.send({ type: 'drain', deadlineMs: 60_000 })
    const fresh = await gateway.tunnel(1)
    expect(fresh.hello.services).toHaveLength(1)
    visit.write(' after')
    await visit.received('before after')
    expect(tunnel.tunnel.closed).toBe(false)
    visit.stream.end()
    expect(await visit.over).toBe('end')
    expect((await tunnel.closed).code).toBe('closed')
    expect(fresh.tunnel.closed).toBe(false)
    // Nobody was without a tunnel, so there is nothing to say.
    expect(events.all.map(({ event }) => event)).toEqual(['connected', 'service'])
  })

  it('of the gateway without visitors waits for the new tunnel before it drops the old one', async () => {
    const gateway = await world.gateway()
    let welcomeLater: (() => void) | undefined
    gateway.answer = (tunnel) => {
      if (gateway.tunnels.all.length === 0) tunnel.welcome()
      else welcomeLater = () => tunnel.welcome()
    }
    const { tunnel } = await world.serving([gateway], [])
    tunnel.send({ type: 'drain', deadlineMs: 60_000 })
    await gateway.tunnel(1)
    expect(await tunnel.tunnel.probe(1000)).toBe(true)
    welcomeLater?.()
    await tunnel.closed
  })

  it('of the gateway ends at its deadline', async () => {
    const gateway = await world.gateway()
    const echo = await world.echo()
    const { tunnel } = await world.serving([gateway], [service('s', echo.port)])
    const visit = tunnel.visit('s')
    visit.write('x')
    await visit.received('x')
    tunnel.send({ type: 'drain', deadlineMs: 10 })
    expect(await visit.over).toBeInstanceOf(TunnelError)
    await tunnel.closed
  })

  it('of the client says so, sends new visitors elsewhere, and lets active ones finish', async () => {
    const gateway = await world.gateway()
    const echo = await world.echo()
    const { client, tunnel } = await world.serving([gateway], [service('s', echo.port)])
    const visit = tunnel.visit('s')
    visit.write('before')
    await visit.received('before')
    const drained = client.drain(60_000)
    expect(await tunnel.messages.find(({ type }) => type === 'drain')).toEqual({
      type: 'drain',
      deadlineMs: 60_000,
    })
    const late = tunnel.visit('s')
    expect(await late.over).toBeInstanceOf(TunnelError)
    expect(late.code).toBe('draining')
    visit.write(' after')
    await visit.received('before after')
    visit.stream.end()
    await drained
    expect(await visit.over).toBe('end')
    expect((await tunnel.closed).code).toBe('closed')
    expect(gateway.connections).toBe(1)
  })

  it('of the client waits for the last bytes of a visitor that reads slowly', async () => {
    const gateway = await world.gateway()
    const length = 1024 * 1024
    const target = await world.target((socket) => socket.end(Buffer.alloc(length, 'x')))
    const { client, tunnel } = await world.serving([gateway], [service('s', target.port)])
    const visit = tunnel.visit('s')
    visit.hold()
    visit.stream.end()
    await visit.received('x')
    const drained = client.drain(60_000)
    await tunnel.messages.find(({ type }) => type === 'drain')
    await tunnel.tunnel.probe(1000)
    visit.release()
    expect(await visit.over).toBe('end')
    expect(visit.text.length).toBe(length)
    await drained
  })

  it('of the client is one, however often it is asked for, until it is closed', async () => {
    const gateway = await world.gateway()
    const echo = await world.echo()
    const { client, tunnel } = await world.serving([gateway], [service('s', echo.port)])
    const visit = tunnel.visit('s')
    visit.write('x')
    await visit.received('x')
    const drains = [client.drain(60_000), client.drain(0)]
    await tunnel.messages.find(({ type }) => type === 'drain')
    expect(await tunnel.tunnel.probe(1000)).toBe(true)
    expect(client.status().streams).toBe(1)
    await client.close()
    expect(await visit.over).toBeInstanceOf(TunnelError)
    await Promise.all(drains)
  })

  it('of the client is bounded', async () => {
    const gateway = await world.gateway()
    const echo = await world.echo()
    const { client, tunnel } = await world.serving([gateway], [service('s', echo.port)])
    const visit = tunnel.visit('s')
    visit.write('x')
    await visit.received('x')
    await client.drain(10)
    expect(await visit.over).toBeInstanceOf(TunnelError)
  })
})
