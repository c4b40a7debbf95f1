/** What a gateway does with challenges that clients announce, seen by clients whose every word is the test's. */
import { connect as tlsConnect } from 'node:tls'
import { afterEach, describe, expect, test } from 'vitest'
import { CHALLENGES_PER_NAME, CHALLENGES_WAITING_PER_HOST } from '../../src/limits.ts'
import type { Challenge, ChallengeReady, ServiceOffer } from '../../src/protocol/index.ts'
import { lookByHttp, lookByTls } from './authority-visits.ts'
import type { ScriptedClient } from './scripted-client.ts'
import { granted, type Running, status, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const LISTEN = { http: { host: '127.0.0.1', port: 0 }, tls: { host: '127.0.0.1', port: 0 } }
const HOST = 'app.example.com'
const WEB: ServiceOffer = { name: 'web', type: 'https', hosts: [HOST, '*.example.org'] }
const PATH = '/.well-known/acme-challenge/'

const tlsOf = ({ gateway: { tls } }: Running): number => tls?.port ?? 0

function tlsAlpn(seq: number, host = HOST): Challenge {
  return { type: 'challenge', seq, host, kind: 'tls-alpn-01', expires: 60 }
}

function http(seq: number, token: string, host = HOST): Challenge {
  return { type: 'challenge', seq, host, kind: 'http-01', token, expires: 60 }
}

async function answered(client: ScriptedClient, challenge: Challenge): Promise<ChallengeReady> {
  client.say(challenge)
  return client.heard('challenge_ready', ({ seq }) => seq === challenge.seq)
}

async function ready(client: ScriptedClient, challenge: Challenge): Promise<void> {
  expect(await answered(client, challenge)).toEqual({ type: 'challenge_ready', seq: challenge.seq })
}

/** All that was said before is done: an answer to a later question has come. */
async function heardOut(client: ScriptedClient): Promise<void> {
  await client.unregister([])
}

async function serving(hello: Partial<{ services: ServiceOffer[] }> = { services: [WEB] }) {
  const running = await world.gateway({ listen: LISTEN })
  const client = await world.enroll(running, 'm', { process: 'run-of-m', ...hello })
  await client.welcome()
  return { running, client }
}

/** One more machine of the same name. */
async function another(running: Running, machine: string, services: ServiceOffer[]): Promise<ScriptedClient> {
  const client = await world.enroll(running, machine, {
    name: 'home',
    process: `run-of-${machine}`,
    services,
  })
  await client.welcome()
  return client
}

/** An authority's hello is on the way, and nothing is waited for. */
function knock(running: Running, host = HOST, ALPNProtocols = ['acme-tls/1']): void {
  const socket = tlsConnect({
    host: '127.0.0.1',
    port: tlsOf(running),
    servername: host,
    ALPNProtocols,
    rejectUnauthorized: false,
  })
  socket.on('error', () => {})
  world.later(() => socket.destroy())
}

describe('a challenge', () => {
  test.each([
    [
      'whose host is not this client’s',
      { ...tlsAlpn(1, 'www.example.com') },
      'not_granted',
      'www.example.com',
    ],
    ['for a pattern', { ...tlsAlpn(1, '*.example.org') }, 'not_granted', 'example.org'],
    ['whose host is spelled otherwise', { ...tlsAlpn(1, 'APP.example.com') }, 'not_granted', 'APP'],
    ['for two labels below a pattern', { ...tlsAlpn(1, 'a.b.example.org') }, 'not_granted', 'a.b'],
    ['for no host', { ...tlsAlpn(1, '') }, 'not_granted', 'https service'],
    ['for an address', { ...tlsAlpn(1, '127.0.0.1') }, 'not_granted', '127.0.0.1'],
    ['for a prototype', { ...tlsAlpn(1, '__proto__') }, 'not_granted', '__proto__'],
    ['of another kind', { ...tlsAlpn(1), kind: 'dns-01' as never }, 'unsupported', 'dns-01'],
    ['with a path for a token', http(1, '../../admin'), 'bad_service', 'token'],
    ['without a token', { ...http(1, ''), kind: 'http-01' as const }, 'bad_service', 'token'],
  ])('%s is refused, and says why', async (_what, challenge, code, says) => {
    const { running, client } = await serving()
    const { error } = await answered(client, challenge)
    expect(error).toMatchObject({ code, message: expect.stringContaining(says) })
    await expect(lookByTls(tlsOf(running), HOST)).rejects.toThrow('NO_APPLICATION_PROTOCOL')
    expect(client.visits.all).toEqual([])
  })

  test('of a host that another name has is refused, and that name’s visitors stay where they were', async () => {
    const grants = granted({
      home: { types: ['https'], hosts: [HOST] },
      guest: { types: ['https'], hosts: ['guest.example'] },
    })
    const running = await world.gateway({ listen: LISTEN, grants })
    const home = await world.enroll(running, 'home-1', {
      name: 'home',
      services: [{ name: 'web', type: 'https', hosts: [HOST] }],
    })
    const guest = await world.enroll(running, 'guest-1', {
      name: 'guest',
      services: [{ name: 'web', type: 'https', hosts: ['guest.example'] }],
    })
    await ready(home, http(1, 'token'))
    for (const challenge of [tlsAlpn(1), http(2, 'token'), http(3, 'stolen')]) {
      expect((await answered(guest, challenge)).error).toMatchObject({ code: 'not_granted' })
    }
    home.serve = (visit) => visit.answer('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhome')
    expect(await lookByHttp(running.http, HOST, `${PATH}token`)).toMatch(/home$/)
    expect(await lookByHttp(running.http, HOST, `${PATH}stolen`)).toMatch(/ 308 /)
    expect(guest.visits.all).toEqual([])
  })

  test('of a service of plain http alone is refused: its target sees those requests itself', async () => {
    const { client } = await serving({ services: [{ name: 'plain', type: 'http', hosts: [HOST] }] })
    expect((await answered(client, http(1, 'token'))).error).toMatchObject({ code: 'not_granted' })
  })

  test('with a number that is in use is refused, and the one that has it stays', async () => {
    const { running, client } = await serving()
    await ready(client, http(1, 'token'))
    client.say(http(1, 'other'))
    const { error } = await client.heard('challenge_ready', (message) => message.error !== undefined)
    expect(error).toMatchObject({ code: 'bad_service' })
    client.serve = (visit) => visit.answer('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    expect(await lookByHttp(running.http, HOST, `${PATH}token`)).toMatch(/ok$/)
  })

  test('is one of so many of its name', async () => {
    const { client } = await serving()
    for (let seq = 1; seq <= CHALLENGES_PER_NAME + 50; seq++) client.say(http(seq, `token-${seq}`))
    await client.heard('challenge_ready', ({ seq }) => seq === CHALLENGES_PER_NAME + 50)
    const refused = client.messages.all.filter(
      (message) => message.type === 'challenge_ready' && message.error?.code === 'too_many_services',
    )
    expect(refused).toHaveLength(50)
    client.say({ type: 'challenge_done', seq: 1 })
    await ready(client, http(9_999, 'one-more'))
  })

  test('of tls-alpn-01 waits behind that of another replica, with others, and no more than so many', async () => {
    const { running, client } = await serving()
    const replica = await another(running, 'n', [WEB])
    await ready(client, tlsAlpn(1))
    for (let seq = 1; seq <= CHALLENGES_WAITING_PER_HOST; seq++) replica.say(tlsAlpn(seq))
    expect((await answered(replica, tlsAlpn(99))).error).toMatchObject({ code: 'route_conflict' })
    // Of another host nobody waits.
    await ready(replica, tlsAlpn(100, 'a.example.org'))
    expect(replica.messages.all.filter(({ type }) => type === 'challenge_ready')).toHaveLength(2)
    client.say({ type: 'challenge_done', seq: 1 })
    await replica.heard('challenge_ready', ({ seq }) => seq === 1)
    knock(running)
    expect((await replica.visits.at(0)).header).toMatchObject({ service: 'web', authority: HOST })
    expect(client.visits.all).toEqual([])
  })

  test.each([
    ['its tunnel ends', async (client: ScriptedClient) => client.tunnel.end()],
    ['its service is taken back', (client: ScriptedClient) => client.unregister(['web'])],
  ])('is over when %s: whoever waited is next', async (_what, leave) => {
    const { running, client } = await serving()
    const replica = await another(running, 'n', [WEB])
    await ready(client, tlsAlpn(1))
    await ready(client, http(2, 'token'))
    replica.say(tlsAlpn(1))
    await heardOut(replica)
    await leave(client)
    await replica.heard('challenge_ready', ({ seq }) => seq === 1)
    expect(await lookByHttp(running.http, HOST, `${PATH}token`)).toMatch(/ 308 /)
  })

  test('is over when it expires, and whoever waited is told', async () => {
    const { running, client } = await serving()
    const replica = await another(running, 'n', [WEB])
    await ready(client, { ...http(2, 'token'), expires: 1 })
    await ready(client, { ...tlsAlpn(1), expires: 1 })
    await ready(replica, tlsAlpn(1))
    expect(await lookByHttp(running.http, HOST, `${PATH}token`)).toMatch(/ 308 /)
    knock(running)
    await replica.visits.at(0)
    expect(client.visits.all).toEqual([])
  })

  test('is over when its name is revoked', async () => {
    const { running, client } = await serving()
    await ready(client, http(1, 'token'))
    await running.gateway.command({ command: 'revoke', target: 'home' })
    await client.closed
    expect(await lookByHttp(running.http, HOST, `${PATH}token`)).toMatch(/ 404 /)
  })

  test('goes over to a new tunnel of the same client, which does not wait for its own ghost', async () => {
    const { running, client } = await serving()
    await ready(client, tlsAlpn(1))
    await ready(client, http(2, 'token'))
    const again = await world.dial(running, 'm', { process: 'run-of-m', services: [WEB] })
    await again.welcome()
    await ready(again, tlsAlpn(1))
    await ready(again, http(2, 'token'))
    again.serve = (visit) => {
      if (visit.text.startsWith('GET ')) visit.answer('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain')
    }
    expect(await lookByHttp(running.http, HOST, `${PATH}token`)).toMatch(/again$/)
    knock(running)
    await again.visits.find(({ header }) => header.alpn !== undefined)
    expect(client.visits.all).toEqual([])
  })

  test('is not passed on to a host that has become another name’s', async () => {
    const grants = granted({
      home: { types: ['https'], hosts: ['*.example.com'] },
      guest: { types: ['https'], hosts: [HOST] },
    })
    const running = await world.gateway({ listen: LISTEN, grants })
    const home = await world.enroll(running, 'home-1', {
      name: 'home',
      services: [{ name: 'web', type: 'https', hosts: ['*.example.com'] }],
    })
    await ready(home, tlsAlpn(1))
    await ready(home, http(2, 'token'))
    const guest = await world.enroll(running, 'guest-1', {
      name: 'guest',
      services: [{ name: 'web', type: 'https', hosts: [HOST] }],
    })
    await guest.welcome()
    await expect(lookByTls(tlsOf(running), HOST)).rejects.toThrow('NO_APPLICATION_PROTOCOL')
    expect(await lookByHttp(running.http, HOST, `${PATH}token`)).toMatch(/ 308 /)
    await ready(guest, tlsAlpn(1))
    expect(home.visits.all).toEqual([])
  })
})

describe('a visitor that offers acme-tls/1', () => {
  test('alone goes to the pending challenge of exactly its host, also where TLS ends at the target', async () => {
    const { running, client } = await serving({ services: [{ ...WEB, tls: 'passthrough' }] })
    const replica = await another(running, 'n', [{ ...WEB, tls: 'passthrough' }])
    await ready(replica, tlsAlpn(1, 'a.example.org'))
    for (let count = 0; count < 4; count++) knock(running, 'a.example.org')
    await replica.visits.at(3)
    // Without a pending one it goes to any replica, as others do.
    knock(running, 'b.example.org')
    knock(running, 'b.example.org')
    await client.visits.at(0)
    expect(client.visits.all.every(({ header }) => header.authority === 'b.example.org')).toBe(true)
  })

  test('among others is a visitor like any other', async () => {
    const { running, client } = await serving()
    const replica = await another(running, 'n', [WEB])
    await ready(client, tlsAlpn(1))
    knock(running, HOST, ['acme-tls/1', 'h2'])
    knock(running, HOST, ['acme-tls/1', 'h2'])
    await Promise.all([client.visits.at(0), replica.visits.at(0)])
  })

  test('is told no at once where its client refuses it: no other replica is asked', async () => {
    const { running, client } = await serving()
    const replica = await another(running, 'n', [WEB])
    await ready(client, tlsAlpn(1))
    client.serve = (visit) => visit.unreached('refused')
    await expect(lookByTls(tlsOf(running), HOST)).rejects.toThrow('INTERNAL_ERROR')
    expect(client.visits.all).toHaveLength(1)
    expect(replica.visits.all).toEqual([])
    expect((await status(running)).routes.map(({ held }) => held)).toEqual([0, 0])
  })

  test('is told no at once where its client drains', async () => {
    const { running, client } = await serving()
    await ready(client, tlsAlpn(1))
    client.say({ type: 'drain', deadlineMs: 60_000 })
    await heardOut(client)
    await expect(lookByTls(tlsOf(running), HOST)).rejects.toThrow('INTERNAL_ERROR')
    expect(await lookByHttp(running.http, HOST, '/')).toMatch(/ 308 /)
  })

  test('without a host, or for one that nobody has, is told that there is none', async () => {
    const { running } = await serving()
    await expect(lookByTls(tlsOf(running), 'stranger.example.com')).rejects.toThrow('UNRECOGNIZED_NAME')
    await expect(lookByTls(tlsOf(running), '')).rejects.toThrow('UNRECOGNIZED_NAME')
  })
})

describe('a request for a pending token', () => {
  test('comes as a stream of the https service, alone, and the stream is nobody’s after it', async () => {
    const { running, client } = await serving()
    await client.register({ name: 'plain', type: 'http', hosts: [HOST] })
    await ready(client, http(1, 'token'))
    // One that would take more, as a client that is not ours might.
    client.serve = (visit) => visit.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    const visit = world.visit(running.http, `GET ${PATH}token HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)
    await visit.received('ok')
    const first = await client.visits.at(0)
    expect(first.header).toMatchObject({ service: 'web', source: { address: '127.0.0.1' } })
    expect(first.text).toMatch(/^GET \/\.well-known\/acme-challenge\/token HTTP\/1\.1\r\n/)
    expect(await first.over).toBe('end')
    visit.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)
    expect((await client.visits.at(1)).header.service).toBe('plain')
    visit.write(`GET ${PATH}token HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)
    expect((await client.visits.at(2)).header.service).toBe('web')
  })

  test.each([
    ['with another method', `POST ${PATH}token HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: 0\r\n\r\n`],
    ['with a body', `GET ${PATH}token HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: 1\r\n\r\nx`],
    [
      'with an upgrade',
      `GET ${PATH}token HTTP/1.1\r\nHost: ${HOST}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n`,
    ],
    ['with an escape', `GET ${PATH}%74oken HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`],
    ['with a query', `GET ${PATH}token? HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`],
  ])('%s is a request like any other', async (_what, text) => {
    const { running, client } = await serving()
    await ready(client, http(1, 'token'))
    await world.visit(running.http, text).received(' 308 ')
    expect(client.visits.all).toEqual([])
  })

  test('is answered 502 where its client says no, and is like any other once that goes away', async () => {
    const { running, client } = await serving()
    await ready(client, http(1, 'token'))
    client.serve = (visit) => visit.unreached('unknown_service')
    expect(await lookByHttp(running.http, HOST, `${PATH}token`)).toMatch(/ 502 /)
    client.serve = (visit) => visit.stream.reset()
    expect(await lookByHttp(running.http, HOST, `${PATH}token`)).toMatch(/ 502 /)
    client.say({ type: 'drain', deadlineMs: 60_000 })
    await heardOut(client)
    expect(await lookByHttp(running.http, HOST, `${PATH}token`)).toMatch(/ 308 /)
    expect(client.visits.all).toHaveLength(2)
  })

  test('cut by its visitor resets the stream', async () => {
    const { running, client } = await serving()
    await ready(client, http(1, 'token'))
    const visit = world.visit(running.http, `GET ${PATH}token HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`)
    const carried = await client.visits.at(0)
    visit.socket.resetAndDestroy()
    expect(await carried.over).not.toBe('end')
  })
})
