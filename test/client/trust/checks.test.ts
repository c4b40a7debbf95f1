import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { orderGuard, type TrustContext, trustChecks } from '../../../src/client/trust/checks.ts'
import { subjectsOf, type TrustSubject } from '../../../src/client/trust/subjects.ts'
import { DEFAULT_TRUST } from '../../../src/config/index.ts'
import { createIdentity, type Identity } from '../../../src/identity/index.ts'
import { service } from '../world.ts'
import { type Issued, TestAuthority } from './authorities.ts'
import { terminator } from './machines.ts'
import { a, addLines, NameServer } from './name-server.ts'
import { entryOf, type Search, startSearch } from './search.ts'

const HOST = 'app.example.com'
const OURS = { uri: 'https://ca.example/acct/1', issuers: ['ca.example'] }
const never = new AbortController().signal
let ca: TestAuthority
let ours: Issued
let identity: Identity
let names: NameServer
let search: Search
beforeAll(async () => {
  ca = await TestAuthority.create()
  ours = await ca.issue([HOST])
  identity = createIdentity()
})
beforeEach(async () => {
  names = await NameServer.start()
  search = await startSearch(ca)
  names.zone('com')
  names.zone('example.com', { [HOST]: a(HOST, '127.0.0.1') })
})
afterEach(async () => {
  await names.close()
  await search.close()
})

function context(rest: Partial<TrustContext> = {}): TrustContext {
  return {
    settings: { ...DEFAULT_TRUST, ct: search.template, nameservers: [names.at] },
    identity: identity.pin,
    hosts: () => [HOST],
    gateways: () => ['127.0.0.1'],
    accounts: async () => [OURS],
    methods: ['tls-alpn-01'],
    requireCaa: false,
    known: async () => [],
    ca: [ca.certificate],
    now: Date.now,
    ...rest,
  }
}

function subject(rest: Partial<TrustSubject> = {}): TrustSubject {
  return { service: 'web', host: HOST, tls: 'acme', port: 1, probed: true, ...rest }
}

describe('the checks of a client', () => {
  it('know where its gateway is by the host itself, and by where it is dialled', async () => {
    const text = async (gateways: string[]): Promise<string> =>
      (await trustChecks(context({ gateways: () => gateways })).caa(subject(), never))[0]?.text ?? ''
    names.zone('example.com', { [HOST]: a(HOST, '203.0.113.7') }, '203.0.113.7')
    expect(await text([])).toContain('the gateway answers for zone example.com')
    names.zone('example.com', { [HOST]: a(HOST, '203.0.113.7') }, '203.0.113.8')
    expect(await text([])).toContain('no CAA record')
    expect(await text(['203.0.113.8'])).toContain('the gateway answers for zone')
    names.zone(
      'example.com',
      { [HOST]: a(HOST, '203.0.113.7'), 'gw.example.com': a('gw.example.com', '203.0.113.8') },
      '203.0.113.8',
    )
    expect(await text(['gw.example.com'])).toContain('the gateway answers for zone')
    expect(await text(['no-such-gateway.invalid'])).toContain('has no address, so that it cannot be told')
  })

  it('make CAA a failure where nothing is ordered without it', async () => {
    const [finding] = await trustChecks(context({ requireCaa: true })).caa(subject(), never)
    expect(finding).toMatchObject({ check: 'caa', level: 'fail' })
  })

  it('ask no log for a target whose keys they do not know, and look at no self-signed certificate there', async () => {
    const checks = trustChecks(context())
    expect(await checks.ct(subject({ tls: 'passthrough' }), never)).toMatchObject([
      { level: 'warn', advice: 'name them in [trust] keys' },
    ])
    expect(await checks.ct(subject({ tls: 'self-signed' }), never)).toEqual([])
    expect(await checks.caa(subject({ tls: 'self-signed' }), never)).toEqual([])
    expect(search.asked).toEqual([])
    search.entries = [entryOf(ours, [HOST], '1')]
    const settings = { ...context().settings, keys: [ours.pin] }
    expect(await trustChecks(context({ settings })).ct(subject({ tls: 'passthrough' }), never)).toMatchObject(
      [{ level: 'ok' }],
    )
  })

  it('count keys that are known and keys that are configured', async () => {
    search.entries = [entryOf(ours, [HOST], '1')]
    expect(await trustChecks(context()).ct(subject(), never)).toMatchObject([{ alarm: true }])
    expect(await trustChecks(context({ known: async () => [ours.pin] })).ct(subject(), never)).toMatchObject([
      { level: 'ok' },
    ])
  })

  it('visit only who answers probes', async () => {
    const home = await terminator(identity, ours)
    try {
      const checks = trustChecks(context())
      expect(await checks.probe(subject({ port: home.port }), never)).toMatchObject([{ level: 'ok' }])
      expect(await checks.probe(subject({ probed: false }), never)).toEqual([])
      expect(await checks.probe(subject({ port: undefined }), never)).toEqual([])
    } finally {
      await home.close()
    }
  })

  it('end with their signal, and then know nothing', async () => {
    const checks = trustChecks(context())
    const ended = AbortSignal.abort()
    expect(await checks.caa(subject(), ended)).toMatchObject([{ level: 'warn' }])
    expect(await checks.ct(subject(), ended)).toMatchObject([{ level: 'warn' }])
    expect(await checks.probe(subject(), ended)).toMatchObject([{ level: 'warn' }])
  })
})

describe('the guard of orders', () => {
  it('has no reason against them once the records that are printed stand', async () => {
    const guard = orderGuard(context())
    expect(await guard([HOST], OURS.uri, ['tls-alpn-01'])).toMatch(
      /^app\.example\.com: there is no CAA record.*: have exactly these CAA records.*: `blindgate doctor` prints them$/,
    )
    const [finding] = await trustChecks(context()).caa(subject(), never)
    addLines(names, finding?.details?.filter((line) => line.includes(' IN CAA ')) ?? [])
    expect(await guard([HOST], OURS.uri, ['tls-alpn-01'])).toBeUndefined()
    expect(await guard([HOST], OURS.uri, ['http-01'])).toMatch(/stops our own next certificate/)
    expect(await guard([HOST], 'https://ca.example/acct/2', ['tls-alpn-01'])).toMatch(
      /lets others than our accounts/,
    )
  })

  it('is against them when nobody can be asked', async () => {
    names.zones.clear()
    expect(await orderGuard(context())([HOST], OURS.uri, ['tls-alpn-01'])).toMatch(/does not answer for/)
  })
})

describe('what is looked at', () => {
  it('is each host of the https services once, where visitors come in', () => {
    const services = [
      service('web', 1, { type: 'https', tls: 'acme', hosts: [HOST, '*.example.com'] }),
      service('same', 2, { type: 'https', tls: 'files', hosts: [HOST] }),
      service('through', 3, { type: 'https', tls: 'passthrough', hosts: ['t.example.com'] }),
      service('here', 4, {
        type: 'https',
        tls: 'self-signed',
        hosts: ['h.example.com'],
        serve: (socket) => socket.destroy(),
      }),
      service('plain', 5, { hosts: ['p.example.com'] }),
    ]
    const urls = { web: [`https://${HOST}:8443`], through: ['https://t.example.com/'] }
    const found = subjectsOf(services, (name) => urls[name as keyof typeof urls] ?? [])
    expect(found.map(({ host, port, probed, tls }) => [host, port, probed, tls])).toEqual([
      [HOST, 8443, true, 'acme'],
      ['*.example.com', 8443, true, 'acme'],
      ['t.example.com', 443, false, 'passthrough'],
      ['h.example.com', undefined, false, 'self-signed'],
    ])
  })
})
