import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { pattern, until } from '../../net/joined.ts'
import { Browser, bodyOf, get, secure, TlsWorld } from './people.ts'

let world: TlsWorld
beforeEach(async () => {
  world = await TlsWorld.start()
})
afterEach(() => world.close())

const HOST = 'app.example.com'
/** A type of TLS record (RFC 5246, 6.2.1). */
const ALERT = 21

function recordTypes(wire: Buffer): number[] {
  const types: number[] = []
  for (let at = 0; at < wire.length; at += 5 + wire.readUInt16BE(at + 3)) types.push(wire[at] ?? 0)
  return types
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}

describe('a visitor whose TLS ends in the client', () => {
  test('is answered by the target, which is told who asks and how', async () => {
    const web = await world.web((request, response) => response.end(JSON.stringify(request.headers)))
    await world.offer([secure('web', [HOST], web.port)])
    const browser = await world.visitor(HOST, { ALPNProtocols: ['h3', 'http/1.1'] })
    expect(browser.socket.alpnProtocol).toBe('http/1.1')
    expect(browser.socket.getProtocol()).toBe('TLSv1.3')
    const key = browser.socket.getPeerX509Certificate()?.publicKey
    expect(key?.asymmetricKeyDetails).toMatchObject({ namedCurve: 'prime256v1' })
    const said = await browser.ask(
      get(HOST, '/', 'X-Forwarded-For: 1.2.3.4', 'X-Real-IP: 1.2.3.4', 'Forwarded: for=1.2.3.4'),
      '}',
    )
    const headers = JSON.parse(said.slice(said.indexOf('{'))) as Record<string, string>
    expect(headers).toMatchObject({ host: HOST, 'x-forwarded-proto': 'https', 'x-forwarded-host': HOST })
    expect(headers['x-request-id']).toMatch(/^[\w-]+$/)
    // The gateway says that the visitor is on its own machine, which is believed of nobody.
    expect(JSON.stringify(headers)).not.toMatch(/1\.2\.3\.4|127\.0\.0\.1/)
  })

  test('who asks for a host of another service on its connection is told 421, and nothing reaches a target', async () => {
    let asked = 0
    const web = await world.web((_request, response) => {
      asked += 1
      response.end('here')
    })
    await world.offer([
      secure('web', [HOST, '*.example.org'], web.port),
      secure('other', ['b.example.com'], web.port),
    ])
    const browser = await world.visitor(HOST)
    for (const host of ['b.example.com', 'stranger.example', 'a.b.example.org', 'example.org', '127.0.0.1'])
      expect(await browser.ask(get(host), '</small>')).toMatch(/^HTTP\/1\.1 421 /)
    expect(asked).toBe(0)
    // Its own hosts, in whatever spelling, are.
    for (const host of ['APP.example.com', `${HOST}.`, `${HOST}:8443`, 'x.example.org'])
      expect(await browser.ask(get(host), 'here')).toMatch(/^HTTP\/1\.1 200 /)
  })

  test('may ask by a whole URL, of https', async () => {
    const web = await world.web((request, response) =>
      response.end(`${request.url} of ${request.headers.host}`),
    )
    await world.offer([secure('web', [HOST], web.port)])
    const browser = await world.visitor(HOST)
    expect(await browser.ask(get(HOST).replace(' / ', ` https://${HOST}/a?b `), '/a?b of')).toContain(HOST)
    expect(await browser.ask(get(HOST).replace(' / ', ` http://${HOST}/a?b `), '</small>')).toMatch(
      /^HTTP\/1\.1 421 /,
    )
  })

  test('resumes in its own service and in no other', async () => {
    const web = await world.web((_request, response) => response.end('here'))
    await world.offer([
      secure('one', ['one.example.com'], web.port),
      secure('two', ['two.example.com'], web.port),
    ])
    for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const) {
      const socket = world.dialTls('one.example.com', { maxVersion })
      const tickets: Buffer[] = []
      socket.on('session', (session: Buffer) => tickets.push(session))
      await once(socket, 'secureConnect')
      await new Browser(socket).ask(get('one.example.com'), 'here')
      await until(() => tickets.length > 0)
      const session = tickets[0] as Buffer
      const again = await world.visitor('one.example.com', { session, maxVersion })
      expect(again.socket.isSessionReused()).toBe(true)
      // After a resumption too the hosts are those of the service.
      expect(await again.ask(get('two.example.com'), '</small>')).toMatch(/^HTTP\/1\.1 421 /)
      const elsewhere = await world.visitor('two.example.com', { session, maxVersion })
      expect(elsewhere.socket.isSessionReused()).toBe(false)
      expect(await elsewhere.ask(get('two.example.com'), 'here')).toMatch(/^HTTP\/1\.1 200 /)
    }
  })

  test('has tickets with its first answer, and none before: a write less for each visit', async () => {
    const web = await world.web((_request, response) => response.end('here'))
    await world.offer([secure('web', [HOST], web.port)])
    const socket = world.dialTls(HOST)
    let tickets = 0
    socket.on('session', () => (tickets += 1))
    await once(socket, 'secureConnect')
    // Whatever else the client sends of itself has come by then.
    const other = await world.visitor(HOST)
    await other.ask(get(HOST), 'here')
    expect(tickets).toBe(0)
    await new Browser(socket).ask(get(HOST), 'here')
    expect(tickets).toBe(2)
  })

  test.each([
    ['an older TLS', { maxVersion: 'TLSv1.1', minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' }],
    ['a suite without forward secrecy', { maxVersion: 'TLSv1.2', ciphers: 'AES128-GCM-SHA256' }],
    ['a suite of another age', { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA' }],
    ['an application protocol that is not spoken', { ALPNProtocols: ['smtp'] }],
  ] as const)('by %s is refused', async (_what, options) => {
    const web = await world.web((_request, response) => response.end('here'))
    const client = await world.offer([secure('web', [HOST], web.port)])
    const socket = world.dialTls(HOST, {
      ...options,
      ALPNProtocols: [...('ALPNProtocols' in options ? options.ALPNProtocols : [])],
    })
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
    expect(error.code).toMatch(/ALERT|ERR_SSL/)
    await until(() => client.status().errors['handshake_failed'] === 1 && client.status().streams === 0)
    const line = world.lines.all.find(({ msg }) => msg.includes('handshake'))
    expect(line?.msg).toMatch(/^service "web": the handshake of a visitor failed: ERR_SSL_\w+$/)
  })

  test.each([
    ['asked for it', 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere', 'Connection: close'],
    ['gets an answer that only its end delimits', 'HTTP/1.1 200 OK\r\n\r\nhere', 'Connection: close'],
    ['had not asked for it', 'HTTP/1.1 200 OK\r\n\r\nhere', 'X-Nothing: 1'],
  ])('is told the end of the connection inside TLS when it %s', async (_when, answer, line) => {
    const target = createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => socket.end(answer))
    })
    const wire: Buffer[] = []
    const relay = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ port: world.port, host: '127.0.0.1', allowHalfOpen: true })
      far.on('data', (chunk) => wire.push(chunk))
      for (const socket of [near, far]) {
        socket.on('error', () => {})
        world.later(() => socket.destroy())
      }
      near.pipe(far).pipe(near)
    })
    for (const server of [target, relay]) {
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      world.later(() => server.close())
    }
    await world.offer([secure('web', [HOST], portOf(target))])
    // Older TLS shows in the clear what a record is.
    const browser = await world.visitor(HOST, { port: portOf(relay), maxVersion: 'TLSv1.2' })
    await browser.ask(get(HOST, '/', line), 'here')
    await until(() => browser.over !== undefined)
    expect(browser.over).toBe('end')
    expect(recordTypes(Buffer.concat(wire)).at(-1)).toBe(ALERT)
  })

  test('cannot renegotiate', async () => {
    const web = await world.web((_request, response) => response.end('here'))
    await world.offer([secure('web', [HOST], web.port)])
    const browser = await world.visitor(HOST, { maxVersion: 'TLSv1.2' })
    const outcome = await new Promise<Error | null>((resolve) => {
      browser.socket.once('error', resolve)
      browser.socket.renegotiate({ rejectUnauthorized: false }, resolve)
    })
    expect(outcome).toBeInstanceOf(Error)
    const other = await world.visitor(HOST)
    expect(await other.ask(get(HOST), 'here')).toMatch(/200 OK/)
  })

  test('sends and gets large bodies whole', async () => {
    const sent = pattern(3_000_000)
    const web = await world.web((request, response) => {
      void bodyOf(request).then((body) => {
        expect(body.equals(sent)).toBe(true)
        response.end(body)
      })
    })
    await world.offer([secure('web', [HOST], web.port)])
    const browser = await world.visitor(HOST)
    browser.write(`PUT /x HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: ${sent.length}\r\n\r\n`)
    browser.socket.write(sent)
    await until(() => browser.text.length > sent.length)
    const body = browser.text.slice(browser.text.indexOf('\r\n\r\n') + 4)
    await until(() => browser.text.length >= browser.text.indexOf('\r\n\r\n') + 4 + sent.length)
    expect(Buffer.from(browser.text.slice(-sent.length), 'latin1').equals(sent)).toBe(true)
    expect(body.length).toBeGreaterThan(0)
  })

  test('who reads nothing stops the target, and others are served meanwhile', async () => {
    let written = 0
    const web = await world.web((request, response) => {
      if (request.url !== '/endless') return void response.end('here')
      const more = (): void => {
        do written += 65_536
        while (response.write(Buffer.alloc(65_536)))
      }
      response.on('drain', more)
      more()
    })
    await world.offer([secure('web', [HOST], web.port)])
    const slow = await world.visitor(HOST)
    slow.socket.pause()
    slow.write(get(HOST, '/endless'))
    let seen = -1
    await until(() => written > 0)
    // What it wrote comes to rest: kernels' buffers, a window, and nothing that grows.
    for (let same = 0; same < 200; ) {
      await new Promise((resolve) => setImmediate(resolve))
      same = written === seen ? same + 1 : 0
      seen = written
    }
    expect(written).toBeLessThan(32_000_000)
    const other = await world.visitor(HOST)
    expect(await other.ask(get(HOST), 'here')).toMatch(/200 OK/)
  })

  test('who resets is a reset for the target; a target that breaks off resets the visitor', async () => {
    const gone: string[] = []
    const web = await world.web((request, response) => {
      response.on('close', () => gone.push(request.url ?? ''))
      response.writeHead(200, { 'Content-Length': 100 }).write('half')
      if (request.url === '/break') setImmediate(() => response.destroy())
    })
    await world.offer([secure('web', [HOST], web.port)])
    const leaving = await world.visitor(HOST)
    await leaving.ask(get(HOST, '/leave'), 'half')
    leaving.socket.destroy()
    await until(() => gone.includes('/leave'))
    const left = await world.visitor(HOST)
    await left.ask(get(HOST, '/break'), 'half')
    await until(() => left.over !== undefined)
    expect(left.over).toBe('reset')
  })

  test('who sends no more is answered', async () => {
    const web = await world.web((_request, response) => response.end('here'))
    await world.offer([secure('web', [HOST], web.port)])
    const browser = await world.visitor(HOST, { allowHalfOpen: true } as object)
    browser.socket.end(get(HOST))
    await until(() => browser.over !== undefined)
    expect(browser.text).toMatch(/^HTTP\/1\.1 200 OK[^]*here$/)
    expect(browser.over).toBe('end')
  })

  test('switches to another protocol', async () => {
    const web = await world.web(() => {})
    web.server.on('upgrade', (_request, socket: Socket) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n')
      socket.pipe(socket)
    })
    await world.offer([secure('web', [HOST], web.port)])
    const browser = await world.visitor(HOST)
    await browser.ask(get(HOST, '/', 'Connection: upgrade', 'Upgrade: echo'), '101 Switching')
    expect(await browser.ask('ping', 'ping')).toContain('ping')
    browser.socket.end()
    await until(() => browser.over !== undefined)
    expect(browser.over).toBe('end')
  })

  test('of a service that is served in this process reaches it in plaintext', async () => {
    const served = createServer()
    served.on('connection', (socket: Socket) =>
      socket.once('data', (data: Buffer) => socket.end(`got ${data.toString()}`)),
    )
    await world.offer([
      secure('web', [HOST], '127.0.0.1:1', {
        serve: (connection) => void served.emit('connection', connection),
      }),
    ])
    const browser = await world.visitor(HOST)
    expect(await browser.ask('hello', 'got hello')).toBe('got hello')
  })

  test('is reset where whoever serves in this process throws at it, and others are served', async () => {
    let visits = 0
    await world.offer([
      secure('web', [HOST], '127.0.0.1:1', {
        serve: (connection) => {
          visits += 1
          if (visits === 1) throw new Error('not this one')
          connection.end('here')
        },
      }),
    ])
    const first = world.dialTls(HOST)
    await until(() => first.closed)
    const second = await world.visitor(HOST)
    await until(() => second.over !== undefined)
    expect(second.text).toBe('here')
    expect(world.lines.all.map(({ msg }) => msg)).toContain('service "web" threw at a visitor: not this one')
  })

  test('is drained with the client: its next answer closes', async () => {
    const held: (() => void)[] = []
    const web = await world.web((request, response) => {
      if (request.url === '/held') held.push(() => response.end('here'))
      else response.end('here')
    })
    const client = await world.offer([secure('web', [HOST], web.port)])
    const [idle, busy] = [await world.visitor(HOST), await world.visitor(HOST)]
    await idle.ask(get(HOST), 'here')
    busy.write(get(HOST, '/held'))
    await until(() => held.length === 1)
    const drained = client.drain(10_000)
    await until(() => idle.over !== undefined)
    expect(idle.over).toBe('end')
    held[0]?.()
    await drained
    await until(() => busy.over !== undefined)
    expect(busy.text).toMatch(/Connection: close\r\n[^]*here$/)
    expect(busy.over).toBe('end')
  })

  test('goes with the client', async () => {
    const web = await world.web(() => {})
    const client = await world.offer([secure('web', [HOST], web.port)])
    const browser = await world.visitor(HOST)
    browser.write(get(HOST))
    await until(() => web.connections() === 1)
    await client.close()
    await until(() => browser.over !== undefined)
    expect(browser.over).toBe('reset')
    expect(client.status().streams).toBe(0)
  })
})

describe('connections to a target', () => {
  test('go from visitor to visitor for plain requests, and to nobody after others', async () => {
    const web = await world.web((request, response) => {
      void bodyOf(request).then(() => response.end('here'))
    })
    await world.offer([secure('web', [HOST], web.port)])
    for (let visit = 0; visit < 5; visit += 1) {
      const browser = await world.visitor(HOST)
      await browser.ask(get(HOST), 'here')
      browser.socket.end()
      await until(() => browser.over !== undefined)
    }
    expect(web.connections()).toBe(1)
    for (let visit = 0; visit < 3; visit += 1) {
      const browser = await world.visitor(HOST)
      await browser.ask(`POST / HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: 2\r\n\r\nab`, 'here')
      browser.socket.end()
      await until(() => browser.over !== undefined)
    }
    expect(web.connections()).toBe(4)
  })

  test('on which a byte comes unasked are given to nobody', async () => {
    const target = await world.target((socket) => {
      socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere'))
    })
    const client = await world.offer([secure('web', [HOST], target.port)])
    const first = await world.visitor(HOST)
    await first.ask(get(HOST), 'here')
    first.socket.end()
    await until(() => first.over !== undefined)
    target.sockets.all[0]?.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil')
    await until(() => client.status().errors['desync'] === 1)
    const second = await world.visitor(HOST)
    expect(await second.ask(get(HOST), '\r\n\r\n')).not.toContain('evil')
    expect(target.sockets.all).toHaveLength(2)
  })

  test('that a target closed while they rested are no error for a visitor', async () => {
    const target = await world.target((socket) => {
      socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere'))
    })
    await world.offer([secure('web', [HOST], target.port)])
    const browser = await world.visitor(HOST)
    await browser.ask(get(HOST), 'here')
    target.sockets.all[0]?.resetAndDestroy()
    await until(() => target.sockets.all[0]?.closed === true)
    expect(await browser.ask(get(HOST), 'here')).toContain('200 OK')
    expect(target.sockets.all).toHaveLength(2)
  })

  test('that cannot be made are a 502, which tells nothing of the target', async () => {
    const target = await world.target()
    const { port } = target
    await target.close()
    const client = await world.offer([secure('web', [HOST], port)])
    const browser = await world.visitor(HOST)
    const said = await browser.ask(get(HOST), '</small>')
    expect(said).toMatch(/^HTTP\/1\.1 502 /)
    expect(said).not.toContain('127.0.0.1')
    expect(client.status().errors).toMatchObject({ refused: expect.any(Number) as number })
    expect(world.lines.all.some(({ msg }) => msg.includes('of service "web" fails'))).toBe(true)
  })

  test('begin with a PROXY header of our own making, and are their visitor’s alone', async () => {
    const heard: Buffer[] = []
    const target = await world.target((socket) => {
      socket.on('data', (chunk: Buffer) => {
        heard.push(chunk)
        if (chunk.includes('GET')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere')
      })
    })
    await world.offer([secure('web', [HOST], target.port, { proxyHeader: true })])
    for (let visit = 0; visit < 2; visit += 1) {
      const browser = await world.visitor(HOST, { ALPNProtocols: ['http/1.1'] })
      await browser.ask(get(HOST), 'here')
      await browser.ask(get(HOST), 'here')
      browser.socket.end()
      await until(() => browser.over !== undefined)
    }
    expect(target.sockets.all).toHaveLength(2)
    const first = Buffer.concat(heard)
    expect(first.subarray(0, 12).toString('latin1')).toBe('\r\n\r\n\0\r\nQUIT\n')
    expect(first.toString('latin1')).toContain(HOST)
  })
})

describe('a target that speaks TLS itself', () => {
  async function tlsTarget(): Promise<{ port: number; heard: () => string; pin: `sha256:${string}` }> {
    const { createServer: createTls } = await import('node:tls')
    const { selfSigned } = await import('../../../src/client/tls/self-signed.ts')
    const { pinOf } = await import('../../../src/identity/index.ts')
    const { X509Certificate } = await import('node:crypto')
    const { key, chain } = await selfSigned(['localhost'], Date.now())
    let heard = ''
    const server = createTls({ key, cert: chain }, (socket) => {
      socket.on('error', () => {})
      socket.on('data', (chunk: Buffer) => {
        heard += chunk.toString('latin1')
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere')
      })
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    world.later(() => server.close())
    const { port } = server.address() as { port: number }
    return { port, heard: () => heard, pin: pinOf(new X509Certificate(chain).publicKey) }
  }

  test('is reached under its pinned key', async () => {
    const target = await tlsTarget()
    const client = await world.offer([
      secure('web', [HOST], `https://127.0.0.1:${target.port}`, { targetKey: target.pin }),
    ])
    const browser = await world.visitor(HOST)
    expect(await browser.ask(get(HOST), 'here')).toContain('200 OK')
    expect(client.status().errors).toEqual({})
  })

  test.each([
    ['that shows another key', { targetKey: `sha256:${'A'.repeat(43)}` as const }, ''],
    ['whose certificate nobody vouches for', {}, ''],
    ['whose certificate nobody vouches for, whatever the environment says', {}, '0'],
  ])('%s gets not one byte of a request', async (_what, rest, environment) => {
    const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED']
    if (environment !== '') process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = environment
    try {
      const target = await tlsTarget()
      const plain = {
        ...secure('plain', [], `https://localhost:${target.port}`, rest),
        type: 'http' as const,
      }
      const client = await world.offer([
        secure('web', [HOST], `https://localhost:${target.port}`, rest),
        { ...plain, tls: undefined },
      ])
      const browser = await world.visitor(HOST)
      expect(await browser.ask(get(HOST, '/secret'), '</small>')).toMatch(/^HTTP\/1\.1 502 /)
      const visit = world.visit(world.running.http, get('x'))
      await until(() => visit.text.includes('</small>'))
      expect(target.heard()).toBe('')
      // It was never reached, and whoever runs the client is told why.
      expect(client.status().errors['unreachable']).toBeGreaterThanOrEqual(2)
      expect(client.status().errors['lost']).toBeUndefined()
      const why =
        'targetKey' in rest
          ? `the target shows key ${target.pin}, not the target_key ${rest.targetKey}`
          : `its certificate is not believed (DEPTH_ZERO_SELF_SIGNED_CERT): if ${target.pin} is its key, write target_key = "${target.pin}"`
      for (const name of ['web', 'plain'])
        expect(world.lines.all.map(({ msg }) => msg)).toContain(
          `target https://localhost:${target.port} of service "${name}" fails: ${why}`,
        )
    } finally {
      if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']
      else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = before
    }
  })

  test('may stand behind plain http too', async () => {
    const target = await tlsTarget()
    await world.client(world.running, 'm', [
      {
        ...secure('plain', [], `https://127.0.0.1:${target.port}`, { targetKey: target.pin }),
        type: 'http',
        tls: undefined,
      },
    ])
    const visit = world.visit(world.running.http, get('x'))
    await until(() => visit.text.includes('here'))
    expect(target.heard()).toContain('GET / HTTP/1.1')
  })
})
