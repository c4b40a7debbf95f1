/** Certificates by themselves: a real CA, a gateway, and clients behind it that order, prove and renew. */
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect, type TLSSocket } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { pinOf } from '../../src/identity/index.ts'
import { GO_MISSING, type Pebble, startPebble } from '../acme/pebble.ts'
import { TestAuthority } from '../client/trust/authorities.ts'
import { a, addLines, NameServer } from '../client/trust/name-server.ts'
import { entryOf, startSearch } from '../client/trust/search.ts'
import { freePort } from './visitors.ts'
import { heard, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

interface Place {
  http: number
  tls: number
  pebble: Pebble
}

/** A gateway on ports where a CA looks for challenges, and machines that are enrolled under one name. */
async function begin(machines: string[], env: Record<string, string> = {}): Promise<Place> {
  const [http, tls] = [await freePort(), await freePort()]
  const pebble = world.with(await startPebble({ httpPort: http, tlsPort: tls, env }))
  const listen = ['--http', `127.0.0.1:${http}`, '--tls', `127.0.0.1:${tls}`]
  const gateway = world.start('gateway', ['gateway', ...listen])
  await heard(gateway, 'out', /^clients /m)
  for (const machine of machines) {
    const invite = await world.done('gateway', ['invite', '--address', `127.0.0.1:${tls}`, '--name', 'home'])
    await world.done(machine, ['join', '-'], invite)
  }
  return { http, tls, pebble }
}

async function web(text: string): Promise<number> {
  const server = createServer((request, response) => response.end(`${text} ${request.url}`))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  world.with({ close: () => void server.close() })
  server.unref()
  return (server.address() as AddressInfo).port
}

/** A file for `up`, with the CA of the test and these services. */
function fileOf(name: string, pebble: Pebble, acme: string, services: readonly string[][]): string {
  const file = world.path(name)
  const lines = [
    '[acme]',
    `directory = "${pebble.directory}"`,
    `ca_file = "${pebble.caFile}"`,
    acme,
    ...services.flatMap((keys) => ['[[service]]', 'type = "https"', ...keys]),
  ]
  writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 })
  return file
}

/** A visitor who verifies the certificate. */
async function visit({ tls, pebble }: Place, host: string): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port: tls, servername: host, ca: await pebble.root() })
  socket.on('error', () => {})
  world.with({ close: () => void socket.destroy() })
  await once(socket, 'secureConnect')
  return socket
}

async function said(socket: TLSSocket, host: string): Promise<string> {
  socket.write(`GET /x HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return text
}

describe.skipIf(GO_MISSING)('a client with https services (Pebble; skipped without Go)', () => {
  it.each(['tls-alpn-01', 'http-01'])(
    'has certificates for two hosts through the gateway, by %s',
    async (challenge) => {
      const place = await begin(['home'])
      const config = fileOf('blindgate.toml', place.pebble, `challenge = "${challenge}"`, [
        ['name = "app"', 'host = ["app.example.com", "www.example.com"]', `target = "${await web('app')}"`],
        ['name = "other"', 'host = "other.example.com"', `target = "${await web('other')}"`],
      ])
      const { program } = await world.offer('home', ['up', '-c', config])
      // Who comes before there is a certificate waits for it.
      for (const [host, text] of [
        ['app.example.com', 'app /x'],
        ['www.example.com', 'app /x'],
        ['other.example.com', 'other /x'],
      ] as const) {
        const answer = await said(await visit(place, host), host)
        expect(answer).toContain(text)
        expect(answer).toContain('Strict-Transport-Security: max-age=86400\r\n')
      }
      expect(program.err).toMatch(/terms/)
      const status = await world.done('home', ['status'])
      expect(status).toMatch(/https:\/\/app\.example\.com:\d+.* \(certificate until \d{4}-\d\d-\d\d\)/)
      // A restart asks the CA for nothing: the certificate is there.
      program.child.kill('SIGTERM')
      expect((await program.ended).code).toBe(0)
      await place.pebble.stop()
      await world.offer('home', ['up', '-c', config])
      const socket = connect({
        host: '127.0.0.1',
        port: place.tls,
        servername: 'app.example.com',
        rejectUnauthorized: false,
      })
      world.with({ close: () => void socket.destroy() })
      await once(socket, 'secureConnect')
      expect(await said(socket, 'app.example.com')).toContain('app /x')
    },
  )

  it('has its own, where two machines answer for one host, though the CA rejects half of all nonces', async () => {
    const place = await begin(['one', 'two'], { PEBBLE_WFE_NONCEREJECT: '50' })
    const service = async (text: string) => [
      ['name = "app"', 'host = "app.example.com"', `target = "${await web(text)}"`],
    ]
    const offers = await Promise.all(
      ['one', 'two'].map(async (machine) => {
        const config = fileOf(`${machine}.toml`, place.pebble, '', await service(machine))
        return (await world.offer(machine, ['up', '-c', config])).program
      }),
    )
    for (const machine of ['one', 'two']) {
      await expect
        .poll(() => world.done(machine, ['status']), { timeout: 100_000, interval: 500 })
        .toMatch(/certificate until/)
    }
    const answers = new Set<string>()
    for (let round = 0; round < 40 && answers.size < 2; round += 1) {
      answers.add(
        (await said(await visit(place, 'app.example.com'), 'app.example.com')).split('\r\n\r\n')[1] ?? '',
      )
      // Replicas with nobody to serve are taken in turn, or not: who holds a connection is passed over.
      await visit(place, 'app.example.com')
    }
    expect([...answers].toSorted()).toEqual(['one /x', 'two /x'])
    for (const { child } of offers) child.kill('SIGTERM')
  }, 120_000)

  it('says what it waits for while the CA is down, and turns visitors away by an alert after a while', async () => {
    const place = await begin(['home'])
    await place.pebble.stop()
    const config = fileOf('blindgate.toml', place.pebble, '', [
      ['name = "app"', 'host = "app.example.com"', `target = "${await web('app')}"`],
    ])
    const { program } = await world.offer('home', ['up', '-c', config])
    const socket = connect({ host: '127.0.0.1', port: place.tls, servername: 'app.example.com' })
    world.with({ close: () => void socket.destroy() })
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
    expect(error.message).toMatch(/internal error/i)
    expect(await world.done('home', ['status'])).toMatch(/no certificate yet\) \(.*again/)
    await place.pebble.start()
    // Whoever has mended something need not wait for the next try.
    program.child.kill('SIGHUP')
    await expect
      .poll(() => world.done('home', ['status']), { timeout: 100_000, interval: 500 })
      .toMatch(/certificate until/)
  }, 120_000)

  it('orders nothing with require_caa until DNS lets nobody else, and then all is well to doctor', async () => {
    const host = 'app.example.com'
    const place = await begin(['home'])
    const { pebble } = place
    const names = world.with(await NameServer.start())
    for (const apex of ['com', 'example.com']) names.zone(apex)
    for (const record of a(host, '127.0.0.1')) names.add(record)
    const others = await TestAuthority.create()
    const search = world.with(await startSearch(others))
    // Visitors believe what it issues; the searched log is another's.
    const caFile = world.path('believed.pem')
    writeFileSync(caFile, [pebble.ca, await pebble.root(), others.certificate].join('\n'))
    const settings = [
      'require_caa = true',
      '[trust]',
      `ct = "${search.template}"`,
      `nameservers = ["127.0.0.1:${names.port}"]`,
    ]
    const service = ['name = "app"', `host = "${host}"`, `target = "${await web('app')}"`]
    const config = fileOf('blindgate.toml', { ...pebble, caFile }, settings.join('\n'), [service])
    const { program } = await world.offer('home', ['up', '-c', config])
    const doctor = async (): Promise<{ code: number | null; out: string; lines: string[] }> => {
      const { code, out } = await world.run('home', ['doctor', '-c', config])
      return { code, out, lines: out.split('\n').filter((line) => /^(?:ok|warn|fail) /.test(line)) }
    }

    await expect
      .poll(() => world.done('home', ['status']), { timeout: 20_000 })
      .toMatch(
        /no certificate yet\) \(.*not ordered at 127\.0\.0\.1:\d+: app\.example\.com: there is no CAA record/,
      )
    const before = await doctor()
    expect(before.code).toBe(1)
    expect(before.lines).toContainEqual(expect.stringMatching(/^fail {2}caa app\.example\.com: /))
    expect(pebble.log()).toMatch(/1 accounts in memory/)
    expect(pebble.log()).not.toMatch(/Added order/)

    const records = before.out.split('\n').filter((line) => line.includes(' IN CAA '))
    addLines(
      names,
      records.map((line) => line.trim()),
    )
    program.child.kill('SIGHUP')
    await expect
      .poll(() => world.done('home', ['status']), { timeout: 100_000, interval: 500 })
      .toMatch(/certificate until/)
    const visitor = await visit(place, host)
    const shown = visitor.getPeerX509Certificate()
    if (shown === undefined) throw new Error('no certificate')
    expect(await said(visitor, host)).toContain('app /x')

    // It is ours by the list of what was ordered, whoever logged it.
    const [notBefore, notAfter] = [
      new Date(shown.validFrom).toISOString(),
      new Date(shown.validTo).toISOString(),
    ]
    search.entries = [entryOf({ pin: pinOf(shown.publicKey), notBefore, notAfter }, [host], '1')]
    const after = await doctor()
    expect(after.lines.filter((line) => !line.startsWith('ok '))).toEqual([
      `warn  dnssec ${host}: DNSSEC does not sign zone example.com`,
    ])
    expect(after.code).toBe(0)
    expect(after.lines).toEqual(
      expect.arrayContaining([
        `ok    caa ${host}: the CAA records of ${host} deny certificates to every account but ours`,
        `ok    ct ${host}: certificate transparency shows no key but ours (certificates that are valid now: 1)`,
        `ok    probe ${host}: the TLS session with 127.0.0.1:${place.tls} ends in our terminator`,
      ]),
    )
  }, 120_000)
})
