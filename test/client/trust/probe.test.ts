import { generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:net'
import { encode } from 'dns-packet'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Dns } from '../../../src/client/trust/dns.ts'
import type { Finding } from '../../../src/client/trust/finding.ts'
import { checkProbe, type ProbeQuestion, publicFor } from '../../../src/client/trust/probe-check.ts'
import { ProbeNonces } from '../../../src/client/trust/probe-nonces.ts'
import { checkProof, probeAnswer, probeNonce, probeTarget } from '../../../src/client/trust/probe-proof.ts'
import { createIdentity, type Identity, pinOf } from '../../../src/identity/index.ts'
import { PROBE_NONCES } from '../../../src/limits.ts'
import { type Issued, TestAuthority } from './authorities.ts'
import {
  honestGateway,
  hostileGateway,
  httpProxy,
  type Listening,
  listening,
  socksProxy,
  terminator,
} from './machines.ts'
import { a, NameServer } from './name-server.ts'

const HOST = 'app.example.com'
const closing: { close(): Promise<void> }[] = []
let ca: TestAuthority
let identity: Identity
let ours: Issued
let theirs: Issued
let names: NameServer
beforeAll(async () => {
  ca = await TestAuthority.create()
  identity = createIdentity()
  ours = await ca.issue([HOST, '*.example.com'])
  theirs = await ca.issue([HOST])
})
beforeEach(async () => {
  names = kept(await NameServer.start())
  names.zone('example.com', { [HOST]: a(HOST, '127.0.0.1') })
})
afterEach(async () => {
  for (const each of closing.splice(0).toReversed()) await each.close()
})

function kept<T extends { close(): Promise<void> }>(thing: T): T {
  closing.push(thing)
  return thing
}

/** Everything about the probe but where it goes. */
function question(port: number, rest: Partial<ProbeQuestion> = {}): ProbeQuestion {
  return {
    host: HOST,
    port,
    accepted: [identity.pin],
    via: [],
    known: { has: (pin) => pin === ours.pin },
    wantsTrust: true,
    isPublic: publicFor([names.at]),
    ca: [ca.certificate],
    ...rest,
  }
}

function probe(port: number, rest: Partial<ProbeQuestion> = {}): Promise<Finding[]> {
  return checkProbe(new Dns({ nameservers: [names.at] }), question(port, rest))
}

async function one(port: number, rest: Partial<ProbeQuestion> = {}): Promise<Finding> {
  const [finding, ...more] = await probe(port, rest)
  expect(more).toEqual([])
  if (finding === undefined) throw new Error('nothing was found')
  return finding
}

describe('a probe', () => {
  it('that ends in our terminator is ok, and says what that proves', async () => {
    const home = kept(await terminator(identity, ours))
    const { port } = kept(await honestGateway(home.port))
    const finding = await one(port, { nonces: home.nonces })
    expect(finding).toMatchObject({
      level: 'ok',
      text: `the TLS session with 127.0.0.1:${port} ends in our terminator`,
    })
    expect(finding.remarks?.join('\n')).toMatch(
      /this one connection was not intercepted.*spares the address.*\n.*doctor --probe/,
    )
  })

  it('visits every public address, directly and through each proxy', async () => {
    const home = kept(await terminator(identity, ours))
    const { port } = kept(await honestGateway(home.port))
    const http = kept(await httpProxy('127.0.0.2'))
    const socks = kept(await socksProxy('127.0.0.3'))
    names.add({ type: 'A', name: HOST, data: '10.1.2.3' })
    const via = [
      { kind: 'http' as const, host: '127.0.0.1', port: http.port, text: 'http://p:1' },
      { kind: 'socks5' as const, host: '127.0.0.1', port: socks.port, text: 'socks5://p:2' },
    ]
    const findings = await probe(port, { via })
    expect(findings.map(({ level, text }) => `${level} ${text.replaceAll(String(port), 'PORT')}`)).toEqual([
      'ok the TLS session with 127.0.0.1:PORT ends in our terminator',
      'ok the TLS session with 127.0.0.1:PORT through http://p:1 ends in our terminator',
      'ok the TLS session with 127.0.0.1:PORT through socks5://p:2 ends in our terminator',
    ])
    expect([http.asked, socks.asked]).toEqual([[`127.0.0.1:${port}`], [`127.0.0.1:${port}`]])
  })

  it('visits some name below a wildcard', async () => {
    const home = kept(await terminator(identity, ours))
    names.instead = (query, usual) => {
      const [question] = query.questions ?? []
      const { name = '' } = question ?? {}
      const below = /^[a-z]{8}\.example\.com$/.test(name) && question?.type === 'A'
      return encode(below ? { ...usual, flags: 0x400, answers: a(name, '127.0.0.1') } : usual)
    }
    expect(await one(home.port, { host: '*.example.com' })).toMatchObject({
      level: 'ok',
      about: '*.example.com',
    })
  })

  it('accepts the machines that are named as replicas, and no other', async () => {
    const other = createIdentity()
    const home = kept(await terminator(other, theirs))
    const finding = await one(home.port, { nonces: new ProbeNonces() })
    expect(finding).toMatchObject({
      level: 'fail',
      alarm: true,
      advice: expect.stringContaining('[trust] replicas'),
    })
    expect(finding.text).toContain(other.pin)
    expect(await one(home.port, { accepted: [identity.pin, other.pin] })).toMatchObject({ level: 'ok' })
  })

  it('tells that visitors do not believe our certificate, which is no alarm', async () => {
    const home = kept(await terminator(identity, ours))
    const finding = await one(home.port, { ca: undefined })
    expect(finding).toMatchObject({ level: 'fail', text: expect.stringContaining('visitors do not believe') })
    expect(finding.alarm).toBeUndefined()
    expect(finding.text).not.toMatch(/^ok/)
    expect(finding.advice).toContain('ca_file in [acme]')
    expect(await one(home.port, { ca: undefined, wantsTrust: false })).toMatchObject({ level: 'ok' })
    // Nor one for another name.
    const elsewhere = kept(await terminator(identity, await ca.issue(['other.example.com'])))
    expect((await one(elsewhere.port)).text).toContain('ERR_TLS_CERT_ALTNAME_INVALID')
  })

  it.each(['0', '1'])('looks itself, whatever NODE_TLS_REJECT_UNAUTHORIZED is (%s)', async (value) => {
    const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED']
    process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = value
    try {
      const home = kept(await terminator(identity, ours))
      expect((await one(home.port, { ca: undefined })).text).toContain('visitors do not believe')
    } finally {
      if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']
      else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = before
    }
  })

  it('that finds nobody is unreachable, and no alarm', async () => {
    const silent = kept(await listening(createServer((socket) => socket.destroy())))
    const finding = await one(silent.port)
    expect(finding).toMatchObject({
      level: 'fail',
      text: expect.stringMatching(/^unreachable at 127\.0\.0\.1:/),
    })
    const home = kept(await terminator(identity, ours, { maxVersion: 'TLSv1.2' }))
    expect(await one(home.port)).toMatchObject({
      level: 'fail',
      text: expect.stringMatching(/^unreachable at /),
    })
    const refusing = kept(await httpProxy('127.0.0.1', 403))
    const locked = kept(await socksProxy('127.0.0.1', 2))
    const via = [
      { kind: 'http' as const, host: '127.0.0.1', port: refusing.port, text: 'http://p:1' },
      { kind: 'socks5' as const, host: '127.0.0.1', port: locked.port, text: 'socks5://p:2' },
    ]
    const texts = (await probe(home.port, { via })).map(({ text }) => text)
    expect(texts[1]).toContain('through http://p:1 (the proxy refuses (403)')
    expect(texts[2]).toContain('through socks5://p:2 (the proxy wants a password')
  })

  it('is not made without a public address', async () => {
    names.zone('example.com', { [HOST]: a(HOST, '10.0.0.1') })
    expect(await one(1)).toMatchObject({
      level: 'warn',
      text: 'not probed: its zone gives it no public address',
    })
    expect(await one(1, { host: 'app.example.org' })).toMatchObject({
      level: 'warn',
      text: expect.stringContaining('not probed'),
    })
  })

  it('is answered by nobody for a request that is no probe', () => {
    const nonce = 'a'.repeat(32)
    expect(probeNonce(probeTarget(nonce))).toBe(nonce)
    for (const target of [
      probeTarget('A'.repeat(32)),
      probeTarget('a'.repeat(31)),
      `${probeTarget(nonce)}&x=1`,
      `/x${probeTarget(nonce)}`,
      '/',
    ]) {
      expect(probeNonce(target)).toBeUndefined()
    }
  })
})

describe('a hostile gateway', () => {
  it.each([true, false])(
    'that ends TLS itself is caught: foreign leaf, and no nonce arrived (keys known: %s)',
    async (known) => {
      const home = kept(await terminator(identity, ours))
      const { port } = kept(await hostileGateway(home.port, theirs))
      const finding = await one(
        port,
        known ? { nonces: home.nonces } : { known: undefined, nonces: home.nonces },
      )
      expect(finding).toMatchObject({ level: 'fail', alarm: true })
      expect(finding.text).toMatch(
        known
          ? /^foreign leaf at .* is not ours, and the nonce never arrived here$/
          : /^nonce never arrived at .*: nobody with our key answered there/,
      )
      expect(finding.text).toContain(theirs.pin)
    },
  )

  it.each([
    ['touches nothing after it has read a probe', { once: true }],
    ['ends the session with an answer of no length', { says: 'HTTP/1.1 200 OK\r\n\r\nhome' }],
  ])('that %s is caught', async (_what, how) => {
    const home = kept(await terminator(identity, ours))
    const gateway = kept(await hostileGateway(home.port, theirs, how))
    expect(await one(gateway.port, { nonces: home.nonces })).toMatchObject({
      alarm: true,
      text: expect.stringMatching(/^foreign leaf at /),
    })
    expect(gateway.intercepted).toHaveLength(1)
    // By one who does not know which keys are ours, too.
    const other = kept(await hostileGateway(home.port, theirs, how))
    expect(await one(other.port, { known: undefined })).toMatchObject({ alarm: true })
  })

  it('may be an old server that DNS still leads to, where the gateway has another address', async () => {
    const home = kept(await terminator(identity, ours))
    const { port } = kept(await hostileGateway(home.port, theirs))
    const old = expect.stringContaining('or DNS still leads to your old server')
    expect(await one(port, { gateways: ['192.0.2.1'] })).toMatchObject({ alarm: true, advice: old })
    for (const gateways of [['127.0.0.1'], []])
      expect(await one(port, { gateways })).not.toMatchObject({ advice: old })
  })

  it('that relays what it reads is caught: our terminator shows another certificate', async () => {
    const home = kept(await terminator(identity, ours))
    const { port } = kept(await hostileGateway(home.port, theirs, { relays: true, host: HOST }))
    expect(await one(port, { known: undefined })).toMatchObject({
      alarm: true,
      text: expect.stringMatching(
        /^foreign leaf at .*our terminator shows another certificate.*somebody between ends TLS/,
      ),
    })
  })

  it('that has our certificate with its key is caught: exporter mismatch', async () => {
    const home = kept(await terminator(identity, ours))
    const { port } = kept(await hostileGateway(home.port, ours, { relays: true, host: HOST }))
    expect(await one(port, { nonces: home.nonces })).toMatchObject({
      alarm: true,
      text: expect.stringMatching(/^exporter mismatch at .*somebody else has its key/),
    })
    const silent = kept(await hostileGateway(home.port, ours))
    expect(await one(silent.port, { nonces: home.nonces })).toMatchObject({
      alarm: true,
      text: expect.stringMatching(/^nonce never arrived at /),
    })
  })

  it('that spares the address of the tunnel is missed by it, and caught from any other and through a proxy', async () => {
    const home = kept(await terminator(identity, ours))
    const gateway: Listening & { intercepted: string[] } = kept(
      await hostileGateway(home.port, theirs, { spares: '127.0.0.2' }),
    )
    const { port } = gateway
    const own = { nonces: home.nonces, localAddress: '127.0.0.2' }
    expect(await one(port, own)).toMatchObject({ level: 'ok' })
    expect(await one(port, { ...own, localAddress: '127.0.0.3' })).toMatchObject({ alarm: true })
    const proxy = kept(await httpProxy('127.0.0.4'))
    const via = [{ kind: 'http' as const, host: '127.0.0.1', port: proxy.port, text: 'http://p:1' }]
    // The proxy is asked from wherever; what counts is where it dials from.
    const findings = await probe(port, { ...own, via })
    expect(findings.map(({ level }) => level)).toEqual(['ok', 'fail'])
    expect(gateway.intercepted).toContain('127.0.0.4')
    expect(gateway.intercepted).not.toContain('127.0.0.2')
  })
})

describe('the proof', () => {
  const session = {
    nonce: '0'.repeat(32),
    host: HOST,
    exporter: Buffer.alloc(32, 7),
    leaf: pinOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey),
  }
  function answer(change: object = {}): string {
    const made = probeAnswer({ identity, ...session, leafSpki: session.leaf })
    return JSON.stringify({ ...made, ...change })
  }

  it('is by our key over nonce, host, exporter and leaf, each of which counts', () => {
    const check = (seen: Partial<typeof session>) =>
      checkProof(answer(), { ...session, ...seen }, [identity.pin]).verdict
    expect(check({})).toBe('ok')
    expect(check({ nonce: '1'.repeat(32) })).toBe('none')
    expect(check({ host: 'other.example.com' })).toBe('none')
    expect(check({ exporter: Buffer.alloc(32, 8) })).toBe('exporter_mismatch')
    expect(check({ leaf: identity.pin })).toBe('foreign_leaf')
    // Parts do not run into one another.
    expect(check({ nonce: '0'.repeat(31), host: `0${HOST}` })).toBe('none')
    expect(checkProof(answer(), session, []).verdict).toBe('stranger')
  })

  it('does not hold when any of what is claimed was changed', async () => {
    const other = createIdentity()
    const theirs = JSON.parse(
      JSON.stringify(probeAnswer({ identity: other, ...session, leafSpki: session.leaf })),
    ) as {
      key: string
      signature: string
    }
    for (const change of [
      { exporter: Buffer.alloc(32, 8).toString('base64') },
      { leaf: identity.pin },
      { signature: theirs.signature },
      { key: theirs.key },
      { identity: other.pin },
      { signature: '' },
      { key: 'AAAA' },
      { identity: 7 },
      { exporter: null },
    ]) {
      expect(checkProof(answer(change), session, [identity.pin, other.pin])).toEqual({ verdict: 'none' })
    }
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const key = publicKey.export({ type: 'spki', format: 'der' }).toString('base64')
    expect(checkProof(answer({ key, identity: pinOf(publicKey) }), session, [pinOf(publicKey)])).toEqual({
      verdict: 'none',
    })
  })

  it.each(['', '{', 'null', '[]', '{"identity":"sha256:"}', '"x"'])('is not %j', (body) => {
    expect(checkProof(body, session, [identity.pin])).toEqual({ verdict: 'none' })
  })

  it('answers a key by its DER as by its pin', () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const leafSpki = publicKey.export({ type: 'spki', format: 'der' })
    expect(probeAnswer({ identity, ...session, leafSpki })).toEqual(
      probeAnswer({ identity, ...session, leafSpki: pinOf(publicKey) }),
    )
  })
})

describe('the nonces of probes', () => {
  it('are those that were announced, a bounded number, each once', () => {
    const nonces = new ProbeNonces()
    nonces.note('made up')
    expect(nonces.take('made up')).toBe(false)
    for (let each = 0; each <= PROBE_NONCES; each++) nonces.expect(String(each))
    nonces.note('0')
    nonces.note('1')
    // The oldest was forgotten.
    expect([nonces.take('0'), nonces.take('1'), nonces.take('1')]).toEqual([false, true, false])
  })
})
