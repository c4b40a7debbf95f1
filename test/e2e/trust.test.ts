/** Whether visitors reach a client unread: real gateways, honest and hostile, and what the client and `doctor` say of them. */
import { once } from 'node:events'
import { readdirSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pino } from 'pino'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Client, type ClientTrust, type Finding, joinedGateways } from '../../src/client/index.ts'
import { trustChecks } from '../../src/client/trust/checks.ts'
import { DEFAULT_TRUST, parseTarget, serviceSettings } from '../../src/config/index.ts'
import { identityIn, instanceId, openState } from '../../src/state/index.ts'
import { type Ended, lastLine } from '../cli/binary.ts'
import { type Issued, TestAuthority } from '../client/trust/authorities.ts'
import { hostileGateway, httpProxy, type Listening } from '../client/trust/machines.ts'
import { a, addLines, caa, NameServer } from '../client/trust/name-server.ts'
import { entryOf, type Search, startSearch } from '../client/trust/search.ts'
import { heard, World } from './world.ts'

const HOST = 'app.example.com'
/** Where the world meets the gateway: what stands there is its operator's. */
const PUBLIC = '127.0.0.9'

let world = new World()
let ca: TestAuthority
/** Of our certificate, and of one that somebody else got for the same name. */
let ours: Issued
let theirs: Issued
let names: NameServer
let search: Search
let target: Server
/** The gateway's port for visitors of TLS and for clients. */
let tls: number

beforeAll(async () => {
  ca = await TestAuthority.create()
  ours = await ca.issue([HOST])
  theirs = await ca.issue([HOST])
})

beforeEach(async () => {
  names = world.with(await NameServer.start())
  search = world.with(await startSearch(ca))
  for (const apex of ['com', 'example.com']) names.zone(apex)
  names.add({ type: 'A', name: HOST, data: '127.0.0.1' })
  target = createServer((_request, response) => response.end('home'))
  target.listen(0, '127.0.0.1')
  await once(target, 'listening')
  world.with({ close: () => void target.close() })
  const gateway = world.start('gateway', ['gateway', '--http', '127.0.0.1:0', '--tls', '127.0.0.1:0'])
  const [, port] = await heard(gateway, 'out', /^visitors https:\/\/\S+:(\d+)$/m)
  tls = Number(port)
  const invite = await world.done('gateway', ['invite', '--address', `127.0.0.1:${tls}`])
  await world.done('home', ['join', '-'], invite)
  write('ca.pem', ca.certificate)
  write('app.pem', ours.cert)
  write('app.key', ours.key)
})
afterEach(async () => {
  await world.close()
  world = new World()
})

function write(name: string, text: string): void {
  writeFileSync(world.path(name), text, { mode: 0o600 })
}

function targetPort(): number {
  return (target.address() as AddressInfo).port
}

/** The services at home, and what `up` and `doctor` are run with. */
function file(trust = ''): string[] {
  write(
    'home.toml',
    `[[service]]
name = "web"
type = "https"
host = "${HOST}"
cert = "app.pem"
key = "app.key"
target = "127.0.0.1:${targetPort()}"
[trust]
ct = "${search.template}"
nameservers = ["127.0.0.1:${names.port}"]
${trust}`,
  )
  return ['-c', world.path('home.toml')]
}

const BELIEVING = (): { env: Record<string, string> } => ({
  env: { NODE_EXTRA_CA_CERTS: world.path('ca.pem') },
})

/** `doctor` to its end, with the services of `file`. */
function doctor(args: readonly string[]): Promise<Ended> {
  return world.start('home', ['doctor', ...args], BELIEVING()).ended
}

async function serving(): Promise<void> {
  const up = world.start('home', ['up', ...file()], BELIEVING())
  await heard(up, 'out', /^https:\/\/app\.example\.com:\d+ → /m)
}

/** The lines of `doctor` that say what was looked at. */
function lines({ out }: Ended): string[] {
  return out.split('\n').filter((line) => /^(?:ok|warn|fail) /.test(line))
}

async function pinAtHome(): Promise<string> {
  return (await identityIn(await openState(world.path('home')), 'client')).pin
}

describe('doctor', () => {
  it('finds all well, says how, and what the gateway knows', async () => {
    for (const record of caa(HOST, ['issue', 'ca.example; accounturi=https://ca.example/1']))
      names.add(record)
    search.entries = [entryOf(ours, [HOST], '1')]
    await serving()
    const ended = await doctor(file())
    const pin = await pinAtHome()
    expect({ code: ended.code, err: ended.err, lines: lines(ended) }).toEqual({
      code: 0,
      err: '',
      lines: [
        `ok    state ${world.path('home')}: is private, and has this machine's key ${pin}`,
        expect.stringMatching(
          /^ok {4}gateway 127\.0\.0\.1:\d+: is reached, and has the pinned key sha256:\S+$/,
        ),
        expect.stringMatching(/^ok {4}gateway 127\.0\.0\.1:\d+: knows this machine, as "home"$/),
        expect.stringMatching(
          /^ok {4}clock this machine: its clock is right to \d s, by the Date that localhost:\d+ says$/,
        ),
        `ok    service web: is offered at https://${HOST}:${tls}`,
        `ok    target web: 127.0.0.1:${targetPort()} takes connections`,
        `ok    dns ${HOST}: leads to the gateway, 127.0.0.1`,
        `ok    port ${HOST}:${tls}: 127.0.0.1:${tls} takes connections`,
        expect.stringMatching(/^ok {4}certificate web: good until \d{4}-\d\d-\d\d, for 89 days$/),
        `ok    caa ${HOST}: the CAA records of ${HOST} deny certificates to every account but https://ca.example/1`,
        `warn  dnssec ${HOST}: DNSSEC does not sign zone example.com`,
        `ok    ct ${HOST}: certificate transparency shows no key but ours (certificates that are valid now: 1)`,
        `ok    probe ${HOST}: the TLS session with 127.0.0.1:${tls} ends in our terminator`,
      ],
    })
    expect(ended.out).toContain(
      `elsewhere: blindgate doctor --probe https://${HOST}:${tls} --expect ${pin}\n`,
    )
    expect(ended.out).toMatch(
      /What the gateway knows, whoever runs it:\n {2}- the names .*\n(?: {2}- .*\n)+What it does not know:\n/,
    )

    const json = await doctor([...file(), '--json'])
    const said = JSON.parse(json.out) as { ok: boolean; findings: Finding[] }
    expect(Object.keys(said)).toEqual(['ok', 'findings', 'gatewayKnows', 'gatewayDoesNotKnow'])
    expect(said.ok).toBe(true)
    expect(said.findings.map(({ check }) => check)).toEqual([
      'state',
      'gateway',
      'gateway',
      'clock',
      'service',
      'target',
      'dns',
      'port',
      'certificate',
      'caa',
      'dnssec',
      'ct',
      'probe',
    ])
  })

  it('says what is wrong everywhere, what to do, and exits 1', async () => {
    names.zone('example.com', { [HOST]: a(HOST, '127.0.0.77') })
    write('app.pem', (await ca.issue(['other.example.com'])).cert)
    search.instead = () => ({ status: 500, body: '' })
    const args = file()
    await new Promise((resolve) => target.close(resolve))
    const ended = await doctor(args)
    expect(ended.code).toBe(1)
    expect(lines(ended)).toEqual([
      expect.stringContaining('ok    state'),
      expect.stringContaining('ok    gateway'),
      expect.stringContaining('ok    gateway'),
      expect.stringContaining('ok    clock'),
      'fail  service web: no client that runs offers it',
      expect.stringMatching(/^fail {2}target web: 127\.0\.0\.1:\d+ does not answer \(ECONNREFUSED\)$/),
      `warn  dns ${HOST}: leads to 127.0.0.77, and the gateway is dialled at 127.0.0.1`,
      expect.stringMatching(/^fail {2}certificate web: .*app\.key is not the key of the certificate/),
      expect.stringContaining(
        `warn  caa ${HOST}: there is no CAA record: any authority may issue a certificate`,
      ),
      expect.stringContaining('warn  dnssec'),
      expect.stringMatching(/^warn {2}ct .*could not be asked: localhost:\d+ \(status 500\)$/),
      `fail  probe ${HOST}: unreachable at 127.0.0.77:443 (ECONNREFUSED)`,
    ])
    expect(ended.out).toMatch(/^ {6}→ start it, or correct `target`$/m)
    expect(lastLine(ended.err)).toMatch(
      /^blindgate: 4 of 12 checks are not well, the first: service web \(start `blindgate up`\)$/,
    )
  })

  it('prints the CAA records of its accounts at the CA, is content once they stand, and knows the keys it ordered', async () => {
    const directory = search.template.replace(/\/v1.*/, '/directory')
    search.instead = ({ pathname }) =>
      pathname === '/directory'
        ? { status: 200, body: '{"meta":{"caaIdentities":["ca.example"]}}' }
        : undefined
    search.entries = [entryOf(theirs, [HOST], '1')]
    const state = await openState(world.path('home'))
    const account = { version: 1, key: 'not looked at', uri: 'https://ca.example/acct/1' }
    await state.writeJson('acme-account-0123456789abcdef.json', { ...account, directory })
    await state.writeJson('acme-account-fedcba9876543210.json', {
      ...account,
      directory: 'https://elsewhere.example/',
      uri: 'https://elsewhere.example/9',
    })
    await state.writeJson('ordered-keys.json', {
      version: 1,
      keys: [{ pin: theirs.pin, hosts: [HOST], at: Date.now() }],
    })
    write(
      'acme.toml',
      `[[service]]
type = "https"
host = "${HOST}"
target = "127.0.0.1:${targetPort()}"
[acme]
directory = "${directory}"
challenge = "http-01"
require_caa = true
ca_file = "ca.pem"
[trust]
ct = "${search.template}"
nameservers = ["127.0.0.1:${names.port}"]
`,
    )
    const ask = (): Promise<Ended> => world.start('home', ['doctor', '-c', world.path('acme.toml')]).ended
    const before = await ask()
    const records = before.out.split('\n').filter((line) => line.includes(' IN CAA '))
    expect(records.map((line) => line.trim())).toEqual([
      `${HOST}. IN CAA 0 issue "ca.example; accounturi=https://ca.example/acct/1; validationmethods=http-01"`,
      `${HOST}. IN CAA 0 issuewild ";"`,
    ])
    // Nothing is ordered without them.
    expect(lines(before)).toContainEqual(expect.stringMatching(/^fail {2}caa /))
    addLines(
      names,
      records.map((line) => line.trim()),
    )
    expect(lines(await ask())).toEqual(
      expect.arrayContaining([
        `ok    caa ${HOST}: the CAA records of ${HOST} deny certificates to every account but ours`,
        `ok    ct ${HOST}: certificate transparency shows no key but ours (certificates that are valid now: 1)`,
      ]),
    )
  })

  it('tells when the gateway has another key than the one that was pinned, or does not answer', async () => {
    const wrong = `sha256:${Buffer.alloc(32, 1).toString('base64').slice(0, 43)}`
    write(
      'wrong.toml',
      `[[gateway]]\naddress = "127.0.0.1:${tls}"\nkey = "${wrong}"\n[[gateway]]\naddress = "127.0.0.1:1"\nkey = "${wrong}"\n`,
    )
    const ended = await doctor(['-c', world.path('wrong.toml')])
    expect(ended.code).toBe(1)
    expect(lines(ended).slice(1)).toEqual([
      expect.stringMatching(
        new RegExp(
          `^fail {2}gateway 127\\.0\\.0\\.1:${tls}: the key of gateway .* is not the one that was pinned`,
        ),
      ),
      expect.stringMatching(/^fail {2}gateway 127\.0\.0\.1:1: cannot reach 127\.0\.0\.1:1/),
    ])
    // Not to join comes before how to.
    const warning = "(somebody else may answer in the gateway's place, so do not join; compare the key"
    expect(lastLine(ended.err)).toContain(warning)
    expect(ended.out).toMatch(
      /^ {6}→ somebody else may answer .*only if they are the same run `blindgate join --replace`/m,
    )
  })

  it('looks at what runs where there is no file', async () => {
    const ended = await doctor([])
    expect(ended.code).toBe(0)
    expect(lines(ended)).toHaveLength(3)
    expect(ended.out).toContain('no client runs that offers anything: no service was looked at (-c FILE)')
    const quick = world.start('home', ['http', String(targetPort())])
    const [, url = ''] = await heard(quick, 'out', /^(http:\S+) → /m)
    const running = await doctor([])
    expect(lines(running).slice(3)).toEqual([
      `ok    service http-${targetPort()}: is offered at ${url}`,
      `ok    target http-${targetPort()}: 127.0.0.1:${targetPort()} takes connections`,
      expect.stringMatching(/^ok {4}port 127\.0\.0\.1:\d+: \S+ takes connections$/),
    ])
    expect(running.out).toContain('these are the services of the clients that run')
    // One that has a file says which: that is looked at, with all that it says of trust.
    await serving()
    const both = await doctor([])
    expect(both.out).toContain(`looked at ${world.path('home.toml')}, which a client that runs has`)
    expect(lines(both)).toEqual(
      expect.arrayContaining([
        `ok    service web: is offered at https://${HOST}:${tls}`,
        `ok    service http-${targetPort()}: is offered at ${url}`,
        `ok    dns ${HOST}: leads to the gateway, 127.0.0.1`,
        expect.stringMatching(/^ok {4}certificate web: good until /),
      ]),
    )
    await new Promise((resolve) => target.close(resolve))
    expect((await doctor([])).code).toBe(1)
  })

  it('says to join where no gateway was joined, and makes no key there', async () => {
    await openState(world.path('fresh'))
    const ended = await world.run('fresh', ['doctor'])
    expect({ code: ended.code, lines: lines(ended) }).toEqual({
      code: 1,
      lines: ['fail  gateway none: this machine has joined no gateway'],
    })
    expect(readdirSync(world.path('fresh'))).toEqual([])
  })

  it('--probe needs no state, and says ok only of what it saw', async () => {
    await serving()
    const pin = await pinAtHome()
    write('elsewhere.toml', `[trust]\nnameservers = ["127.0.0.1:${names.port}"]\n`)
    const probe = (expected: string, ...more: string[]): Promise<Ended> =>
      world.start(
        'nothing',
        [
          'doctor',
          '--probe',
          `https://${HOST}:${tls}`,
          '--expect',
          expected,
          '-c',
          world.path('elsewhere.toml'),
          ...more,
        ],
        BELIEVING(),
      ).ended
    const seen = await probe(pin)
    expect({ code: seen.code, lines: lines(seen) }).toEqual({
      code: 0,
      lines: [`ok    probe ${HOST}: the TLS session with 127.0.0.1:${tls} ends in our terminator`],
    })
    expect(seen.out).toContain(
      'a probe proves that this one connection was not intercepted, and nothing of others',
    )
    const other = `sha256:${Buffer.alloc(32, 1).toString('base64').slice(0, 43)}`
    const stranger = await probe(other, '--json')
    expect(stranger.code).toBe(1)
    expect(JSON.parse(stranger.out)).toMatchObject({
      ok: false,
      findings: [{ check: 'probe', alarm: true, text: expect.stringContaining(pin) as string }],
    })
    // A browser would not believe it.
    const unbelieved = await world.start('nothing', [
      'doctor',
      '--probe',
      `https://${HOST}:${tls}`,
      '--expect',
      pin,
      '-c',
      world.path('elsewhere.toml'),
    ]).ended
    expect(unbelieved.code).toBe(1)
    expect(unbelieved.out).toContain('visitors do not believe its certificate')
  })
})

/** A client in this process, whose tunnel and probes come from one address; its checks begin at once. */
async function watching(
  from: string,
  trust: Partial<ClientTrust['settings']> = {},
): Promise<{ client: Client; log: string[] }> {
  const state = await openState(world.path('home'))
  const log: string[] = []
  const service = serviceSettings({
    type: 'https',
    name: 'web',
    hosts: [HOST],
    cert: world.path('app.pem'),
    key: world.path('app.key'),
    target: parseTarget(String(targetPort())),
  })
  const client = new Client({
    identity: await identityIn(state, 'client'),
    instance: instanceId(state.path),
    version: '0.0.0',
    gateways: await joinedGateways(state),
    services: [service],
    log: pino({ level: 'warn' }, { write: (line: string) => log.push(line) }),
    state,
    random: () => 0,
    trust: {
      settings: { ...DEFAULT_TRUST, ct: search.template, nameservers: [names.at], ...trust },
      ca: [ca.certificate],
      checks: (context) => trustChecks({ ...context, localAddress: from }),
    },
  })
  world.with(client)
  return { client, log }
}

/** Puts somebody in the gateway's place, where visitors come in. */
async function intercepting(spares?: string): Promise<Listening & { intercepted: string[] }> {
  names.zone('example.com', { [HOST]: a(HOST, PUBLIC) })
  const options = spares === undefined ? {} : { spares }
  return world.with(await hostileGateway(tls, theirs, { ...options, at: { address: PUBLIC, port: tls } }))
}

describe('a naive hostile gateway, which ends TLS itself', () => {
  it('is caught by the running client: log, event, count and status', async () => {
    search.entries = [entryOf(ours, [HOST], '1')]
    await intercepting()
    const { client, log } = await watching('127.0.0.1')
    const alarm = once(client, 'trust') as Promise<[Finding]>
    client.start()
    const [finding] = await alarm
    expect(finding).toMatchObject({ check: 'probe', about: HOST, level: 'fail', alarm: true })
    expect(finding.text).toMatch(
      /^foreign leaf at 127\.0\.0\.9:\d+: the certificate's key \S+ is not ours, and the nonce never arrived here$/,
    )
    expect(finding.text).toContain(theirs.pin)
    const line = log
      .map((each) => JSON.parse(each) as { level: number; msg: string })
      .find(({ level }) => level === 50)
    expect(line?.msg).toContain(finding.text)
    expect(client.status().errors['trust_alarm']).toBe(1)
    expect(client.status().trust?.alarms.map(({ finding }) => finding.text)).toEqual([finding.text])
    const status = await world.done('home', ['status'])
    expect(status).toMatch(/^ {2}ALARM probe app\.example\.com: foreign leaf at .* \(last seen 20\S+\)$/m)
    const json = JSON.parse(await world.done('home', ['status', '--json'])) as {
      trust: { alarms: unknown[] }
    }
    expect(json.trust.alarms).toHaveLength(1)
  })
})

describe('a hostile gateway that spares the address of the tunnel', () => {
  const SPARED = '127.0.0.2'

  it('is missed by the client itself, and caught by its probe through a proxy', async () => {
    const gateway = await intercepting(SPARED)
    const proxy = world.with(await httpProxy('127.0.0.4'))
    const at = { host: '127.0.0.1', port: proxy.port }
    const { client } = await watching(SPARED, {
      probeVia: [{ kind: 'http', ...at, text: `http://127.0.0.1:${proxy.port}` }],
    })
    const alarm = once(client, 'trust') as Promise<[Finding]>
    client.start()
    const [finding] = await alarm
    expect(finding.text).toContain(`through http://127.0.0.1:${proxy.port}`)
    const probes = client.status().trust?.findings.filter(({ check }) => check === 'probe') ?? []
    expect(probes.map(({ level, text }) => [level, text.includes('through')])).toEqual([
      ['fail', true],
      ['ok', false],
    ])
    expect(gateway.intercepted).not.toContain(SPARED)
  })

  it('is caught from elsewhere, by doctor --probe and by doctor on another machine', async () => {
    await intercepting(SPARED)
    await serving()
    write('elsewhere.toml', `[trust]\nnameservers = ["127.0.0.1:${names.port}"]\n`)
    const args = [
      '--probe',
      `https://${HOST}:${tls}`,
      '--expect',
      await pinAtHome(),
      '-c',
      world.path('elsewhere.toml'),
    ]
    const ended = await world.start('nothing', ['doctor', ...args], BELIEVING()).ended
    expect(ended.code).toBe(1)
    expect(lines(ended)).toEqual([
      expect.stringMatching(
        /^fail {2}ALARM probe app\.example\.com: nonce never arrived at 127\.0\.0\.9:\d+: nobody with our key answered there/,
      ),
    ])
    expect(lastLine(ended.err)).toMatch(
      /^blindgate: 1 of 1 checks is not well, 1 of them is an alarm: probe app\.example\.com \(take it for intercepted: /,
    )
  })

  it('is caught by certificate transparency, without a probe', async () => {
    search.entries = [entryOf(ours, [HOST], '1'), entryOf(theirs, [HOST], '2')]
    await intercepting(SPARED)
    const { client } = await watching(SPARED)
    const alarm = once(client, 'trust') as Promise<[Finding]>
    client.start()
    const [finding] = await alarm
    expect(finding).toMatchObject({
      check: 'ct',
      alarm: true,
      text: expect.stringContaining(theirs.pin) as string,
    })
    await client.close()
    // And so says `doctor`, with its exit code.
    await serving()
    const ended = await doctor(file())
    expect(ended.code).toBe(1)
    expect(lines(ended).some((line) => line.startsWith(`fail  ALARM ct ${HOST}: `))).toBe(true)
    // Named as ours it is none.
    const named = await doctor(file(`keys = ["${theirs.pin}"]`))
    expect(lines(named).filter((line) => line.includes(' ct '))).toEqual([expect.stringMatching(/^ok /)])
  })
})
