import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { type AddressInfo, createServer } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { certificateChecks } from '../../../src/client/doctor/certificates.ts'
import { clockChecks } from '../../../src/client/doctor/clock.ts'
import type { DoctorContext } from '../../../src/client/doctor/context.ts'
import { dnsChecks } from '../../../src/client/doctor/dns.ts'
import { examine } from '../../../src/client/doctor/index.ts'
import { portChecks } from '../../../src/client/doctor/ports.ts'
import { runningChecks } from '../../../src/client/doctor/running.ts'
import { targetChecks } from '../../../src/client/doctor/targets.ts'
import { servicesTold } from '../../../src/client/doctor/told.ts'
import { toldFindings } from '../../../src/client/doctor/trust.ts'
import type { ClientService, ClientStatus } from '../../../src/client/index.ts'
import { DEFAULT_TRUST, parseTarget } from '../../../src/config/index.ts'
import { CLOCK_SKEW_MS } from '../../../src/limits.ts'
import { type Issued, TestAuthority } from '../trust/authorities.ts'
import { listening } from '../trust/machines.ts'
import { a, NameServer } from '../trust/name-server.ts'
import { service } from '../world.ts'

const HOST = 'app.example.com'
const PIN = `sha256:${'B'.repeat(42)}A` as const
const closing: { close(): Promise<void> }[] = []
let ca: TestAuthority
let ours: Issued
beforeAll(async () => {
  ca = await TestAuthority.create()
  ours = await ca.issue([HOST])
})
afterEach(async () => {
  for (const each of closing.splice(0).toReversed()) await each.close()
})

function kept<T extends { close(): Promise<void> }>(thing: T): T {
  closing.push(thing)
  return thing
}

/** What these checks look at. */
function context(services: ClientService[], rest: Partial<DoctorContext> = {}): DoctorContext {
  return {
    gateways: [],
    running: [],
    services,
    told: new Set(),
    trust: { settings: DEFAULT_TRUST, ca: [ca.certificate] },
    signal: new AbortController().signal,
    state: { read: async () => undefined },
    ...rest,
  } as unknown as DoctorContext
}

function https(rest: Partial<ClientService> = {}): ClientService {
  return service('web', 1, { type: 'https', tls: 'passthrough', hosts: [HOST], ...rest })
}

function status(routes: Partial<ClientStatus['routes'][number]>[]): ClientStatus {
  return { routes: routes.map((route) => ({ name: 'web', urls: [], ...route })) } as unknown as ClientStatus
}

describe('the clock', () => {
  /** A certificate search whose clock is so far from ours. */
  async function source(ms: number | undefined): Promise<DoctorContext> {
    const { key, cert } = await ca.issue(['localhost'])
    const server = createHttpsServer({ key, cert }, (_request, response) => {
      response.sendDate = false
      if (ms !== undefined) response.setHeader('date', new Date(Date.now() + ms).toUTCString())
      response.end()
    })
    const { port } = kept(await listening(server))
    const settings = { ...DEFAULT_TRUST, ct: `https://localhost:${port}/{host}` }
    return context([https()], { trust: { settings, ca: [ca.certificate] } })
  }

  it('is right, ahead or behind, by whose word is said', async () => {
    expect(await clockChecks(await source(0))).toMatchObject([
      {
        level: 'ok',
        text: expect.stringMatching(/^its clock is right to \d s, by the Date that localhost:\d+ says$/),
      },
    ])
    const far = CLOCK_SKEW_MS + 60_000
    expect(await clockChecks(await source(far))).toMatchObject([
      { level: 'fail', text: expect.stringMatching(/^its clock is 1(?:79|80|81) s behind, by /) },
    ])
    expect(await clockChecks(await source(-far))).toMatchObject([
      { level: 'fail', text: expect.stringMatching(/ ahead, by /), advice: expect.stringContaining('NTP') },
    ])
  })

  it('is not known where nobody says the time, and of no interest without https', async () => {
    expect(await clockChecks(await source(undefined))).toMatchObject([{ level: 'warn' }])
    const unbelieved = { ...(await source(0)), trust: { settings: (await source(0)).trust.settings } }
    expect(await clockChecks(unbelieved)).toMatchObject([
      { level: 'warn', text: expect.stringContaining('could not be compared') },
    ])
    expect(await clockChecks(context([service('web', 1)]))).toEqual([])
  })
})

describe('a certificate', () => {
  async function shown(issued: Issued, target?: string): Promise<unknown> {
    const server = createTlsServer({ key: issued.key, cert: issued.cert }, (socket) => socket.end())
    const { port } = kept(await listening(server))
    return certificateChecks(context([https({ target: service('x', target ?? port).target })]))
  }

  it('of a target that speaks TLS is looked at as visitors do', async () => {
    expect(await shown(ours)).toMatchObject([
      { level: 'ok', text: expect.stringMatching(/^good until \S+, for 89 days$/) },
    ])
    expect(await shown(await ca.issue([HOST], 3, 87))).toMatchObject([
      { level: 'warn', text: expect.stringContaining('it expires on') },
    ])
    expect(await shown(await ca.issue([HOST], -0.5))).toMatchObject([
      { level: 'fail', text: expect.stringContaining('CERT_HAS_EXPIRED') },
    ])
    expect(await shown(await ca.issue(['other.example']))).toMatchObject([
      { level: 'fail', text: expect.stringContaining('ALTNAME') },
    ])
    expect(await shown(await (await TestAuthority.create()).issue([HOST]))).toMatchObject([{ level: 'fail' }])
  })

  it('is missing where the target speaks no TLS', async () => {
    const { port } = kept(await listening(createServer((socket) => socket.end('no TLS\n'))))
    expect(await certificateChecks(context([https({ target: service('x', port).target })]))).toMatchObject([
      { level: 'fail', advice: 'let the target speak TLS there' },
    ])
  })

  it('that is self-signed is not called believed, and one that is ordered is known to the running client', async () => {
    expect(await certificateChecks(context([https({ tls: 'self-signed' })]))).toMatchObject([
      { level: 'warn', text: 'self-signed: unverified by visitors' },
    ])
    const acme = (tls?: ClientStatus['routes'][number]['tls']) =>
      certificateChecks(
        context([https({ tls: 'acme' })], { running: tls === undefined ? [] : [status([{ tls }])] }),
      )
    const later = new Date(Date.now() + 60 * 24 * 3_600_000).toISOString()
    expect(await acme()).toMatchObject([
      { level: 'warn', text: 'there is none yet', advice: expect.stringContaining('blindgate up') },
    ])
    expect(await acme({ mode: 'acme', trouble: 'the CA is away' })).toMatchObject([
      { level: 'fail', text: 'there is none yet (the CA is away)' },
    ])
    expect(await acme({ mode: 'acme', expires: later })).toMatchObject([{ level: 'ok' }])
    expect(await acme({ mode: 'acme', expires: later, trouble: 'the CA is away' })).toMatchObject([
      { level: 'warn', text: expect.stringContaining('and the next one fails: the CA is away') },
    ])
  })
})

describe('a certificate that this client orders', () => {
  /** A state that has one, as it is kept. */
  async function having(days: number, age: number): Promise<Partial<DoctorContext>> {
    const { key, cert } = await ca.issue([HOST], days, age)
    const bytes = Buffer.from(`directory https://ca.example/directory\n${key.trimEnd()}\n${cert}`)
    return { state: { read: async () => bytes } as unknown as DoctorContext['state'] }
  }
  const asked = async (days: number, age: number, runs: boolean): Promise<string[]> => {
    const rest = await having(days, age)
    const bytes = (await rest.state?.read('')) ?? Buffer.alloc(0)
    const pem = /-----BEGIN CERT[^]*/.exec(bytes.toString())?.[0] ?? ''
    const expires = new Date(new X509Certificate(pem).validTo).toISOString()
    const running = runs ? [status([{ tls: { mode: 'acme', expires } }])] : []
    const found = await certificateChecks(context([https({ tls: 'acme' })], { ...rest, running }))
    return found.map(({ level, text }) => `${level} ${text.replaceAll(/\d{4}-\d\d-\d\d/g, 'DAY')}`)
  }

  it('is due when it is to be renewed, by its own life', async () => {
    expect(await asked(32, 58, true)).toEqual(['ok good until DAY, for 31 days'])
    expect(await asked(28, 62, true)).toEqual([
      'warn it expires on DAY, in 27 days, and should have been renewed on DAY',
    ])
    expect(await asked(4, 2, true)).toEqual(['ok good until DAY, for 3 days'])
    expect(await asked(1.5, 4.5, true)).toEqual([
      'warn it expires on DAY, in 35 h, and should have been renewed on DAY',
    ])
  })

  it('is in the state though no client runs', async () => {
    expect(await asked(89, 1, false)).toEqual([
      'warn there is one until DAY, and no client runs that shows it',
    ])
    expect(await asked(-1, 91, false)).toEqual(['fail it has expired on DAY'])
  })
})

describe('targets', () => {
  it('that speak TLS prove who they are, as to a visitor', async () => {
    const server = createTlsServer({ key: ours.key, cert: ours.cert }, (socket) => socket.end())
    const { port } = kept(await listening(server))
    const other = `sha256:${'A'.repeat(43)}` as const
    const target = parseTarget(`https://localhost:${port}`)
    const found = await targetChecks(
      context([
        service('known', 1, { target, targetKey: ours.pin }),
        service('other', 1, { target, targetKey: other }),
        service('unbelieved', 1, { target, health: '/' }),
      ]),
    )
    expect(found.map(({ level, about, text }) => `${level} ${about}: ${text}`)).toEqual([
      `ok known: https://localhost:${port} takes connections, and proves who it is`,
      `fail other: at https://localhost:${port} the target shows key ${ours.pin}, not the target_key ${other}`,
      `fail unbelieved: at https://localhost:${port} its certificate is not believed (UNABLE_TO_VERIFY_LEAF_SIGNATURE)`,
    ])
    expect(found[2]?.advice).toBe(`if ${ours.pin} is its key, write target_key = "${ours.pin}"`)
  })

  it('answer their health path, or take connections, or do not', async () => {
    const server = createHttpServer((request, response) =>
      response.writeHead(request.url === '/well' ? 200 : 500).end(),
    )
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    closing.push({ close: async () => void server.close() })
    const { port } = server.address() as AddressInfo
    const findings = await targetChecks(
      context([
        service('plain', port),
        service('well', port, { health: '/well' }),
        service('ill', port, { health: '/ill' }),
        service('gone', 1),
      ]),
    )
    expect(findings.map(({ level, about, text }) => `${level} ${about}: ${text}`)).toEqual([
      `ok plain: 127.0.0.1:${port} takes connections`,
      `ok well: 127.0.0.1:${port} answers GET /well`,
      `fail ill: 127.0.0.1:${port} does not answer (status 500)`,
      'fail gone: 127.0.0.1:1 does not answer (ECONNREFUSED)',
    ])
  })
})

describe('DNS and ports', () => {
  it('lead to the gateway, partly, elsewhere or nowhere', async () => {
    const names = kept(await NameServer.start())
    names.zone('example.com', {
      [HOST]: a(HOST, '192.0.2.1'),
      'both.example.com': a('both.example.com', '192.0.2.1', '192.0.2.2'),
      'else.example.com': a('else.example.com', '192.0.2.2'),
    })
    const hosts = [
      HOST,
      'both.example.com',
      'else.example.com',
      'none.example.com',
      '*.example.com',
      '*',
      '192.0.2.9',
      'x.example.org',
    ]
    const gateways = [{ addresses: ['192.0.2.1:443'], pin: ours.pin }]
    const settings = { ...DEFAULT_TRUST, nameservers: [names.at] }
    const found = await dnsChecks(context([service('web', 1, { hosts })], { gateways, trust: { settings } }))
    expect(found.map(({ level, about }) => `${level} ${about}`)).toEqual([
      `ok ${HOST}`,
      'warn both.example.com',
      'warn else.example.com',
      'fail none.example.com',
      'fail *.example.com',
      'warn x.example.org',
    ])
    expect(found[1]?.advice).toContain('let all of its addresses lead to the gateway')
  })

  it('are tried where a running client was told that visitors come in', async () => {
    const { port } = kept(await listening(createServer((socket) => socket.end())))
    const running = [
      status([
        { urls: [`http://127.0.0.1:${port}`, `https://*.example.com:${port}`] },
        { name: 'ssh', urls: ['tcp://127.0.0.1:1'] },
      ]),
    ]
    const found = await portChecks(context([service('web', 1), service('ssh', 2)], { running }))
    expect(found.map(({ level, about }) => `${level} ${about}`)).toEqual([
      `ok 127.0.0.1:${port}`,
      'fail 127.0.0.1:1',
    ])
  })
})

describe('services without a file', () => {
  const running = [
    {
      ...status([
        {
          type: 'https',
          hosts: [HOST],
          target: 'https://127.0.0.1:1',
          targetKey: PIN,
          tls: { mode: 'acme', trouble: 'the CA is away' },
        },
        { name: 'here', type: 'http', target: 'this process', urls: ['http://g'] },
        { name: 'ill', type: 'http', target: '127.0.0.1:1', health: 'down' },
        { gateway: 'another', type: 'https', hosts: [HOST], target: 'https://127.0.0.1:1' },
      ]),
      trust: {
        alarms: [],
        findings: [
          { check: 'caa' as const, about: HOST, level: 'warn' as const, text: 'there is no CAA record' },
        ],
      },
    },
  ]

  it('are those of the clients that run, with their certificates and what was found of their hosts', async () => {
    const services = servicesTold(running)
    expect(services.map(({ name, type, tls, target }) => [name, type, tls, target.text])).toEqual([
      ['web', 'https', 'acme', 'https://127.0.0.1:1'],
      ['here', 'http', undefined, 'this process'],
      ['ill', 'http', undefined, '127.0.0.1:1'],
    ])
    expect(services[0]).toMatchObject({ hosts: [HOST], targetKey: PIN })
    const about = context(services, { running, told: new Set(services.map(({ name }) => name)) })
    expect(await certificateChecks(about)).toMatchObject([
      { level: 'fail', about: 'web', text: 'there is none yet (the CA is away)' },
    ])
    // What is served in the process that runs is not dialled.
    expect((await targetChecks(about)).map(({ about }) => about)).toEqual(['web', 'ill'])
    expect(toldFindings(about)).toEqual(running[0]?.trust.findings)
  })

  it('whose hosts nobody has looked at yet are not called well', () => {
    const services = servicesTold(running)
    const silent = [status([])]
    expect(toldFindings(context(services, { running: silent, told: new Set(['web']) }))).toMatchObject([
      { level: 'warn', about: HOST, text: 'the running client has not looked yet' },
    ])
  })
})

describe('all checks', () => {
  it('may be many, without a word of Node about their listeners', async () => {
    const warnings: Error[] = []
    const onWarning = (warning: Error): void => void warnings.push(warning)
    process.on('warning', onWarning)
    const services = Array.from({ length: 20 }, (_, at) => service(`web-${at}`, 1))
    const state = { path: '/state', read: async () => undefined } as unknown as DoctorContext['state']
    const found = await examine(
      context(services, { state, identity: { pin: PIN } as DoctorContext['identity'] }),
    )
    expect(found).toHaveLength(1 + 2 * services.length)
    // Node tells of them in the next turn.
    await new Promise((resolve) => setImmediate(resolve))
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
  })
})

describe('what runs', () => {
  it('is told as the client tells it, with its alarms', async () => {
    const finding = {
      check: 'ct' as const,
      about: HOST,
      level: 'fail' as const,
      alarm: true as const,
      text: 'foreign',
    }
    const running = [
      {
        ...status([
          { urls: ['https://app.example.com'] },
          { name: 'refused', error: { code: 'route_taken', message: 'taken' } },
          { name: 'quick', urls: ['http://g:9000'] },
          { name: 'slow' },
        ]),
        trust: { alarms: [{ finding, first: 'A', last: 'B' }], findings: [] },
      },
    ]
    const services = ['web', 'refused', 'slow', 'absent', 'quick'].map((name) => service(name, 1))
    const found = await runningChecks(context(services, { running }))
    expect(found.map(({ level, about, text }) => `${level} ${about}: ${text}`)).toEqual([
      'ok web: is offered at https://app.example.com',
      'fail refused: is refused: taken',
      'warn slow: is not offered yet',
      'fail absent: no client that runs offers it',
      'ok quick: is offered at http://g:9000',
      `fail ${HOST}: the running client saw, from A to B: foreign`,
    ])
  })
})
