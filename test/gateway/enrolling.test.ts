import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { InviteAnswer } from '../../src/gateway/index.ts'
import { decodeInvite } from '../../src/identity/index.ts'
import type { ClientMessage } from '../../src/protocol/index.ts'
import type { State } from '../../src/state/index.ts'
import { until } from '../net/joined.ts'
import { control, DATA, frame, HELLO, RawPeer } from '../transport/raw-peer.ts'
import {
  ANSWER,
  clients,
  freePort,
  granted,
  HTTP,
  REQUEST,
  SLOW_PORTS,
  settings,
  status,
  tcp,
  World,
} from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const TWO = granted({ home: { hosts: ['*'], ports: [[1024, 65_535]] }, guest: { ports: [[1024, 65_535]] } })
const WARN = 40

/** The state cannot be written from now on; a stand-in for a full disk. */
function breakWrites(state: State): () => void {
  const real = state.writeJson.bind(state)
  state.writeJson = () => Promise.reject(new Error('no space left'))
  return () => {
    state.writeJson = real
  }
}

describe('a machine that comes with an invite', () => {
  test('is enrolled under the name of the invite, whatever it says itself, and served by the same tunnel', async () => {
    const running = await world.gateway({ grants: TWO })
    const client = await world.enroll(running, 'm', {
      name: 'guest',
      agent: 'I am home',
      services: [HTTP],
    })
    expect((await client.heard('welcome')).name).toBe('guest')
    expect(await client.welcome()).toMatchObject([{ error: { code: 'not_granted' } }])
  })

  test('is welcomed only when that is on the disk', async () => {
    const running = await world.gateway()
    const secret = await world.secret(running)
    const mend = breakWrites(running.state)
    const client = await world.dial(running, 'm', { enroll: { secret } })
    expect(await client.heard('reject')).toMatchObject({ code: 'overloaded', final: false, retryAfter: 30 })
    await client.closed
    expect(client.messages.all.some(({ type }) => type === 'welcome')).toBe(false)
    // Nor by its key alone, which memory knows and the disk does not.
    const again = await world.dial(running, 'm')
    expect(await again.heard('reject')).toMatchObject({ code: 'overloaded' })
    mend()
    await (await world.dial(running, 'm', { enroll: { secret } })).welcome()
    const file = await readFile(join(running.state.path, 'gateway.json'), 'utf8')
    expect(file).toContain((await world.machine('m')).pin)
    expect(file).not.toContain(secret)
  })

  test('may come again with the same invite, since the answer may have been lost; another machine may not', async () => {
    const running = await world.gateway()
    const secret = await world.secret(running)
    await (await world.dial(running, 'm', { enroll: { secret } })).welcome()
    await (await world.dial(running, 'm', { enroll: { secret } })).welcome()
    const { pin } = await world.machine('m')
    const other = await world.dial(running, 'other', { enroll: { secret } })
    const { code, message, final } = await other.heard('reject')
    expect([code, final]).toEqual(['invite_used', true])
    expect(message).toContain(`blindgate revoke ${pin}`)
  })

  test('is named in the log at warn: key, invite, address, uses left; and the secret is not', async () => {
    const running = await world.gateway()
    const secret = await world.secret(running, undefined, 3)
    await (await world.dial(running, 'm', { enroll: { secret } })).welcome()
    const line = await running.lines.find(({ msg }) => msg === 'a machine enrolled')
    expect(line).toMatchObject({ level: WARN, usesLeft: 2, address: '127.0.0.1', name: 'home' })
    expect(line).toHaveProperty('key', (await world.machine('m')).pin)
    expect(line).toHaveProperty('invite', expect.stringMatching(/^[0-9a-f]{8}$/))
    expect(JSON.stringify(running.lines.all)).not.toContain(secret)
  })

  test.each(['invite_invalid', 'unknown_client'] as const)(
    'and is a stranger is told %s, finally',
    async (code) => {
      const running = await world.gateway()
      const secret = Buffer.alloc(16, 1).toString('base64url')
      const client = await world.dial(running, 'm', code === 'unknown_client' ? {} : { enroll: { secret } })
      expect(await client.heard('reject')).toMatchObject({ code, final: true })
      await client.closed
      expect(await clients(running)).toEqual([])
    },
  )

  test('does not come in once the gateway is draining', async () => {
    const running = await world.gateway()
    const target = await world.enroll(running, 'm', { services: [HTTP] })
    const visit = world.visit(running.http, REQUEST)
    const carried = await target.visits.at(0)
    const drained = running.gateway.drain(5_000)
    const late = await world.dial(running, 'm')
    expect(await late.heard('reject')).toMatchObject({ code: 'draining', final: false, retryAfter: 1 })
    expect(await target.heard('drain')).toMatchObject({ deadlineMs: 5_000 })
    carried.answer(ANSWER)
    await visit.received('here')
    await drained
  })
})

describe('a client that logs in', () => {
  test('is told which side to upgrade when it speaks another version', async () => {
    const running = await world.gateway()
    const old = await world.dial(running, 'm', { protocol: { min: 0, max: 0 } })
    expect(await old.heard('reject')).toMatchObject({ code: 'unsupported_protocol', final: true })
    expect((await old.heard('reject')).message).toContain('upgrade the client')
    const young = await world.dial(running, 'm', { protocol: { min: 2, max: 3 } })
    expect((await young.heard('reject')).message).toContain('upgrade the gateway')
  })

  test.each([
    ['registers before its hello', ['register']],
    ['registers before its welcome', ['hello', 'register']],
    ['says hello twice at once', ['hello', 'hello']],
    ['says something else first', ['drain']],
  ])('and %s gets a reject and the end', async (_what, order) => {
    const running = await world.gateway()
    const secret = await world.secret(running)
    const said = {
      hello: { ...HELLO, enroll: { secret } },
      register: { type: 'register', seq: 1, services: [HTTP] },
      drain: { type: 'drain', deadlineMs: 1 },
    } satisfies Record<string, ClientMessage>
    const peer = await RawPeer.dial(running.gateway.clients.port, await world.machine('m'))
    peer.say(...order.map((type) => said[type as keyof typeof said]))
    expect(await peer.heard('reject')).toMatchObject({ code: 'protocol_error', final: false })
    await peer.closed
    expect(peer.messages.all.some(({ type }) => type === 'welcome')).toBe(false)
    expect((await status(running)).routes).toEqual([])
  })

  test('and says hello again later gets a reject, and loses its routes’ visitors to others', async () => {
    const running = await world.gateway()
    const client = await world.enroll(running, 'm', { services: [HTTP] })
    client.say(HELLO)
    expect(await client.heard('reject')).toMatchObject({ code: 'protocol_error' })
    await client.closed
    await until(async () => (await status(running)).routes[0]?.replicas === 0)
  })

  test('and piles up requests is sent away, and others are answered', async () => {
    const running = await world.gateway()
    await world.enroll(running, 'm')
    const peer = await RawPeer.dial(running.gateway.clients.port, await world.machine('m'))
    peer.say(HELLO)
    await peer.heard('welcome')
    const request = control({ type: 'register', seq: 1, services: [] })
    peer.write(frame(DATA, 0, 1, Buffer.concat(Array.from({ length: 200 }, () => request))))
    expect(await peer.heard('reject')).toMatchObject({ code: 'overloaded', final: false })
    await peer.closed
    await (await world.dial(running, 'm')).welcome()
  })

  test('is printed with its controls escaped', async () => {
    const running = await world.gateway()
    await world.enroll(running, 'm', { agent: 'evil\u001b[2J', instance: 'in\u202estance\u0007' })
    const line = await running.lines.find(({ msg }) => msg === 'client connected')
    const rows = await clients(running)
    for (const text of [JSON.stringify(line), JSON.stringify(rows)]) {
      expect(
        JSON.parse(`[${text}]`)
          .flat()
          .map((row: object) => Object.values(row).join(' '))
          .join(),
      ).not.toMatch(/[\p{Cc}\u202a-\u202e]/u)
    }
  })

  test('from a second machine with the same key is a warning in log, `clients` and `status`', async () => {
    const running = await world.gateway()
    const one = await world.enroll(running, 'm', { instance: 'one' })
    const same = await world.dial(running, 'm', { instance: 'one' })
    await same.welcome()
    expect((await clients(running))[0]).not.toHaveProperty('warning')
    const copy = await world.dial(running, 'm', { instance: 'two' })
    await copy.welcome()
    const about = 'live from two machines'
    expect((await running.lines.find(({ msg }) => msg.includes(about))).level).toBe(WARN)
    expect((await clients(running))[0]?.warning).toContain(about)
    expect((await status(running)).clients[0]?.warning).toContain(about)
    for (const client of [one, same]) {
      client.tunnel.end()
      await client.closed
    }
    await until(async () => (await status(running)).clients[0]?.warning === undefined)
  })

  test('is listed with its name, key, instance, address and since when', async () => {
    const running = await world.gateway()
    const client = await world.enroll(running, 'm', { instance: 'laptop' })
    const { pin } = await world.machine('m')
    const row = {
      name: 'home',
      key: pin,
      instance: 'laptop',
      address: '127.0.0.1',
      enrolled: expect.any(Number),
    }
    expect(await clients(running)).toEqual([{ ...row, connected: true }])
    client.tunnel.end()
    await client.closed
    await until(async () => (await status(running)).clients[0]?.connected === false)
    expect(await clients(running)).toEqual([{ ...row, address: '', connected: false }])
  })
})

describe('a revoke', () => {
  test('of a key cuts its tunnels and their visitors at once, though the client reads nothing', async () => {
    const running = await world.gateway()
    const port = await freePort()
    const joining = await world.enroll(running, 'm')
    joining.tunnel.end()
    await running.lines.find(({ msg }) => msg.startsWith('client gone'))
    const relay = await world.relay(running)
    const peer = await RawPeer.dial(relay.port, await world.machine('m'))
    peer.say({ ...HELLO, services: [tcp(port)] })
    await peer.heard('welcome')
    const visit = world.visit(port, 'hello')
    await peer.frames.find(({ id, type }) => id === 2 && type === DATA)
    relay.fallSilent()
    const { pin } = await world.machine('m')
    const before = running.lines.all.length
    expect(await running.gateway.command({ command: 'revoke', target: pin })).toMatchObject({ keys: [pin] })
    expect(await visit.over).toBe('reset')
    expect((await status(running)).clients).toEqual([])
    const { code } = await running.lines.find(({ msg }) => msg.startsWith('client gone'), before)
    expect(code).toBe('revoked')
    // The name keeps its routes.
    expect((await status(running)).routes).toMatchObject([{ route: `tcp:${port}`, replicas: 0 }])
  })

  test('of a key is told to it, finally, and nothing it says meanwhile counts', async () => {
    const running = await world.gateway()
    const port = await freePort()
    const client = await world.enroll(running, 'm')
    await running.gateway.command({ command: 'revoke', target: (await world.machine('m')).pin })
    client.say({ type: 'register', seq: 1, services: [tcp(port)] })
    expect(await client.heard('reject')).toMatchObject({ code: 'revoked', final: true })
    await client.closed
    expect((await status(running)).routes).toEqual([])
    const again = await world.dial(running, 'm')
    expect(await again.heard('reject')).toMatchObject({ code: 'revoked', final: true })
  })

  test('comes before whatever the key is just registering', async () => {
    const running = await world.gateway({ listen: SLOW_PORTS })
    const [one, two] = [await freePort(), await freePort()]
    const client = await world.enroll(running, 'm', { services: [tcp(one)] })
    client.say({ type: 'register', seq: 1, services: [tcp(two), HTTP] })
    await until(async () => (await status(running)).routes.length > 1)
    await running.gateway.command({ command: 'revoke', target: (await world.machine('m')).pin })
    await client.closed
    // Whatever was under way has been answered when this is.
    await running.gateway.command({ command: 'release', route: `tcp:${one}` })
    expect((await status(running)).routes.map(({ route }) => route)).toContain(`tcp:${two}`)
    for (const route of (await status(running)).routes) expect(route).not.toHaveProperty('service')
  })

  test('of a key that is just enrolling comes first', async () => {
    const running = await world.gateway()
    const secret = await world.secret(running)
    const { pin } = await world.machine('m')
    const write = running.state.writeJson.bind(running.state)
    let open: () => void = () => {}
    const gate = new Promise<void>((resolve) => (open = resolve))
    const writing = new Promise<void>((resolve) => {
      running.state.writeJson = async (name, value) => {
        resolve()
        await gate
        await write(name, value)
      }
    })
    const client = await world.dial(running, 'm', { enroll: { secret } })
    await writing
    const revoked = running.gateway.command({ command: 'revoke', target: pin })
    open()
    expect(await client.heard('reject')).toMatchObject({ code: 'revoked' })
    await revoked
    expect(client.messages.all.some(({ type }) => type === 'welcome')).toBe(false)
  })

  test('of a name takes its machines, its invites and its routes, and its ports are closed', async () => {
    const running = await world.gateway({ grants: TWO })
    const port = await freePort()
    const secret = await world.secret(running, 'home')
    const one = await world.enroll(running, 'one', { name: 'home', services: [tcp(port)] })
    const two = await world.enroll(running, 'two', { name: 'home', services: [tcp(port)] })
    const guest = await world.enroll(running, 'three', { name: 'guest' })
    const visits = [world.visit(port, 'a'), world.visit(port, 'b')]
    await Promise.all([one.visits.at(0), two.visits.at(0)])
    expect(await running.gateway.command({ command: 'revoke', target: 'home' })).toMatchObject({
      names: ['home'],
      routes: [`tcp:${port}`],
    })
    for (const visit of visits) expect(await visit.over).toBe('reset')
    for (const client of [one, two]) expect((await client.heard('reject')).code).toBe('revoked')
    expect(await world.visit(port).over).toBe('reset')
    const late = await world.dial(running, 'four', { enroll: { secret } })
    expect(await late.heard('reject')).toMatchObject({ code: 'invite_invalid' })
    expect(guest.tunnel.closed).toBe(false)
    expect((await status(running)).routes).toEqual([])
  })

  test('sends those away who wait for the name', async () => {
    const running = await world.gateway()
    const port = await freePort()
    const client = await world.enroll(running, 'm', { services: [tcp(port), HTTP] })
    client.tunnel.end()
    await client.closed
    const [visit, request] = [world.visit(port, 'hello'), world.visit(running.http, REQUEST)]
    await until(async () => (await status(running)).routes.every(({ held }) => held === 1))
    await running.gateway.command({ command: 'revoke', target: 'home' })
    expect(await visit.over).toBe('reset')
    await request.received('503')
  })
})

describe('a reload', () => {
  test('that narrows a grant withdraws what it no longer covers, cuts its visitors, and keeps the rest', async () => {
    const [kept, lost] = [await freePort(), await freePort()]
    const wide = granted({
      home: {
        hosts: ['*'],
        ports: [
          [kept, kept],
          [lost, lost],
        ],
      },
    })
    const running = await world.gateway({ grants: wide })
    const client = await world.enroll(running, 'm', { name: 'home', services: [tcp(kept), tcp(lost), HTTP] })
    const visits = [world.visit(lost, 'a'), world.visit(running.http, REQUEST), world.visit(kept, 'c')]
    await client.visits.at(2)
    const narrow = granted({ home: { ports: [[kept, kept]] } })

    await running.gateway.reload(settings({ grants: narrow }))
    const { services } = await client.heard('withdrawn')
    expect(services.map(({ name, error }) => [name, error.code])).toEqual([
      [`tcp-${lost}`, 'not_granted'],
      ['web', 'not_granted'],
    ])
    const [first, second, third] = visits
    expect(await first?.over).toBe('reset')
    expect(await second?.over).toBe('reset')
    expect(third?.socket.destroyed).toBe(false)
    expect(await world.visit(lost).over).toBe('reset')
    await world.visit(running.http, REQUEST).received('503')
    expect(await client.register(tcp(lost))).toMatchObject([{ error: { code: 'not_granted' } }])

    // They are still its own, and the port opens again with the grant.
    await running.gateway.reload(settings({ grants: wide }))
    const back = world.visit(lost, 'hello')
    await client.register(tcp(lost))
    await (await client.visits.at(3)).received('hello')
    back.socket.destroy()
  })

  test('comes before whatever was just being registered', async () => {
    const port = await freePort()
    const running = await world.gateway({
      listen: SLOW_PORTS,
      grants: granted({ home: { ports: [[port, port]] } }),
    })
    const client = await world.enroll(running, 'm', { name: 'home' })
    client.say({ type: 'register', seq: 7, services: [tcp(port)] })
    await until(async () => (await status(running)).routes.length === 1)
    await running.gateway.reload(settings({ grants: granted({ home: {} }) }))
    const { services } = await client.heard('registered', ({ seq }) => seq === 7)
    expect(services).toMatchObject([{ error: { code: 'not_granted' } }])
    // What was refused in the end was claimed for nothing.
    expect((await status(running)).routes).toEqual([])
    expect(await world.visit(port).over).toBe('reset')
  })

  test('tells a client of hundreds of services in as many messages as it takes', async () => {
    const running = await world.gateway({ grants: granted({ home: { ports: [[20_000, 32_000]] } }) })
    const name = (n: number): string => `service-with-a-rather-long-name-of-its-own-${n}`
    const services = Array.from({ length: 500 }, (_, n) => ({ name: name(n), type: 'tcp' as const }))
    const client = await world.enroll(running, 'm', { name: 'home' })
    const results = await client.register(...services.slice(0, 250))
    results.push(...(await client.register(...services.slice(250))))
    expect(results.every((result) => 'urls' in result)).toBe(true)

    await running.gateway.reload(settings({ grants: granted({ home: {} }) }))
    await until(() => withdrawn() === 500)
    expect(client.tunnel.closed).toBe(false)
    function withdrawn(): number {
      return client.messages.all.reduce(
        (sum, message) => sum + (message.type === 'withdrawn' ? message.services.length : 0),
        0,
      )
    }
  })
})

describe('an invite', () => {
  test('of a first run is voided by the next one, and there is none once somebody has joined', async () => {
    const running = await world.gateway()
    const [one, two] = [await running.gateway.firstInvite(), await running.gateway.firstInvite()]
    const secretOf = (text = ''): string => Buffer.from(decodeInvite(text).secret).toString('base64url')
    const late = await world.dial(running, 'm', { enroll: { secret: secretOf(one) } })
    expect(await late.heard('reject')).toMatchObject({ code: 'invite_invalid' })
    await (await world.dial(running, 'm', { enroll: { secret: secretOf(two) } })).welcome()
    expect(await running.gateway.firstInvite()).toBeUndefined()
    expect(running.gateway.nobodyEnrolled).toBe(false)
  })

  test('into a name that has machines warns that the new one shares its visitors', async () => {
    const running = await world.gateway()
    await world.enroll(running, 'm')
    const made = (await running.gateway.command({
      command: 'invite',
      uses: 1,
      expiresMs: 1_000,
    })) as InviteAnswer
    expect(made.warning).toContain('share its visitors')
    expect(decodeInvite(made.invite)).toMatchObject({ name: 'home', pin: running.gateway.pin })
  })
})
