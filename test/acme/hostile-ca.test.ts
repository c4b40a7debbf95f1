/** CAs that are broken, in trouble or hostile: each is told in a sentence and asked again later; what was served stays. */
import { X509Certificate } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ChallengeBroker } from '../../src/client/challenges.ts'
import { ACME_LOOK_MS, ACME_NONCE_TRIES, ACME_ORDERS_PER_HOUR, ACME_POLLS } from '../../src/limits.ts'
import type { State } from '../../src/state/index.ts'
import { Authority, newKeys, requestOf } from './authority.ts'
import { FakeCa, type Instead, problem, type Said } from './fake-ca.ts'
import { TestClock } from './test-clock.ts'
import { newState, type Running, run, type World } from './world.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

let ca: FakeCa
let state: State
/** Offers less those taken back. */
let offered = 0

const challenges: ChallengeBroker = {
  offer: () => {
    offered += 1
    return Promise.resolve(() => {
      offered -= 1
    })
  },
}

beforeEach(async () => {
  ca = await FakeCa.start()
  state = await newState()
  offered = 0
})
afterEach(() => ca.close())

function order(more: Partial<World> = {}): Running {
  const settings = { directory: ca.directory, ca: ca.authority.root, ...more.settings }
  return run({ state, challenges, ...more, settings })
}

/** A body in place of the usual one. */
const body =
  (body: unknown): Instead =>
  () => ({ body })

/** The usual answer with something else in its body. */
const but =
  (change: Record<string, unknown>): Instead =>
  async (_asked, usual) => {
    const said = await usual()
    return { ...said, body: { ...(said.body as object), ...change } }
  }

const chain = async (pem: string | Promise<string>): Promise<Said> => ({
  headers: { 'content-type': 'application/pem-certificate-chain' },
  body: await pem,
})

describe('a CA that answers', () => {
  it.each<[string, Record<string, Instead>, RegExp]>([
    ['no JSON', { directory: () => ({ body: '<html>' }) }, /its directory is not JSON but nothing/],
    [
      'JSON that is cut off',
      { directory: () => ({ body: '{"a', headers: { 'content-type': 'application/json' } }) },
      /its directory is none/,
    ],
    [
      'a directory without newOrder',
      { directory: body({ newNonce: 'https://x', newAccount: 'https://x' }) },
      /its directory has a wrong "newOrder"/,
    ],
    [
      'an address without TLS',
      { directory: but({ newAccount: 'http://127.0.0.1/' }) },
      /"http:\/\/127.0.0.1\/", which is no https URL/,
    ],
    [
      'with a way elsewhere',
      { directory: () => ({ status: 302, headers: { location: 'https://127.0.0.1:1/' } }) },
      /its directory is said to be elsewhere/,
    ],
    ['too much', { directory: () => ({ body: Buffer.alloc(300 * 1024) }) }, /sent more than 256 KiB/],
    [
      'with no nonce',
      { newNonce: () => ({}), directory: async (_asked, usual) => ({ ...(await usual()), headers: {} }) },
      /its nonce is missing/,
    ],
    [
      'with an account that is nowhere',
      { newAccount: () => ({ status: 201, body: {} }) },
      /the account has no URI/,
    ],
    [
      'with an order that is nowhere',
      { newOrder: () => ({ status: 201, body: {} }) },
      /the order has no URL/,
    ],
    [
      'with an order for other names',
      { newOrder: but({ identifiers: [{ type: 'dns', value: 'bank.example' }] }) },
      /the order is for other names than were asked for/,
    ],
    [
      'with an order in no known state',
      { newOrder: but({ status: 'perhaps' }) },
      /the order has a wrong "status"/,
    ],
    [
      'with authorizations without end',
      { newOrder: but({ authorizations: ['https://127.0.0.1/1', 'https://127.0.0.1/2'] }) },
      /the order wants more proofs than it has names/,
    ],
    [
      'with an authorization for another name',
      { authorization: but({ identifier: { type: 'dns', value: 'bank.example' } }) },
      /an authorization is for bank\.example, which the order is not for/,
    ],
    [
      'with a token that is a path',
      { authorization: but({ challenges: [{ type: 'tls-alpn-01', url: 'https://x', token: '../admin' }] }) },
      /an authorization has a wrong "challenges.0.token"/,
    ],
    [
      'with no challenge of the kind that is set',
      { authorization: but({ challenges: [{ type: 'dns-01', url: 'https://x', token: 'a' }] }) },
      /offers no tls-alpn-01 for app\.example\.test, but dns-01: change challenge under \[acme\]/,
    ],
    [
      'that the proof was not seen',
      {
        authorization: async (asked, usual) =>
          ca.orders[0]?.status === 'pending'
            ? undefined
            : but({
                status: 'invalid',
                challenges: [
                  { type: 'tls-alpn-01', error: problem(403, 'connection', 'no\u001b[31m way').body },
                ],
              })(asked, usual),
      },
      /did not see the proof that app\.example\.test is ours \(connection\): no\\x1b\[31m way/,
    ],
    [
      'with a certificate of another type',
      { certificate: () => ({ body: 'x', headers: { 'content-type': 'text/html' } }) },
      /the certificate is not PEM but text\/html/,
    ],
    [
      'with a certificate that is none',
      { certificate: () => chain('nonsense') },
      /the certificate is no certificate for the key/,
    ],
    [
      'with a certificate for another key',
      {
        certificate: async () =>
          chain(
            ca.authority.sign({
              publicKey: (await newKeys()).publicKey,
              names: [{ type: 'dns', value: 'app.example.test' }],
            }),
          ),
      },
      /the certificate is no certificate for the key/,
    ],
    [
      'with a word on what it wants',
      { newOrder: () => problem(403, 'userActionRequired', 'agree to the new terms') },
      /refused the order \(userActionRequired\): agree to the new terms/,
    ],
    [
      'with a refusal of the name',
      { newOrder: () => problem(400, 'rejectedIdentifier', 'not that one') },
      /\(rejectedIdentifier\): not that one/,
    ],
    [
      'that it is broken',
      { newOrder: () => ({ status: 500 }) },
      /refused the order \(500\): status 500, and no word why/,
    ],
  ])('%s', async (_what, instead, says) => {
    ca.instead = instead
    const one = order()
    const trouble = await one.trouble(/tried again at/)
    expect(trouble).toMatch(says)
    expect(trouble).toMatch(/: tried again at \d{4}-\d\d-\d\d \d\d:\d\d UTC$/)
    expect(one.source.current).toBeUndefined()
    expect(offered).toBe(0)
    // And that was no end of it.
    ca.instead = {}
    await one.clock.advance(DAY_MS)
    await one.certificate()
    expect(one.source.trouble).toBeUndefined()
  })

  it('with profiles that a terminal would obey', async () => {
    ca.instead = { directory: but({ meta: { profiles: { ['\u001b[2J'.padEnd(4_000, 'x')]: '' } } }) }
    const trouble = await order({ settings: { profile: 'short' } }).trouble(/tried again at/)
    expect(trouble).toMatch(/has no profile "short", but \\x1b\[2Jx{30,40}…: change profile/)
  })

  it('with a certificate for other names, which is not served, and the old one is', async () => {
    const first = order()
    const old = await first.certificate()
    await first.close()
    const names = [{ type: 'dns' as const, value: 'app.example.test' }]
    let publicKey: Parameters<Authority['sign']>[0]['publicKey'] | undefined
    ca.instead = {
      finalize: async (asked, usual) => {
        ;({ publicKey } = requestOf((asked.payload as { csr: string }).csr))
        return usual()
      },
      certificate: () => chain(publicKey === undefined ? '' : ca.authority.sign({ publicKey, names })),
    }
    const second = order({ hosts: ['app.example.test', 'new.example.test'] })
    expect(await second.trouble(/tried again/)).toContain('the certificate is not for new.example.test')
    expect(second.source.current?.chain).toBe(old)
  })

  it('with a certificate that has run out', async () => {
    ca.lifetime = {
      notBefore: new Date(Date.now() - 3 * DAY_MS),
      notAfter: new Date(Date.now() - 2 * DAY_MS),
    }
    await order().trouble(/has run out already: check this machine’s clock/)
  })
})

describe('a CA without end', () => {
  it('turns down nonces for ever: a bounded number is tried', async () => {
    ca.instead = { newAccount: () => problem(400, 'badNonce', 'no', { 'replay-nonce': 'bad' }) }
    await order().trouble(/\(badNonce\)/)
    expect(ca.count('newAccount')).toBe(ACME_NONCE_TRIES)
  })

  it.each(['processing', 'pending', 'ready'])(
    'has an order "%s" for ever: it is looked at so often',
    async (status) => {
      ca.instead = { order: but({ status, certificate: undefined }), finalize: but({ status }) }
      const one = order()
      await one.trouble(/the order at .* does not come to an end/)
      expect(ca.count('order')).toBeLessThan(ACME_POLLS + 5)
      expect(ca.count('finalize')).toBeLessThanOrEqual(1)
      expect(ca.count('newOrder')).toBe(1)
      // The next try goes on with it: a slow CA is not a broken one.
      ca.instead = {}
      await one.clock.advance(HOUR_MS)
      await one.certificate()
      expect(ca.count('newOrder')).toBe(1)
    },
  )

  it('has an order that comes to nothing for a day: another is made', async () => {
    ca.instead['order'] = async ({ path }, usual) => {
      const said = await usual()
      return path === '/order/0' ? { ...said, body: { ...ca.order(0), status: 'processing' } } : said
    }
    const one = order()
    await one.trouble(/does not come to an end/)
    await one.clock.advance(DAY_MS)
    await one.certificate()
    expect(ca.count('newOrder')).toBe(2)
  })

  it('has an authorization "pending" for ever', async () => {
    ca.instead = { authorization: but({ status: 'pending' }) }
    await order().trouble(/the proof for app\.example\.test does not come to an end/)
    expect(ca.count('authorization')).toBeLessThan(ACME_POLLS + 5)
  })

  it('asks to be left alone for years: it is, for a week', async () => {
    ca.instead = {
      newOrder: () => problem(429, 'rateLimited', 'too many', { 'retry-after': '999999999999' }),
    }
    const one = order()
    const trouble = await one.trouble(/\(rateLimited\): too many/)
    const at = Date.parse(/tried again at (.*) UTC/.exec(trouble)?.[1]?.replace(' ', 'T').concat('Z') ?? '')
    expect(at - one.clock.now()).toBeGreaterThan(6.9 * DAY_MS)
    expect(at - one.clock.now()).toBeLessThan(7.1 * DAY_MS)
  })

  it('asks to be left alone for an hour: a restart is no reason to ask again', async () => {
    ca.instead = { newOrder: () => problem(429, 'rateLimited', 'too many', { 'retry-after': '3600' }) }
    const first = order()
    await first.trouble(/\(rateLimited\): too many/)
    await first.close()
    const { length } = ca.asked
    const second = order({ clock: first.clock })
    await second.trouble(/asked to be left alone until \d{4}-.* UTC: tried again at/)
    expect(ca.asked).toHaveLength(length)
    ca.instead = {}
    await second.clock.advance(HOUR_MS + 120_000)
    await second.certificate()
    expect((await state.read('order-web.json'))?.toString()).not.toContain('rest')
  })

  it('asks to look again in an hour, and within an order in a minute', async () => {
    let looks = 0
    ca.instead['order'] = async (_asked, usual) => {
      const said = await usual()
      looks += 1
      const body = { ...(said.body as object), ...(looks < 3 ? { status: 'processing' } : {}) }
      return { ...said, body, headers: { ...said.headers, 'retry-after': '3600' } }
    }
    const clock = new TestClock()
    // All but the source's own rest, once it has what it wants.
    clock.passes = (ms) => ms !== ACME_LOOK_MS
    await order({ clock }).certificate()
    expect(clock.slept.filter((ms) => ms === 60_000)).toHaveLength(2)
  })

  it('issues what is of no use: orders are bounded by the hour and the day, whatever happens', async () => {
    ca.instead = { certificate: () => chain('nonsense') }
    const one = order({ more: { random: () => 0 } })
    await one.trouble(/tried again/)
    const { clock } = one
    const start = clock.now()
    let turns = 0
    for (; clock.now() < start + HOUR_MS - 120_000; turns++) await clock.advance(60_000)
    await one.close()
    expect(turns).toBeGreaterThan(10)
    expect(ca.count('newOrder')).toBeLessThanOrEqual(ACME_ORDERS_PER_HOUR)
    // A restart forgets its pauses, and not that.
    const restart = async (): Promise<string> => {
      const again = order({ clock })
      const trouble = await again.trouble(/tried again/)
      await again.close()
      return trouble
    }
    for (let times = 0; times < ACME_ORDERS_PER_HOUR; times++) await restart()
    expect(ca.count('newOrder')).toBe(ACME_ORDERS_PER_HOUR)
    expect(await restart()).toMatch(
      /so many orders were made already that the next one waits until .* UTC: tried/,
    )
  })
})

describe('a renewal', () => {
  it('is at two thirds of the lifetime where the CA has no opinion, and the old one serves until then', async () => {
    const one = order()
    const old = await one.certificate()
    const { notAfter } = leafTimes(old)
    await one.clock.advance(notAfter - one.clock.now() - 34 * DAY_MS)
    expect(ca.count('newOrder')).toBe(1)
    ca.instead = { newOrder: () => ({ status: 503, headers: { 'retry-after': '7200' } }) }
    ca.lifetime = { notAfter: new Date(notAfter + 60 * DAY_MS) }
    await one.clock.advance(5 * DAY_MS)
    const trouble = await one.trouble(/refused the order \(503\)/)
    expect(one.source.current?.chain).toBe(old)
    expect(trouble).toContain('tried again at')
    ca.instead = {}
    await one.clock.advance(2 * HOUR_MS + 60_000)
    await one.certificate(old)
    const orders = ca.asked.filter(({ resource }) => resource === 'newOrder')
    expect(orders.at(-1)?.payload).toMatchObject({
      replaces: expect.stringMatching(/^[\w-]+\.[\w-]+$/) as string,
    })
  })

  it('is made without a word on the old one where the CA does not know that', async () => {
    const one = order()
    const old = await one.certificate()
    ca.instead = {
      newOrder: ({ payload }) =>
        'replaces' in (payload as object) ? problem(409, 'alreadyReplaced', 'it was') : undefined,
      renewalInfo: () => ({
        body: {
          suggestedWindow: { start: new Date(0).toISOString(), end: new Date(1).toISOString() },
          explanationURL: 'https://ca.example/why',
        },
      }),
    }
    await one.clock.advance(25 * HOUR_MS)
    await one.certificate(old)
    expect(one.lines.some(({ msg }) => msg.includes('wants another renewal: https://ca.example/why'))).toBe(
      true,
    )
  })
})

describe('require_caa', () => {
  it('orders nothing before the records are right, and asks with the account and the method', async () => {
    const asked: unknown[] = []
    let problem: string | undefined = 'app.example.test has no CAA record: add what doctor prints'
    const caa = (...question: unknown[]): Promise<string | undefined> => {
      asked.push(question)
      return Promise.resolve(problem)
    }
    const one = order({ settings: { requireCaa: true }, more: { caa } })
    await one.trouble(/has no CAA record: add what doctor prints/)
    expect(asked).toEqual([[['app.example.test'], `${ca.origin}/account/1`, ['tls-alpn-01']]])
    expect(ca.count('newOrder')).toBe(0)
    problem = undefined
    await one.clock.advance(DAY_MS)
    await one.certificate()
  })

  it('and nobody who can look is no reason to order', async () => {
    await order({ settings: { requireCaa: true } }).trouble(/nothing here can check it/)
    expect(ca.count('newOrder')).toBe(0)
  })
})

describe('a CA that does not prove to be itself', () => {
  it('is not spoken to, whatever the environment says', async () => {
    const other = await Authority.create()
    process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'
    try {
      const one = order({ settings: { ca: other.root } })
      await one.trouble(/does not prove to be itself \(.+\): a CA of your own needs its root in ca_file/)
      expect(ca.asked).toEqual([])
      await one.close()
      const usual = order({ settings: { ca: undefined } })
      await usual.trouble(/does not prove to be itself/)
      expect(ca.asked).toEqual([])
    } finally {
      delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']
    }
  })
})

describe('a look, when somebody says that all was mended', () => {
  it('ends a pause, but not one that the CA asked for', async () => {
    ca.instead = { newOrder: () => problem(400, 'rejectedIdentifier', 'no') }
    const one = order()
    await one.trouble(/rejectedIdentifier/)
    ca.instead = { newOrder: () => problem(429, 'rateLimited', 'no', { 'retry-after': '3600' }) }
    one.source.look()
    await one.trouble(/rateLimited/)
    ca.instead = {}
    one.source.look()
    await one.clock.advance(60_000)
    expect(ca.count('newOrder')).toBe(2)
    await one.clock.advance(HOUR_MS)
    await one.certificate()
  })
})

describe('a clock', () => {
  it('that was ahead by a year stops nothing', async () => {
    ca.instead = { newOrder: () => problem(429, 'rateLimited', 'no', { 'retry-after': '86400' }) }
    const one = order({ clock: new TestClock(0, Date.now() + 365 * DAY_MS) })
    await one.trouble(/rateLimited/)
    ca.instead = {}
    await one.clock.advance(-365 * DAY_MS)
    one.source.look()
    await one.certificate()
  })
})

describe('an order that goes on', () => {
  it('does not ask the CA to look twice', async () => {
    ca.instead = {
      authorization: async (asked, usual) => {
        const processing = {
          type: 'tls-alpn-01',
          status: 'processing',
          url: `${ca.origin}/challenge/0/0`,
          token: 'a',
        }
        return ca.count('authorization') > 1
          ? but({ status: 'valid' })(asked, usual)
          : but({ challenges: [processing] })(asked, usual)
      },
      order: async (_asked, usual) => {
        const [order] = ca.orders
        if (order?.status === 'pending' && ca.count('authorization') > 1) order.status = 'ready'
        return usual()
      },
    }
    await order().certificate()
    expect(ca.count('challenge')).toBe(0)
  })
})

describe('a source that is closed', () => {
  it('in the middle of an order lets go of all, and the order goes on with the next', async () => {
    let reached = (): void => undefined
    const waiting = new Promise<void>((resolve) => {
      reached = resolve
    })
    ca.instead = {
      authorization: async (asked, usual) => {
        if (offered === 0) return undefined
        reached()
        return but({ status: 'pending' })(asked, usual)
      },
    }
    const first = order()
    await waiting
    await first.close()
    expect(offered).toBe(0)
    expect(first.source.trouble).toMatch(/^waits for a certificate/)
    ca.instead = {}
    const second = order()
    await second.certificate()
    expect(ca.count('newOrder')).toBe(1)
  })
})

function leafTimes(chain: string): { notAfter: number } {
  return { notAfter: Date.parse(new X509Certificate(chain).validTo) }
}
