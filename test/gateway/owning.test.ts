import { createServer } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { ANSWER, freePort, granted, HTTP, REQUEST, status, tcp, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const answering = (visit: { answer(text: string): void }): void => visit.answer(ANSWER)
const BOTH = granted({
  home: { hosts: ['*'], ports: [[1024, 65_535]] },
  guest: { hosts: ['*'], ports: [[1024, 65_535]] },
})

describe('the owner of a route', () => {
  test('keeps it while it is away, and through a restart: another name gets route_taken, and what to do', async () => {
    const port = await freePort()
    const first = await world.gateway({ grants: BOTH })
    const home = await world.enroll(first, 'home-1', { name: 'home', services: [HTTP, tcp(port)] })
    home.tunnel.end()
    await home.closed
    const guest = await world.enroll(first, 'guest-1', { name: 'guest', services: [HTTP, tcp(port, 'mine')] })
    for (const result of await guest.welcome()) {
      expect(result).toMatchObject({ error: { code: 'route_taken' } })
      expect('error' in result && result.error.message).toContain('blindgate release')
    }
    await first.gateway.close()

    const second = await world.gateway({ grants: BOTH }, first.state)
    const again = await world.dial(second, 'guest-1', { services: [HTTP] })
    expect(await again.welcome()).toMatchObject([{ error: { code: 'route_taken' } }])
    const back = await world.dial(second, 'home-1', { services: [HTTP, tcp(port)] })
    expect(await back.welcome()).toMatchObject([
      { urls: [expect.any(String)] },
      { urls: [`tcp://127.0.0.1:${port}`] },
    ])
  })

  test('keeps the listener of its port while it is away, and after a restart', async () => {
    const port = await freePort()
    const first = await world.gateway()
    const home = await world.enroll(first, 'home-1', { services: [tcp(port)] })
    home.tunnel.end()
    await home.closed
    await world.visit(port).connected
    await first.gateway.close()
    const second = await world.gateway({}, first.state)
    const waiting = world.visit(port, 'hello')
    await world.dial(second, 'home-1', { services: [tcp(port)] }, (visit) => visit.answer('welcome back'))
    await waiting.received('welcome back')
  })

  test('loses it neither by unregistering nor by leaving, but by unregistering to release', async () => {
    const port = await freePort()
    const running = await world.gateway({ grants: BOTH })
    const home = await world.enroll(running, 'home-1', { name: 'home', services: [tcp(port)] })
    const guest = await world.enroll(running, 'guest-1', { name: 'guest' })
    await home.unregister([`tcp-${port}`])
    expect(await guest.register(tcp(port))).toMatchObject([{ error: { code: 'route_taken' } }])
    await home.register(tcp(port))
    await home.unregister([`tcp-${port}`], true)
    expect(await guest.register(tcp(port))).toMatchObject([{ urls: [`tcp://127.0.0.1:${port}`] }])
  })

  test('cannot release what another name owns, nor what its own replica still serves', async () => {
    const port = await freePort()
    const running = await world.gateway()
    const one = await world.enroll(running, 'home-1', { services: [tcp(port)] })
    await world.enroll(running, 'home-2', { services: [tcp(port)] })
    await one.unregister([`tcp-${port}`], true)
    expect((await status(running)).routes).toMatchObject([
      { route: `tcp:${port}`, owner: 'home', replicas: 1 },
    ])
  })

  test('loses it by the operator’s release, which refuses while somebody serves it', async () => {
    const port = await freePort()
    const running = await world.gateway({ grants: BOTH })
    const home = await world.enroll(running, 'home-1', { name: 'home', services: [tcp(port)] })
    const release = { command: 'release', route: `tcp:${port}` } as const
    await expect(running.gateway.command(release)).rejects.toMatchObject({ code: 'route_taken' })
    home.tunnel.end()
    await home.closed
    expect(await running.gateway.command(release)).toEqual({ route: `tcp:${port}`, name: 'home' })
    expect(await world.visit(port).over).toBe('reset')
    await expect(running.gateway.command(release)).rejects.toMatchObject({ code: 'not_found' })
  })

  test('of the default route leaves it without closing the visitors’ port: its next owner serves there', async () => {
    const running = await world.gateway({ grants: BOTH })
    const home = await world.enroll(running, 'home-1', { name: 'home', services: [HTTP] })
    home.tunnel.end()
    await home.closed
    await running.gateway.command({ command: 'release', route: 'default' })
    const absent = world.visit(running.http, REQUEST)
    await absent.received('404 Not Found')
    await world.enroll(running, 'guest-1', { name: 'guest', services: [HTTP], serve: answering })
    await world.visit(running.http, REQUEST).received('here')
  })

  test('that was revoked by name leaves the visitors’ port to the next one', async () => {
    const running = await world.gateway({ grants: BOTH })
    await world.enroll(running, 'home-1', { name: 'home', services: [HTTP] })
    await running.gateway.command({ command: 'revoke', target: 'home' })
    await world.enroll(running, 'guest-1', { name: 'guest', services: [HTTP], serve: answering })
    await world.visit(running.http, REQUEST).received('here')
  })
})

describe('a route', () => {
  test('has replicas of one name, service and type; another service gets route_conflict', async () => {
    const running = await world.gateway()
    await world.enroll(running, 'home-1', { services: [HTTP] })
    const other = await world.enroll(running, 'home-2', { services: [{ name: 'other', type: 'http' }] })
    expect(await other.welcome()).toMatchObject([{ name: 'other', error: { code: 'route_conflict' } }])
    expect(await other.register(HTTP)).toMatchObject([{ name: 'web', urls: [expect.any(String)] }])
  })

  test('whose services are all gone goes to the owner’s new service', async () => {
    const running = await world.gateway()
    const one = await world.enroll(running, 'home-1', { services: [HTTP] })
    one.tunnel.end()
    await one.closed
    const other = await world.dial(running, 'home-1', { services: [{ name: 'other', type: 'http' }] })
    expect(await other.welcome()).toMatchObject([{ name: 'other', urls: [expect.any(String)] }])
  })

  test('is never kept from its client by that client’s own ghost', async () => {
    const running = await world.gateway()
    const ghost = await world.enroll(running, 'home-1', { services: [HTTP] })
    // It neither answers nor asks: any byte would be a sign of life.
    ghost.tunnel.session.receive = ghost.tunnel.session.ping = () => {}
    const next = await world.dial(
      running,
      'home-1',
      { services: [{ name: 'other', type: 'http' }] },
      answering,
    )
    expect(await next.welcome()).toMatchObject([{ name: 'other', urls: [expect.any(String)] }])
    await world.visit(running.http, REQUEST).received('here')
  })
})

describe('a port', () => {
  test('that another program uses is port_in_use, and belongs to nobody', async () => {
    const running = await world.gateway()
    const program = createServer()
    await new Promise<void>((resolve) => program.listen(0, '127.0.0.1', resolve))
    const { port } = program.address() as { port: number }
    const home = await world.enroll(running, 'home-1', { services: [tcp(port)] })
    expect(await home.welcome()).toMatchObject([{ error: { code: 'port_in_use' } }])
    expect((await status(running)).routes).toEqual([])
    await new Promise((resolve) => program.close(resolve))
    expect(await home.register(tcp(port))).toMatchObject([{ urls: [`tcp://127.0.0.1:${port}`] }])
  })

  test('outside the grant, or the gateway’s own, is refused with the lines to add', async () => {
    const running = await world.gateway({ grants: granted({ home: { ports: [[8_000, 8_001]] } }) })
    const home = await world.enroll(running, 'home-1', { name: 'home' })
    const [outside] = await home.register(tcp(9_999))
    expect(outside).toMatchObject({ error: { code: 'not_granted' } })
    expect(outside && 'error' in outside && outside.error.message).toContain('[grant.home] ports')
    const open = await world.gateway()
    const other = await world.enroll(open, 'home-2')
    for (const own of [open.http, open.gateway.clients.port, 80]) {
      expect(await other.register(tcp(own))).toMatchObject([{ error: { code: 'not_granted' } }])
    }
  })

  test('that was chosen stays the service’s through its absence and a restart', async () => {
    const low = await freePort()
    const grants = granted({ home: { ports: [[low, Math.min(65_535, low + 200)]] } })
    const first = await world.gateway({ grants })
    const home = await world.enroll(first, 'home-1', {
      name: 'home',
      services: [{ name: 'ssh', type: 'tcp' }],
    })
    const [chosen] = await home.welcome()
    await first.gateway.close()
    const second = await world.gateway({ grants }, first.state)
    const back = await world.dial(second, 'home-1', {
      services: [
        { name: 'other', type: 'tcp' },
        { name: 'ssh', type: 'tcp' },
      ],
    })
    const [other, ssh] = await back.welcome()
    expect(ssh).toEqual(chosen)
    expect(other).not.toEqual(chosen)
  })

  test('is passed over by the choice when another program sits on it', async () => {
    const program = createServer()
    await new Promise<void>((resolve) => program.listen(0, '127.0.0.1', resolve))
    const { port } = program.address() as { port: number }
    const grants = granted({ home: { ports: [[port, Math.min(65_535, port + 200)]] } })
    const running = await world.gateway({ grants })
    const home = await world.enroll(running, 'home-1', {
      name: 'home',
      services: [{ name: 'ssh', type: 'tcp' }],
    })
    const [ssh] = await home.welcome()
    expect(ssh).toMatchObject({ urls: [expect.any(String)] })
    expect(ssh).not.toMatchObject({ urls: [`tcp://127.0.0.1:${port}`] })
    await new Promise((resolve) => program.close(resolve))
  })
})
