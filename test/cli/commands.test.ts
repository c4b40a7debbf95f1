/** What the commands do on real gateways and folders; what carries visitors is tested in test/e2e. */
import { once } from 'node:events'
import { chmodSync, readdirSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { lastLine, type Running, Workshop } from './binary.ts'

const workshop = new Workshop()
const gatewayState = workshop.path('gateway')
const home = workshop.path('home')
const file = workshop.path('gateway.toml')
const ANY = ['--http', '127.0.0.1:0', '--tunnel', '127.0.0.1:0']
let gateway: Running
let address: string
/** Ends each connection with its name. */
const target = createServer((socket) => socket.end('hello'))
let port: number

function grants(ports: string): string {
  return `[grant.home]\ntypes = ["http", "tcp"]\nhosts = ["*"]\nports = ["${ports}"]\n[grant.other]\nports = ["1-9"]\n`
}

beforeAll(async () => {
  target.listen(0, '127.0.0.1')
  await once(target, 'listening')
  port = (target.address() as AddressInfo).port
  writeFileSync(file, grants('20000-29999'), { mode: 0o600 })
  gateway = workshop.start(['gateway', '-c', file, ...ANY, '--state', gatewayState])
  address = (await gateway.says('out', /^clients (\S+)$/m))[1] ?? ''
  const { out } = await workshop.run(['invite', '--name', 'home', '--state', gatewayState])
  expect((await workshop.run(['join', '-', '--state', home], { input: `${out}\n` })).code).toBe(0)
})
afterAll(async () => {
  target.close()
  await workshop.close()
})

async function asked(...args: string[]): Promise<string> {
  const { code, out, err } = await workshop.run(args)
  expect({ code, err }).toEqual({ code: 0, err: '' })
  return out
}

describe('a gateway', () => {
  it('writes no invite where no person reads it, and no secret into its log', async () => {
    await gateway.says('err', /`blindgate invite`/)
    await gateway.says('err', /"a machine enrolled"/)
    expect(gateway.out + gateway.err).not.toContain('bg1_')
  })

  it('logs JSON lines, of which the first warns of a Node without fixes, if it is one', () => {
    const lines = gateway.err
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { level: string; msg: string })
    const node20 = process.versions.node.startsWith('20.')
    expect(lines[0]?.msg.startsWith('Node 20.')).toBe(node20)
  })

  it('is asked by commands while it runs, and its own no is not taken for silence', async () => {
    const { code, err } = await workshop.run(['revoke', 'nobody', '--state', gatewayState])
    expect(code).toBe(1)
    expect(lastLine(err)).toMatch(/^blindgate: .*nobody/)
    expect((await workshop.run(['release', 'tcp:1', '--state', gatewayState])).err).toMatch(
      /nobody owns tcp:1/,
    )
  })

  it('makes invites as text and as JSON, and warns who will share', async () => {
    const { code, out, err } = await workshop.run([
      'invite',
      '--name',
      'home',
      '--json',
      '--state',
      gatewayState,
    ])
    expect(code).toBe(0)
    expect(JSON.parse(out)).toEqual({
      invite: expect.stringMatching(/^bg1_/),
      name: 'home',
      expires: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
    })
    expect(err).toMatch(/^warning: "home" has 1 machine/)
    expect(await asked('invite', '--name', 'other', '--state', gatewayState)).toMatch(/^bg1_[\w-]+\n$/)
  })

  it('lists who is enrolled, as one array or as a table', async () => {
    const rows = JSON.parse(await asked('clients', '--json', '--state', gatewayState)) as Record<
      string,
      unknown
    >[]
    expect(rows.map((row) => Object.keys(row))).toEqual([
      ['name', 'key', 'instance', 'address', 'enrolled', 'connected'],
    ])
    expect(await asked('clients', '--state', gatewayState)).toMatch(/^NAME .*\nhome +sha256:/)
  })

  it('reads its file again at SIGHUP, and keeps what it has when the file is wrong', async () => {
    writeFileSync(file, 'grant.home.prots = []\n')
    gateway.signal('SIGHUP')
    await gateway.says('err', /gateway\.toml:1: unknown key.*did you mean.*stay as they were/)
    writeFileSync(file, grants('30000-30999'))
    gateway.signal('SIGHUP')
    await gateway.says('err', /gateway\.toml is in force"/)
    const { code, err } = await workshop.run(['tcp', String(port), '--port', '20000', '--state', home])
    expect(code).toBe(1)
    expect(lastLine(err)).toMatch(/^blindgate: service "tcp-\d+" is refused by .*port 20000 .*30000-30999/)
  })

  it('refuses a file that others can write', async () => {
    const open = workshop.path('open.toml')
    writeFileSync(open, '')
    chmodSync(open, 0o666)
    const { code, err } = await workshop.run(['gateway', '-c', open, ...ANY, '--state', workshop.path('g2')])
    expect(code).toBe(1)
    expect(err).toMatch(/^blindgate: .*open\.toml.*\n$/)
  })

  it('drains at the first signal and exits 0', async () => {
    const other = workshop.start(['gateway', ...ANY, '--json', '--state', workshop.path('g3')])
    await other.says('out', /"clients".*\n/)
    expect(
      other.out
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as object),
    ).toMatchObject([
      { listener: 'visitors' },
      { listener: 'clients', key: expect.stringMatching(/^sha256:/) },
    ])
    other.signal('SIGTERM')
    expect((await other.ended).code).toBe(0)
  })
})

describe('joining', () => {
  it.each<[string, string]>([
    ['garbage', 'garbage'],
    ['half an invite', 'bg1_AQEPMTI3LjAuMC4xOj'],
  ])('with %s writes nothing and exits 1', async (_what, text) => {
    const { code, out, err } = await workshop.run(['join', '-', '--state', workshop.path('untouched')], {
      input: text,
    })
    expect({ code, out }).toEqual({ code: 1, out: '' })
    expect(err).toMatch(/^blindgate: .*invite.*\n$/)
    expect(readdirSync(workshop.folder)).not.toContain('untouched')
  })
})

describe('a quick command', () => {
  it('prints one line per URL, and ends with 0 when told to', async () => {
    const tcp = workshop.start(['tcp', String(port), '--port', '30000', '--state', home])
    await tcp.says('out', /\n/)
    expect(tcp.out).toBe(`tcp://127.0.0.1:30000 → 127.0.0.1:${port}\n`)
    tcp.signal('SIGINT')
    expect((await tcp.ended).code).toBe(0)
  })

  it('says in its log where it cannot in its answer that plain http can be read', async () => {
    const http = workshop.start(['http', String(port), '--json', '--state', home])
    await http.says('out', /\n/)
    expect(JSON.parse(http.out)).toMatchObject({
      target: `127.0.0.1:${port}`,
      type: 'http',
      gateway: address,
    })
    expect(http.err).toContain('plain http: the gateway can read this')
    http.signal('SIGTERM')
    expect((await http.ended).code).toBe(0)
  })

  it('ends with 0 also while it still looks for its gateway', async () => {
    const away = workshop.path('away')
    const other = workshop.start(['gateway', ...ANY, '--state', workshop.path('g4')])
    await other.says('out', /clients/)
    const { out } = await workshop.run(['invite', '--state', workshop.path('g4')])
    expect((await workshop.run(['join', '-', '--state', away], { input: out })).code).toBe(0)
    other.signal('SIGTERM')
    await other.ended
    const waiting = workshop.start(['http', '80', '--state', away])
    await waiting.says('err', /no tunnel to/)
    waiting.signal('SIGTERM')
    expect(await waiting.ended).toMatchObject({ code: 0, out: '' })
  })

  it('needs --gateway once two are joined, and names those that are', async () => {
    const other = workshop.start(['gateway', ...ANY, '--state', workshop.path('g5')])
    const second = (await other.says('out', /^clients (\S+)$/m))[1] ?? ''
    const both = workshop.path('both')
    for (const state of [gatewayState, workshop.path('g5')]) {
      const { out } = await workshop.run(['invite', '--name', 'home', '--state', state])
      expect((await workshop.run(['join', '-', '--state', both], { input: out })).code).toBe(0)
    }
    const unsaid = await workshop.run(['http', '80', '--state', both])
    expect(unsaid.code).toBe(2)
    expect(lastLine(unsaid.err)).toBe(
      `blindgate: several gateways are joined (${address}, ${second}): say which with --gateway ADDR`,
    )
    const unknown = await workshop.run(['http', '80', '--gateway', '127.0.0.1:1', '--state', both])
    expect(unknown.code).toBe(1)
    expect(lastLine(unknown.err)).toContain(`joined is ${address}, ${second}`)
    const said = workshop.start(['http', String(port), '--gateway', second, '--state', both])
    await said.says('out', /^http:/)
    said.signal('SIGTERM')
    await said.ended
  })
})

describe('up', () => {
  it('takes a changed file over by itself and at SIGHUP, and a wrong one not at all', async () => {
    const path = workshop.path('blindgate.toml')
    const services = (...ports: number[]): string =>
      ports
        .map((one) => `[[service]]\nname = "s${one}"\ntype = "tcp"\nport = ${one}\ntarget = "${port}"\n`)
        .join('')
    writeFileSync(path, services(30_001, 40_001), { mode: 0o600 })
    const up = workshop.start(['up', '--state', home])
    await up.says('out', /^tcp:\/\/127\.0\.0\.1:30001 → /m)
    // One is refused: the other is served all the same.
    await up.says('err', /s40001.* is refused/)
    writeFileSync(path, services(30_001, 30_002))
    await up.says('out', /^tcp:\/\/127\.0\.0\.1:30002 → /m)
    writeFileSync(path, 'nonsense')
    await up.says('err', /blindgate\.toml:1: .*stay as they were/)
    up.signal('SIGHUP')
    await up.says('err', /stay as they were[^]*stay as they were/)
    const [status] = (await asked('status', '--json', '--state', home)).trimEnd().split('\n')
    const { side, routes } = JSON.parse(status ?? '') as { side: string; routes: { name: string }[] }
    expect([side, ...routes.map(({ name }) => name)]).toEqual(['client', 's30001', 's30002'])
    up.signal('SIGTERM')
    expect((await up.ended).code).toBe(0)
    expect(up.out.trimEnd().split('\n')).toHaveLength(2)
  })
})

describe('status', () => {
  it('of a folder on which nothing runs exits 1', async () => {
    const { code, out, err } = await workshop.run(['status', '--state', home])
    expect({ code, out }).toEqual({ code: 1, out: '' })
    expect(lastLine(err)).toMatch(/^blindgate: nothing runs on /)
  })
})
