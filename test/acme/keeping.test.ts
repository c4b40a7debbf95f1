/** What ACME leaves on the disk, and a slow server. */
import { once } from 'node:events'
import https from 'node:https'
import type net from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/client/acme/clock.ts'
import { AcmeHttp } from '../../src/client/acme/http.ts'
import { OrderedKeys } from '../../src/client/acme/ordered-keys.ts'
import type { Pin } from '../../src/identity/index.ts'
import { Authority } from './authority.ts'
import { newState, run } from './world.ts'

const pin = (byte: number): Pin => `sha256:${Buffer.alloc(32, byte).toString('base64').slice(0, 43)}`

describe('the list of keys', () => {
  it('has what several processes add at once, and forgets what no certificate can have any more', async () => {
    const state = await newState()
    let now = 1
    const lists = [1, 2, 3].map(() => new OrderedKeys(state, () => now))
    await Promise.all(lists.map((keys, at) => keys.add(pin(at), [`h${at}.example`])))
    const [keys] = lists as [OrderedKeys]
    expect((await keys.list()).map(({ pin }) => pin).toSorted()).toEqual([0, 1, 2].map(pin).toSorted())
    expect(await keys.has(pin(1))).toBe(true)
    expect(await keys.has(pin(9))).toBe(false)
    now += 500 * 24 * 3_600_000
    await keys.add(pin(9), ['a.example'])
    expect(await keys.list()).toEqual([{ pin: pin(9), hosts: ['a.example'], at: now }])
  })

  it('that is damaged is an error, and no empty list', async () => {
    const state = await newState()
    await state.write('ordered-keys.json', '{"version":1,"keys":[{"pin":"sha256:x"}]}')
    await expect(new OrderedKeys(state).has(pin(1))).rejects.toMatchObject({ code: 'state_invalid' })
  })
})

it('the real clock rests and can be woken', async () => {
  const { signal } = new AbortController()
  const before = systemClock.now()
  await systemClock.sleep(5, signal)
  expect(systemClock.now()).toBeGreaterThanOrEqual(before + 4)
  const abort = new AbortController()
  const sleep = systemClock.sleep(3_600_000, abort.signal)
  abort.abort()
  await expect(sleep).rejects.toMatchObject({ name: 'AbortError' })
})

describe('a certificate file', () => {
  it('that holds none is left as it is, and said', async () => {
    const state = await newState()
    await state.write('certificate-web.pem', 'half a file')
    const one = run({ state })
    await one.trouble(/certificate-web\.pem is no certificate with its key: move it away to order a new one/)
    expect((await state.read('certificate-web.pem'))?.toString()).toBe('half a file')
    // Looked at every 10 s, said now and then.
    for (let looks = 0; looks < 60; looks++) await one.clock.advance(10_000)
    expect(one.lines.filter(({ level }) => level >= 40).length).toBeLessThan(8)
  })

  it('a wildcard without dns-01 is not ordered at all', async () => {
    await run({ state: await newState(), hosts: ['*.example.test'] }).trouble(/can be had by dns-01 alone/)
  })
})

describe('a request', () => {
  const servers: https.Server[] = []
  const sockets = new Set<net.Socket>()
  afterEach(async () => {
    for (const socket of sockets) socket.destroy()
    for (const server of servers.splice(0)) await new Promise((resolve) => server.close(resolve))
  })

  async function serve(answer: (response: import('node:http').ServerResponse) => void) {
    const authority = await Authority.create()
    const server = https.createServer(await authority.server(), (_request, response) => answer(response))
    server.on('connection', (socket: net.Socket) => sockets.add(socket))
    server.listen(0, '127.0.0.1')
    servers.push(server)
    await once(server, 'listening')
    const url = `https://127.0.0.1:${(server.address() as net.AddressInfo).port}/`
    return { url, http: new AcmeHttp({ ca: authority.root, agent: 'test', timeoutMs: 200 }) }
  }
  const { signal } = new AbortController()

  it.each<[string, (response: import('node:http').ServerResponse) => void, RegExp]>([
    ['without an answer', () => undefined, /did not answer within 0\.2 s/],
    ['with one that never ends', (response) => void response.write('x'), /did not answer within 0\.2 s/],
    ['that is hung up on', (response) => response.socket?.destroy(), /does not answer \(ECONNRESET\)/],
    [
      'whose answer is cut off',
      (response) => {
        response.writeHead(200, { 'content-length': '100' })
        response.write('x', () => response.socket?.destroy())
      },
      /does not answer \(ECONNRESET\)/,
    ],
  ])('%s ends', async (_what, answer, says) => {
    const { url, http } = await serve(answer)
    await expect(http.send({ method: 'GET', url }, signal)).rejects.toThrow(says)
  })

  it('that is given up ends at once, and is no failure of the server', async () => {
    const { url, http } = await serve(() => undefined)
    const abort = new AbortController()
    const sent = http.send({ method: 'GET', url }, abort.signal)
    abort.abort()
    await expect(sent).rejects.toMatchObject({ name: 'AbortError' })
  })
})
