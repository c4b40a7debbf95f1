import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ask, freePort, Target, Visitor } from './visitors.ts'
import { expectFailure, type Gateway, killed, logged, World } from './world.ts'

const world = new World()
afterAll(() => world.close())
let gateway: Gateway
/** A port with a web server behind NAT, so that only what a test is about goes wrong. */
let web: Target
beforeAll(async () => {
  const file = world.path('gateway.toml')
  writeFileSync(file, '[grant.home]\ntypes = ["http", "tcp"]\nhosts = ["*"]\nports = ["20000-20100"]\n', {
    mode: 0o600,
  })
  gateway = await world.gateway(['-c', file])
  web = world.with(await Target.web('here'))
  await world.join('home', gateway)
})

describe('an invite', () => {
  it('that was used up says how to find and revoke the key that used it', async () => {
    const invite = await gateway.command(['invite'])
    await world.done('used', ['join', '-'], invite)
    expectFailure(await world.run('late', ['join', '-'], invite), {
      says: /this invite was used up: .*`blindgate clients`.*`blindgate revoke KEY`.*`blindgate invite`/,
    })
  })

  it('that has expired says so', async () => {
    const invite = await gateway.command(['invite', '--expires', '1ms'])
    expectFailure(await world.run('late', ['join', '-'], invite), {
      says: /this invite has expired: run `blindgate invite` on the gateway for a new one/,
    })
  })

  it('that was cut short, changed, or is none asks for the whole', async () => {
    const invite = await gateway.command(['invite'])
    const other = invite.at(-9) === 'A' ? 'B' : 'A'
    const wrong = [
      invite.slice(0, -1),
      invite.slice(0, 20),
      `${invite.slice(0, -9)}${other}${invite.slice(-8)}`,
    ]
    for (const text of wrong) {
      expectFailure(await world.run('late', ['join', '-'], text), { says: /incomplete: copy it whole/ })
    }
    for (const text of ['', 'hello', 'bg2_AAAA', `bg1_${'A'.repeat(5_000)}`]) {
      const ended = await world.run('late', ['join', '-'], text)
      expectFailure(ended, { says: /invite/ })
      expect(ended.out).toBe('')
    }
    // Nothing is lost: the whole one works.
    await world.done('late', ['join', '-'], ` ${invite.slice(0, 40)}\n${invite.slice(40)}\r\n`)
  })

  it('of a gateway that does not run says where it was looked for', async () => {
    const there = await world.gateway([], { state: 'stopped' })
    const invite = await there.command(['invite'])
    await killed(there.program)
    expectFailure(await world.run('early', ['join', '-'], invite), {
      says: new RegExp(
        `127\\.0\\.0\\.1:${there.clients}.*ECONNREFUSED|127\\.0\\.0\\.1:${there.clients}.*refused`,
      ),
    })
  })
})

it('a machine that never joined is told to join', async () => {
  for (const args of [
    ['http', '80'],
    ['tcp', '80'],
  ]) {
    expectFailure(await world.run('stranger', args), { says: /no state in .*"join"/ })
  }
})

it('a revoked key is told so, is not dialled with again, and cannot come back by its old invite', async () => {
  const invite = await gateway.command(['invite', '--uses', '2'])
  await world.done('lost', ['join', '-'], invite)
  const clients = JSON.parse(await gateway.command(['clients', '--json'])) as {
    key: string
    enrolled: string
  }[]
  const { key = '' } = clients.toSorted((a, b) => a.enrolled.localeCompare(b.enrolled)).at(-1) ?? {}
  expect(await gateway.command(['revoke', key])).toBe(`revoked ${key}`)
  const says = /this machine's key was revoked there: ask the gateway's operator/
  expectFailure(await world.run('lost', ['http', String(web.port)]), { says })
  expectFailure(await world.run('lost', ['join', '-'], invite), { says })
  expectFailure(await world.run('other', ['join', '-'], invite), { says: /used up|void|invite/ })
  expectFailure(await world.run(gateway.state, ['revoke', 'nobody']), {
    says: /no name "nobody": there is "home"/,
  })
})

describe('another key at the address of a gateway', () => {
  it('stops the client at once, which says from what to what and how to accept it; then --replace does', async () => {
    const before = await world.gateway([], { state: 'changing' })
    const old = await before.command(['invite'])
    await world.done('pinned', ['join', '-'], old)
    const pin = /sha256:[A-Za-z0-9+/]{43}/.exec(
      readFileSync(world.path('pinned', 'client.json'), 'utf8'),
    )?.[0]
    await killed(before.program)
    rmSync(world.path('changing'), { recursive: true })
    const after = await world.gateway([...before.ports, '--log-level', 'debug'], { state: 'changing' })

    const ended = await world.run('pinned', ['http', String(web.port)])
    expectFailure(ended, {
      says: /key of gateway .* \(expected sha256:\S+, found sha256:\S+\): .* do not join; .* run `blindgate join --replace` with a new invite$/,
    })
    expect(ended.err).toContain(`expected ${pin}`)
    expect(ended.err).not.toMatch(/dialling again/)

    // An invite of the old gateway is of no use to whoever sits there now, for its secret is never sent.
    expectFailure(await world.run('newcomer', ['join', '-'], old), {
      says: /expected sha256:\S+, found sha256:/,
    })
    expect(after.program.err).not.toMatch(/invite_|rejected/)
    expect(await after.gauge('blindgate_tunnels')).toBe(0)

    const invite = await after.command(['invite'])
    expectFailure(await world.run('pinned', ['join', '-'], invite), {
      says: /is joined with key sha256:\S+, and this invite says sha256:\S+: .*--replace/,
    })
    await world.done('pinned', ['join', '-', '--replace'], invite)
    const { port } = await world.offer('pinned', ['http', String(web.port)])
    expect(await ask(port)).toEqual({ status: 200, body: 'here' })
  })
})

describe('a service', () => {
  it('whose name is too long, or whose port is none, is wrong usage', async () => {
    const long = 'n'.repeat(64)
    expectFailure(await world.run('home', ['tcp', '80', '--name', long]), { code: 2, says: /--name: / })
    expectFailure(await world.run('home', ['tcp', '80', '--port', '65536']), { code: 2, says: /--port: / })
    expectFailure(await world.run(gateway.state, ['invite', '--name', long]), { code: 2, says: /--name: / })
  })

  it('on a port outside the grant says which ports are in it, and where to add it', async () => {
    expectFailure(await world.run('home', ['tcp', String(web.port), '--port', '30000']), {
      says: /30000 is outside the grant of "home" \(20000-20100\).*\[grant\.home\] ports.*\(not_granted\)$/,
    })
  })

  it('on a port that another program has says so', async () => {
    const blocker = await world.gateway([], { state: 'lone' })
    await world.join('roomy', blocker)
    const taken = world.with(await Target.echo())
    expectFailure(await world.run('roomy', ['tcp', String(web.port), '--port', String(taken.port)]), {
      says: /port \d+ is used by another program on the gateway: choose another \(port_in_use\)$/,
    })
  })

  it('whose target refuses gives http visitors a 502 page and tcp visitors a reset, and one line of log', async () => {
    const nobody = await freePort()
    const [http, tcp] = await Promise.all([
      world.offer('home', ['http', String(nobody)]),
      world.offer('home', ['tcp', String(nobody)]),
    ])
    for (let visit = 0; visit < 3; visit++) {
      const { status, body } = await ask(gateway.visitors)
      expect(status).toBe(502)
      expect(body).toContain('<p>the server behind this address refused the connection.\n')
      // Not a word about what is behind NAT.
      expect(body).not.toContain(String(nobody))
      expect(await (await Visitor.to(tcp.port, 'hello')).closed).toBe('reset')
    }
    for (const { program } of [http, tcp]) {
      const line = await logged(program, /target .* fails/)
      expect(line).toMatchObject({ level: 'warn' })
      expect(program.err.match(/target .* fails/g)).toHaveLength(1)
    }
  })
})

describe('a gateway', () => {
  it('whose port is taken says which', async () => {
    const ended = await world.run('second', [
      'gateway',
      '--http',
      `127.0.0.1:${web.port}`,
      '--tunnel',
      '127.0.0.1:0',
    ])
    expectFailure(ended, { says: new RegExp(`127\\.0\\.0\\.1:${web.port}: another program listens there`) })
    expect(ended.out).toBe('')
  })

  it('without an address that clients could use asks for it when an invite is made', async () => {
    const away = await world.gateway(['--tunnel', '0.0.0.0:0'], { state: 'away' })
    const made = await world.run('away', ['invite'])
    // On a machine with one global address that one is taken.
    if (made.code !== 0) expectFailure(made, { says: /--address HOST:PORT/ })
    expect(await away.command(['invite', '--address', 'vps.example.com:9001'])).toMatch(/^bg1_/)
  })

  it('with a mistake in its file names the line', async () => {
    const file = world.path('wrong.toml')
    writeFileSync(file, '[listen]\nhttp = ":80"\ntunel = ":9001"\n', { mode: 0o600 })
    expectFailure(await world.run('second', ['gateway', '-c', file]), {
      says: /wrong\.toml:3: unknown key "tunel" in \[listen\]: did you mean "tunnel"\?/,
    })
  })

  it('does not read a file that others can write', async () => {
    const file = world.path('open.toml')
    writeFileSync(file, '')
    chmodSync(file, 0o666)
    expectFailure(await world.run('second', ['gateway', '-c', file]), { says: /open\.toml.*chmod/ })
  })
})

describe('a state folder', () => {
  it('that others can read is refused with the command that mends it', async () => {
    mkdirSync(world.path('shown'))
    chmodSync(world.path('shown'), 0o755)
    for (const args of [
      ['gateway', '--http', '0', '--tunnel', '0'],
      ['http', '80'],
      ['invite'],
      ['status'],
    ]) {
      expectFailure(await world.run('shown', args), { says: /shown.*chmod 700/ })
    }
  })

  it('that is no folder, or lies where none can be made, is refused', async () => {
    writeFileSync(world.path('file'), '')
    expectFailure(await world.run('file', ['gateway']), { says: /file/ })
    expectFailure(await world.run('file/below', ['gateway']), { says: /file/ })
    expectFailure(await world.workshop.run(['gateway', '--state', '/proc/blindgate']), { says: /\/proc/ })
  })

  it('with a file that a crash left half is refused, and the file is left as it was', async () => {
    const there = await world.gateway([], { state: 'broken' })
    await world.join('half', there)
    await killed(there.program)
    for (const [state, name, args] of [
      ['broken', 'gateway.json', ['gateway', ...there.ports]],
      ['broken', 'gateway.json', ['invite']],
      ['half', 'client.json', ['http', '80']],
      ['half', 'client.key', ['http', '80']],
    ] as const) {
      const path = world.path(state, name)
      const whole = readFileSync(path, 'utf8')
      const half = whole.slice(0, whole.length / 2)
      writeFileSync(path, half)
      expectFailure(await world.run(state, args), { says: new RegExp(name) })
      expect(readFileSync(path, 'utf8')).toBe(half)
      writeFileSync(path, whole)
    }
    await world.gateway(there.ports, { state: 'broken' })
    const { port } = await world.offer('half', ['http', String(web.port)])
    expect(await ask(port)).toEqual({ status: 200, body: 'here' })
  })

  it('that has one file too open is refused with the command that mends it', async () => {
    await world.join('leaky', gateway)
    chmodSync(world.path('leaky', 'client.key'), 0o644)
    expectFailure(await world.run('leaky', ['http', '80']), { says: /client\.key.*chmod 600/ })
  })
})
