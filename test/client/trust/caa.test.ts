import { encode } from 'dns-packet'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type CaaAccount, judgeCaa, permits, type ValidationMethod } from '../../../src/client/trust/caa.ts'
import { type CaaQuestion, caaProblem, checkCaa } from '../../../src/client/trust/caa-check.ts'
import { readIssueValue } from '../../../src/client/trust/caa-value.ts'
import { Dns } from '../../../src/client/trust/dns.ts'
import type { Finding } from '../../../src/client/trust/finding.ts'
import { a, addLines, caa, cname, NameServer, type Records } from './name-server.ts'

const OURS: CaaAccount = { uri: 'https://ca.example/acct/1', issuers: ['ca.example'] }
const HOST = 'app.example.com'
const GATEWAY = '203.0.113.7'
const SERVFAIL = 2
const GOOD = `ca.example; accounturi=${OURS.uri}; validationmethods=tls-alpn-01`

let server: NameServer
beforeEach(async () => {
  server = await NameServer.start()
  for (const apex of ['com', 'net', 'example']) server.zone(apex)
})
afterEach(() => server.close())

function dns(): Dns {
  return new Dns({ nameservers: [server.at] })
}

function question(rest: Partial<CaaQuestion> = {}): CaaQuestion {
  return {
    host: HOST,
    hosts: [HOST],
    accounts: [OURS],
    methods: ['tls-alpn-01'],
    gatewayAddresses: [GATEWAY],
    ...rest,
  }
}

async function check(rest: Partial<CaaQuestion> = {}): Promise<Finding> {
  const [finding] = await checkCaa(dns(), question(rest))
  if (finding === undefined) throw new Error('nothing was found')
  return finding
}

/** The zone of the host, which leads to the gateway. */
function zone(records: Records = {}, apex = 'example.com'): Records {
  return server.zone(apex, { [HOST]: [...a(HOST, GATEWAY), ...(records[HOST] ?? [])], ...without(records) })
}

function without({ [HOST]: _host, ...rest }: Records): Records {
  return rest
}

/** The records that a finding says to add. */
function printed({ details = [] }: Finding): string[] {
  return details.filter((line) => line.includes(' IN CAA '))
}

describe('CAA records', () => {
  it('that let only our account are ok, and say what remains', async () => {
    zone({ [HOST]: caa(HOST, ['issue', GOOD], ['issuewild', ';']) })
    expect(await check()).toMatchObject({
      level: 'ok',
      text: `the CAA records of ${HOST} deny certificates to every account but ours`,
      remarks: [
        expect.stringContaining('operator of the gateway'),
        expect.stringContaining('until it expires'),
      ],
    })
  })

  it('are looked for upwards, past names that have none', async () => {
    zone({ 'example.com': caa('example.com', ['issue', GOOD]) })
    const host = 'a.b.app.example.com'
    expect(await check({ host, hosts: [host] })).toMatchObject({
      level: 'ok',
      text: expect.stringContaining('the CAA records of example.com deny'),
    })
    expect(server.asked.map((each) => each.split(' ').slice(1).join(' '))).toEqual(
      expect.arrayContaining([
        'a.b.app.example.com CAA',
        'b.app.example.com CAA',
        'app.example.com CAA',
        'example.com CAA',
      ]),
    )
  })

  it('of the nearest name count, and no other', async () => {
    zone({
      'example.com': caa('example.com', ['issue', GOOD]),
      [HOST]: caa(HOST, ['issue', 'ca.example']),
    })
    expect(await check()).toMatchObject({
      level: 'warn',
      text: expect.stringContaining('issue "ca.example"'),
    })
  })

  it('are those of what a host is an alias of, then those above the host itself', async () => {
    const records = zone({ [HOST]: [] })
    records[HOST] = cname(HOST, 'web.example.net')
    const other = server.zone('example.net', { 'web.example.net': a('web.example.net', GATEWAY) })
    // Above the alias's target nothing counts.
    other['example.net']?.push(...caa('example.net', ['issue', GOOD]))
    expect(await check()).toMatchObject({ text: expect.stringContaining('there is no CAA record') })
    records['example.com']?.push(...caa('example.com', ['issue', GOOD]))
    expect(await check()).toMatchObject({ level: 'ok' })
    other['web.example.net']?.push(...caa('web.example.net', ['issue', 'ca.example']))
    expect(await check()).toMatchObject({
      level: 'warn',
      text: expect.stringContaining('CAA of web.example.net lets others'),
    })
  })

  it.each<
    [why: string, records: [tag: string, value: string, critical?: boolean][], level: string, text: RegExp]
  >([
    ['no account', [['issue', 'ca.example']], 'warn', /lets others than our accounts .*issue "ca\.example"/],
    [
      'another account',
      [
        ['issue', GOOD],
        ['issue', 'ca.example; accounturi=https://ca.example/acct/2'],
      ],
      'warn',
      /acct\/2/,
    ],
    [
      'another authority, with our account',
      [['issue', GOOD.replace('ca.example;', 'other.example;')]],
      'warn',
      /other\.example/,
    ],
    [
      'an account that is only a beginning of ours',
      [['issue', GOOD.replace('acct/1', 'acct/')]],
      'warn',
      /lets others/,
    ],
    ['two accounts in one record', [['issue', `${GOOD}; accounturi=${OURS.uri}`]], 'warn', /lets others/],
    [
      'a value that is none',
      [
        ['issue', GOOD],
        ['issue', 'ca.example accounturi'],
      ],
      'warn',
      /lets others/,
    ],
    [
      'wildcards open',
      [
        ['issue', GOOD],
        ['issuewild', 'ca.example'],
      ],
      'warn',
      /issuewild "ca\.example"/,
    ],
    ['only wildcards', [['issuewild', ';']], 'warn', /have no "issue": any authority/],
    ['only contacts', [['iodef', 'mailto:a@example.com']], 'warn', /have no "issue"/],
    ['nobody at all', [['issue', ';']], 'fail', /stops our own next certificate/],
    [
      'another method',
      [['issue', GOOD.replace('tls-alpn-01', 'dns-01')]],
      'fail',
      /does not let .*acct\/1 use tls-alpn-01/,
    ],
    ['no method', [['issue', GOOD.replace('tls-alpn-01', '')]], 'fail', /stops our own/],
    [
      'a critical tag that nobody knows',
      [
        ['issue', GOOD],
        ['future', 'x', true],
      ],
      'fail',
      /stops our own/,
    ],
    [
      'a tag that nobody needs to know',
      [
        ['issue', GOOD],
        ['future', 'x'],
      ],
      'ok',
      /deny/,
    ],
    ['a critical issue', [['issue', GOOD, true]], 'ok', /deny/],
    [
      'upper case and spaces',
      [['ISSUE', `  CA.Example ;accounturi=${OURS.uri} ;validationmethods=http-01,tls-alpn-01;`]],
      'ok',
      /deny/,
    ],
  ])('with %s', async (_why, records, level, text) => {
    zone({ [HOST]: caa(HOST, ...records) })
    const finding = await check()
    expect(finding).toMatchObject({ level, text: expect.stringMatching(text) })
    if (level !== 'ok') expect(printed(finding)).not.toEqual([])
  })

  it('in a zone of the gateway, or behind an alias into one, promise nothing', async () => {
    const good = caa(HOST, ['issue', GOOD], ['issuewild', ';'])
    zone({ [HOST]: good })
    server.zone('example.com', server.zones.get('example.com'), GATEWAY)
    expect(await check()).toMatchObject({
      level: 'warn',
      text: expect.stringContaining('the gateway answers for zone example.com'),
    })
    const records = zone({ [HOST]: good })
    expect((await check()).level).toBe('ok')
    server.zone('gateway.example', {}, GATEWAY)
    records[`_acme-challenge.${HOST}`] = cname(`_acme-challenge.${HOST}`, 'x.gateway.example')
    expect(await check()).toMatchObject({
      level: 'warn',
      text: expect.stringContaining('zone gateway.example'),
    })
    // Not an alias, but given away as a zone.
    const given = zone({ [HOST]: good })
    given[`_acme-challenge.${HOST}`] = []
    server.zone(`_acme-challenge.${HOST}`, {}, GATEWAY)
    expect(await check()).toMatchObject({ text: expect.stringContaining(`zone _acme-challenge.${HOST}`) })
  })

  it('below a zone of the gateway, which can give the name to others, promise nothing', async () => {
    zone({ [HOST]: caa(HOST, ['issue', GOOD], ['issuewild', ';']) }, HOST)
    server.zone('example.com', {}, GATEWAY)
    expect(await check()).toMatchObject({ level: 'warn', text: expect.stringContaining('zone example.com') })
    server.zone('example.com', {})
    expect((await check()).level).toBe('ok')
  })

  it('without an account known here must name some account', async () => {
    zone({ [HOST]: caa(HOST, ['issue', GOOD]) })
    expect(await check({ accounts: [] })).toMatchObject({
      level: 'ok',
      text: expect.stringContaining(`every account but ${OURS.uri}`),
      advice: expect.stringContaining('is yours'),
    })
    zone({ [HOST]: caa(HOST, ['issue', 'ca.example']) })
    expect(await check({ accounts: [] })).toMatchObject({
      level: 'warn',
      advice: expect.stringContaining('no ACME account'),
    })
  })

  it('that cannot be asked for are warned of, never ok', async () => {
    zone({ [HOST]: caa(HOST, ['issue', GOOD]) })
    server.instead = (query, usual) =>
      encode(query.questions?.[0]?.type === 'CAA' ? { ...usual, flags: SERVFAIL, answers: [] } : usual)
    expect(await check()).toMatchObject({
      level: 'warn',
      text: expect.stringContaining('could not be asked'),
    })
  })
})

describe('DNSSEC', () => {
  it('is told to sign the zone or not, with what its lack allows', async () => {
    const records = zone({ [HOST]: caa(HOST, ['issue', GOOD]) })
    const dnssec = async (): Promise<Finding | undefined> => (await checkCaa(dns(), question()))[1]
    expect(await dnssec()).toMatchObject({
      check: 'dnssec',
      level: 'warn',
      text: 'DNSSEC does not sign zone example.com',
    })
    records['example.com']?.push({
      type: 'DNSKEY',
      name: 'example.com',
      data: { flags: 257, algorithm: 13, key: Buffer.alloc(64) },
    })
    expect(await dnssec()).toMatchObject({ level: 'warn', text: expect.stringContaining('no DS record') })
    records['example.com']?.push({
      type: 'DS',
      name: 'example.com',
      data: { keyTag: 1, algorithm: 13, digestType: 2, digest: Buffer.alloc(32) },
    })
    expect(await dnssec()).toMatchObject({ level: 'ok', text: 'DNSSEC signs zone example.com' })
  })
})

describe('the records that are printed', () => {
  it.each<[hosts: string[], methods: ValidationMethod[]]>([
    [[HOST], ['tls-alpn-01']],
    [[HOST], ['http-01', 'tls-alpn-01']],
    [[HOST, `*.${HOST}`], ['dns-01']],
    [[`*.${HOST}`], ['dns-01']],
  ])('for %j by %j satisfy the check, let us renew and nobody else', async (hosts, methods) => {
    for (const host of hosts) {
      zone()
      const before = await check({ host, hosts, methods })
      expect(before.level).toBe('warn')
      addLines(server, printed(before))
      expect((await check({ host, hosts, methods })).level).toBe('ok')
      expect(await caaProblem(dns(), hosts, question({ hosts, methods }))).toBeUndefined()
      for (const each of hosts) {
        const wildcard = each.startsWith('*.')
        for (const method of methods)
          expect(authorityPermits(server, each, OURS.uri, method, wildcard)).toBe(true)
        // The gateway, with an account of its own at the same authority, by whatever way it can pass.
        for (const method of ['tls-alpn-01', 'http-01', 'dns-01']) {
          expect(authorityPermits(server, each, 'https://ca.example/acct/2', method, wildcard)).toBe(false)
        }
      }
      expect(authorityPermits(server, `*.${HOST}`, OURS.uri, 'dns-01', true)).toBe(
        hosts.includes(`*.${HOST}`),
      )
    }
  })

  it('are one "issue" per account, with the methods that are configured', async () => {
    zone()
    const other = { uri: 'https://ca.example/acct/9', issuers: ['ca.example'] }
    const finding = await check({ accounts: [OURS, other], methods: ['http-01', 'tls-alpn-01'] })
    expect(printed(finding)).toEqual([
      `${HOST}. IN CAA 0 issue "ca.example; accounturi=https://ca.example/acct/1; validationmethods=http-01,tls-alpn-01"`,
      `${HOST}. IN CAA 0 issue "ca.example; accounturi=https://ca.example/acct/9; validationmethods=http-01,tls-alpn-01"`,
      `${HOST}. IN CAA 0 issuewild ";"`,
    ])
    expect(finding.details?.join('\n')).toContain('acme.challenge = "dns-01"')
    expect(finding.remarks?.join('\n')).toContain('can pass http-01 and tls-alpn-01')
  })

  it('stand where the host leads, when it is an alias', async () => {
    const records = zone()
    records[HOST] = cname(HOST, 'web.example.net')
    server.zone('example.net', { 'web.example.net': a('web.example.net', GATEWAY) })
    const finding = await check()
    addLines(server, printed(finding))
    expect((await check()).level).toBe('ok')
  })

  it('are not made up when the authority is not known', async () => {
    zone()
    const finding = await check({ accounts: [{ uri: OURS.uri, issuers: [] }] })
    expect(printed(finding)).toEqual([])
    expect(finding.advice).toContain('its directory cannot be asked')
  })
})

describe('require_caa', () => {
  it('names the host and the reason not to order', async () => {
    zone()
    expect(await caaProblem(dns(), [HOST], question())).toMatch(
      /^app\.example\.com: there is no CAA record: .*: have exactly these CAA records .*: `blindgate doctor` prints them$/,
    )
    server.instead = () => undefined
    const abort = AbortSignal.abort()
    const silent = new Dns({ nameservers: [server.at], signal: abort })
    expect(await caaProblem(silent, [HOST], question())).toMatch(/could not be asked/)
  })
})

describe('values of CAA records', () => {
  it.each<[string, ReturnType<typeof readIssueValue>]>([
    [';', { issuer: undefined, parameters: [] }],
    ['', { issuer: undefined, parameters: [] }],
    [' ca.example ', { issuer: 'ca.example', parameters: [] }],
    [
      'ca.example; a=b; c = d=e ;',
      {
        issuer: 'ca.example',
        parameters: [
          ['a', 'b'],
          ['c', 'd=e'],
        ],
      },
    ],
    ['; a=b', { issuer: undefined, parameters: [['a', 'b']] }],
    ['%%%', undefined],
    ['ca..example', undefined],
    ['ca.example; =b', undefined],
    ['ca.example; a', undefined],
    ['ca.example;; a=b', undefined],
    ['ca.example; a=b c', undefined],
  ])('%j', (text, wanted) => {
    expect(readIssueValue(text)).toEqual(wanted)
  })

  it('with a parameter that an authority does not know still count', () => {
    const records = [{ critical: false, tag: 'issue', value: `${GOOD}; x=y` }]
    expect(permits(records, { account: OURS, method: 'tls-alpn-01', wildcard: false })).toBe(true)
    expect(
      judgeCaa({
        host: HOST,
        relevant: { owner: HOST, records },
        place: HOST,
        atGateway: [],
        accounts: [OURS],
        methods: ['tls-alpn-01'],
        wildcard: false,
      }).level,
    ).toBe('ok')
  })
})

/**
 * An authority's side of RFC 8659 and RFC 8657, written for this test alone from the text of the RFCs: climbs the zones'
 * data, reads the records with another parser than the program's.
 */
function authorityPermits(
  server: NameServer,
  host: string,
  account: string,
  method: string,
  wildcard: boolean,
): boolean {
  for (let name = host.replace(/^\*\./, ''); name !== ''; name = name.split('.').slice(1).join('.')) {
    const records = [...server.zones.values()]
      .flatMap((records) => records[name] ?? [])
      .flatMap((record) => (record.type === 'CAA' ? [record.data] : []))
    if (records.length === 0) continue
    const wild = records.filter(({ tag }) => tag === 'issuewild')
    const set = wildcard && wild.length > 0 ? wild : records.filter(({ tag }) => tag === 'issue')
    return set.some(({ value }) => {
      const [issuer, ...parameters] = value.split(';').map((part) => part.trim())
      const values = Object.fromEntries(parameters.filter(Boolean).map((part) => part.split(/=(.*)/s)))
      if (issuer !== 'ca.example') return false
      if (values['accounturi'] !== undefined && values['accounturi'] !== account) return false
      return (
        values['validationmethods'] === undefined || values['validationmethods'].split(',').includes(method)
      )
    })
  }
  return true
}
