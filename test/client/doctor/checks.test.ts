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
import { portChecks } from '../../../src/client/doctor/ports.ts'
import { runningChecks } from '../../../src/client/doctor/running.ts'
import { targetChecks } from '../../../src/client/doctor/targets.ts'
import type { ClientService, ClientStatus } from '../../../src/client/index.ts'
import { DEFAULT_TRUST } from '../../../src/config/index.ts'
import { CLOCK_SKEW_MS } from '../../../src/limits.ts'
import { type Issued, TestAuthority } from '../trust/authorities.ts'
import { listening } from '../trust/machines.ts'
import { a, NameServer } from '../trust/name-server.ts'
import { service } from '../world.ts'

const HOST = 'app.example.com'
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
    trust: { settings: DEFAULT_TRUST, ca: [ca.certificate] },
    signal: new AbortController().signal,
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
    expect(await shown(await ca.issue([HOST], 3))).toMatchObject([
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
    expect(await acme()).toMatchObject([{ level: 'warn', advice: expect.stringContaining('blindgate up') }])
    expect(await acme({ mode: 'acme', trouble: 'the CA is away' })).toMatchObject([
      { level: 'fail', text: 'there is none yet: the CA is away' },
    ])
    expect(await acme({ mode: 'acme', expires: later })).toMatchObject([{ level: 'ok' }])
    expect(await acme({ mode: 'acme', expires: later, trouble: 'the CA is away' })).toMatchObject([
      { level: 'warn', text: expect.stringContaining('and the next one fails: the CA is away') },
    ])
  })
})

describe('targets', () => {
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
      `fail ill: 127.0.0.1:${port} does not answer: status 500`,
      'fail gone: 127.0.0.1:1 does not answer: ECONNREFUSED',
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
    const services = ['web', 'refused', 'slow', 'absent'].map((name) => service(name, 1))
    const found = await runningChecks(context(services, { running }))
    expect(found.map(({ level, about, text }) => `${level} ${about}: ${text}`)).toEqual([
      'ok web: is offered at https://app.example.com',
      'fail refused: is refused: taken',
      'warn slow: is not offered yet',
      'warn absent: no client that runs offers it',
      'ok quick: is offered at http://g:9000',
      `fail ${HOST}: the running client saw, from A to B: foreign`,
    ])
  })
})
