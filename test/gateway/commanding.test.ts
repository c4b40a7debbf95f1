import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import { type IncomingHttpHeaders, request } from 'node:http'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { DEFAULT_HTTP_LIMITS } from '../../src/config/index.ts'
import { Admin } from '../../src/gateway/admin.ts'
import { gatewayCommand, type InviteAnswer, startGateway } from '../../src/gateway/index.ts'
import { decodeInvite } from '../../src/identity/index.ts'
import { METRIC_SERIES } from '../../src/limits.ts'
import { identityIn } from '../../src/state/index.ts'
import { until } from '../net/joined.ts'
import {
  ANSWER,
  clients,
  freePort,
  granted,
  HTTP,
  REQUEST,
  type Running,
  settings,
  status,
  tcp,
  World,
} from './world.ts'

const loaded = vi.hoisted(() => ({ metrics: 0 }))
vi.mock('prom-client', async (original) => {
  loaded.metrics += 1
  return original()
})

let world = new World()
afterEach(async () => {
  vi.useRealTimers()
  await world.close()
  world = new World()
})

const log = pino({ level: 'silent' })
const INVITE = { command: 'invite', uses: 1, expiresMs: 60_000 } as const
const TOKEN = 'correct-horse-battery'
const WITH_ADMIN = { listen: { ...settings().listen, admin: { host: '127.0.0.1', port: 0 } } }

describe('a command of this machine', () => {
  test('reaches the gateway that runs, by the socket in its state', async () => {
    const running = await world.gateway()
    const made = (await gatewayCommand(running.state, INVITE, log)) as InviteAnswer
    const secret = Buffer.from(decodeInvite(made.invite).secret).toString('base64url')
    await (await world.dial(running, 'm', { enroll: { secret } })).welcome()
    expect(await gatewayCommand(running.state, { command: 'clients' }, log)).toEqual({
      clients: await clients(running),
    })
    expect(await gatewayCommand(running.state, { command: 'status' }, log)).toEqual(
      JSON.parse(JSON.stringify(await status(running))),
    )
    const { pin } = await world.machine('m')
    expect(await gatewayCommand(running.state, { command: 'revoke', target: pin }, log)).toMatchObject({
      keys: [pin],
    })
    expect(await clients(running)).toEqual([])
  })

  test('that cannot make an invite leaves no gateway in the folder', async () => {
    const state = await world.folder()
    await expect(gatewayCommand(state, INVITE, log)).rejects.toMatchObject({
      code: 'usage',
      // A gateway may well run, as another user: the folder is the likelier mistake, before a missing address.
      message: expect.stringMatching(
        /^no gateway has run on .* yet: .*sudo .*--state; .* give --address HOST:PORT$/,
      ),
    })
    expect(await state.read('gateway.key')).toBeUndefined()
  })

  test('that only asks makes no gateway of a folder', async () => {
    const state = await world.folder()
    expect(await gatewayCommand(state, { command: 'clients' }, log)).toEqual({ clients: [] })
    await expect(gatewayCommand(state, { command: 'revoke', target: 'home' }, log)).rejects.toMatchObject({
      code: 'not_found',
    })
    expect(await state.read('gateway.key')).toBeUndefined()
    // An invite is of a gateway: one that is made before the gateway ever ran says so.
    const made = (await gatewayCommand(state, { ...INVITE, address: '127.0.0.1:9001' }, log)) as InviteAnswer
    expect(made.warning).toMatch(
      /^no gateway has run on .*no other takes it.*sudo blindgate-as gateway invite.*--state/,
    )
    expect(
      (await gatewayCommand(state, { ...INVITE, address: '127.0.0.1:9001' }, log)) as InviteAnswer,
    ).not.toHaveProperty('warning')
  })

  test('acts on the files when none runs, and the next gateway goes by it', async () => {
    const first = await world.gateway()
    const port = await freePort()
    const client = await world.enroll(first, 'm', { services: [tcp(port)] })
    await first.gateway.close()
    await client.closed
    const { state } = first
    const made = (await gatewayCommand(state, INVITE, log)) as InviteAnswer
    expect(made.warning).toContain('share its visitors')
    expect(await gatewayCommand(state, { command: 'release', route: `tcp:${port}` }, log)).toMatchObject({
      name: 'home',
    })
    const { pin } = await world.machine('m')
    await gatewayCommand(state, { command: 'revoke', target: pin }, log)
    expect(await gatewayCommand(state, { command: 'clients' }, log)).toEqual({ clients: [] })
    await expect(gatewayCommand(state, { command: 'status' }, log)).rejects.toMatchObject({
      code: 'not_found',
    })
    const second = await world.gateway({}, state)
    expect((await status(second)).routes).toEqual([])
    expect(await (await world.dial(second, 'm')).heard('reject')).toMatchObject({ code: 'revoked' })
    const secret = Buffer.from(decodeInvite(made.invite).secret).toString('base64url')
    await (await world.dial(second, 'other', { enroll: { secret } })).welcome()
  })

  test('that gets no answer writes nothing', async () => {
    const first = await world.gateway()
    await first.gateway.close()
    const { state } = first
    const silent = createServer((socket) => world.later(() => socket.destroy()))
    silent.listen(state.socketPath('gateway'))
    await new Promise((resolve) => silent.once('listening', resolve))
    const file = join(state.path, 'gateway.json')
    const before = await readFile(file)
    await expect(gatewayCommand(state, INVITE, log, 100)).rejects.toMatchObject({
      code: 'state_locked',
      scope: 'process',
    })
    expect(await readFile(file)).toEqual(before)
    silent.close()
  })

  test.each([
    ['of a name without a grant', { ...INVITE, name: 'guest' }, 'not_granted'],
    ['of a name that is none', { ...INVITE, name: 'No Name' }, 'config_invalid'],
    ['of no uses', { ...INVITE, uses: 0 }, 'usage'],
    ['to revoke a stranger', { command: 'revoke', target: 'nobody' }, 'not_found'],
    ['to release what nobody owns', { command: 'release', route: 'tcp:7' }, 'not_found'],
    ['to release what is no route', { command: 'release', route: '7' }, 'usage'],
  ] as const)('%s is refused in one line, and changes nothing', async (_what, request, code) => {
    const running = await world.gateway({ grants: granted({ home: {} }) })
    const refused = await gatewayCommand(running.state, request, log).catch((error: unknown) => error)
    expect(refused).toMatchObject({ code })
    expect((refused as Error).message).not.toContain('\n')
    expect(await clients(running)).toEqual([])
  })

  test('that no gateway knows is answered, and the gateway stays', async () => {
    const running = await world.gateway()
    const unknown = { command: 'dance' } as unknown as { command: 'status' }
    await expect(gatewayCommand(running.state, unknown, log)).rejects.toMatchObject({ code: 'usage' })
    await gatewayCommand(running.state, { command: 'status' }, log)
  })
})

describe('a gateway', () => {
  test('is the only one on its state', async () => {
    const running = await world.gateway()
    const lock = running.state.lock.bind(running.state)
    running.state.lock = (name) => lock(name, 50)
    const identity = await identityIn(running.state, 'gateway')
    await expect(
      startGateway({ settings: settings(), state: running.state, identity, version: '0', log }),
    ).rejects.toMatchObject({ code: 'state_locked' })
    await world.visit(running.http, REQUEST).received('404')
  })

  test('that cannot listen leaves nothing open and no lock behind', async () => {
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
    const { port } = taken.address() as { port: number }
    const state = await world.folder()
    const http = { host: '127.0.0.1', port }
    await expect(world.gateway({ listen: { ...settings().listen, http } }, state)).rejects.toMatchObject({
      code: 'address_in_use',
    })
    await new Promise((resolve) => taken.close(resolve))
    await world.gateway({}, state)
  })

  test('that is closed writes no more: what was being answered is on the disk before the lock is free', async () => {
    const port = await freePort()
    const running = await world.gateway()
    const client = await world.enroll(running, 'm')
    client.say({ type: 'register', seq: 1, services: [tcp(port)] })
    client.say({ type: 'register', seq: 2, services: [HTTP] })
    await until(async () => (await status(running)).routes.length > 0)
    await running.gateway.close()
    const file = join(running.state.path, 'gateway.json')
    const before = await stat(file)
    const lock = await running.state.lock('gateway', 100)
    await new Promise((resolve) => setImmediate(resolve))
    await expect(running.gateway.command(INVITE)).rejects.toMatchObject({ code: 'state_locked' })
    expect((await stat(file)).mtimeMs).toBe(before.mtimeMs)
    await lock.release()
  })

  test('notes on the disk that a route has lost its client, though nothing else happens', async () => {
    const running = await world.gateway()
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const written: unknown[] = []
    const write = running.state.writeJson.bind(running.state)
    running.state.writeJson = async (name, value) => {
      written.push(value)
      await write(name, value)
    }
    const client = await world.enroll(running, 'm', { services: [HTTP] })
    // What the arrival left to be written.
    await vi.advanceTimersByTimeAsync(2_000)
    expect(written.at(-1)).toMatchObject({ authority: { owners: [{ route: 'default', live: true }] } })
    client.tunnel.end()
    await until(async () => (await status(running)).routes[0]?.replicas === 0)
    await vi.advanceTimersByTimeAsync(2_000)
    expect(written.at(-1)).toMatchObject({ authority: { owners: [{ route: 'default', live: false }] } })
  })

  test('whose record is damaged does not start, and leaves it as it is', async () => {
    const first = await world.gateway()
    await first.gateway.close()
    const file = join(first.state.path, 'gateway.json')
    await writeFile(file, '{"version":1')
    await expect(world.gateway({}, first.state)).rejects.toMatchObject({ code: 'state_invalid' })
    expect(await readFile(file, 'utf8')).toBe('{"version":1')
    await rm(file)
    await world.gateway({}, first.state)
  })

  test('says of a reload which settings wait for a restart', async () => {
    const running = await world.gateway()
    expect(await running.gateway.reload(settings())).toEqual([])
    expect(await running.gateway.reload(settings({ holdMs: 1, drainMs: 2 }))).toEqual(['drain', 'hold'])
  })

  test('names a domain, a token and the form of the access log too, and never the token itself', async () => {
    const running = await world.gateway()
    const log = { access: 'json', address: 'none', query: true } as const
    const changed = settings({ domain: 'example.com', adminToken: TOKEN, log })
    expect(await running.gateway.reload(changed)).toEqual(['admin_token_file', 'domain', 'access'])
    expect(JSON.stringify(running.lines.all)).not.toContain(TOKEN)
  })

  test('takes limits, proxies and what the access log shows without one', async () => {
    const running = await world.gateway()
    const changed = settings({
      limits: { ...DEFAULT_HTTP_LIMITS, requests: 1 },
      routeLimits: new Map([['default', { requests: 2 }]]),
      trustedProxies: ['10.0.0.0/8'],
      log: { access: 'off', address: 'none', query: true },
    })
    expect(await running.gateway.reload(changed)).toEqual([])
  })
})

describe('the admin port', () => {
  test('is not there unless it was asked for, and nor is prom-client', async () => {
    const running = await world.gateway()
    expect(running.gateway.admin).toBeUndefined()
    await world.gateway(WITH_ADMIN)
    expect(loaded.metrics).toBe(0)
  })

  test('opens on loopback alone', async () => {
    const admin = { host: '0.0.0.0', port: 0 }
    await expect(world.gateway({ listen: { ...settings().listen, admin } })).rejects.toMatchObject({
      code: 'usage',
    })
  })

  test.each([
    ['GET', '/healthz', '127.0.0.1:1', 200],
    ['GET', '/readyz', 'localhost', 200],
    ['HEAD', '/healthz', '[::1]:9002', 200],
    ['GET', '/nothing', '127.0.0.1', 404],
    ['POST', '/healthz', '127.0.0.1', 405],
    ['DELETE', '/metrics', '127.0.0.1', 405],
    ['GET', '/healthz', 'evil.example', 421],
    ['GET', '/metrics', '127.0.0.1.evil.example', 421],
    ['GET', '/metrics', '192.0.2.7', 421],
  ])('answers %s %s for host %s with %d', async (method, path, host, code) => {
    const running = await world.gateway(WITH_ADMIN)
    expect((await ask(running, path, { method, host })).code).toBe(code)
  })

  test('with a token opens anywhere, asks for it for all but /healthz, and takes any Host header', async () => {
    const admin = { host: '0.0.0.0', port: 0 }
    const running = await world.gateway({ listen: { ...settings().listen, admin }, adminToken: TOKEN })
    const code = async (path: string, authorization?: string) =>
      (await ask(running, path, { host: 'vps.example.com', authorization })).code
    expect(await code('/healthz')).toBe(200)
    for (const path of ['/readyz', '/metrics']) {
      for (const wrong of [
        undefined,
        '',
        TOKEN,
        'Bearer',
        'Bearer ',
        `Basic ${TOKEN}`,
        `Bearer ${TOKEN}x`,
        `Bearer ${TOKEN.slice(1)}`,
        `Bearer x ${TOKEN}`,
      ]) {
        expect([wrong, await code(path, wrong)]).toEqual([wrong, 401])
      }
      expect(await code(path, `Bearer ${TOKEN}`)).toBe(200)
      expect(await code(path, `bearer ${TOKEN}`)).toBe(200)
    }
    expect(await code('/nothing')).toBe(401)
    const { headers } = await ask(running, '/metrics')
    expect(headers['www-authenticate']).toBe('Bearer realm="blindgate"')
    expect(JSON.stringify(running.lines.all)).not.toContain(TOKEN)
  })

  test('on loopback checks the Host header also when it has a token', async () => {
    const running = await world.gateway({ ...WITH_ADMIN, adminToken: TOKEN })
    const authorization = `Bearer ${TOKEN}`
    expect((await ask(running, '/readyz', { host: 'evil.example', authorization })).code).toBe(421)
    expect((await ask(running, '/readyz', { authorization })).code).toBe(200)
    expect((await ask(running, '/readyz')).code).toBe(401)
  })

  test('has a bounded number of series, however many routes there are', async () => {
    const values = Array.from({ length: 12_000 }, (_, n) => ({ labels: { route: `r${n}` }, value: 1 }))
    const gauge = { name: 'blindgate_test', help: 'x', type: 'gauge', labels: ['route'], values } as const
    const admin = new Admin({ ready: () => true, gauges: async () => [gauge] })
    const { port } = await admin.listen({ host: '127.0.0.1', port: 0 })
    world.later(() => admin.close())
    const samples = parsed(await askPort(port, '/metrics'))
    expect(samples.size).toBeLessThanOrEqual(10_000)
    expect(samples.get('blindgate_test{route="other"}')).toBe(12_000 - (METRIC_SERIES - 1))
  })

  test('is not ready while the gateway drains', async () => {
    const running = await world.gateway(WITH_ADMIN)
    const client = await world.enroll(running, 'm', { services: [HTTP] })
    const visit = world.visit(running.http, REQUEST)
    const carried = await client.visits.at(0)
    const drained = running.gateway.drain(5_000)
    expect((await ask(running, '/readyz')).code).toBe(503)
    expect((await ask(running, '/healthz')).code).toBe(200)
    carried.answer(ANSWER)
    await visit.received('here')
    await drained
  })

  test('gives metrics that parse, before there is anything to count and after', async () => {
    const running = await world.gateway(WITH_ADMIN)
    const empty = await ask(running, '/metrics')
    expect(parsed(empty).get('blindgate_tunnels')).toBe(0)
    expect(empty.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
    const client = await world.enroll(running, 'm', {
      services: [HTTP],
      serve: (visit) => visit.answer(ANSWER),
    })
    const visit = world.visit(running.http, REQUEST)
    await visit.received('here')
    await until(async () => (await status(running)).streams === 0)
    expect(parsed(await ask(running, '/metrics')).get('blindgate_visitors')).toBe(1)
    visit.socket.destroy()
    const metrics = parsed(await ask(running, '/metrics'))
    expect(Object.fromEntries(metrics)).toMatchObject({
      blindgate_tunnels: 1,
      blindgate_unauthenticated: 0,
      blindgate_visitors_total: 1,
      blindgate_bytes_in_total: REQUEST.length,
      blindgate_bytes_out_total: ANSWER.length - 'Connection: close\r\n'.length,
      'blindgate_route_bytes_in_total{route="default"}': REQUEST.length,
      'blindgate_http_requests_total{route="default",status="2xx"}': 1,
      'blindgate_route_replicas{route="default"}': 1,
      'blindgate_route_streams{route="default"}': 0,
    })
    client.say({
      type: 'hello',
      protocol: { min: 1, max: 1 },
      agent: '',
      instance: '',
      process: '',
      services: [],
    })
    await client.closed
    await until(async () => (await status(running)).clients[0]?.connected === false)
    const after = parsed(await ask(running, '/metrics'))
    expect(after.get('blindgate_errors_total{code="protocol_error"}')).toBe(1)
    expect(after.get('blindgate_route_replicas{route="default"}')).toBeUndefined()
    expect(loaded.metrics).toBe(1)
  })
})

interface Asking {
  method?: string
  host?: string
  authorization?: string | undefined
}

interface Answer {
  code: number | undefined
  text: string
  headers: IncomingHttpHeaders
}

function ask({ gateway }: Running, path: string, asking: Asking = {}): Promise<Answer> {
  return askPort(gateway.admin?.port, path, asking)
}

function askPort(
  port: number | undefined,
  path: string,
  { method = 'GET', host = '127.0.0.1', authorization }: Asking = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        host: '127.0.0.1',
        port,
        path,
        method,
        headers: { host, ...(authorization === undefined ? {} : { authorization }) },
        agent: false,
      },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () =>
          resolve({
            code: response.statusCode,
            text: Buffer.concat(chunks).toString(),
            headers: response.headers,
          }),
        )
      },
    )
    asked.on('error', reject)
    asked.end()
  })
}

/** Samples by name and labels; throws on a line that is none. */
function parsed({ text }: { text: string }): Map<string, number> {
  const samples = new Map<string, number>()
  for (const line of text.split('\n')) {
    if (line === '' || /^# (HELP|TYPE) \w+ /.test(line)) continue
    const [, name, value] = /^(\w+(?:\{[^}]*\})?) (\S+)$/.exec(line) ?? []
    if (name === undefined || !/^(nan|[-+.e\d]+)$/i.test(value ?? ''))
      throw new Error(`not a sample: ${line}`)
    samples.set(name, Number(value))
  }
  return samples
}
