import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { ClientService } from '../../src/client/index.ts'
import { HEALTH_FAILURES } from '../../src/limits.ts'
import type { Health } from '../../src/protocol/index.ts'
import type { FakeGateway, FakeTunnel } from './fake-gateway.ts'
import { Moments } from './moments.ts'
import { service, WARN, World } from './world.ts'

const world = new World()
afterEach(() => world.close())

/** A target that answers as it is told, and counts. */
class Site {
  status = 200
  readonly asked = new Moments<string>()
  readonly #server: Server = createServer((request, response) => {
    response.writeHead(this.status).end()
    this.asked.add(request.url ?? '')
  })

  static async start(): Promise<Site> {
    const site = new Site()
    await new Promise<void>((resolve) => site.#server.listen(0, '127.0.0.1', resolve))
    world.later(() => new Promise((resolve) => site.#server.close(resolve)))
    return site
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  service(rest: Partial<ClientService> = {}): ClientService {
    return service('web', this.port, { health: '/health', ...rest })
  }

  /** Resolves when it has been asked so many times more. */
  async askedMore(times: number): Promise<void> {
    await this.asked.at(this.asked.all.length + times - 1)
  }
}

const healthOf = ({ messages }: FakeTunnel): string[] =>
  messages.all
    .filter((message): message is Health => message.type === 'health')
    .map(({ name, up }) => `${name} ${up ? 'up' : 'down'}`)

const told = (tunnel: FakeTunnel, times: number): Promise<unknown> =>
  tunnel.messages.find(() => healthOf(tunnel).length === times)

async function serving(services: ClientService[], gateways?: FakeGateway[]) {
  return world.serving(gateways ?? [await world.gateway()], services, { probeMs: 1 })
}

describe('a client whose service has a health path', () => {
  it('tells its gateways when the target fails and when it is back, and says so', async () => {
    const site = await Site.start()
    const gateways = [await world.gateway(), await world.gateway()]
    const { client, lines } = await serving([site.service(), service('other', site.port)], gateways)
    const tunnels = await Promise.all(gateways.map((gateway) => gateway.tunnel()))
    await site.askedMore(1)
    expect(tunnels.map(healthOf)).toEqual([[], []])
    expect(client.status().routes.map(({ name, health }) => [name, health])).toEqual([
      ['web', 'up'],
      ['other', undefined],
      ['web', 'up'],
      ['other', undefined],
    ])
    site.status = 503
    await Promise.all(tunnels.map((tunnel) => told(tunnel, 1)))
    expect(client.status().routes[0]?.health).toBe('down')
    site.status = 302
    await Promise.all(tunnels.map((tunnel) => told(tunnel, 2)))
    expect(tunnels.map(healthOf)).toEqual([
      ['web down', 'web up'],
      ['web down', 'web up'],
    ])
    expect(client.status().routes[0]?.health).toBe('up')
    const said = lines.all.filter(({ msg }) => msg.includes('"web": its target'))
    expect(said.map(({ msg }) => msg)).toEqual([
      'service "web": its target does not answer GET /health (status 503): visitors go elsewhere',
      'service "web": its target is back',
    ])
    expect(said.map(({ level }) => level)).toEqual([WARN, WARN - 10])
    expect(new Set(site.asked.all)).toEqual(new Set(['/health']))
  })

  it('tells a gateway that comes back what is down, and nothing of what is up', async () => {
    const [site, well] = [await Site.start(), await Site.start()]
    site.status = 500
    const gateway = await world.gateway()
    const services = [site.service(), service('well', well.port, { health: '/' })]
    const { tunnel } = await serving(services, [gateway])
    await told(tunnel, 1)
    tunnel.tunnel.end()
    const next = await gateway.tunnel(1)
    await told(next, 1)
    expect(healthOf(next)).toEqual(['web down'])
  })

  it('tells it once the gateway has taken the service, and not before', async () => {
    const site = await Site.start()
    site.status = 500
    const gateway = await world.gateway()
    gateway.grant = ({ name }) => ({ name, error: { code: 'route_taken', message: 'taken' } })
    const { client, tunnel } = await serving([site.service()], [gateway])
    await site.askedMore(HEALTH_FAILURES + 1)
    expect(client.status().routes[0]?.health).toBe('down')
    expect(healthOf(tunnel)).toEqual([])
    gateway.grant = ({ name }) => ({ name, urls: [] })
    // Asked for otherwise, the gateway takes it; its target is the same, and still down.
    client.update([site.service({ path: '/elsewhere' })])
    await told(tunnel, 1)
    expect(healthOf(tunnel)).toEqual(['web down'])
  })

  it('begins anew, as up, when another target is asked, and asks the old one no more', async () => {
    const [old, now] = [await Site.start(), await Site.start()]
    old.status = 500
    const { client, tunnel } = await serving([old.service()])
    await told(tunnel, 1)
    client.update([now.service()])
    const before = old.asked.all.length
    expect(client.status().routes[0]?.health).toBe('up')
    await told(tunnel, 2)
    expect(healthOf(tunnel)).toEqual(['web down', 'web up'])
    await now.askedMore(HEALTH_FAILURES)
    // One question may have been under way.
    expect(old.asked.all.length).toBeLessThanOrEqual(before + 1)
    client.update([service('web', now.port)])
    expect(client.status().routes[0]).not.toHaveProperty('health')
  })

  it('keeps what it knows when something else changes', async () => {
    const site = await Site.start()
    site.status = 500
    const { client, tunnel } = await serving([site.service()])
    await told(tunnel, 1)
    client.update([site.service({ idleMs: 7 }), service('new', site.port)])
    expect(client.status().routes[0]?.health).toBe('down')
    await tunnel.messages.find(({ type }) => type === 'register')
    expect(healthOf(tunnel)).toEqual(['web down'])
  })

  it('asks nothing of what it serves itself, and nobody once it is closed', async () => {
    const site = await Site.start()
    const here = site.service({ name: 'here', health: '/here', serve: (connection) => connection.destroy() })
    const { client } = await serving([site.service(), here])
    expect(client.status().routes.map(({ health }) => health)).toEqual(['up', undefined])
    await site.askedMore(2)
    await client.close()
    const { length } = site.asked.all
    // Longer than many rounds would take: another client is asked for in the meantime.
    const other = await Site.start()
    await serving([other.service()])
    await other.askedMore(10)
    expect(site.asked.all.length).toBeLessThanOrEqual(length + 1)
    expect(site.asked.all).not.toContain('/here')
  })
})
