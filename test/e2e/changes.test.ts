import { renameSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Running } from '../cli/binary.ts'
import { ask, freePort, Target, Visitor } from './visitors.ts'
import { type Gateway, heard, logged, World } from './world.ts'

let world: World
beforeEach(() => {
  world = new World()
})
afterEach(() => world.close())

interface Service {
  name: string
  type?: string
  port?: number
  target: number
}

/** Writes a file as an editor does: a new one, renamed over the old. */
function save(path: string, services: readonly Service[]): void {
  const text = services.map(({ name, type = 'tcp', port, target }) =>
    [
      '[[service]]',
      `name = "${name}"`,
      `type = "${type}"`,
      ...(port === undefined ? [] : [`port = ${port}`]),
      `target = "${target}"`,
      '',
    ].join('\n'),
  )
  writeFileSync(`${path}.new`, text.join('\n'), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

describe('up', () => {
  let gateway: Gateway
  let echo: Target
  let web: Target
  let port: number
  let file: string
  let program: Running
  let visitor: Visitor
  let kept: Service
  beforeEach(async () => {
    gateway = await world.gateway()
    await world.join('home', gateway)
    ;[echo, web, port] = await Promise.all([Target.echo(), Target.web('here'), freePort()])
    world.with(echo)
    world.with(web)
    file = world.path('blindgate.toml')
    kept = { name: 'kept', port, target: echo.port }
    save(file, [kept])
    program = (await world.offer('home', ['up', '-c', file])).program
    visitor = (await Visitor.to(port)).read()
    await visitor.echo('before')
  })

  it('takes over what changed in its file, and drops no visitor of what did not', async () => {
    const other = await freePort()
    save(file, [
      kept,
      { name: 'web', type: 'http', target: web.port },
      { name: 'more', port: other, target: web.port },
    ])
    await heard(program, 'out', new RegExp(`^tcp://127\\.0\\.0\\.1:${other} → `, 'm'))
    await heard(program, 'out', /^http:/m)
    expect(await ask(other)).toEqual({ status: 200, body: 'here' })
    expect(await ask(gateway.visitors)).toEqual({ status: 200, body: 'here' })
    await visitor.echo('while services came')

    const told = program.err.length
    save(file, [kept, { name: 'web', type: 'http', target: web.port }])
    await logged(program, /blindgate\.toml is in force: 2 services/, told)
    await gateway.reaches('blindgate_route_replicas', 2)
    await visitor.echo('while one went')
    expect(await ask(gateway.visitors)).toEqual({ status: 200, body: 'here' })
    expect(echo.sockets).toHaveLength(1)
  })

  it('keeps what it has when the file has a mistake, says which, and takes the next one that has none', async () => {
    writeFileSync(file, '[[service]]\nname = "kept"\ntipe = "tcp"\n')
    await logged(program, /blindgate\.toml:3: unknown key .*the settings stay as they were/)
    await visitor.echo('still here')
    expect(await (await Visitor.to(port)).read().echo('and open')).toBeUndefined()
    save(file, [kept, { name: 'web', type: 'http', target: web.port }])
    await heard(program, 'out', /^http:/m)
    await visitor.echo('after it')
  })

  it('offers the others while one is refused, and keeps asking for that one', async () => {
    save(file, [
      kept,
      { name: 'web', type: 'http', target: web.port },
      { name: 'low', port: 80, target: web.port },
    ])
    await logged(program, /service \\"low\\" is refused/)
    await heard(program, 'out', /^http:/m)
    expect(await ask(gateway.visitors)).toEqual({ status: 200, body: 'here' })
    await visitor.echo('still here')
  })

  it('reads the file again at SIGHUP', async () => {
    const told = program.err.length
    program.signal('SIGHUP')
    await logged(program, /blindgate\.toml is in force: 1 services/, told)
    await visitor.echo('still here')
  })
})

describe('on the gateway', () => {
  let gateway: Gateway
  let file: string
  let port: number
  let program: Running
  let visitor: Visitor
  const write = (ports: string): void =>
    writeFileSync(file, `[grant.home]\ntypes = ["http", "tcp"]\nhosts = ["*"]\nports = ["${ports}"]\n`, {
      mode: 0o600,
    })
  beforeEach(async () => {
    file = world.path('gateway.toml')
    write('1024-65535')
    gateway = await world.gateway(['-c', file])
    await world.join('home', gateway)
    const echo = world.with(await Target.echo())
    port = await freePort()
    const offered = await world.offer('home', ['tcp', String(echo.port), '--port', String(port)])
    program = offered.program
    visitor = (await Visitor.to(port)).read()
    await visitor.echo('before')
  })

  it('a narrowed grant withdraws what it covers no more, and cuts its visitors within a second', async () => {
    const web = world.with(await Target.web('here'))
    await world.offer('home', ['http', String(web.port)])
    write('1024-1030')
    const since = performance.now()
    gateway.program.signal('SIGHUP')
    expect(await visitor.closed).toBe('reset')
    expect(performance.now() - since).toBeLessThan(1_000)
    await logged(program, /refused|withdrawn|grant was narrowed/)
    await expect(Visitor.to(port)).rejects.toThrow('ECONNREFUSED')
    expect(await ask(gateway.visitors)).toEqual({ status: 200, body: 'here' })
  })

  it('a bad file keeps the grants as they were', async () => {
    writeFileSync(file, '[grant.home]\nports = ["x"]\n')
    gateway.program.signal('SIGHUP')
    await logged(gateway.program, /gateway\.toml:2: .*the settings stay as they were/)
    await visitor.echo('still here')
  })

  it.each(['name', 'key'] as const)(
    'revoking a %s cuts its visitors within a second, and its client ends',
    async (what) => {
      const [{ key }] = JSON.parse(await gateway.command(['clients', '--json'])) as [{ key: string }]
      const since = performance.now()
      const revoked = gateway.command(['revoke', what === 'name' ? 'home' : key])
      expect(await visitor.closed).toBe('reset')
      // With the start of the command, which takes most of it.
      expect(performance.now() - since).toBeLessThan(2_000)
      expect(await revoked).toBe(
        what === 'name' ? `revoked "home"\nrevoked ${key}\nreleased tcp:${port}` : `revoked ${key}`,
      )
      const { code, err } = await program.ended
      expect(code).toBe(1)
      expect(err.trimEnd().split('\n').at(-1)).toMatch(
        /^blindgate: gateway \S+: this machine's key was revoked there/,
      )
      const status = JSON.parse(await gateway.command(['status', '--json'])) as {
        routes: { route: string }[]
      }
      // A name takes its routes with it; the routes of a key stay its name's.
      expect(status.routes.map(({ route }) => route)).toEqual(what === 'name' ? [] : [`tcp:${port}`])
    },
  )
})
