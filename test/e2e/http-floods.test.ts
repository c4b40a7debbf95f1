import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createIdentity, decodeInvite } from '../../src/identity/index.ts'
import type { ServiceOffer } from '../../src/protocol/index.ts'
import { ScriptedClient } from '../gateway/scripted-client.ts'
import { get, Talk } from './http.ts'
import { askWhetherReset, Target, Visitor } from './visitors.ts'
import { type Gateway, World } from './world.ts'

const KiB = 1024

const world = new World()
afterAll(() => world.close())
let gateway: Gateway
/** Bodies that came whole, and those that broke off. */
const bodies = { whole: [] as number[], broken: 0 }
let onBroken: () => void = () => undefined

const SETTINGS = `
[limits]
head_timeout = "3s"
[grant.home]
types = ["http"]
hosts = ["*"]
[grant.guest]
types = ["http"]
hosts = ["*.guest.example.com", "guest.example.com"]
`

beforeAll(async () => {
  const file = world.path('gateway.toml')
  writeFileSync(file, SETTINGS, { mode: 0o600 })
  gateway = await world.gateway(['-c', file])
  await world.join('home', gateway, ['--name', 'home'])
  const target = world.with(
    await Target.serving((request, response) => {
      let bytes = 0
      request.on('data', (chunk: Buffer) => (bytes += chunk.length))
      request.on('error', () => {
        bodies.broken++
        onBroken()
      })
      request.on('end', () => {
        bodies.whole.push(bytes)
        response.end(`${request.method} ${request.url} ${bytes}`)
      })
    }),
  )
  await world.offer('home', ['http', String(target.port)])
})

const HOST = 'any.example.com'

/** Somebody who does nothing unusual. */
async function usual(times: number): Promise<void> {
  const talk = await Talk.to(gateway.visitors)
  for (let round = 0; round < times; round++) {
    const answer = await talk.ask(HOST, `/usual/${round}`)
    expect(answer).toMatchObject({ status: 200, body: `GET /usual/${round} 0` })
  }
  talk.close()
}

describe('1 000 visitors', () => {
  it('who send a byte of their heads a second delay nobody, and are told in the end', async () => {
    const head = Buffer.from(get(HOST, '/slow', ['X: '.padEnd(4 * KiB, 'x')]))
    const slow = Array.from({ length: 1_000 }, () => {
      const visitor = new Visitor(connect({ host: '127.0.0.1', port: gateway.visitors })).read()
      world.with({ close: () => void visitor.socket.destroy() })
      return visitor
    })
    await Promise.all(slow.map(({ socket }) => once(socket, 'connect')))
    let sent = 0
    const drip = (): void => {
      for (const { socket } of slow) if (!socket.destroyed) socket.write(head.subarray(sent, sent + 1))
      sent++
    }
    drip()
    const timer = setInterval(drip, 1_000)
    try {
      await gateway.reaches('blindgate_visitors', 1_000)
      await usual(50)
      await Promise.all(Array.from({ length: 20 }, () => usual(5)))
      // All of them were there meanwhile.
      expect(slow.filter(({ received, socket }) => received > 0 || socket.destroyed)).toHaveLength(0)
      await Promise.all(slow.map(({ ended }) => ended))
      expect(new Set(slow.map(({ text }) => text.split('\r\n', 1)[0]))).toEqual(
        new Set(['HTTP/1.1 408 Request Timeout']),
      )
    } finally {
      clearInterval(timer)
    }
    for (const { socket } of slow) socket.destroy()
    await gateway.reaches('blindgate_visitors', 0)
  })

  it('who come and say nothing delay nobody either, and are let go without a word', async () => {
    const silent = Array.from({ length: 1_000 }, () => {
      const visitor = new Visitor(connect({ host: '127.0.0.1', port: gateway.visitors })).read()
      world.with({ close: () => void visitor.socket.destroy() })
      return visitor
    })
    await Promise.all(silent.map(({ socket }) => once(socket, 'connect')))
    await usual(50)
    expect(silent.filter(({ socket }) => socket.readableEnded)).toHaveLength(0)
    await Promise.all(silent.map(({ ended }) => ended))
    expect(silent.filter(({ received }) => received > 0)).toHaveLength(0)
    for (const { socket } of silent) socket.destroy()
  })
})

describe('a head', () => {
  it.each([
    [
      'of 10 000 fields',
      get(
        HOST,
        '/',
        Array.from({ length: 10_000 }, (_, at) => `X${at}: x`),
      ),
      431,
    ],
    [
      'of 300 short fields',
      get(
        HOST,
        '/',
        Array.from({ length: 300 }, (_, at) => `X${at}: x`),
      ),
      431,
    ],
    ['with a field of 100 KB', get(HOST, '/', [`X: ${'x'.repeat(100_000)}`]), 431],
    ['with a name of 100 KB', get(HOST, '/', [`${'x'.repeat(100_000)}: x`]), 431],
    ['with a target of 100 KB', get(HOST, `/${'x'.repeat(100_000)}`), 414],
    ['with a method of 100 KB', get(HOST).replace('GET', 'G'.repeat(100_000)), 414],
  ])('%s is refused with what the RFC names', async (_what, text, status) => {
    const talk = await Talk.to(gateway.visitors)
    talk.say(text)
    expect((await talk.answer()).status).toBe(status)
    await talk.visitor.ended
    talk.close()
  })

  it.each([
    ['field', `GET / HTTP/1.1\r\nHost: ${HOST}\r\nX: `, 431],
    ['target', 'GET /', 414],
    ['list of fields', `GET / HTTP/1.1\r\nHost: ${HOST}\r\n`, 431],
  ])('with a %s that never ends is refused when it is too much', async (what, begin, status) => {
    const talk = await Talk.to(gateway.visitors)
    const { socket } = talk.visitor
    const more = Buffer.from((what === 'list of fields' ? 'X: x\r\n' : 'xxxxxx').repeat(1_000))
    talk.say(begin)
    let sent = 0
    const pour = (): void => {
      while (socket.writable && sent < 64 * 1024 * KiB) {
        sent += more.length
        if (!socket.write(more)) return
      }
    }
    socket.on('drain', pour)
    pour()
    expect((await talk.answer()).status).toBe(status)
    talk.close()
    await usual(1)
  })

  it('that comes in segments of one byte is taken, and so is a body', async () => {
    const talk = await Talk.to(gateway.visitors)
    const { socket } = talk.visitor
    socket.setNoDelay()
    const text = `POST /slowly HTTP/1.1\r\nHost: ${HOST}\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n`
    for (const character of `${text}${get(HOST, '/next')}`) {
      await new Promise((resolve) => socket.write(character, resolve))
    }
    expect((await talk.answer()).body).toBe('POST /slowly 5')
    expect((await talk.answer()).body).toBe('GET /next 0')
    talk.close()
  })

  it('of all that is allowed is taken', async () => {
    const fields = Array.from({ length: 200 }, (_, at) => `X-${at}: ${'x'.repeat(60)}`)
    const talk = await Talk.to(gateway.visitors)
    expect((await talk.ask(HOST, '/large', fields)).status).toBe(200)
    talk.close()
  })
})

describe('a body', () => {
  it.each([
    ['an end', 'Content-Length: 100', 'half', false],
    ['a reset', 'Content-Length: 100', 'half', true],
    ['an end, in its chunks', 'Transfer-Encoding: chunked', '64\r\nhalf', false],
    ['an end, before its last chunk', 'Transfer-Encoding: chunked', '4\r\nhalf\r\n', false],
  ])('that breaks off with %s is no whole one for the target', async (_how, field, half, reset) => {
    const before = bodies.broken
    const broken = new Promise<void>((resolve) => {
      onBroken = resolve
    })
    const whole = bodies.whole.length
    const talk = await Talk.to(gateway.visitors)
    talk.say(`POST / HTTP/1.1\r\nHost: ${HOST}\r\nExpect: 100-continue\r\n${field}\r\n\r\n`)
    // The target has the head then.
    await talk.until('100 Continue')
    talk.say(half)
    if (reset) {
      await new Promise((resolve) => askWhetherReset(talk.visitor.socket, resolve))
      talk.visitor.socket.resetAndDestroy()
    } else talk.visitor.socket.end()
    await broken
    expect(bodies.broken).toBe(before + 1)
    expect(bodies.whole).toHaveLength(whole)
    talk.close()
  })

  it('that is longer than it said is followed by no request, and that is all it does', async () => {
    const talk = await Talk.to(gateway.visitors)
    talk.say(`POST /short HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: 4\r\n\r\nbody and more`)
    expect((await talk.answer()).body).toBe('POST /short 4')
    talk.say('\r\n\r\n')
    expect((await talk.answer()).status).toBe(400)
    await talk.visitor.ended
    talk.close()
    await usual(1)
  })
})

describe('a client', () => {
  /** Of the name "guest", which may have the hosts below guest.example.com. */
  async function guest(): Promise<ScriptedClient> {
    const { secret } = decodeInvite(await gateway.command(['invite', '--name', 'guest']))
    const enroll = { secret: Buffer.from(secret).toString('base64url') }
    const client = await ScriptedClient.dial(`127.0.0.1:${gateway.clients}`, createIdentity(), {
      enroll,
      process: `process-${guests}`,
      instance: `instance-${guests++}`,
    })
    world.with({
      async close() {
        client.tunnel.end()
        await client.closed
      },
    })
    await client.welcome()
    return client
  }
  let guests = 0

  const web = (name: string, rest: Partial<ServiceOffer>): ServiceOffer => ({ name, type: 'http', ...rest })

  it.each([
    ['every host', { hosts: ['*'] }],
    ['the default route, by naming no host', {}],
    ['a host of another name', { hosts: [HOST] }],
    ['a host beside its own', { hosts: ['guest.example.com.evil.test'] }],
    ['a wildcard above its own', { hosts: ['*.example.com'] }],
    ['its own and one more', { hosts: ['guest.example.com', HOST] }],
    ['no proper host', { hosts: ['a b'] }],
    ['a pattern that is none', { hosts: ['a.*.guest.example.com'] }],
    ['a host with a path', { hosts: ['guest.example.com/x'] }],
    ['a path with dots', { hosts: ['guest.example.com'], path: '/../x' }],
    ['a path that is none', { hosts: ['guest.example.com'], path: 'x' }],
    ['a Host for everybody', { hosts: ['*.guest.example.com'], rewrite: { host: 'x\r\nX: y' } }],
    [
      'a header with a line break',
      { hosts: ['guest.example.com'], rewrite: { headers: [['X', 'y\r\nZ: z']] } },
    ],
    ['a framing header', { hosts: ['guest.example.com'], rewrite: { headers: [['Content-Length', '0']] } }],
  ] as [string, Partial<ServiceOffer>][])(
    'that asks for %s gets a refusal, and nobody notices',
    async (_what, rest) => {
      const client = await guest()
      const answer = await Promise.race([
        client.register(web('wanted', rest)).then(([result]) => result),
        client.closed.then(({ code }) => ({ error: { code } })),
      ])
      expect(answer).toHaveProperty('error.code')
      await usual(1)
      client.tunnel.end()
      await client.closed
      const { routes } = JSON.parse(await gateway.command(['status', '--json'])) as { routes: object[] }
      expect(routes).toMatchObject([{ route: 'default', owner: 'home' }])
    },
  )

  it('that registers ten thousand hosts gets what one may have; others are served and registered meanwhile', async () => {
    const client = await guest()
    const batches = Array.from({ length: 50 }, (_, batch) =>
      Array.from({ length: 200 }, (_none, at) =>
        web(`s${batch}-${at}`, { hosts: [`h${batch}-${at}.guest.example.com`] }),
      ),
    )
    const state = { over: false }
    const flood = (async () => {
      let granted = 0
      for (const batch of batches) {
        const results = await Promise.race([client.register(...batch), client.closed.then(() => undefined)])
        if (results === undefined) break
        granted += results.filter((result) => !('error' in result)).length
      }
      state.over = true
      return granted
    })()
    let rounds = 0
    do {
      await usual(10)
      rounds++
    } while (!state.over)
    expect(rounds).toBeGreaterThan(0)
    const granted = await flood
    expect(granted).toBeGreaterThan(0)
    expect(granted).toBeLessThanOrEqual(1_000)

    const target = world.with(await Target.web('another'))
    await world.join('other', gateway, ['--name', 'guest'])
    await world.offer('other', ['http', String(target.port), '--host', 'guest.example.com'])
    const talk = await Talk.to(gateway.visitors)
    expect((await talk.ask('guest.example.com')).body).toBe('another')
    talk.close()
    client.tunnel.end()
    await client.closed
    await usual(1)
    // A scrape stays of a size.
    const metrics = await (await fetch(`http://127.0.0.1:${gateway.admin}/metrics`)).text()
    expect(metrics.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length).toBeLessThan(
      10_000,
    )
  })
})

it('nobody is left, and the log is short', async () => {
  await gateway.reaches('blindgate_visitors', 0)
  expect(gateway.program.err.split('\n').length).toBeLessThan(500)
  expect(gateway.program.err).not.toContain('"level":"error"')
})
