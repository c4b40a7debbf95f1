import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ask, freePort, Target, Visitor } from './visitors.ts'
import { expectFailure, type Gateway, heard, killed, World } from './world.ts'

const PIN = /^sha256:[A-Za-z0-9+/]{43}$/

describe('a gateway and a machine behind NAT', () => {
  const world = new World()
  afterAll(() => world.close())
  let gateway: Gateway
  let web: Target
  beforeAll(async () => {
    gateway = await world.gateway()
    web = world.with(await Target.web('from home'))
  })

  it('prints a line per listener and nothing else on stdout', () => {
    expect(gateway.program.out).toMatch(
      /^visitors http:\/\/127\.0\.0\.1:\d+\nclients 127\.0\.0\.1:\d+\nadmin http:\/\/127\.0\.0\.1:\d+\n$/,
    )
    expect(gateway.program.err).not.toContain('bg1_')
  })

  it('prints an invite and nothing else, and joins by it from stdin', async () => {
    const invite = await gateway.command(['invite'])
    expect(invite).toMatch(/^bg1_[\w-]+$/)
    const joined = await world.run('home', ['join', '-'], `${invite}\n`)
    expect(joined).toEqual({
      code: 0,
      out: expect.stringMatching(
        /^joined 127\.0\.0\.1:\d+ as "home" \(gateway key sha256:[A-Za-z0-9+/]{43} pinned\)\n$/,
      ) as string,
      err: '',
    })
  })

  it('joining again by the same invite from the same machine is no mistake', async () => {
    const invite = await gateway.command(['invite', '--json', '--uses', '1', '--expires', '5m'])
    const { invite: text, name } = JSON.parse(invite) as { invite: string; name: string }
    expect(name).toBe('home')
    const first = await world.done('again', ['join', text, '--json'])
    const second = await world.done('again', ['join', '-', '--json'], text)
    expect(JSON.parse(second)).toEqual(JSON.parse(first))
    expect(JSON.parse(first)).toEqual({
      gateway: `127.0.0.1:${gateway.clients}`,
      name: 'home',
      key: expect.stringMatching(PIN) as string,
    })
  })

  it('serves a web server on its one http port, and tells whoever offers it where', async () => {
    const { url, target, program } = await world.offer('home', ['http', String(web.port)])
    expect(program.out).toBe(`${url} → ${target}\n`)
    expect(url).toBe(`http://127.0.0.1:${gateway.visitors}`)
    expect(target).toBe(`127.0.0.1:${web.port}`)
    expect(await ask(gateway.visitors, '/any/path?q=1')).toEqual({ status: 200, body: 'from home' })
    expect(program.err).toContain('the gateway can read this')
  })

  it('serves a unix socket, and a port of its choice where none was asked for', async () => {
    const at = world.path('app.sock')
    world.with(await Target.web('from a socket', at))
    const port = await freePort()
    const [asked, chosen] = await Promise.all([
      world.offer('home', ['tcp', `unix:${at}`, '--port', String(port)]),
      world.offer('home', ['tcp', `127.0.0.1:${web.port}`]),
    ])
    expect(asked.url).toBe(`tcp://127.0.0.1:${port}`)
    expect(await ask(port)).toEqual({ status: 200, body: 'from a socket' })
    expect(chosen.port).toBeGreaterThanOrEqual(1024)
    expect(await ask(chosen.port)).toEqual({ status: 200, body: 'from home' })
  })

  it('prints one object per URL with --json', async () => {
    const program = world.start('home', ['tcp', String(web.port), '--name', 'other', '--json'])
    const [line] = await heard(program, 'out', /^\{.*\}$/m)
    expect(JSON.parse(line)).toEqual({
      url: expect.stringMatching(/^tcp:\/\/127\.0\.0\.1:\d+$/) as string,
      target: `127.0.0.1:${web.port}`,
      name: 'other',
      type: 'tcp',
      gateway: `127.0.0.1:${gateway.clients}`,
    })
  })

  it('tells on both sides what is connected, offered and carried', async () => {
    const port = await freePort()
    const echo = world.with(await Target.echo())
    await world.offer('home', ['tcp', String(echo.port), '--port', String(port), '--name', 'echo'])
    const visitor = (await Visitor.to(port)).read()
    await visitor.echo('hello')

    const clients = JSON.parse(await gateway.command(['clients', '--json'])) as object[]
    expect(clients).toContainEqual({
      name: 'home',
      key: expect.stringMatching(PIN) as string,
      instance: expect.stringMatching(/^[0-9a-f]{32}$/) as string,
      address: '127.0.0.1',
      enrolled: expect.stringMatching(/^\d{4}-\d\d-\d\dT/) as string,
      connected: true,
    })

    const there = JSON.parse(await gateway.command(['status', '--json'])) as Record<string, unknown>
    expect(Object.keys(there)).toEqual(['side', 'clients', 'routes', 'streams', 'bytes', 'errors'])
    expect(there).toMatchObject({ side: 'gateway', streams: 1 })
    expect(there['routes']).toContainEqual({
      route: `tcp:${port}`,
      owner: 'home',
      service: 'echo',
      type: 'tcp',
      replicas: 1,
      down: 0,
      streams: 1,
      held: 0,
    })

    const here = JSON.parse(await world.done('home', ['status', '--json'])) as Record<string, unknown>
    expect(Object.keys(here)).toEqual(['side', 'gateways', 'routes', 'streams', 'bytes', 'errors'])
    expect(here).toMatchObject({ side: 'client' })
    // One that an http visitor left may rest here for the next.
    expect([1, 2]).toContain(here['streams'])
    expect(here['routes']).toContainEqual({
      gateway: `127.0.0.1:${gateway.clients}`,
      name: 'echo',
      type: 'tcp',
      urls: [`tcp://127.0.0.1:${port}`],
      target: `127.0.0.1:${echo.port}`,
    })
    visitor.socket.destroy()
  })

  it('forgets a client that was killed: status speaks of those that run', async () => {
    await world.join('elsewhere', gateway)
    const { program } = await world.offer('elsewhere', ['tcp', String(web.port), '--name', 'else'])
    await killed(program)
    expectFailure(await world.run('elsewhere', ['status']), { says: /nothing runs on/ })
  })
})

describe('one state folder', () => {
  const world = new World()
  afterAll(() => world.close())

  it.concurrent('serves both roles, and status tells of both', async () => {
    const web = world.with(await Target.web('both'))
    const gateway = await world.gateway([], { state: 'one' })
    await world.join('one', gateway)
    const { port } = await world.offer('one', ['http', String(web.port)])
    expect(await ask(port)).toEqual({ status: 200, body: 'both' })
    const lines = (await world.done('one', ['status', '--json'])).split('\n')
    expect(lines.map((line) => (JSON.parse(line) as { side: string }).side)).toEqual(['gateway', 'client'])
    expect(await world.done('one', ['status'])).toMatch(/^gateway: [^]*^client: /m)
  })

  it.concurrent('has one gateway at a time, and the second says why it does not start', async () => {
    const gateway = await world.gateway([], { state: 'single' })
    const second = await world.run('single', ['gateway', ...gateway.ports])
    expectFailure(second, { says: /single is in use by process \d+: / })
  })

  it.concurrent('remembers whom it knows when the gateway is started again', async () => {
    const first = await world.gateway([], { state: 'lasting' })
    await world.join('friend', first)
    await killed(first.program)
    expect(await world.done('lasting', ['clients'])).toMatch(/^NAME.*\nhome {2}sha256:\S+ {2}no /)
    const again = await world.gateway(first.ports, { state: 'lasting' })
    const web = world.with(await Target.web('still'))
    const { port } = await world.offer('friend', ['http', String(web.port)])
    expect(port).toBe(again.visitors)
    expect(await ask(port)).toEqual({ status: 200, body: 'still' })
  })
})
