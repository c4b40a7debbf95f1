import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { readIssuances, searchUrl } from '../../../src/client/trust/ct.ts'
import { type CtQuestion, checkCt } from '../../../src/client/trust/ct-check.ts'
import type { Finding } from '../../../src/client/trust/finding.ts'
import { withIssuers } from '../../../src/client/trust/issuers.ts'
import { DEFAULT_TRUST } from '../../../src/config/index.ts'
import { CT_PAGE_BYTES, CT_PAGES } from '../../../src/limits.ts'
import { type Issued, TestAuthority } from './authorities.ts'
import { entryOf, type Search, startSearch } from './search.ts'

const HOST = 'app.example.com'
const DAY = 24 * 3_600_000
let ca: TestAuthority
let ours: Issued
let theirs: Issued
let search: Search
beforeAll(async () => {
  ca = await TestAuthority.create()
  ours = await ca.issue([HOST])
  theirs = await ca.issue([HOST])
})
beforeEach(async () => {
  search = await startSearch(ca)
})
afterEach(() => search.close())

function check(rest: Partial<CtQuestion> = {}): Promise<Finding> {
  return checkCt({
    host: HOST,
    template: search.template,
    known: { has: (pin) => pin === ours.pin },
    now: Date.now(),
    ca: [ca.certificate],
    ...rest,
  })
}

/** One certificate, whose names these are and an empty one. */
function namesOf(names: string): string {
  const rest = `"pubkey_sha256":"${'0'.repeat(64)}","not_before":"","not_after":""`
  return `[{"id":"1","dns_names":[${names}""],${rest}}]`
}

describe('certificate transparency', () => {
  it('that shows no key but ours is ok', async () => {
    expect(await check()).toMatchObject({
      level: 'ok',
      text: expect.stringContaining('no certificate for this host'),
    })
    search.entries = [entryOf(ours, [HOST], '1')]
    expect(await check()).toMatchObject({
      level: 'ok',
      text: expect.stringContaining('no key but ours (certificates that are valid now: 1)'),
    })
    expect(search.asked[0]?.search).toBe(`?domain=${HOST}&include_subdomains=false&expand=dns_names`)
  })

  it.each([[HOST], ['*.example.com'], ['APP.example.com.'], ['other.example.com', HOST]])(
    'with a foreign key in a certificate for %j is an alarm that names it',
    async (...names) => {
      search.entries = [entryOf(ours, [HOST], '1'), entryOf(theirs, names, '2')]
      const finding = await check()
      expect(finding).toMatchObject({ check: 'ct', about: HOST, level: 'fail', alarm: true })
      expect(finding.text).toContain(theirs.pin)
      expect(finding.details).toEqual([
        expect.stringMatching(new RegExp(`^${theirs.pin.replaceAll('+', '\\+')} for .* \\(issuance 2\\)$`)),
      ])
    },
  )

  it.each([['example.com'], ['*.app.example.com'], ['*.com'], ['other.example.com'], ['xapp.example.com']])(
    'does not mind a certificate for %s',
    async (name) => {
      search.entries = [entryOf(theirs, [name], '1')]
      expect((await check()).level).toBe('ok')
    },
  )

  it('of a wildcard asks for what is below it, and minds each of them', async () => {
    search.entries = [entryOf(theirs, ['one.example.com'], '1')]
    expect((await check({ host: '*.example.com' })).alarm).toBe(true)
    expect(search.asked[0]?.search).toContain('domain=example.com&include_subdomains=true')
    search.entries = [entryOf(theirs, ['a.b.example.com', 'example.com'], '1')]
    expect((await check({ host: '*.example.com' })).level).toBe('ok')
    const template = search.template.replace('{subdomains}', 'false')
    expect(await check({ host: '*.example.com', template })).toMatchObject({
      level: 'warn',
      text: expect.stringContaining('no {subdomains}'),
    })
  })

  it('does not mind what has expired, by our clock', async () => {
    search.entries = [entryOf(theirs, [HOST], '1')]
    expect((await check({ now: Date.now() + 91 * DAY })).level).toBe('ok')
    search.entries = [{ ...entryOf(theirs, [HOST], '1'), not_after: 'soon' }]
    expect((await check()).alarm).toBe(true)
  })

  it('is read page by page, to the end', async () => {
    search.entries = Array.from({ length: 7 }, (_, id) =>
      entryOf(id === 6 ? theirs : ours, [HOST], `id-${id}`),
    )
    search.pageSize = 2
    expect((await check()).alarm).toBe(true)
    expect(search.asked.map((url) => url.searchParams.get('after'))).toEqual([
      null,
      'id-1',
      'id-3',
      'id-5',
      'id-6',
    ])
  })

  it('that goes in circles or never ends is no proof, and its alarms still count', async () => {
    const page = (pin: Issued) => ({ status: 200, body: JSON.stringify([entryOf(pin, [HOST], 'same')]) })
    search.instead = () => page(ours)
    expect(await check()).toMatchObject({
      level: 'warn',
      text: expect.stringContaining('more certificates than can be read'),
    })
    expect(search.asked).toHaveLength(2)
    search.instead = () => page(theirs)
    expect((await check()).alarm).toBe(true)
    let id = 0
    search.asked.length = 0
    search.instead = () => ({ status: 200, body: JSON.stringify([entryOf(ours, [HOST], String(id++))]) })
    expect((await check()).level).toBe('warn')
    expect(search.asked).toHaveLength(CT_PAGES)
  })

  it.each<[string, number, string, RegExp]>([
    ['an error', 500, '', /status 500/],
    ['too many questions', 429, '', /asked too often/],
    ['a redirect', 302, '', /status 302/],
    ['what is not JSON', 200, '<html>', /cannot be read: it is not JSON/],
    ['another JSON', 200, '{"id":1}', /cannot be read/],
    ['a list of nothing much', 200, `[${'{},'.repeat(100_000)}{}]`, /cannot be read: "0\.id"/],
    ['no names, many times', 200, namesOf('0,'.repeat(200_000)), /cannot be read: "0\.dns_names"/],
    [
      'a hash that is none',
      200,
      '[{"id":"1","dns_names":[],"pubkey_sha256":"00","not_before":"","not_after":""}]',
      /"0\.pubkey_sha256" is not/,
    ],
    ['too much', 200, '['.padEnd(CT_PAGE_BYTES + 10), /longer than/],
  ])('that answers %s is a warning, never ok', async (_what, status, body, why) => {
    search.instead = () => ({ status, body })
    const finding = await check()
    expect(finding).toMatchObject({
      level: 'warn',
      text: expect.stringMatching(/^certificate transparency could not be asked: /),
    })
    expect(finding.text).toMatch(why)
  })

  it('found on a first page is an alarm, whatever becomes of the second', async () => {
    search.entries = [entryOf(theirs, [HOST], '1')]
    search.instead = (url) => (url.searchParams.has('after') ? { status: 500, body: '' } : undefined)
    expect((await check()).alarm).toBe(true)
  })

  it('is believed only from a server that proves its name, whatever the environment says', async () => {
    search.entries = [entryOf(ours, [HOST], '1')]
    const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED']
    process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'
    try {
      expect(await check({ ca: undefined })).toMatchObject({
        level: 'warn',
        text: expect.stringContaining('UNABLE_TO_'),
      })
      const template = search.template.replace('localhost', '127.0.0.1')
      expect(await check({ template })).toMatchObject({
        level: 'warn',
        text: expect.stringContaining('ALTNAME'),
      })
    } finally {
      if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']
      else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = before
    }
  })

  it('that is away is a warning', async () => {
    const { template } = search
    await search.close()
    expect(await check({ template })).toMatchObject({
      level: 'warn',
      text: expect.stringContaining('ECONNREFUSED'),
    })
    search = await startSearch(ca)
    expect((await check({ signal: AbortSignal.abort() })).level).toBe('warn')
  })
})

describe('the search', () => {
  it('that is asked by default is asked as it is documented', () => {
    expect(searchUrl(DEFAULT_TRUST.ct, HOST)).toBe(
      'https://api.certspotter.com/v1/issuances?domain=app.example.com&include_subdomains=false&match_wildcards=true&expand=dns_names',
    )
    expect(searchUrl(DEFAULT_TRUST.ct, '*.example.com')).toContain(
      '?domain=example.com&include_subdomains=true&',
    )
  })

  it('answers as documented, with more in it than is used', () => {
    const body = `[{"id":"1","tbs_sha256":"ab","cert_sha256":"cd","dns_names":["a.example"],"pubkey_sha256":"${'0F'.repeat(32)}","not_before":"2026-01-01T00:00:00Z","not_after":"2026-03-01T00:00:00-00:00","revoked":false}]`
    expect(readIssuances(body)).toEqual([
      {
        id: '1',
        names: ['a.example'],
        pin: `sha256:${Buffer.alloc(32, 15).toString('base64').slice(0, 43)}`,
        notBefore: '2026-01-01T00:00:00Z',
        notAfter: '2026-03-01T00:00:00-00:00',
      },
    ])
  })
})

describe('the names of authorities in CAA', () => {
  const accounts = (directory: string) => [{ directory, uri: 'https://ca.example/1' }]

  it('are asked of their directories', async () => {
    search.instead = () => ({
      status: 200,
      body: '{"newOrder":"x","meta":{"caaIdentities":["CA.example","a b"]}}',
    })
    const directory = search.template.split('?')[0] ?? ''
    expect(
      await withIssuers([...accounts(directory), ...accounts(directory)], { ca: [ca.certificate] }),
    ).toEqual([
      { uri: 'https://ca.example/1', issuers: ['ca.example'] },
      { uri: 'https://ca.example/1', issuers: ['ca.example'] },
    ])
    expect(search.asked).toHaveLength(1)
  })

  it.each([
    [200, '{}'],
    [200, '<html>'],
    [200, '[]'],
    [500, '{"meta":{"caaIdentities":["ca.example"]}}'],
  ])('are not known where the answer is %i %s', async (status, body) => {
    search.instead = () => ({ status, body })
    const directory = search.template.split('?')[0] ?? ''
    expect(await withIssuers(accounts(directory), { ca: [ca.certificate] })).toEqual([
      { uri: 'https://ca.example/1', issuers: [] },
    ])
    expect(await withIssuers(accounts('https://localhost:1/'))).toEqual([
      { uri: 'https://ca.example/1', issuers: [] },
    ])
  })
})
