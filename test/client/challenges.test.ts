import { createHash, X509Certificate } from 'node:crypto'
import { connect as tlsConnect } from 'node:tls'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { challengeCertificate } from '../../src/client/challenge-certificate.ts'
import { type ChallengeLink, Challenges, type OrderedChallenge } from '../../src/client/challenges.ts'
import type { ClientService } from '../../src/client/index.ts'
import {
  CHALLENGE_HEAD_BYTES,
  CHALLENGE_READY_MS,
  CHALLENGE_SECONDS_MAX,
  CHALLENGES_PER_NAME,
} from '../../src/limits.ts'
import { duplexOf } from '../../src/net/index.ts'
import type { Challenge, ChallengeDone } from '../../src/protocol/index.ts'
import { encodeProxyHeader, tlsAlert } from '../../src/protocol/index.ts'
import { alpn, fromNode, hello, serverName } from '../protocol/hellos.ts'
import type { FakeTunnel, Visit } from './fake-gateway.ts'
import { recordingLog, service, World } from './world.ts'

const world = new World()
afterEach(() => world.close())

const HOST = 'app.example.com'
const PATH = '/.well-known/acme-challenge/'
const NO_PROTOCOL = Buffer.from(tlsAlert('no_application_protocol')).toString('latin1')

function ordered(kind: OrderedChallenge['kind'], token: string, host = HOST): OrderedChallenge {
  return { service: 'web', host, kind, token, keyAuthorization: `${token}.thumbprint` }
}

describe('the certificate for a challenge', () => {
  it('is of exactly that host, critical in its one extension, and signed by its own P-256 key', async () => {
    const { key, cert } = await challengeCertificate(HOST, 'token.thumbprint')
    const certificate = new X509Certificate(cert)
    expect(certificate.subjectAltName).toBe(`DNS:${HOST}`)
    expect(certificate.publicKey.asymmetricKeyDetails).toMatchObject({ namedCurve: 'prime256v1' })
    expect(certificate.verify(certificate.publicKey)).toBe(true)
    // RFC 8737, 3: OID 1.3.6.1.5.5.7.1.31, TRUE, and an OCTET STRING of SHA-256 within that of the extension.
    const digest = createHash('sha256').update('token.thumbprint').digest('hex')
    expect(certificate.raw.toString('hex')).toContain(`06082b0601050507011f0101ff04220420${digest}`)
    expect(key).toMatch(/^-----BEGIN PRIVATE KEY-----\n/)
  })

  it('is another each time, with another key', async () => {
    const [one, two] = await Promise.all([
      challengeCertificate(HOST, 'token.thumbprint'),
      challengeCertificate(HOST, 'token.thumbprint'),
    ])
    expect(one.key).not.toBe(two.key)
  })
})

/** A tunnel by script. */
class FakeLink implements ChallengeLink {
  readonly gateway: string
  has = true
  readonly said: (Challenge | ChallengeDone)[] = []

  constructor(gateway: string) {
    this.gateway = gateway
  }

  serves(): boolean {
    return this.has
  }

  say(message: Challenge | ChallengeDone): void {
    this.said.push(message)
  }

  get seq(): number {
    return this.said.at(-1)?.seq ?? 0
  }
}

describe('an offered challenge', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  const OF_OTHERS = { code: 'route_conflict', message: 'another is\npending' } as const

  function offering(
    links: string[],
    challenge = ordered('http-01', 'token'),
    seeking: () => boolean = () => false,
  ) {
    const challenges = new Challenges(recordingLog().log, seeking)
    const made = links.map((name) => new FakeLink(name))
    for (const link of made) challenges.served(link)
    const offered = { became: 'pending' as unknown, takeBack: (): void => {} }
    const done = challenges.offer(challenge).then(
      (takeBack) => Object.assign(offered, { became: 'ready', takeBack }),
      (error: unknown) => (offered.became = error),
    )
    const [one = new FakeLink('none'), two = new FakeLink('none')] = made
    const ready = (link: FakeLink, error?: { code: never; message: string }): void =>
      challenges.ready(link, { type: 'challenge_ready', seq: link.seq, ...(error && { error }) })
    return { challenges, one, two, offered, done, ready, soon: () => vi.advanceTimersByTimeAsync(0) }
  }

  it('is announced everywhere, and ready when one gateway passes it on and none has still to answer', async () => {
    const { one, two, offered, ready, soon } = offering(['one', 'two'])
    await soon()
    const { seq: _seq, ...said } = one.said[0] as Challenge
    const expires = CHALLENGE_SECONDS_MAX
    expect(said).toEqual({ type: 'challenge', host: HOST, kind: 'http-01', token: 'token', expires })
    ready(one)
    await soon()
    expect(offered.became).toBe('pending')
    ready(two, OF_OTHERS as never)
    await soon()
    expect(offered.became).toBe('ready')
    offered.takeBack()
    expect(one.said.at(-1)).toEqual({ type: 'challenge_done', seq: one.said[0]?.seq })
    // Who has refused it has forgotten it.
    expect(two.said).toHaveLength(1)
    offered.takeBack()
    expect(one.said).toHaveLength(2)
  })

  it('is ready only when all gateways are reached that are known to be behind an address, or have had their time', async () => {
    let seeking = true
    const { challenges, one, offered, ready, soon } = offering(['one'], undefined, () => seeking)
    await soon()
    ready(one)
    await soon()
    expect(offered.became).toBe('pending')
    const last = new FakeLink('one')
    challenges.served(last)
    seeking = false
    expect(last.said).toMatchObject([{ type: 'challenge', host: HOST }])
    ready(last)
    await soon()
    expect(offered.became).toBe('ready')

    const alone = offering(['one'], undefined, () => true)
    await alone.soon()
    alone.ready(alone.one)
    await vi.advanceTimersByTimeAsync(CHALLENGE_READY_MS)
    expect(alone.offered.became).toBe('ready')
  })

  it('is ready without a gateway that does not answer, once that has had its time', async () => {
    const { one, offered, ready, soon } = offering(['one', 'mute'])
    await soon()
    ready(one)
    await vi.advanceTimersByTimeAsync(CHALLENGE_READY_MS - 1)
    expect(offered.became).toBe('pending')
    await vi.advanceTimersByTimeAsync(1)
    expect(offered.became).toBe('ready')
  })

  it('that all refuse is refused as the first said, for people to read', async () => {
    const { challenges, one, two, offered, ready, soon } = offering(['one', 'two'])
    await soon()
    ready(one, OF_OTHERS as never)
    ready(two, { code: 'spent' as never, message: '' })
    await soon()
    expect(offered.became).toMatchObject({
      code: 'route_conflict',
      message: expect.stringMatching(
        /^gateway one does not pass the http-01 challenge for app\.example\.com on: another is\\.*pending$/,
      ),
    })
    expect(challenges.http('web', HOST, 'token')).toBeUndefined()
  })

  it('that is refused by a word of a later version is refused', async () => {
    const { one, offered, ready, soon } = offering(['one'])
    await soon()
    ready(one, { code: 'spent' as never, message: 'why' })
    await soon()
    expect(offered.became).toMatchObject({ code: 'unsupported' })
  })

  it.each([
    ['answers', ['mute'], 'timeout'],
    ['has the service', [], 'unreachable'],
  ])('is given up when no gateway %s in time', async (_what, links, code) => {
    const { challenges, offered } = offering(links)
    await vi.advanceTimersByTimeAsync(CHALLENGE_READY_MS)
    expect(offered.became).toMatchObject({ code })
    expect(challenges.http('web', HOST, 'token')).toBeUndefined()
  })

  it('is announced to a gateway that comes while it is waited for', async () => {
    const { challenges, offered, soon } = offering([])
    await vi.advanceTimersByTimeAsync(1_000)
    const late = new FakeLink('late')
    challenges.served(late)
    challenges.ready(late, { type: 'challenge_ready', seq: late.seq })
    await soon()
    expect(offered.became).toBe('ready')
  })

  it('goes on without a tunnel that is lost, and is announced on the next with the time that is left', async () => {
    const { challenges, one, two, offered, ready, soon } = offering(['one', 'two'])
    await soon()
    ready(one)
    challenges.closed(two)
    await soon()
    expect(offered.became).toBe('ready')
    challenges.closed(one)
    await vi.advanceTimersByTimeAsync(60_000)
    const again = new FakeLink('one')
    challenges.served(again)
    challenges.served(again)
    expect(again.said).toMatchObject([
      { type: 'challenge', token: 'token', expires: CHALLENGE_SECONDS_MAX - 60 },
    ])
    offered.takeBack()
    expect(one.said).toHaveLength(1)
    expect(again.said).toHaveLength(2)
  })

  it('is announced anew where the service was taken back and is there again', async () => {
    const { challenges, one, offered, ready, soon } = offering(['one'])
    await soon()
    ready(one)
    one.has = false
    challenges.served(one)
    one.has = true
    challenges.served(one)
    await soon()
    expect(one.said.map(({ type }) => type)).toEqual(['challenge', 'challenge'])
    expect(offered.became).toBe('ready')
  })

  it('takes no answer that is not to its own number, and no second one', async () => {
    const { challenges, one, two, offered, ready, soon } = offering(['one', 'two'])
    await soon()
    challenges.ready(one, { type: 'challenge_ready', seq: two.seq })
    challenges.ready(one, { type: 'challenge_ready', seq: one.seq + 100 })
    await soon()
    expect(offered.became).toBe('pending')
    ready(one, OF_OTHERS as never)
    ready(one)
    ready(two, OF_OTHERS as never)
    await soon()
    expect(offered.became).toMatchObject({ code: 'route_conflict' })
  })

  it('is forgotten when nobody has taken it back', async () => {
    const { challenges, one, ready, soon } = offering(['one'])
    await soon()
    ready(one)
    await vi.advanceTimersByTimeAsync(CHALLENGE_SECONDS_MAX * 1000 - 1)
    expect(challenges.http('web', HOST, 'token')).toBe('token.thumbprint')
    await vi.advanceTimersByTimeAsync(1)
    expect(challenges.http('web', HOST, 'token')).toBeUndefined()
    expect(one.said.at(-1)).toMatchObject({ type: 'challenge_done' })
    expect(vi.getTimerCount()).toBe(0)
  })

  it('ends with its client, and leaves no timer', async () => {
    const { challenges, offered, soon } = offering(['one'])
    await soon()
    challenges.close()
    await soon()
    expect(offered.became).toMatchObject({ code: 'closed' })
    expect(vi.getTimerCount()).toBe(0)
    await expect(challenges.offer(ordered('http-01', 'late'))).rejects.toMatchObject({ code: 'closed' })
  })

  it.each([
    ['no base64url', ordered('http-01', '../x')],
    ['empty', ordered('http-01', '')],
    ['not that of its key authorization', { ...ordered('http-01', 'a'), keyAuthorization: 'b.thumbprint' }],
  ])('whose token is %s is not announced', async (_what, challenge) => {
    const { one, offered, soon } = offering(['one'], challenge)
    await soon()
    expect(offered.became).toMatchObject({ code: 'bad_message' })
    expect(one.said).toEqual([])
  })

  it('is one of so many, and the only one for the same', async () => {
    const { challenges, one, soon } = offering(['one'])
    await expect(challenges.offer(ordered('http-01', 'token'))).rejects.toMatchObject({
      code: 'route_conflict',
    })
    for (let n = 1; n < CHALLENGES_PER_NAME; n++)
      void challenges.offer(ordered('http-01', `t${n}`)).catch(() => {})
    await expect(challenges.offer(ordered('http-01', 'last'))).rejects.toMatchObject({ code: 'overloaded' })
    await soon()
    expect(one.said).toHaveLength(CHALLENGES_PER_NAME)
    challenges.close()
  })

  it('of tls-alpn-01 is the only one of its host, while its certificate is made too', async () => {
    vi.useRealTimers()
    const challenges = new Challenges(recordingLog().log)
    const link = new FakeLink('one')
    challenges.served(link)
    const first = challenges.offer(ordered('tls-alpn-01', 'one'))
    await expect(challenges.offer(ordered('tls-alpn-01', 'two'))).rejects.toMatchObject({
      code: 'route_conflict',
    })
    await vi.waitFor(() => expect(link.said).toHaveLength(1))
    expect(link.said[0]).not.toHaveProperty('token')
    challenges.ready(link, { type: 'challenge_ready', seq: link.seq })
    const takeBack = await first
    expect(challenges.tlsAlpn('web', HOST)?.cert).toMatch(/^-----BEGIN CERTIFICATE/)
    for (const [name, host] of [
      ['other', HOST],
      ['web', 'www.example.com'],
    ] as const)
      expect(challenges.tlsAlpn(name, host)).toBeUndefined()
    takeBack()
    expect(challenges.tlsAlpn('web', HOST)).toBeUndefined()
  })
})

// ── What a gateway may send ─────────────────────────────────────────────────────────────────────────────

function https(target: number, rest: Partial<ClientService> = {}): ClientService {
  return service('web', target, {
    type: 'https',
    tls: 'self-signed',
    hosts: [HOST, 'www.example.com', '*.example.org'],
    ...rest,
  })
}

/** A client with a target that nothing may reach, and its tunnel to a gateway that passes every challenge on. */
async function serving(rest: Partial<ClientService> = {}) {
  const target = await world.target()
  const gateway = await world.gateway()
  gateway.grant = ({ name }) => ({ name, urls: ['https://0.0.0.0:443'] })
  const made = await world.serving([gateway], [https(target.port, rest)])
  const offer = async (challenge: OrderedChallenge): Promise<() => void> => {
    const offered = made.client.challenges.offer(challenge)
    await passOn(made.tunnel)
    return offered
  }
  return { ...made, target, gateway, offer }
}

/** Answers the challenges that it was sent, and those that come until there is one. */
async function passOn(tunnel: FakeTunnel): Promise<void> {
  const asked = await tunnel.messages.find(
    (message): message is Challenge => message.type === 'challenge' && !answered.has(message),
  )
  answered.add(asked)
  tunnel.send({ type: 'challenge_ready', seq: asked.seq })
}
const answered = new WeakSet<object>()

/** An authority, through the gateway. */
function shake(visit: Visit, servername: string, ALPNProtocols = ['acme-tls/1']): Promise<X509Certificate> {
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({
      socket: duplexOf(visit.stream),
      servername,
      ALPNProtocols,
      rejectUnauthorized: false,
    })
    let certificate: X509Certificate | undefined
    socket.once('secureConnect', () => {
      certificate = new X509Certificate(socket.getPeerCertificate().raw)
      // Whoever answers a challenge ends it; a service would wait.
      if (socket.alpnProtocol !== 'acme-tls/1') socket.destroy()
    })
    socket.on('data', () => {})
    socket.on('end', () => socket.end())
    socket.on('error', reject)
    socket.on('close', () => (certificate === undefined ? reject(new Error('closed')) : resolve(certificate)))
  })
}

async function asks(tunnel: FakeTunnel, text: string): Promise<string> {
  const visit = tunnel.visit('web')
  visit.write(text)
  expect(await visit.over).toBe('end')
  visit.stream.end()
  return visit.text
}

const get = (path: string, host = HOST): string => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`

describe('a visitor with acme-tls/1 alone', () => {
  it('sees the certificate of the pending challenge, and the end', async () => {
    const { client, tunnel, target, offer } = await serving()
    const takeBack = await offer(ordered('tls-alpn-01', 'token'))
    const certificate = await shake(tunnel.visit('web'), HOST)
    expect(certificate.subjectAltName).toBe(`DNS:${HOST}`)
    const digest = createHash('sha256').update('token.thumbprint').digest('hex')
    expect(certificate.raw.toString('hex')).toContain(digest)
    takeBack()
    await expect(shake(tunnel.visit('web'), HOST)).rejects.toThrow(/no application protocol/i)
    await client.drain(30_000)
    expect(client.status().streams).toBe(0)
    expect(target.sockets.all).toEqual([])
  })

  it.each([
    ['of a host that nobody ordered for', hello(serverName(HOST), alpn('acme-tls/1'))],
    ['of a host below a pattern', hello(serverName('a.example.org'), alpn('acme-tls/1'))],
  ])('%s is told that there is none, whatever the gateway orders for itself', async (_what, bytes) => {
    const { client, tunnel, target, offer } = await serving()
    await offer(ordered('tls-alpn-01', 'token', 'www.example.com'))
    await offer(ordered('http-01', 'token', HOST))
    const visit = tunnel.visit('web')
    visit.write(bytes)
    expect(await visit.over).toBe('end')
    visit.stream.end()
    expect(visit.text).toBe(NO_PROTOCOL)
    expect(tunnel.unreached(visit)).toBeUndefined()
    await client.drain(30_000)
    expect(target.sockets.all).toEqual([])
  })

  it('is answered by whichever gateway it comes, also by one that refused to pass it on', async () => {
    const target = await world.target()
    const [one, two] = [await world.gateway(), await world.gateway()]
    const { client } = await world.serving([one, two], [https(target.port)])
    const [first, second] = [await one.tunnel(), await two.tunnel()]
    const offered = client.challenges.offer(ordered('tls-alpn-01', 'token'))
    const asked = await second.messages.find((message): message is Challenge => message.type === 'challenge')
    second.send({ type: 'challenge_ready', seq: asked.seq, error: { code: 'not_granted', message: 'no' } })
    await passOn(first)
    await offered
    for (const tunnel of [first, second])
      expect((await shake(tunnel.visit('web'), HOST)).subjectAltName).toBe(`DNS:${HOST}`)
  })

  it('of no host of the service is turned away as any other', async () => {
    const { tunnel, offer } = await serving()
    await offer(ordered('tls-alpn-01', 'token', 'stranger.example.com'))
    await expect(shake(tunnel.visit('web'), 'stranger.example.com')).rejects.toThrow(/unrecognized name/i)
  })

  it('reaches a target that speaks TLS itself, which may order by itself', async () => {
    const { tunnel, target, offer } = await serving({ tls: 'passthrough' })
    await offer(ordered('tls-alpn-01', 'token'))
    tunnel.visit('web').write(hello(serverName(HOST), alpn('acme-tls/1')))
    await target.sockets.at(0)
  })

  it('beside others is a visitor of the service', async () => {
    const { tunnel, offer } = await serving()
    await offer(ordered('tls-alpn-01', 'token'))
    const certificate = await shake(tunnel.visit('web'), HOST, ['acme-tls/1', 'http/1.1'])
    expect(certificate.issuer).not.toContain('ACME')
  })

  it('that breaks off its handshake leaves nothing behind', async () => {
    const { client, tunnel, offer } = await serving()
    await offer(ordered('tls-alpn-01', 'token'))
    const bytes = fromNode({ servername: HOST, ALPNProtocols: ['acme-tls/1'] })
    const [reset, ended, garbled] = [tunnel.visit('web'), tunnel.visit('web'), tunnel.visit('web')]
    for (const visit of [reset, ended, garbled]) visit.write(bytes)
    await Promise.all([reset, ended, garbled].map((visit) => visit.received('\x16\x03\x03')))
    reset.stream.reset()
    ended.stream.end()
    garbled.write('no TLS at all')
    await Promise.all([ended.over, garbled.over])
    garbled.stream.end()
    await client.drain(30_000)
    expect(client.status().streams).toBe(0)
  })
})

describe('a request in place of a hello', () => {
  it('is answered with the key authorization of exactly that token and host', async () => {
    const { client, tunnel, target, offer } = await serving()
    await offer(ordered('http-01', 'token'))
    const answer = await asks(tunnel, get(`${PATH}token`, 'App.Example.com:80'))
    expect(answer).toBe(
      'HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 16\r\nCache-Control: no-store\r\nConnection: close\r\n\r\ntoken.thumbprint',
    )
    for (const text of [
      get(`${PATH}other`),
      get(PATH),
      get(`${PATH}token/`),
      get(`${PATH}token?`),
      get(`${PATH}%74oken`),
      get('/'),
      get('/../etc/passwd'),
      get(`${PATH}token`, 'www.example.com'),
      get(`${PATH}token`, 'stranger.example.com'),
      get(`${PATH}token`).replace('GET', 'POST'),
      get(`${PATH}token`).replace('GET', 'HEAD'),
    ]) {
      expect(await asks(tunnel, text), text).toMatch(
        /^HTTP\/1\.1 404 [^]*\r\nContent-Length: 0\r\n[^]*\r\n\r\n$/,
      )
    }
    await client.drain(30_000)
    expect(target.sockets.all).toEqual([])
  })

  it('for a token of our tls-alpn-01 is not answered', async () => {
    const { tunnel, offer } = await serving()
    await offer(ordered('tls-alpn-01', 'token'))
    expect(await asks(tunnel, get(`${PATH}token`))).toMatch(/ 404 /)
  })

  it.each([
    ['two hosts', `GET / HTTP/1.1\r\nHost: ${HOST}\r\nHost: www.example.com\r\n\r\n`],
    ['no host', 'GET / HTTP/1.1\r\n\r\n'],
    ['bytes of nothing', '\x00\x01\x02\r\n\r\n'],
    ['a head without end', `GET / HTTP/1.1\r\nX: ${'x'.repeat(CHALLENGE_HEAD_BYTES)}`],
  ])('with %s is told so, and reaches no target', async (_what, text) => {
    const { client, tunnel, target, offer } = await serving()
    await offer(ordered('http-01', 'token'))
    expect(await asks(tunnel, text)).toMatch(/^HTTP\/1\.1 400 /)
    await client.drain(30_000)
    expect(target.sockets.all).toEqual([])
  })

  it('is read in single bytes, and with the PROXY header in one piece', async () => {
    const { tunnel, offer } = await serving()
    await offer(ordered('http-01', 'token'))
    const slow = tunnel.visit('web')
    for (const byte of Buffer.from(get(`${PATH}token`))) {
      slow.write(Uint8Array.of(byte))
      await new Promise(setImmediate)
    }
    await slow.received('token.thumbprint')
    const header = encodeProxyHeader({ tlvs: { service: 'web' } })
    const whole = tunnel.visit(Buffer.concat([header, Buffer.from(get(`${PATH}token`))]))
    await whole.received('token.thumbprint')
  })

  it('that is never whole leaves nothing behind', async () => {
    const { client, tunnel } = await serving()
    const [ended, reset] = [tunnel.visit('web'), tunnel.visit('web')]
    for (const visit of [ended, reset]) visit.write('GET / HT')
    ended.stream.end()
    expect(await ended.over).not.toBe('end')
    reset.stream.reset()
    await client.drain(30_000)
    expect(client.status().streams).toBe(0)
  })

  it('to a service whose target speaks TLS itself is no visitor', async () => {
    const { tunnel, target, offer } = await serving({ tls: 'passthrough' })
    await offer(ordered('http-01', 'token'))
    const visit = tunnel.visit('web')
    visit.write(get(`${PATH}token`))
    expect(await visit.over).not.toBe('end')
    expect([visit.text, target.sockets.all.length]).toEqual(['', 0])
  })
})

describe('a tunnel that drains', () => {
  it('is not counted on: its gateway sends nobody there any more', async () => {
    const target = await world.target()
    const [one, two] = [await world.gateway(), await world.gateway()]
    const services = [https(target.port), service('plain', target.port)]
    const { client } = await world.serving([one, two], services)
    const [first, second] = [await one.tunnel(), await two.tunnel()]
    // A visitor keeps it open.
    first.visit('plain').write('hello')
    await target.sockets.at(0)
    client.update(services, [{ addresses: [two.address], pin: two.pin }])
    await first.messages.find(({ type }) => type === 'drain')
    const offered = client.challenges.offer(ordered('http-01', 'token'))
    await passOn(second)
    await offered
    await first.tunnel.probe(1_000)
    expect(first.messages.all.filter(({ type }) => type === 'challenge')).toEqual([])
  })
})

describe('a client that has lost its tunnel', () => {
  it('announces what is pending on the next one, once the gateway has the service there', async () => {
    const { gateway, tunnel, offer } = await serving()
    const takeBack = await offer(ordered('http-01', 'token'))
    // The next gateway is slow with its answer to the service.
    gateway.grant = ({ name }) => ({ name, error: { code: 'port_in_use', message: 'not now' } })
    tunnel.tunnel.end()
    const next = await gateway.tunnel(1)
    await next.tunnel.probe(1_000)
    expect(next.messages.all.filter(({ type }) => type === 'challenge')).toEqual([])
    gateway.grant = ({ name }) => ({ name, urls: ['https://0.0.0.0:443'] })
    next.tunnel.end()
    const third = await gateway.tunnel(2)
    const asked = await third.messages.find((message): message is Challenge => message.type === 'challenge')
    expect(asked).toMatchObject({ host: HOST, kind: 'http-01', token: 'token' })
    takeBack()
    expect(await third.messages.find(({ type }) => type === 'challenge_done')).toMatchObject({
      seq: asked.seq,
    })
  })
})
