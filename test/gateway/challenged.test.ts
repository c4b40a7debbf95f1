/** Certificate authorities, a real gateway and real clients: who looks at a host sees the client that ordered, and nobody else. */
import { afterEach, describe, expect, test } from 'vitest'
import type { OrderedChallenge } from '../../src/client/challenges.ts'
import type { Client, ClientService } from '../../src/client/index.ts'
import { until } from '../net/joined.ts'
import { identifierOf, lookByHttp, lookByTls } from './authority-visits.ts'
import { granted, type Running, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const LISTEN = { http: { host: '127.0.0.1', port: 0 }, tls: { host: '127.0.0.1', port: 0 } }
const HOST = 'app.example.com'

/** Whose target takes no connection: nothing of a challenge may reach it. */
function terminated(name: string, hosts: string[], port = 1): ClientService {
  return {
    name,
    type: 'https',
    tls: 'self-signed',
    hosts,
    target: { kind: 'tcp', host: '127.0.0.1', port, text: `127.0.0.1:${port}` },
    idleMs: 0,
    proxyHeader: false,
  }
}

function ordered(kind: OrderedChallenge['kind'], token: string, host = HOST): OrderedChallenge {
  return { service: 'web', host, kind, token, keyAuthorization: `${token}.thumbprint` }
}

async function gateway(): Promise<Running> {
  const running = await world.gateway({ listen: LISTEN })
  await (await world.enroll(running, 'm')).welcome()
  return running
}

const tlsOf = ({ gateway: { tls } }: Running): number => tls?.port ?? 0

describe('an authority', () => {
  test('sees by tls-alpn-01 the certificate of the order, until it is taken back', async () => {
    const running = await gateway()
    const target = await world.target()
    const client = await world.client(running, 'm', [terminated('web', [HOST], target.port)])
    await expect(lookByTls(tlsOf(running), HOST)).rejects.toThrow(
      'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL',
    )

    const takeBack = await client.challenges.offer(ordered('tls-alpn-01', 'tokenA'))
    const seen = await lookByTls(tlsOf(running), HOST)
    expect(seen).toEqual({
      alpn: 'acme-tls/1',
      names: `DNS:${HOST}`,
      issuer: 'CN=ACME challenge',
      identifier: identifierOf('tokenA.thumbprint'),
      own: true,
    })
    // As authorities do, from several places at once.
    const all = await Promise.all(Array.from({ length: 6 }, () => lookByTls(tlsOf(running), HOST)))
    expect(new Set(all.map(({ identifier }) => identifier))).toEqual(new Set([seen.identifier]))

    takeBack()
    await until(async () => (await running.gateway.status()).streams === 0 && client.status().streams === 0)
    await expect(lookByTls(tlsOf(running), HOST)).rejects.toThrow('NO_APPLICATION_PROTOCOL')
    expect(target.sockets.all).toEqual([])
  })

  test('sees by http-01 the key authorization, at its path and host and nowhere else', async () => {
    const running = await gateway()
    const target = await world.target()
    const services = [terminated('web', [HOST, 'other.example.com'], target.port)]
    const client = await world.client(running, 'm', services)
    const path = '/.well-known/acme-challenge/tokenB'
    const takeBack = await client.challenges.offer(ordered('http-01', 'tokenB'))
    const answer = await lookByHttp(running.http, `${HOST}:80`, path)
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
    expect(answer).toMatch(/\r\nContent-Type: application\/octet-stream\r\n/)
    expect(answer).toMatch(/\r\n\r\ntokenB\.thumbprint$/)

    for (const [host, asked] of [
      [HOST, '/'],
      [HOST, '/.well-known/acme-challenge/'],
      [HOST, '/.well-known/acme-challenge/tokenC'],
      [HOST, `${path}/`],
      [HOST, `${path}?x`],
      [HOST, `/x/..${path}`],
      ['other.example.com', path],
    ] as const) {
      expect(await lookByHttp(running.http, host, asked), asked).toMatch(/^HTTP\/1\.1 308 /)
    }
    expect(await lookByHttp(running.http, HOST, path, 'HEAD')).toMatch(/^HTTP\/1\.1 308 /)
    takeBack()
    await expect.poll(() => lookByHttp(running.http, HOST, path)).toMatch(/^HTTP\/1\.1 308 /)
    expect(target.sockets.all).toEqual([])
  })

  test('is led past a target of plain http on the same host, which keeps all other paths', async () => {
    const running = await gateway()
    const target = await world.target((socket) => {
      socket.once('data', () =>
        socket.end('HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nits own'),
      )
    })
    const plain = { ...terminated('plain', [HOST], target.port), type: 'http' as const, tls: undefined }
    const client = await world.client(running, 'm', [terminated('web', [HOST]), plain])
    await client.challenges.offer(ordered('http-01', 'tokenB'))
    const at = (token: string) => lookByHttp(running.http, HOST, `/.well-known/acme-challenge/${token}`)
    expect(await at('tokenB')).toMatch(/tokenB\.thumbprint$/)
    expect(await at('tokenC')).toMatch(/its ow/)
    expect(target.sockets.all).toHaveLength(1)
  })

  test('finds the replica that holds the challenge, each in its turn', async () => {
    const running = await gateway()
    const services = [terminated('web', [HOST])]
    const one = await world.client(running, 'm', services)
    const secret = await world.secret(running, 'home')
    const two = await world.client(running, 'n', services, { enroll: { secret } })
    const first = await one.challenges.offer(ordered('tls-alpn-01', 'first'))
    let second: (() => void) | undefined
    const waiting = two.challenges.offer(ordered('tls-alpn-01', 'second')).then((done) => (second = done))
    // By its token it is found without a turn.
    await two.challenges.offer(ordered('http-01', 'third'))
    const identifiers = new Set<string | undefined>()
    for (let count = 0; count < 4; count++)
      identifiers.add((await lookByTls(tlsOf(running), HOST)).identifier)
    expect(identifiers).toEqual(new Set([identifierOf('first.thumbprint')]))
    expect(await lookByHttp(running.http, HOST, '/.well-known/acme-challenge/third')).toMatch(
      /third\.thumbprint$/,
    )
    expect(second).toBeUndefined()
    first()
    await waiting
    expect((await lookByTls(tlsOf(running), HOST)).identifier).toBe(identifierOf('second.thumbprint'))
  })

  test('finds the client again after its tunnel was lost', async () => {
    const running = await gateway()
    const relay = await world.relay(running)
    const client = await world.client({ ...running, address: relay.address }, 'm', [
      terminated('web', [HOST]),
    ])
    await client.challenges.offer(ordered('tls-alpn-01', 'tokenA'))
    await client.challenges.offer(ordered('http-01', 'tokenB'))
    const path = '/.well-known/acme-challenge/tokenB'
    relay.cut()
    // Nobody waits: whoever looks meanwhile is told at once, and looks again.
    await expect
      .poll(() => lookByTls(tlsOf(running), HOST).catch(() => undefined))
      .toMatchObject({ identifier: identifierOf('tokenA.thumbprint') })
    await expect.poll(() => lookByHttp(running.http, HOST, path)).toMatch(/tokenB\.thumbprint$/)
  })

  test('is told at once that a client is away, and not held', async () => {
    const running = await gateway()
    const client = await world.client(running, 'm', [terminated('web', [HOST])])
    await client.challenges.offer(ordered('tls-alpn-01', 'tokenA'))
    await client.close()
    await expect(lookByTls(tlsOf(running), HOST)).rejects.toThrow('NO_APPLICATION_PROTOCOL')
    expect((await running.gateway.status()).routes[0]?.held).toBe(0)
  })

  test('that looks at a passthrough host without a challenge reaches its target', async () => {
    const running = await gateway()
    const target = await world.target((socket) => socket.once('data', () => socket.destroy()))
    await world.client(running, 'm', [{ ...terminated('web', [HOST], target.port), tls: 'passthrough' }])
    await lookByTls(tlsOf(running), HOST).catch(() => {})
    expect(target.sockets.all).toHaveLength(1)
  })
})

describe('a client', () => {
  test('gets no challenge for a host that its name does not have', async () => {
    const grants = granted({
      home: { types: ['https'], hosts: [HOST] },
      guest: { types: ['https'], hosts: ['*.guest.example'] },
    })
    const running = await world.gateway({ listen: LISTEN, grants })
    await world.enroll(running, 'home-1', { name: 'home' })
    await world.enroll(running, 'guest-1', { name: 'guest' })
    const home: Client = await world.client(running, 'home-1', [terminated('web', [HOST])])
    const guest = await world.client(running, 'guest-1', [terminated('web', ['a.guest.example'])])
    await home.challenges.offer(ordered('tls-alpn-01', 'tokenA'))
    for (const kind of ['tls-alpn-01', 'http-01'] as const) {
      await expect(guest.challenges.offer(ordered(kind, 'stolen'))).rejects.toMatchObject({
        code: 'not_granted',
        message: expect.stringContaining(HOST),
      })
    }
    expect((await lookByTls(tlsOf(running), HOST)).identifier).toBe(identifierOf('tokenA.thumbprint'))
    expect(await lookByHttp(running.http, HOST, '/.well-known/acme-challenge/stolen')).toMatch(
      /^HTTP\/1\.1 308 /,
    )
  })
})
