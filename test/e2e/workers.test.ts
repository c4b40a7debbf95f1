/** A gateway of several processes: what holds for one holds for all of them together. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:tls'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ask, freePort, Target, Visitor } from './visitors.ts'
import { expectFailure, type Gateway, heard, killed, type Offered, until, World } from './world.ts'

const run = promisify(execFile)

interface Row {
  worker: number
  pid: number
  id: string
  answered: boolean
  tunnels: number
  streams: number
}

interface Status {
  workers?: Row[]
  routes: { route: string; owner: string; replicas: number; streams: number }[]
  streams: number
  bytes: { in: number; out: number }
  clients: { connected: boolean }[]
}

let world: World
beforeEach(() => {
  world = new World()
})
afterEach(() => world.close())

function withWorkers(count: number, args: readonly string[] = [], state = 'gateway'): Promise<Gateway> {
  return world.gateway(['--workers', `${count}`, ...args], { state })
}

async function statusOf(gateway: Gateway): Promise<Status> {
  return JSON.parse(await gateway.command(['status', '--json'])) as Status
}

async function workersOf(gateway: Gateway): Promise<Row[]> {
  return (await statusOf(gateway)).workers ?? []
}

/** Resolves when so many workers have a tunnel each, and nobody has more. */
async function tunnelled(gateway: Gateway, count: number): Promise<Row[]> {
  let rows: Row[] = []
  await until(`${count} workers have a tunnel each`, async () => {
    rows = await workersOf(gateway)
    const have = rows.map(({ tunnels }) => tunnels)
    return (have.length === count && have.every((tunnels) => tunnels === 1)) || `they have ${have.join()}`
  })
  return rows
}

/** Does something with each worker while the others stand still, so that whoever comes is that worker's. */
async function oneByOne(gateway: Gateway, what: (row: Row) => Promise<void>): Promise<void> {
  const rows = await workersOf(gateway)
  for (const row of rows) {
    const others = rows.filter(({ pid }) => pid !== row.pid)
    for (const { pid } of others) process.kill(pid, 'SIGSTOP')
    try {
      await what(row)
    } finally {
      for (const { pid } of others) process.kill(pid, 'SIGCONT')
    }
  }
}

/** One visitor that has been served by each worker, in their order. */
async function visitorOfEach(gateway: Gateway, port: number): Promise<Visitor[]> {
  const visitors: Visitor[] = []
  await oneByOne(gateway, async () => {
    const visitor = (await Visitor.to(port)).read()
    await visitor.echo('hello')
    visitors.push(visitor)
  })
  return visitors
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

async function echoed(gateway: Gateway, state = 'home'): Promise<Offered> {
  const target = world.with(await Target.echo())
  await world.join(state, gateway)
  return world.offer(state, ['tcp', `${target.port}`, '--port', `${await freePort()}`])
}

describe('three workers', () => {
  it('have a tunnel of a client each, met in three dials, and any of them serves its visitors of http, TLS and tcp', async () => {
    const gateway = await withWorkers(3, ['--tls', '127.0.0.1:0'])
    await world.join('home', gateway)
    const web = world.with(await Target.web('here'))
    const echo = world.with(await Target.echo())
    const port = await freePort()
    const file = world.path('blindgate.toml')
    writeFileSync(
      file,
      [
        ['web', 'http', `target = "127.0.0.1:${web.port}"`],
        ['app', 'https', `target = "127.0.0.1:${web.port}"\nhost = "app.example.com"\ntls = "self-signed"`],
        ['echo', 'tcp', `target = "127.0.0.1:${echo.port}"\nport = ${port}`],
      ]
        .map(([name, type, rest]) => `[[service]]\nname = "${name}"\ntype = "${type}"\n${rest}\n`)
        .join(''),
      { mode: 0o600 },
    )
    const client = world.start('home', ['up', '-c', file, '--log-level', 'debug'])
    await tunnelled(gateway, 3)
    expect(client.err).not.toContain('has a tunnel already')
    await oneByOne(gateway, async () => {
      expect(await ask(gateway.visitors)).toEqual({ status: 200, body: 'here' })
      const url = `https://app.example.com:${gateway.tls}/`
      const resolved = ['--resolve', `app.example.com:${gateway.tls}:127.0.0.1`]
      const { stdout } = await run('curl', ['-sSk', '--max-time', '20', ...resolved, url])
      expect(stdout).toBe('here')
      await (await Visitor.to(port)).read().echo('hello')
    })
    const status = await statusOf(gateway)
    expect(status.routes.map(({ replicas }) => replicas)).toEqual([1, 1, 1])
    expect(new Set(status.workers?.map(({ id }) => id)).size).toBe(3)
  })

  it('take clients that come by the port of TLS, each in its turn', async () => {
    const gateway = await withWorkers(3, ['--tls', '127.0.0.1:0'])
    const invite = await gateway.command(['invite', '--address', `127.0.0.1:${gateway.tls}`])
    await world.done('home', ['join', '-'], invite)
    const web = world.with(await Target.web('here'))
    const { program } = await world.offer('home', ['http', `${web.port}`, '--log-level', 'debug'])
    await tunnelled(gateway, 3)
    expect(program.err).not.toContain('has a tunnel already')
    expect(await ask(gateway.visitors)).toEqual({ status: 200, body: 'here' })
  })

  it('are told what to serve by one record: of two names that race for ports each is one name’s, on disk too', async () => {
    const file = world.path('gateway.toml')
    const ports = await Promise.all(Array.from({ length: 24 }, freePort))
    const grant = (name: string): string => `[grant.${name}]\nports = ["1024-65535"]\n`
    writeFileSync(file, grant('home') + grant('office'), { mode: 0o600 })
    const gateway = await withWorkers(3, ['-c', file])
    const echo = world.with(await Target.echo())
    const services = ports.map(
      (port, n) =>
        `[[service]]\nname = "s${n}"\ntype = "tcp"\ntarget = "127.0.0.1:${echo.port}"\nport = ${port}\n`,
    )
    const clients = []
    for (const name of ['home', 'office']) {
      await world.join(name, gateway, ['--name', name])
      const config = world.path(`${name}.toml`)
      // From either end, so that they meet in the middle.
      writeFileSync(config, (name === 'home' ? services : services.toReversed()).join(''), { mode: 0o600 })
      clients.push(['up', '-c', config])
    }
    const programs = clients.map((args, n) => world.start(n === 0 ? 'home' : 'office', args))
    await until('both are on all workers', async () => {
      const rows = await workersOf(gateway)
      return rows.every(({ tunnels }) => tunnels === 2) || rows.map(({ tunnels }) => tunnels).join()
    })
    const { routes } = await statusOf(gateway)
    expect(routes.map(({ route }) => route).toSorted()).toEqual(ports.map((port) => `tcp:${port}`).toSorted())
    const owned = (name: string): number => routes.filter(({ owner }) => owner === name).length
    const granted = (program: (typeof programs)[number]): number =>
      new Set([...program.out.matchAll(/^tcp:\/\/\S+:(\d+) → /gm)].map(([, port]) => port)).size
    await until('each has heard which are its own', () => {
      const heardOf = programs.map(granted)
      return heardOf.join() === [owned('home'), owned('office')].join() || heardOf.join()
    })
    const onDisk = JSON.parse(readFileSync(world.path('gateway', 'gateway.json'), 'utf8')) as {
      authority: { owners: { route: string; name: string }[] }
    }
    const written = onDisk.authority.owners.map(({ route, name }) => `${route} ${name}`)
    expect(written.toSorted()).toEqual(routes.map(({ route, owner }) => `${route} ${owner}`).toSorted())
    for (const { route } of routes) await (await Visitor.to(Number(route.slice(4)))).read().echo('hello')
  })

  it('redeem an invite once, though two machines come with it at once', async () => {
    const gateway = await withWorkers(3)
    for (let round = 0; round < 3; round += 1) {
      const invite = await gateway.command(['invite', '--name', 'home'])
      const ended = await Promise.all(
        ['one', 'two'].map((state) => world.run(`${state}${round}`, ['join', '-'], invite)),
      )
      expect(ended.filter(({ code }) => code === 0)).toHaveLength(1)
    }
    expect((await statusOf(gateway)).clients).toHaveLength(3)
  })

  it('cut the tunnels and visitors of a revoked name, all of them, before the command ends', async () => {
    const gateway = await withWorkers(3)
    const { port } = await echoed(gateway)
    await tunnelled(gateway, 3)
    const visitors = await visitorOfEach(gateway, port)
    expect((await workersOf(gateway)).map(({ streams }) => streams)).toEqual([1, 1, 1])
    await gateway.command(['revoke', 'home'])
    expect(await statusOf(gateway)).toMatchObject({ routes: [], streams: 0, clients: [] })
    await Promise.all(visitors.map(({ closed }) => closed))
    await gateway.reaches('blindgate_tunnels', 0)
    expect((await Visitor.to(port).catch(() => 'nobody')) === 'nobody').toBe(true)
  })

  it('cut whom was revoked though one of them stands still: that one is ended, and replaced', async () => {
    const gateway = await withWorkers(2)
    const { port } = await echoed(gateway)
    const [first, second] = await tunnelled(gateway, 2)
    if (first === undefined || second === undefined) throw new Error('there are two')
    process.kill(second.pid, 'SIGSTOP')
    const visitor = (await Visitor.to(port)).read()
    await visitor.echo('hello')
    await gateway.command(['revoke', 'home'])
    expect(isAlive(second.pid)).toBe(false)
    await visitor.closed
    await heard(gateway.program, 'err', /worker 2 did not answer in time: it was ended/)
    await until('there are two workers again', async () => {
      const rows = await workersOf(gateway)
      return (rows.length === 2 && rows.every(({ answered }) => answered)) || 'there are not'
    })
  })

  it('release a route when none of them serves it, and not before', async () => {
    const gateway = await withWorkers(3)
    const { port, program } = await echoed(gateway)
    await tunnelled(gateway, 3)
    expectFailure(await world.run('gateway', ['release', `tcp:${port}`]), {
      says: /is being served by 1 client/,
    })
    await killed(program)
    await until('nobody serves it', async () => {
      const [row] = (await statusOf(gateway)).routes
      return row?.replicas === 0 || 'somebody does'
    })
    // It stays its owner's, and its port open, while that is away.
    const waiting = await Visitor.to(port)
    expect(await gateway.command(['release', `tcp:${port}`])).toContain('which was of "home"')
    await waiting.read().closed
    await until('the port is free', async () => {
      const answered = await Visitor.to(port).then(
        ({ socket }) => {
          socket.destroy()
          return true
        },
        () => false,
      )
      return !answered || 'somebody listens there'
    })
    expect((await statusOf(gateway)).routes).toEqual([])
  })

  it('lose what a narrowed grant no longer covers, on SIGHUP', async () => {
    const file = world.path('gateway.toml')
    const port = await freePort()
    const write = (ports: string): void =>
      writeFileSync(file, `workers = 3\n[grant.home]\nports = [${ports}]\n`, { mode: 0o600 })
    write(`"${port}"`)
    const gateway = await world.gateway(['-c', file])
    await world.join('home', gateway)
    const echo = world.with(await Target.echo())
    await world.offer('home', ['tcp', `${echo.port}`, '--port', `${port}`])
    await tunnelled(gateway, 3)
    const visitors = await visitorOfEach(gateway, port)
    write('')
    gateway.program.signal('SIGHUP')
    await heard(gateway.program, 'err', /is in force/)
    await Promise.all(visitors.map(({ closed }) => closed))
    expect((await statusOf(gateway)).routes).toMatchObject([{ owner: 'home', replicas: 0, streams: 0 }])
    expect((await Visitor.to(port).catch(() => 'nobody')) === 'nobody').toBe(true)
  })

  it('are summed in status and metrics; one that stands still is said to', async () => {
    const gateway = await withWorkers(3)
    const { port } = await echoed(gateway)
    await tunnelled(gateway, 3)
    await oneByOne(gateway, async () => (await Visitor.to(port)).read().echo('hello'))
    expect(await statusOf(gateway)).toMatchObject({
      streams: 3,
      bytes: { in: 15, out: 15 },
      routes: [{ replicas: 1, streams: 3 }],
      clients: [{ connected: true }],
    })
    expect(await gateway.gauge('blindgate_bytes_in_total')).toBe(15)
    expect(await gateway.gauge('blindgate_visitors')).toBe(3)
    expect(await gateway.gauge('blindgate_route_replicas')).toBe(1)
    expect(await gateway.gauge('blindgate_worker_up')).toBe(3)
    expect(await gateway.gauge('blindgate_worker_resident_memory_bytes')).toBeGreaterThan(3e7)
    const [first] = await workersOf(gateway)
    if (first === undefined) throw new Error('there is a first one')
    process.kill(first.pid, 'SIGSTOP')
    try {
      expect((await workersOf(gateway)).map(({ answered }) => answered)).toEqual([false, true, true])
      expect(await gateway.gauge('blindgate_worker_up')).toBe(2)
      // What it had counted before is not forgotten.
      expect(await gateway.gauge('blindgate_bytes_in_total')).toBe(15)
    } finally {
      process.kill(first.pid, 'SIGCONT')
    }
  })
})

describe('a worker that is killed', () => {
  it('takes its own visitors with it and nobody else’s; another takes its place, and the client reaches that', async () => {
    const gateway = await withWorkers(3)
    const { port } = await echoed(gateway)
    const before = await tunnelled(gateway, 3)
    const visitors = await visitorOfEach(gateway, port)
    const [dying] = before
    if (dying === undefined) throw new Error('there is a first one')
    process.kill(dying.pid, 'SIGKILL')
    await Promise.race([visitors[0]?.ended, visitors[0]?.closed])
    for (const visitor of visitors.slice(1)) await visitor.echo('still here')
    await heard(gateway.program, 'err', /worker 1 has ended \(SIGKILL\)/)
    const after = await tunnelled(gateway, 3)
    expect(after.map(({ pid }) => pid)).not.toContain(dying.pid)
    expect(after.map(({ id }) => id)).not.toContain(dying.id)
    await oneByOne(gateway, async () => (await Visitor.to(port)).read().echo('hello again'))
    for (const visitor of visitors.slice(1)) await visitor.echo('and still')
    expect(await gateway.gauge('blindgate_bytes_in_total')).toBeGreaterThan(0)
  })
})

describe('the end', () => {
  it('of the gateway by kill -9 ends its workers, and its ports are free for the next', async () => {
    const gateway = await withWorkers(3)
    const { port } = await echoed(gateway)
    const rows = await tunnelled(gateway, 3)
    await killed(gateway.program)
    await until('all workers have ended', () => rows.every(({ pid }) => !isAlive(pid)) || 'one lives')
    const next = await withWorkers(3, gateway.ports)
    await tunnelled(next, 3)
    await (await Visitor.to(port)).read().echo('hello')
  })

  it('of a gateway that hangs, while tunnels are on their way up to it, ends its workers too', async () => {
    const gateway = await withWorkers(2, ['--tls', '127.0.0.1:0'])
    const rows = await workersOf(gateway)
    const primary = gateway.program.child.pid ?? 0
    await oneByOne(gateway, async () => {
      process.kill(primary, 'SIGSTOP')
      const client = connect({ port: gateway.tls, host: '127.0.0.1', ALPNProtocols: ['blindgate/1'] })
      client.on('error', () => undefined)
      world.with({ close: async () => void client.destroy() })
      await once(client, 'connect')
      // Answered by the same process, and so after that was read.
      await expect(ask(gateway.tls)).resolves.toMatchObject({ status: 400 })
    })
    await killed(gateway.program)
    await until('all workers have ended', () => rows.every(({ pid }) => !isAlive(pid)) || 'one lives')
  })

  it('in order lets the visitors of all workers finish, and nobody in', async () => {
    const gateway = await withWorkers(3)
    const { port } = await echoed(gateway)
    const rows = await tunnelled(gateway, 3)
    const visitors = await visitorOfEach(gateway, port)
    // As a terminal does: it comes to all processes, and only the gateway itself goes by it.
    for (const { pid } of rows) process.kill(pid, 'SIGINT')
    gateway.program.signal('SIGINT')
    await until('nobody is let in', async () => {
      const refused = await Visitor.to(port).then(
        (visitor) => {
          visitor.socket.destroy()
          return false
        },
        () => true,
      )
      return refused || 'somebody was'
    })
    for (const visitor of visitors) {
      await visitor.echo('going on')
      visitor.socket.end()
      expect(await visitor.closed).toBe('end')
    }
    expect((await gateway.program.ended).code).toBe(0)
    expect(rows.filter(({ pid }) => isAlive(pid))).toEqual([])
  })

  it('at the second signal is at once', async () => {
    const gateway = await withWorkers(2)
    const { port } = await echoed(gateway)
    const rows = await tunnelled(gateway, 2)
    const visitor = (await Visitor.to(port)).read()
    await visitor.echo('hello')
    gateway.program.signal('SIGTERM')
    await heard(gateway.program, 'err', /once more cuts them/)
    gateway.program.signal('SIGTERM')
    expectFailure(await gateway.program.ended, { says: /came twice/ })
    await visitor.closed
    expect(rows.filter(({ pid }) => isAlive(pid))).toEqual([])
  })
})

describe('the start', () => {
  it('fails with one line where a port is in use, and leaves no process', async () => {
    const first = await withWorkers(2)
    for (const flag of ['--http', '--tls', '--tunnel', '--admin']) {
      const others = ['--http', '--tunnel', '--admin'].filter((other) => other !== flag)
      const elsewhere = others.flatMap((other) => [other, '127.0.0.1:0'])
      const args = ['gateway', '--workers', '2', flag, `127.0.0.1:${first.visitors}`, ...elsewhere]
      const ended = await world.run('second', args)
      expectFailure(ended, { says: /cannot listen on 127.0.0.1:\d+: another program listens there/ })
      expect(ended.out).toBe('')
    }
  })

  it('forks nobody for one worker', async () => {
    const gateway = await withWorkers(1)
    const pid = gateway.program.child.pid ?? 0
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    expect(children).toBe('')
    expect(await statusOf(gateway)).not.toHaveProperty('workers')
  })
})

it('eight workers are met in eight dials', async () => {
  const gateway = await withWorkers(8)
  await world.join('home', gateway)
  const web = world.with(await Target.web('here'))
  const { program } = await world.offer('home', ['http', `${web.port}`, '--log-level', 'debug'])
  await tunnelled(gateway, 8)
  expect(program.err).not.toContain('has a tunnel already')
})
