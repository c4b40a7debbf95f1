/** The client's ACME against a real CA. Skipped where there is no Go to build it with. */
import { X509Certificate } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { accountsIn } from '../../src/client/acme/accounts.ts'
import { OrderedKeys } from '../../src/client/acme/ordered-keys.ts'
import { revokeCertificate } from '../../src/client/acme/revoke.ts'
import type { AcmeSettings } from '../../src/config/index.ts'
import { pinOf } from '../../src/identity/index.ts'
import type { State } from '../../src/state/index.ts'
import { GO_MISSING, type Pebble, startPebble } from './pebble.ts'
import { Proving } from './proving.ts'
import { TestClock } from './test-clock.ts'
import { newState, run, settingsOf, type World } from './world.ts'

const DAY_MS = 24 * 3_600_000

let pebble: Pebble
let proving: Proving
let state: State

beforeAll(async () => {
  if (GO_MISSING) return
  proving = await Proving.start()
  pebble = await startPebble({
    httpPort: proving.httpPort,
    tlsPort: proving.tlsPort,
    profiles: { shortlived: 518_400 },
  })
}, 300_000)

afterAll(async () => {
  await pebble?.close()
  await proving?.close()
})

beforeEach(async (ctx) => {
  if (GO_MISSING) ctx.skip('skipped: no go')
  state = await newState()
})

const settings = (more: Partial<AcmeSettings> = {}): Partial<AcmeSettings> => ({
  directory: pebble.directory,
  ca: pebble.ca,
  ...more,
})

function order(more: Partial<World> = {}) {
  return run({
    state,
    challenges: proving,
    clock: new TestClock(20),
    ...more,
    settings: settings(more.settings),
  })
}

const leafOf = (chain: string) => new X509Certificate(chain)
const namesOf = (chain: string) =>
  leafOf(chain)
    .subjectAltName?.split(', ')
    .map((name) => name.replace('DNS:', ''))
    .toSorted()

describe('a certificate from a real CA', () => {
  it.each(['tls-alpn-01', 'http-01'] as const)(
    'is had by %s, and kept for the next start',
    async (challenge) => {
      const first = order({ settings: { challenge, email: 'admin@example.com' } })
      const chain = await first.certificate()
      expect(namesOf(chain)).toEqual(['app.example.test'])
      const root = new X509Certificate(await pebble.root())
      expect(chain.match(/BEGIN/g)?.length).toBe(2)
      const [leaf, intermediate] = chain
        .split(/(?<=-----END CERTIFICATE-----\n)/)
        .map((pem) => new X509Certificate(pem))
      expect(leaf?.verify(intermediate?.publicKey ?? root.publicKey)).toBe(true)
      expect(intermediate?.verify(root.publicKey)).toBe(true)
      expect(leaf?.publicKey.asymmetricKeyDetails).toEqual({ namedCurve: 'prime256v1' })
      expect(proving.offered.at(-1)).toMatchObject({
        service: 'web',
        host: 'app.example.test',
        kind: challenge,
      })
      expect(proving.there.size).toBe(0)
      const terms = first.lines.filter(({ msg }) => msg.includes('terms are accepted'))
      expect(terms.map(({ msg }) => msg)).toEqual([expect.stringMatching(/terms are accepted: data:text/)])
      const [account] = await accountsIn(state)
      expect(account).toMatchObject({ directory: pebble.directory })
      expect(account?.uri).toMatch(/^https:\/\/127\.0\.0\.1:/)
      expect(await new OrderedKeys(state).has(pinOf(leafOf(chain).publicKey))).toBe(true)
      for (const name of await state.names('', '')) {
        const { mode } = await stat(join(state.path, name))
        expect([name, mode & 0o077]).toEqual([name, 0])
      }
      await first.close()
      const offers = proving.offered.length
      const again = order({ settings: { challenge, email: 'admin@example.com' } })
      expect(await again.certificate()).toBe(chain)
      expect(proving.offered).toHaveLength(offers)
    },
  )

  it('has all names of a service, and a profile', async () => {
    const hosts = Array.from({ length: 10 }, (_none, at) => `h${at}.example.test`)
    const chain = await order({ hosts, settings: { profile: 'shortlived' } }).certificate()
    expect(namesOf(chain)).toEqual(hosts)
    const { validFrom, validTo } = leafOf(chain)
    expect(Date.parse(validTo) - Date.parse(validFrom)).toBeLessThan(7 * DAY_MS)
  })

  it('is had from a CA that turns down every other nonce, and remembers proofs', async () => {
    await pebble.stop()
    await pebble.start({ PEBBLE_WFE_NONCEREJECT: '50', PEBBLE_AUTHZREUSE: '100' })
    const first = order()
    const old = await first.certificate()
    await first.close()
    const offers = proving.offered.length
    const chain = await order({ hosts: ['app.example.test', 'b.example.test'] }).certificate(old)
    expect(namesOf(chain)).toEqual(['app.example.test', 'b.example.test'])
    expect(proving.offered.slice(offers).map(({ host }) => host)).toEqual(['b.example.test'])
    await pebble.stop()
    await pebble.start()
  })
})

describe('a CA that gives accounts only to those that it knows', () => {
  const key = Buffer.alloc(32, 9).toString('base64url')
  let strict: Pebble

  beforeAll(async () => {
    if (GO_MISSING) return
    const { httpPort, tlsPort } = proving
    strict = await startPebble({ httpPort, tlsPort, eab: { 'kid-1': key } })
  }, 300_000)
  afterAll(() => strict?.close())

  it('says so, and gives one for the key that it gave', async () => {
    const at = { directory: strict.directory, ca: strict.ca }
    const without = order({ settings: at })
    await without.trouble(/only to those that it knows: set eab_kid and eab_key_file under \[acme\]/)
    await without.close()
    const wrong = order({
      settings: { ...at, eab: { kid: 'kid-1', key: Buffer.alloc(32).toString('base64url') } },
    })
    await wrong.trouble(/refused an account/)
    await wrong.close()
    const right = order({ settings: { ...at, eab: { kid: 'kid-1', key } } })
    await right.certificate()
    await right.close()
    // Another address, and the same account.
    const [before] = await accountsIn(state)
    await state.remove('certificate-web.pem')
    const moved = order({ settings: { ...at, email: 'new@example.com' } })
    await moved.certificate()
    expect(await accountsIn(state)).toEqual([before])
    expect((await state.read((await state.names('acme-account-', '.json'))[0] ?? ''))?.toString()).toContain(
      '"email": "new@example.com"',
    )
  })
})

describe('a renewal', () => {
  it('happens in the window that the CA gives, and says what it replaces', async () => {
    const one = order()
    const old = await one.certificate()
    await pebble.setRenewal(old, { start: new Date(Date.now() - 2_000), end: new Date(Date.now() - 1_000) })
    await one.clock.advance(6 * 3_600_000)
    const chain = await one.certificate(old)
    expect(leafOf(chain).serialNumber).not.toBe(leafOf(old).serialNumber)
    expect(leafOf(chain).publicKey.equals(leafOf(old).publicKey)).toBe(false)
    // The old one was served all the time.
    expect(one.seen.all.slice(1).every(({ chain }) => chain !== undefined)).toBe(true)
    expect(await new OrderedKeys(state).list()).toHaveLength(2)
  })

  it('has a certificate for hosts that are new, and serves the old one until then', async () => {
    const first = order()
    const old = await first.certificate()
    await first.close()
    proving.refuses = new Error('no gateway is connected')
    const clock = new TestClock(20)
    const second = order({ hosts: ['app.example.test', 'new.example.test'], clock })
    await second.trouble(/no gateway is connected/)
    expect(second.source.current?.chain).toBe(old)
    proving.refuses = undefined
    await clock.advance(3_600_000)
    expect(namesOf(await second.certificate(old))).toEqual(['app.example.test', 'new.example.test'])
  })
})

describe('after a crash', () => {
  it('an order goes on where it was, with its key', async () => {
    // The proof is refused when the order is at the CA: what is on the disk is what a crash leaves.
    proving.refuses = new Error('crashed')
    const first = order()
    await first.trouble(/crashed/)
    await first.close()
    proving.refuses = undefined
    const left = JSON.parse((await state.read('order-web.json'))?.toString() ?? '') as {
      orders: number[]
      pending: { url: string; key: string }
    }
    expect(left.pending.url).toMatch(/^https:/)
    const second = order()
    const chain = await second.certificate()
    expect(second.lines.some(({ msg }) => msg.includes('goes on'))).toBe(true)
    expect(second.source.current?.key.trim()).toBe(left.pending.key.trim())
    expect(await new OrderedKeys(state).list()).toEqual([
      expect.objectContaining({ pin: pinOf(leafOf(chain).publicKey) }),
    ])
    expect(JSON.parse((await state.read('order-web.json'))?.toString() ?? '')).toEqual({
      version: 1,
      orders: left.orders,
    })
  })

  it('a certificate that was issued and not kept is downloaded', async () => {
    const write = state.write.bind(state)
    state.write = (name, data) =>
      name.endsWith('.pem') ? Promise.reject(new Error('the power went')) : write(name, data)
    const first = order()
    await first.trouble(/the power went/)
    await first.close()
    state.write = write
    const offers = proving.offered.length
    const second = order()
    await second.certificate()
    expect(proving.offered).toHaveLength(offers)
    expect(await new OrderedKeys(state).list()).toHaveLength(1)
  })

  it('an order that the CA no longer knows is made anew, as is the account', async () => {
    proving.refuses = new Error('crashed')
    const first = order()
    await first.trouble(/crashed/)
    await first.close()
    proving.refuses = undefined
    await pebble.stop()
    await pebble.start()
    const second = order()
    await second.certificate()
    expect(await new OrderedKeys(state).list()).toHaveLength(2)
  })
})

describe('a revoked certificate', () => {
  it('is revoked at the CA, served no more by a client that runs, and replaced', async () => {
    const one = order()
    const old = await one.certificate()
    const names = await revokeCertificate({
      service: 'web',
      settings: settingsOf(settings()),
      state,
      version: '0',
    })
    expect(names).toEqual(['app.example.test'])
    expect(await pebble.statusOf(leafOf(old).serialNumber.toLowerCase())).toBe('Revoked')
    await one.clock.advance(15_000)
    const chain = await one.certificate(old)
    expect(one.seen.all.some(({ chain }, at) => at > 0 && chain === undefined)).toBe(true)
    expect(await pebble.statusOf(leafOf(chain).serialNumber.toLowerCase())).toBe('Valid')
  })

  it('is not downloaded again from an order that a crash left', async () => {
    const one = order()
    await one.certificate()
    await one.close()
    const left = JSON.parse((await state.read('order-web.json'))?.toString() ?? '') as { orders: number[] }
    const key = one.source.current?.key
    const pending = { directory: pebble.directory, account: 'x', hosts: [], at: 0, key, url: 'x' }
    await state.writeJson('order-web.json', { ...left, version: 1, pending })
    await revokeCertificate({ service: 'web', settings: settingsOf(settings()), state, version: '0' })
    expect(JSON.parse((await state.read('order-web.json'))?.toString() ?? '')).toEqual({
      ...left,
      version: 1,
    })
  })

  it('that the CA revoked before is removed too; one that is not there is said', async () => {
    const one = order()
    await one.certificate()
    await one.close()
    const file = (await state.read('certificate-web.pem')) ?? Buffer.alloc(0)
    const options = { service: 'web', settings: settingsOf(settings()), state, version: '0' }
    await revokeCertificate(options)
    await state.write('certificate-web.pem', file)
    await revokeCertificate(options)
    expect(await state.read('certificate-web.pem')).toBeUndefined()
    await expect(revokeCertificate(options)).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('there is none in this state') as string,
    })
  })
})

describe('a CA that is down', () => {
  it('is said with its time, and asked again until it is up', async () => {
    await pebble.stop()
    const one = order()
    expect(await one.trouble(/does not answer/)).toMatch(
      /^127\.0\.0\.1:\d+ does not answer \(ECONNREFUSED\): tried again at \d{4}-\d\d-\d\d \d\d:\d\d UTC$/,
    )
    await one.clock.advance(60_000)
    await one.seen.find(({ trouble }) => trouble?.includes('does not answer') === true, 2)
    expect(one.seen.all.at(-1)?.trouble).not.toBe(one.seen.all[1]?.trouble)
    await pebble.start()
    await one.clock.advance(3_600_000)
    await one.certificate()
    expect(one.source.trouble).toBeUndefined()
  })
})

describe('two processes on one state', () => {
  it('order once, and both serve it', async () => {
    const offers = proving.offered.length
    const [first, second] = [order(), order()]
    // One of the two orders; the other sees the file at its next look.
    const waits = [first, second].map((one) => one.trouble(/another blindgate/).then(() => one))
    const waiting = await Promise.race(waits)
    const ordering = waiting === first ? second : first
    const chain = await ordering.certificate()
    await waiting.clock.advance(10_000)
    expect(await waiting.certificate()).toBe(chain)
    expect(proving.offered).toHaveLength(offers + 1)
  })
})
