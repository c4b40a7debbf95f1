import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join as joinPath } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { ClientTrust, Finding, ServiceOutcome } from '../../src/client/index.ts'
import { DEFAULT_TRUST } from '../../src/config/index.ts'
import { CONTROL_MESSAGES_BURST, REFUSED_RETRY_MS } from '../../src/limits.ts'
import { callLocal, openState, type State } from '../../src/state/index.ts'
import { Moments } from './moments.ts'
import { type Event, service, WARN, World } from './world.ts'

const world = new World()
afterEach(() => world.close())

async function stateFolder(): Promise<State> {
  const path = mkdtempSync(joinPath(tmpdir(), 'bg-client-'))
  world.later(() => Promise.resolve(rmSync(path, { recursive: true })))
  return openState(path)
}

const outcomes = (events: Event[]): ServiceOutcome[] =>
  events.flatMap((event) => (event.event === 'service' ? [event.about] : []))

describe('the watch of trust', () => {
  it('looks once it knows where visitors come in, again when the settings change, and ends with the client', async () => {
    const gateway = await world.gateway()
    gateway.grant = ({ name }) => ({ name, urls: ['https://gateway:8443'] })
    const looked: (string | number | undefined)[][] = []
    const moments = new Moments<string>()
    const found: Finding = {
      check: 'ct',
      about: 'a.example',
      level: 'fail',
      alarm: true,
      text: 'foreign',
      advice: 'act',
    }
    const trust = (ct: string): ClientTrust => ({
      settings: { ...DEFAULT_TRUST, ct },
      checks: (context) => ({
        caa: async () => [],
        ct: async () => {
          moments.add(context.settings.ct)
          return context.settings.ct === 'https://one/{host}' ? [found] : []
        },
        probe: async ({ host, port }) => {
          looked.push([host, port])
          moments.add('probe')
          return []
        },
      }),
    })
    const web = service('web', 8080, { type: 'https', tls: 'self-signed', hosts: ['a.example'] })
    const { client, lines } = await world.client([gateway], [web], { trust: trust('https://one/{host}') })
    const alarms = new Moments<Finding>()
    client.on('trust', (finding) => alarms.add(finding))
    client.start()
    expect(await alarms.at(0)).toEqual(found)
    await moments.find((each) => each === 'probe')
    expect(looked).toEqual([['a.example', 8443]])
    expect(lines.all.filter(({ level }) => level === 50).map(({ msg }) => msg)).toEqual([
      'a.example: foreign: act',
    ])
    expect(client.status().errors['trust_alarm']).toBe(1)
    expect(client.status().trust?.alarms).toHaveLength(1)
    client.update([web], undefined, { trust: trust('https://two/{host}') })
    expect(client.status().trust?.alarms ?? []).toEqual([])
    await moments.find((each) => each === 'https://two/{host}')
    await client.close()
  })

  it('is not there for a client that was not told how', async () => {
    const { client } = await world.client([await world.gateway()], [])
    expect(client.status().trust).toBeUndefined()
  })
})

describe('ready', () => {
  it('says what became of every service at every gateway', async () => {
    const [one, two] = [await world.gateway(), await world.gateway()]
    two.grant = ({ name }) => ({
      name,
      // The name is said once, by whoever shows it.
      error: { code: 'route_taken', message: `service "${name}": taken by \u001b[31m"other"` },
    })
    const { client } = await world.client([one, two], [service('web', 8080)])
    client.start()
    expect(await client.ready()).toEqual([
      {
        gateway: one.address,
        name: 'web',
        type: 'http',
        target: '127.0.0.1:8080',
        urls: ['http://127.0.0.1:9000'],
      },
      {
        gateway: two.address,
        name: 'web',
        type: 'http',
        target: '127.0.0.1:8080',
        error: { code: 'route_taken', message: 'taken by \\x1b[31m"other"' },
      },
    ])
  })

  it('rejects when the client is closed first', async () => {
    const gateway = await world.gateway()
    gateway.answer = () => {}
    const { client } = await world.client([gateway], [])
    client.start()
    const ready = client.ready()
    await gateway.tunnel()
    await client.close()
    await expect(ready).rejects.toMatchObject({ code: 'closed' })
    await expect(client.ready()).rejects.toMatchObject({ code: 'closed' })
  })
})

describe('a client', () => {
  it.each([
    [[service('a', 1), service('a', 2)], 'rename one'],
    [[service('a', 1, { gateways: ['elsewhere:9001'] })], 'elsewhere:9001'],
  ])('refuses services that cannot be meant', async (services, text) => {
    const gateway = await world.gateway()
    await expect(world.client([gateway], services)).rejects.toThrow(text)
    const { client } = await world.client([gateway], [])
    expect(() => client.update(services)).toThrow(text)
  })

  it('refuses to run without a gateway', async () => {
    await expect(world.client([], [])).rejects.toMatchObject({ code: 'config_invalid' })
  })

  it('changes its gateways: a new one is dialled, one that is gone keeps its visitors until they have gone', async () => {
    const [first, second] = [await world.gateway(), await world.gateway()]
    const echo = await world.echo()
    const { client, tunnel } = await world.serving([first], [service('web', echo.port)])
    const visit = tunnel.visit('web')
    visit.write('one')
    await visit.received('one')
    client.update([service('web', echo.port)], [{ addresses: [second.address], pin: second.pin }])
    const other = await second.tunnel()
    const late = other.visit('web')
    late.write('two')
    await late.received('two')
    // The old gateway is told to send nobody more; who is there goes on.
    await tunnel.messages.find(({ type }) => type === 'drain')
    visit.write(' more')
    await visit.received('one more')
    visit.stream.end()
    await tunnel.closed
    expect(client.status().gateways.map(({ address }) => address)).toEqual([second.address])
    expect(client.hopeless).toBe(false)
    late.stream.reset()
    await client.close()
  })

  it('changes its services without touching what stayed', async () => {
    const gateway = await world.gateway()
    const [echo, other] = [await world.echo(), await world.target((socket) => socket.end('other'))]
    const { client, tunnel, events } = await world.serving(
      [gateway],
      [
        service('stays', echo.port),
        service('goes', echo.port),
        service('moves', 1, { type: 'tcp', port: 1 }),
      ],
    )
    const [stays, goes] = [tunnel.visit('stays'), tunnel.visit('goes')]
    for (const visit of [stays, goes]) {
      visit.write('one')
      await visit.received('one')
    }
    client.update([
      service('stays', other.port),
      service('moves', 1, { type: 'tcp', port: 2 }),
      service('comes', echo.port),
    ])
    await tunnel.messages.find(({ type }) => type === 'register')
    expect(tunnel.messages.all.slice(1)).toMatchObject([
      { type: 'unregister', names: ['goes', 'moves'] },
      // What has another target is registered over what is there: visitors never miss it.
      { type: 'register', services: [{ name: 'stays' }, { name: 'moves', port: 2 }, { name: 'comes' }] },
    ])
    // Streams under way go on, also those of what is gone; new ones see the new targets.
    for (const visit of [stays, goes]) {
      visit.write(' two')
      await visit.received('one two')
    }
    const late = tunnel.visit('stays')
    await late.received('other')
    const refused = tunnel.visit('goes')
    await refused.over
    expect(refused.code).toBe('unknown_service')
    expect(
      outcomes(events.all)
        .filter(({ name }) => name === 'stays')
        .map(({ target }) => target),
    ).toEqual([`127.0.0.1:${echo.port}`, `127.0.0.1:${other.port}`])
    expect(client.status().routes.map(({ name }) => name)).toEqual(['stays', 'moves', 'comes'])
  })

  it('keeps what was refused, and offers it again on the next tunnel', async () => {
    const gateway = await world.gateway()
    gateway.grant = ({ name }) => ({ name, error: { code: 'port_in_use', message: 'in use' } })
    const { tunnel, events, client } = await world.serving([gateway], [service('s', 80)])
    gateway.grant = ({ name }) => ({ name, urls: ['http://0.0.0.0:9000'] })
    tunnel.tunnel.end()
    await events.find((event) => event.event === 'service' && event.about.urls !== undefined)
    expect(client.status().routes).toMatchObject([{ name: 's', urls: ['http://127.0.0.1:9000'] }])
  })

  it('offers what was refused again after a minute, on the tunnel that it has', async () => {
    const gateway = await world.gateway()
    const { tunnel, events } = await world.serving([gateway], [service('s', 80)])
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    world.later(() => Promise.resolve(vi.useRealTimers()))
    const error = { code: 'not_granted', message: 'not now' } as const
    tunnel.send({ type: 'withdrawn', services: [{ name: 's', error }] })
    await events.find((event) => event.event === 'service' && event.about.error !== undefined)
    vi.advanceTimersByTime(REFUSED_RETRY_MS - 1)
    await new Promise(setImmediate)
    expect(tunnel.messages.all.map(({ type }) => type)).toEqual(['hello'])
    vi.advanceTimersByTime(1)
    await tunnel.messages.find(({ type }) => type === 'register')
    await events.find((event) => event.event === 'service' && event.about.urls !== undefined, 2)
  })

  it('survives a storm of visitors for a target that is down', async () => {
    const gateway = await world.gateway()
    const { tunnel } = await world.serving([gateway], [])
    for (let visits = 0; visits < CONTROL_MESSAGES_BURST + 1000; visits += 200) {
      const storm = Array.from({ length: 200 }, () => tunnel.visit('gone'))
      await Promise.all(storm.map(({ over }) => over))
    }
    expect(tunnel.tunnel.closed).toBe(false)
  })

  it('says so when the gateway takes a service back', async () => {
    const gateway = await world.gateway()
    const { tunnel, events } = await world.serving([gateway], [service('s', 80)])
    tunnel.send({
      type: 'withdrawn',
      services: [{ name: 's', error: { code: 'not_granted', message: 'no' } }],
    })
    await events.find((event) => event.event === 'service' && event.about.error?.code === 'not_granted')
  })

  it('does not say again what it has said, when it comes back', async () => {
    const gateway = await world.gateway()
    const { tunnel, events } = await world.serving([gateway], [service('s', 80)])
    tunnel.tunnel.end()
    const back = await gateway.tunnel(1)
    await back.tunnel.probe(1000)
    expect(events.all.map(({ event }) => event)).toEqual([
      'connected',
      'service',
      'disconnected',
      'connected',
    ])
  })

  it('believes nothing of a hostile welcome that it can know or bound itself', async () => {
    const gateway = await world.gateway()
    const urls = [
      'javascript:alert(1)',
      'http://evil.example:9000',
      'http://0.0.0.0:9000/steal',
      '\u001b]0;owned\u0007',
    ]
    gateway.answer = (tunnel) =>
      tunnel.welcome({
        name: '\u001b[2Jhome\u202e',
        keepalive: 100_000,
        services: [
          { name: 's', urls },
          { name: 'constructor', urls },
          { name: 'never-offered', urls },
        ],
      })
    const { client, events, lines } = await world.serving([gateway], [service('s', 80)])
    const status = client.status()
    expect(status.routes.map(({ urls }) => urls)).toEqual([['http://127.0.0.1:9000']])
    expect(status.gateways[0]?.name).toBe('\\x1b[2Jhome\\u202e')
    expect(outcomes(events.all)).toHaveLength(1)
    expect(lines.all.filter(({ level }) => level === WARN)).toHaveLength(1)
    const said = JSON.stringify([lines.all, events.all, status])
    for (const text of ['\\u001b', '\u202e', 'evil.example', 'never-offered'])
      expect(said).not.toContain(text)
  })

  it('shows where visitors reach a service by hosts of its own, or below the domain that the invite named', async () => {
    const gateway = await world.gateway()
    gateway.grant = ({ name }) => ({
      name,
      urls: [name === 'own' ? 'http://app.example.com:9000' : 'http://plain.example.org:9000'],
    })
    const entry = { addresses: [gateway.address], pin: gateway.pin, domain: 'example.org' }
    const own = service('own', 80, { hosts: ['app.example.com'], path: '/api' })
    const { client } = await world.serving([gateway], [own, service('plain', 80)], { gateways: [entry] })
    const urls = (): string[][] => client.status().routes.map((route) => route.urls)
    expect(urls()).toEqual([['http://app.example.com:9000/api'], ['http://plain.example.org:9000']])
    // It is another that counts from now on, on the same tunnel.
    client.update([service('plain', 80)], [{ ...entry, domain: 'example.net' }])
    expect(urls()).toEqual([[]])
  })

  it('has one status, on its socket too', async () => {
    const gateway = await world.gateway()
    const echo = await world.echo()
    const state = await stateFolder()
    const { client, tunnel } = await world.serving([gateway], [service('s', echo.port)], { state })
    const visit = tunnel.visit('s')
    visit.write('four')
    await visit.received('four')
    const refused = tunnel.visit('unknown')
    await refused.over
    const status = client.status()
    expect(status).toMatchObject({
      side: 'client',
      gateways: [{ address: gateway.address, pin: gateway.pin, name: 'home', connected: true }],
      routes: [
        { name: 's', type: 'http', urls: ['http://127.0.0.1:9000'], target: `127.0.0.1:${echo.port}` },
      ],
      streams: 1,
      errors: { unknown_service: 1 },
    })
    expect(status.bytes.out).toBe(4)
    expect(Number.isNaN(Date.parse(status.gateways[0]?.since ?? ''))).toBe(false)
    const [path = ''] = state.sockets('client-')
    expect(await callLocal(path, { command: 'status' })).toMatchObject({ side: 'client', streams: 1 })
    await expect(callLocal(path, { command: 'revoke' })).rejects.toMatchObject({ code: 'usage' })
    await client.close()
    expect(state.sockets('client-')).toEqual([])
  })

  it('ends while it dials', async () => {
    const gateway = await world.gateway()
    const { client } = await world.client([gateway], [])
    client.start()
    await client.close()
    await client.close()
    expect(gateway.tunnels.all).toEqual([])
  })
})
