import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Certificate, CertificateSource } from '../../../src/client/tls/certificate.ts'
import { CertificateOfFiles } from '../../../src/client/tls/files.ts'
import { SelfSigned, selfSigned } from '../../../src/client/tls/self-signed.ts'
import { TlsService } from '../../../src/client/tls/service.ts'
import { CERTIFICATE_WAITING } from '../../../src/limits.ts'
import { duplexOf } from '../../../src/net/index.ts'
import type { ClientHello } from '../../../src/protocol/index.ts'
import { Opened, turns, until } from '../../net/joined.ts'
import { recordingLog } from '../world.ts'
import { Browser, get, secure, TlsWorld } from './people.ts'

const HOST = 'app.example.com'
const DAY = 86_400_000

/** A source in the hands of the test. */
class Given implements CertificateSource {
  current: Certificate | undefined
  trouble: string | undefined
  transportSecurity: string | undefined
  changed: () => void = () => {}
  started = false
  closed = false

  give(certificate: Certificate): void {
    this.current = certificate
    this.changed()
  }

  start(): void {
    this.started = true
  }

  close(): void {
    this.closed = true
  }
}

describe('a service without a certificate', () => {
  const opened = new Opened()
  afterEach(() => opened.close())

  function begin(hosts = [HOST]): {
    service: TlsService
    source: Given
    counts: string[]
    warnings: string[]
  } {
    const source = new Given()
    const counts: string[] = []
    const warnings: string[] = []
    const service = new TlsService(secure('web', hosts, 1), source, {
      dial: () => undefined,
      count: (code) => counts.push(code),
      warn: (_key, text) => warnings.push(text),
      debug: () => {},
    })
    return { service, source, counts, warnings }
  }

  /** A visitor's end of a stream that the service has let in. */
  async function arrive(service: TlsService, joined = opened.joined(), host = HOST) {
    const [near, far] = await joined.open()
    let closed = false
    const guest = service.accept({
      stream: far,
      first: [],
      hello: { serverName: host } as ClientHello,
      info: { remoteAddress: undefined, remotePort: undefined, service: 'web', gateway: 'g' },
      closed: () => (closed = true),
    })
    return { near, guest, closed: () => closed }
  }

  test('keeps visitors, and serves them when it has one', async () => {
    const { service, source } = begin()
    expect(source.started).toBe(true)
    const { near } = await arrive(service)
    // All that it sends meanwhile is kept.
    const socket = connect({ socket: duplexOf(near), servername: HOST, rejectUnauthorized: false })
    const secured = once(socket, 'secureConnect')
    await until(() => near.bytesOut > 0)
    source.give(await selfSigned([HOST], Date.now()))
    await secured
    const browser = new Browser(socket)
    expect(await browser.ask(get(HOST), '</small>')).toMatch(/^HTTP\/1\.1 503 /)
    void service.close()
    expect(source.closed).toBe(true)
    socket.destroy()
  })

  test('keeps so many and no more; one who leaves makes room', async () => {
    const { service, source, counts, warnings } = begin()
    source.trouble = 'it waits for the CA'
    const joined = opened.joined()
    const kept: Awaited<ReturnType<typeof arrive>>[] = []
    for (let n = 0; n < CERTIFICATE_WAITING; n += 1) kept.push(await arrive(service, joined))
    expect(counts).toEqual([])
    const one = await arrive(service, joined)
    expect(counts).toEqual(['no_certificate'])
    expect(warnings[0]).toMatch(/has no certificate yet: a visitor was turned away \(it waits for the CA\)$/)
    expect(one.closed()).toBe(true)
    // It is told by an alert: internal_error.
    const said: Buffer[] = []
    one.near.sink = { data: (_s, chunk) => said.push(Buffer.from(chunk)), end() {}, reset() {}, drain() {} }
    await until(() => one.near.readEnded)
    kept[0]?.near.reset()
    await until(() => kept[0]?.closed() === true)
    const next = await arrive(service, joined)
    expect(counts).toEqual(['no_certificate'])
    expect(next.closed()).toBe(false)
    void service.close()
    expect(counts).toHaveLength(1 + CERTIFICATE_WAITING)
  })

  test('for one of its hosts keeps who asks for that, and serves the others', async () => {
    const hosts = [HOST, 'new.example.com', '*.example.org']
    const { service, source } = begin(hosts)
    source.give(await selfSigned([HOST, '*.example.org'], Date.now()))
    expect(service.certificate.trouble).toBe('not for new.example.com')
    const joined = opened.joined()
    const secured = async (host: string): Promise<{ done: Promise<unknown>; socket: TLSSocket }> => {
      const { near } = await arrive(service, joined, host)
      const socket = connect({ socket: duplexOf(near), servername: host, rejectUnauthorized: false })
      socket.on('error', () => {})
      return { done: once(socket, 'secureConnect'), socket }
    }
    const [one, late, wild] = [
      await secured(HOST),
      await secured('new.example.com'),
      await secured('a.example.org'),
    ]
    await Promise.all([one.done, wild.done])
    let came = false
    void late.done.then(() => (came = true))
    await turns(20)
    expect(came).toBe(false)
    source.give(await selfSigned(hosts, Date.now()))
    await late.done
    expect(late.socket.getPeerX509Certificate()?.checkHost('new.example.com')).toBe('new.example.com')
    expect(service.certificate.trouble).toBeUndefined()
    // One that was revoked is nobody's any more.
    source.current = undefined
    source.trouble = 'it was revoked'
    source.changed()
    expect(service.certificate).toEqual({ expires: undefined, trouble: 'it was revoked' })
    void service.close()
    for (const { socket } of [one, late, wild]) socket.destroy()
  })

  test('keeps what it has when a newer one cannot be used', async () => {
    const { service, source, warnings } = begin()
    const good = await selfSigned([HOST], Date.now())
    source.give(good)
    source.give({ key: (await selfSigned([HOST], Date.now())).key, chain: good.chain })
    expect(warnings[0]).toMatch(/its certificate cannot be used \(.*\): the one before stays/)
    const { near } = await arrive(service)
    const socket = connect({ socket: duplexOf(near), servername: HOST, rejectUnauthorized: false })
    await once(socket, 'secureConnect')
    expect(socket.getPeerX509Certificate()?.fingerprint).toBe(new X509Certificate(good.chain).fingerprint)
    void service.close()
    socket.destroy()
  })
})

describe('a certificate of its own', () => {
  let world: TlsWorld
  beforeEach(() => {
    world = new TlsWorld()
  })
  afterEach(() => world.close())

  async function source(
    hosts: string[],
    state: Awaited<ReturnType<TlsWorld['folder']>>,
  ): Promise<SelfSigned> {
    const made = new SelfSigned({ service: 'web', hosts, state, log: recordingLog().log })
    const ready = new Promise<void>((resolve) => (made.changed = resolve))
    made.start()
    world.later(() => made.close())
    await ready
    return made
  }

  test('is for its hosts, and stays the same over restarts', async () => {
    const state = await world.folder()
    const first = await source([HOST, '*.example.org'], state)
    const leaf = new X509Certificate(first.current?.chain ?? '')
    expect(leaf.checkHost(HOST)).toBe(HOST)
    expect(leaf.checkHost('a.example.org')).toBe('*.example.org')
    expect(Date.parse(leaf.validFrom)).toBeLessThan(Date.now() - DAY / 2)
    expect((await source([HOST, '*.example.org'], state)).current).toEqual(first.current)
    expect((await source([HOST], state)).current?.chain).not.toBe(first.current?.chain)
  })

  test('is made anew when it grows old', async () => {
    const state = await world.folder()
    const old = await selfSigned([HOST], Date.now() - 300 * DAY)
    await state.writeJson('self-signed-web.json', { hosts: [HOST], ...old })
    expect((await source([HOST], state)).current?.chain).not.toBe(old.chain)
  })
})

describe('a certificate in files', () => {
  let world: TlsWorld
  beforeEach(() => {
    world = new TlsWorld()
  })
  afterEach(() => world.close())

  async function files() {
    const folder = (await world.folder()).path
    const paths = { cert: join(folder, 'app.pem'), key: join(folder, 'app.key') }
    const put = async ({ key, chain }: Certificate): Promise<void> => {
      await writeFile(paths.cert, chain)
      await writeFile(paths.key, key)
    }
    const { log, lines } = recordingLog()
    const source = new CertificateOfFiles({ service: 'web', hosts: [HOST], files: paths, log })
    world.later(() => source.close())
    return { paths, put, source, lines }
  }

  test('is taken, and taken again when it changes; whoever asks later sees the new one', async () => {
    world = await TlsWorld.start()
    const { paths, put } = await files()
    const first = await selfSigned([HOST], Date.now())
    await put(first)
    const web = await world.web((_request, response) => response.end('here'))
    const service = secure('web', [HOST], web.port, { tls: 'files', files: paths })
    const client = await world.offer([service])
    const seen = async (): Promise<string | undefined> =>
      (await world.visitor(HOST)).socket.getPeerX509Certificate()?.fingerprint
    expect(await seen()).toBe(new X509Certificate(first.chain).fingerprint)
    const second = await selfSigned([HOST], Date.now())
    await put(second)
    // A reload looks at once.
    client.update([{ ...service }])
    const wanted = new X509Certificate(second.chain).fingerprint
    for (let tries = 0; (await seen()) !== wanted; tries += 1) expect(tries).toBeLessThan(500)
  })

  test.each([
    [
      'a key of another',
      async (p: { cert: string; key: string }) =>
        writeFile(p.key, (await selfSigned([HOST], Date.now())).key),
      /is not the key of the certificate in/,
    ],
    [
      'half a certificate',
      async (p: { cert: string }) => writeFile(p.cert, (await readFile(p.cert, 'utf8')).slice(0, 300)),
      /app\.pem holds no certificate in PEM/,
    ],
    [
      'half a key',
      async (p: { key: string }) => writeFile(p.key, (await readFile(p.key, 'utf8')).slice(0, 60)),
      /app\.key holds no private key in PEM/,
    ],
    ['nothing', async (p: { cert: string }) => writeFile(p.cert, ''), /app\.pem holds no certificate in PEM/],
    [
      'no file',
      async (p: { cert: string }) => rename(p.cert, `${p.cert}.away`),
      /app\.pem cannot be read \(ENOENT\)/,
    ],
    [
      'a certificate for others',
      async (p: { cert: string; key: string }) => {
        const { key, chain } = await selfSigned(['other.example.com'], Date.now())
        await writeFile(p.cert, chain)
        await writeFile(p.key, key)
      },
      /is not for app\.example\.com: it is for DNS:other\.example\.com/,
    ],
    [
      'one that has expired',
      async (p: { cert: string; key: string }) => {
        const { key, chain } = await selfSigned([HOST], Date.now() - 500 * DAY)
        await writeFile(p.cert, chain)
        await writeFile(p.key, key)
      },
      /has expired: put a newer one there/,
    ],
    [
      'one that is not valid yet',
      async (p: { cert: string; key: string }) => {
        const { key, chain } = await selfSigned([HOST], Date.now() + 3 * DAY)
        await writeFile(p.cert, chain)
        await writeFile(p.key, key)
      },
      /is not valid before \d{4}-.*: wait, or set this machine's clock/,
    ],
    [
      'a megabyte',
      async (p: { cert: string }) => writeFile(p.cert, Buffer.alloc(1_000_000, 'x')),
      /app\.pem is too long/,
    ],
  ])('that becomes %s leaves the one before, and says so once', async (_what, spoil, says) => {
    const { paths, put, source, lines } = await files()
    const good = await selfSigned([HOST], Date.now())
    await put(good)
    await source.look()
    expect(source).toMatchObject({ current: good, trouble: undefined })
    await spoil(paths)
    await source.look()
    await source.look()
    expect(source.current).toEqual(good)
    expect(source.trouble).toMatch(says)
    expect(source.trouble).not.toMatch(/PRIVATE KEY/)
    expect(lines.all.filter(({ level }) => level === 50)).toHaveLength(1)
    await put(good)
    await source.look()
    expect(source.trouble).toBeUndefined()
  })

  test('that is wrong from the beginning is trouble, and there is none', async () => {
    const { source, lines } = await files()
    await source.look()
    expect(source.current).toBeUndefined()
    expect(lines.all[0]?.msg).toMatch(/cannot be read \(ENOENT\) \(visitors are turned away\)/)
  })
})
