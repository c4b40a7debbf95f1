import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Running } from '../cli/binary.ts'
import { get, Talk } from './http.ts'
import { askWhetherReset, Target, Visitor } from './visitors.ts'
import { acceptOf, echoMessages, frame, type Message, MessageReader, Opcode } from './websocket.ts'
import { type Gateway, heard, until, World } from './world.ts'

const KiB = 1024
const MiB = 1024 * KiB

const world = new World()
afterAll(() => world.close())
let gateway: Gateway
let client: Running

/** A web server; what it does is the test's. */
let web: Server
let serve: RequestListener = (_request, response) => response.end()
let upgrade: (request: IncomingMessage, socket: Socket) => void = (_request, socket) => socket.destroy()
/** A server that writes what the test wants, whenever something comes, on a new connection or on one that was used before. */
let raw: Target
let hear: (socket: Socket, text: string) => unknown = (socket) => socket.destroy()

const WEB = 'web.example.com'
const RAW = 'raw.example.com'
/** The same target as RAW, of which the gateway has no patience. */
const SLOW = 'slow.example.com'

beforeAll(async () => {
  const settings = world.path('gateway.toml')
  writeFileSync(settings, `[route."${SLOW}/"]\nresponse_timeout = "300ms"\nstall_timeout = "500ms"\n`, {
    mode: 0o600,
  })
  gateway = await world.gateway(['-c', settings])
  await world.join('home', gateway)
  web = createServer((request, response) => serve(request, response))
  web.on('upgrade', (request: IncomingMessage, socket: Socket) => upgrade(request, socket))
  web.listen({ host: '127.0.0.1', port: 0 })
  await once(web, 'listening')
  world.with({
    async close() {
      web.closeAllConnections()
      await new Promise((resolve) => web.close(resolve))
    },
  })
  raw = world.with(
    await Target.tcp((socket) => {
      socket.on('data', (chunk) => hear(socket, chunk.toString('latin1')))
      socket.on('end', () => askWhetherReset(socket, () => socket.end()))
    }),
  )
  const ports = { [WEB]: (web.address() as AddressInfo).port, [RAW]: raw.port, [SLOW]: raw.port }
  const services = Object.entries(ports).map(
    ([host, port]) =>
      `[[service]]\nname = "${host.split('.')[0]}"\ntype = "http"\nhost = ["${host}"]\ntarget = "${port}"\n`,
  )
  const file = world.path('blindgate.toml')
  writeFileSync(file, services.join('\n'), { mode: 0o600 })
  client = world.start('home', ['up', '-c', file])
  await heard(client, 'out', /^(?:http:\S+ → \S+\n){3}/m)
})

/** Resolves with the next request that the web server gets; it answers nothing by itself. */
function nextRequest(): Promise<{ request: IncomingMessage; response: ServerResponse }> {
  return new Promise((resolve) => {
    serve = (request, response) => resolve({ request, response })
  })
}

/** The same of the raw one; `over` is how the gateway's side ends the connection. */
function nextSocket(): Promise<{ socket: Socket; text: string; over: Promise<'end' | 'reset'> }> {
  return new Promise((resolve) => {
    hear = (socket, text) => {
      hear = () => undefined
      const over = new Promise<'end' | 'reset'>((ended) => {
        socket.once('end', () => askWhetherReset(socket, (error) => ended(error ? 'reset' : 'end')))
        socket.once('error', () => ended('reset'))
      })
      resolve({ socket, text, over })
    }
  })
}

describe('a WebSocket', () => {
  const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='

  class Socketed {
    readonly talk: Talk
    readonly messages: Message[] = []
    readonly #reader = new MessageReader()
    #look = (): void => undefined

    /** With what came behind the handshake. */
    constructor(talk: Talk) {
      this.talk = talk
      this.#push(Buffer.from(talk.rest, 'latin1'))
      talk.visitor.socket.on('data', (chunk: Buffer) => this.#push(chunk))
    }

    send(opcode: number, payload: string | Uint8Array): void {
      this.talk.visitor.socket.write(frame(opcode, payload, true))
    }

    async next(): Promise<Message> {
      while (this.messages.length === 0) {
        await new Promise<void>((resolve) => {
          this.#look = resolve
        })
      }
      return this.messages.shift() as Message
    }

    #push(chunk: Buffer): void {
      this.messages.push(...this.#reader.push(chunk))
      this.#look()
    }
  }

  async function opened(): Promise<Socketed> {
    const talk = await Talk.to(gateway.visitors)
    talk.say(
      get(WEB, '/socket', [
        'Connection: keep-alive, Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        `Sec-WebSocket-Key: ${KEY}`,
      ]),
    )
    const { status, headers } = await talk.answer()
    expect(status).toBe(101)
    expect(headers.get('sec-websocket-accept')).toBe(acceptOf(KEY))
    expect(headers.get('upgrade')).toBe('websocket')
    expect(headers.get('connection')?.toLowerCase()).toBe('upgrade')
    return new Socketed(talk)
  }

  it('carries messages of all sizes both ways, the first one with the handshake, and ends in order', async () => {
    upgrade = (request, socket) => echoMessages(request, socket, 'hello')
    const socket = await opened()
    expect(await socket.next()).toEqual({ opcode: Opcode.text, payload: Buffer.from('hello') })
    for (const size of [0, 1, 125, 126, 65_535, 65_536, 3 * MiB]) {
      const payload = randomBytes(size)
      socket.send(Opcode.binary, payload)
      const got = await socket.next()
      expect(got.opcode).toBe(Opcode.binary)
      expect(got.payload.equals(payload)).toBe(true)
    }
    socket.send(Opcode.ping, 'are you there')
    expect(await socket.next()).toEqual({ opcode: Opcode.pong, payload: Buffer.from('are you there') })
    socket.send(Opcode.close, '')
    expect((await socket.next()).opcode).toBe(Opcode.close)
    await socket.talk.visitor.ended
    socket.talk.visitor.socket.end()
    expect(await socket.talk.visitor.closed).toBe('end')
  })

  it('many at once, each its own', async () => {
    upgrade = (request, socket) => echoMessages(request, socket)
    const sockets = await Promise.all(Array.from({ length: 50 }, opened))
    await Promise.all(
      sockets.map(async (socket, index) => {
        for (let round = 0; round < 5; round++) {
          const text = `${index}/${round}`
          socket.send(Opcode.text, text)
          expect((await socket.next()).payload.toString()).toBe(text)
        }
      }),
    )
    for (const { talk } of sockets) talk.close()
  })

  it('whose visitor vanishes is reset at the target, and whose target does, at the visitor', async () => {
    const got = new Promise<Socket>((resolve) => {
      upgrade = (request, socket) => {
        echoMessages(request, socket)
        resolve(socket)
      }
    })
    const one = await opened()
    const at = await got
    const failed = new Promise((resolve) => at.once('error', resolve))
    one.talk.visitor.socket.resetAndDestroy()
    expect(await failed).toMatchObject({ code: 'ECONNRESET' })

    upgrade = (request, socket) => {
      echoMessages(request, socket)
      socket.once('data', () => socket.resetAndDestroy())
    }
    const other = await opened()
    other.send(Opcode.text, 'x')
    expect(await other.talk.visitor.closed).toBe('reset')
  })
})

describe('an answer that goes on', () => {
  it('reaches the visitor event by event', async () => {
    const next = nextRequest()
    const talk = await Talk.to(gateway.visitors, get(WEB, '/events', ['Accept: text/event-stream']))
    const { response } = await next
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' })
    response.flushHeaders()
    await talk.until('\r\n\r\n')
    // Each is there before the next is written.
    for (let event = 0; event < 50; event++) {
      response.write(`id: ${event}\ndata: number ${event}\n\n`)
      await talk.until(`data: number ${event}\n\n`)
    }
    response.end()
    const { status, headers, body } = await talk.answer()
    expect(status).toBe(200)
    expect(headers.get('content-type')).toBe('text/event-stream')
    expect(body.match(/^id: /gm)).toHaveLength(50)
    // And the connection takes another request.
    serve = (_request, again) => again.end('again')
    expect((await talk.ask(WEB)).body).toBe('again')
    talk.close()
  })

  it('ends at the target when its visitor leaves', async () => {
    for (const leave of ['resetAndDestroy', 'destroy'] as const) {
      const next = nextRequest()
      const talk = await Talk.to(gateway.visitors, get(WEB, '/events'))
      const { request, response } = await next
      const gone = once(response, 'close')
      response.write('data: 1\n\n')
      await talk.until('data: 1')
      talk.visitor.socket[leave]()
      await gone
      expect(request.socket.destroyed).toBe(true)
      expect(response.writableFinished).toBe(false)
    }
  })

  it('comes late to whoever polls, and the next poll goes over the same connection', async () => {
    const talk = await Talk.to(gateway.visitors)
    for (let poll = 0; poll < 5; poll++) {
      const next = nextRequest()
      talk.say(get(WEB, `/poll/${poll}`))
      const { response } = await next
      // Others are served meanwhile.
      serve = (_request, other) => other.end('other')
      const beside = await Talk.to(gateway.visitors)
      expect((await beside.ask(WEB)).body).toBe('other')
      beside.close()
      expect(talk.rest).toBe('')
      response.end(`news ${poll}`)
      expect((await talk.answer()).body).toBe(`news ${poll}`)
    }
    talk.close()
  })

  it('has its trailers, as gRPC-Web wants them; a visitor of HTTP/1.0 gets it without chunks', async () => {
    serve = (_request, response) => {
      response.writeHead(200, {
        'Content-Type': 'application/grpc-web',
        Trailer: 'grpc-status, grpc-message',
      })
      response.write('first')
      response.write('second')
      response.addTrailers({ 'grpc-status': '0', 'grpc-message': 'fine' })
      response.end()
    }
    const talk = await Talk.to(gateway.visitors)
    const answer = await talk.ask(WEB, '/grpc', ['TE: trailers'])
    expect(answer).toMatchObject({ status: 200, body: 'firstsecond' })
    expect(answer.headers.get('trailer')).toBe('grpc-status, grpc-message')
    expect(answer.trailers.toLowerCase()).toBe('grpc-status: 0\r\ngrpc-message: fine')
    talk.close()

    serve = (_request, response) => {
      response.write('first')
      response.end('second')
    }
    const old = await Talk.to(gateway.visitors, `GET / HTTP/1.0\r\nHost: ${WEB}\r\n\r\n`)
    await old.visitor.ended
    const { headers, body } = await old.answer()
    expect(headers.has('transfer-encoding')).toBe(false)
    expect(body).toBe('firstsecond')
    old.close()
  })

  it('is announced by 100 and 103 first', async () => {
    serve = (_request, response) => {
      response.writeEarlyHints({ link: '</style.css>; rel=preload' })
      response.end('page')
    }
    const talk = await Talk.to(gateway.visitors, get(WEB))
    await talk.until('page')
    expect(talk.rest).toMatch(
      /^HTTP\/1\.1 103 Early Hints\r\nLink: <\/style\.css>; rel=preload\r\n\r\nHTTP\/1\.1 200 OK\r\n/i,
    )
    talk.close()

    const next = nextRequest()
    const careful = await Talk.to(gateway.visitors)
    careful.say(`POST / HTTP/1.1\r\nHost: ${WEB}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n`)
    const { request, response } = await next
    await careful.until('HTTP/1.1 100 Continue\r\n\r\n')
    careful.say('body')
    request.resume().once('end', () => response.end('done'))
    expect((await careful.answer()).body).toBe('done')
    careful.close()
  })
})

describe('64 MiB', () => {
  const SIZE = 64 * MiB
  const chunk = randomBytes(1 * MiB)
  const wanted = ((): string => {
    const hash = createHash('sha256')
    for (let sent = 0; sent < SIZE; sent += chunk.length) hash.update(chunk)
    return hash.digest('hex')
  })()

  function pour(into: {
    write(bytes: Buffer): boolean
    end(): unknown
    once(event: 'drain', on: () => void): unknown
  }): void {
    let left = SIZE
    const more = (): void => {
      while (left > 0) {
        left -= chunk.length
        if (!into.write(chunk)) {
          into.once('drain', more)
          return
        }
      }
      into.end()
    }
    more()
  }

  async function hashOf(from: IncomingMessage): Promise<string> {
    const hash = createHash('sha256')
    for await (const bytes of from) hash.update(bytes as Buffer)
    return hash.digest('hex')
  }

  it.each([true, false])('go up and come down as they were, their length said before: %s', async (said) => {
    const length = said ? { 'Content-Length': SIZE } : {}
    serve = (request, response) => {
      void hashOf(request).then((sum) => {
        response.writeHead(200, { 'X-Sum': sum, ...length })
        pour(response)
      })
    }
    const asked = httpRequest({
      host: '127.0.0.1',
      port: gateway.visitors,
      method: 'POST',
      headers: { host: WEB, ...length },
      agent: false,
    })
    pour(asked)
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    expect(answer.headers['x-sum']).toBe(wanted)
    expect(await hashOf(answer)).toBe(wanted)
  })
})

describe('who takes nothing', () => {
  function resident({ child }: Running): number {
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]) * KiB
  }

  /** Resolves when a count has not moved while others were served for a while. */
  async function rests(count: () => number): Promise<number> {
    serve = (_request, response) => response.end('ok')
    const talk = await Talk.to(gateway.visitors)
    let before = -1
    for (let still = 0; still < 3; still++) {
      if (count() !== before) still = 0
      before = count()
      for (let each = 0; each < 100; each++) expect((await talk.ask(WEB)).body).toBe('ok')
    }
    talk.close()
    return before
  }

  it('of an answer stops its target, and costs neither process more than a window', async () => {
    const programs = [gateway.program, client]
    const before = programs.map(resident)
    let produced = 0
    const first = nextRequest()
    const talk = await Visitor.to(gateway.visitors, get(WEB, '/endless'))
    talk.socket.pause()
    const { response } = await first
    const bytes = Buffer.alloc(64 * KiB)
    const more = (): void => {
      while (!response.destroyed && produced < 1024 * MiB) {
        produced += bytes.length
        if (!response.write(bytes)) return
      }
    }
    response.on('drain', more)
    more()
    expect(await rests(() => produced)).toBeLessThan(32 * MiB)
    for (const [side, program] of programs.entries())
      expect(resident(program) - (before[side] ?? 0)).toBeLessThan(64 * MiB)
    const gone = once(response, 'close')
    talk.socket.destroy()
    await gone
  })

  it('of a request stops its visitor', async () => {
    const programs = [gateway.program, client]
    const before = programs.map(resident)
    const next = nextSocket()
    const talk = await Talk.to(gateway.visitors)
    let produced = 0
    talk.say(`POST / HTTP/1.1\r\nHost: ${RAW}\r\nContent-Length: ${1024 * MiB}\r\n\r\n`)
    const { socket, over } = await next
    socket.pause()
    const bytes = Buffer.alloc(64 * KiB)
    const more = (): void => {
      while (!talk.visitor.socket.destroyed && produced < 1024 * MiB) {
        produced += bytes.length
        if (!talk.visitor.socket.write(bytes)) return
      }
    }
    talk.visitor.socket.on('drain', more)
    more()
    expect(await rests(() => produced)).toBeLessThan(32 * MiB)
    for (const [side, program] of programs.entries())
      expect(resident(program) - (before[side] ?? 0)).toBeLessThan(64 * MiB)
    talk.close()
    socket.resume()
    expect(await over).toBe('reset')
  })

  it('of an answer, for longer than stall_timeout, is reset, and so is its target', async () => {
    const next = nextSocket()
    const visitor = await Visitor.to(gateway.visitors, get(SLOW))
    visitor.socket.pause()
    const { socket, over } = await next
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${64 * MiB}\r\n\r\n`)
    socket.write(Buffer.alloc(64 * MiB))
    expect(await over).toBe('reset')
    visitor.read().socket.resume()
    expect(await visitor.closed).toBe('reset')
  })
})

describe('a target that', () => {
  const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere'
  const errors = (code: string): Promise<number> =>
    gateway.gauge(`blindgate_errors_total\\{code="${code}"\\}`)

  it('answers before the request is over is heard, and the rest of the request is not waited for', async () => {
    const text = 'HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig'
    hear = (socket) => socket.end(text)
    const talk = await Talk.to(gateway.visitors)
    talk.say(`POST / HTTP/1.1\r\nHost: ${RAW}\r\nContent-Length: 1000000\r\n\r\n${'x'.repeat(1_000)}`)
    expect(await talk.answer()).toMatchObject({ status: 413, body: 'big' })
    await talk.visitor.ended
    talk.close()
  })

  it('answers before the request is over, and goes on with the next one', async () => {
    const next = nextSocket()
    const talk = await Talk.to(gateway.visitors)
    talk.say(`POST / HTTP/1.1\r\nHost: ${RAW}\r\nContent-Length: 8\r\n\r\nhalf`)
    const { socket } = await next
    socket.write(OK)
    expect((await talk.answer()).body).toBe('here')
    const rest = once(socket, 'data') as Promise<[Buffer]>
    talk.say('half')
    expect((await rest)[0].toString()).toBe('half')
    hear = (one) => one.write(OK)
    expect((await talk.ask(RAW)).body).toBe('here')
    talk.close()
  })

  it('closes before it answers costs a 502, and a POST is not sent again', async () => {
    let connections = 0
    hear = (socket) => {
      connections++
      socket.end()
    }
    const talk = await Talk.to(gateway.visitors)
    talk.say(`POST / HTTP/1.1\r\nHost: ${RAW}\r\nContent-Length: 4\r\n\r\nbody`)
    const answer = await talk.answer()
    expect(answer).toMatchObject({ status: 502 })
    expect(answer.body).toContain('closed the connection without an answer')
    expect(connections).toBe(1)
    // A GET would be, by another client.
    expect((await talk.ask(RAW)).status).toBe(502)
    expect(connections).toBe(2)
    talk.close()
  })

  it('resets before it answers costs a 502', async () => {
    hear = (socket) => socket.resetAndDestroy()
    const talk = await Talk.to(gateway.visitors)
    expect((await talk.ask(RAW)).status).toBe(502)
    talk.close()
  })

  it.each([
    ['a length that it does not keep', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf'],
    ['chunks without their end', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n'],
  ])('closes within its answer, with %s, resets the visitor', async (_what, text) => {
    hear = (socket) => socket.end(text)
    const talk = await Talk.to(gateway.visitors, get(RAW))
    expect(await talk.visitor.closed).toBe('reset')
    expect(talk.visitor.text).toContain('half')
  })

  it('ends its answer by closing is understood', async () => {
    hear = (socket) => socket.end('HTTP/1.0 200 OK\r\n\r\nuntil the end')
    const talk = await Talk.to(gateway.visitors, get(RAW))
    await talk.visitor.ended
    expect(await talk.answer()).toMatchObject({ status: 200, body: 'until the end' })
    talk.close()
  })

  it('sends two answers has the second one dropped, and its stream ended', async () => {
    const before = await errors('desync')
    hear = (socket) => socket.write(`${OK}${OK.replace('here', 'evil')}`)
    const talk = await Talk.to(gateway.visitors)
    for (let round = 0; round < 3; round++) expect((await talk.ask(RAW)).body).toBe('here')
    expect(talk.rest).toBe('')
    const other = await Talk.to(gateway.visitors)
    expect((await other.ask(RAW)).body).toBe('here')
    expect(await errors('desync')).toBe(before + 4)
    for (const each of [talk, other]) each.close()
  })

  it('sends a second answer when nobody asks is reset', async () => {
    const next = nextSocket()
    const talk = await Talk.to(gateway.visitors, get(RAW))
    const { socket, over } = await next
    socket.write(OK)
    expect((await talk.answer()).body).toBe('here')
    socket.write(OK.replace('here', 'evil'))
    expect(await over).toBe('reset')
    hear = (other) => other.write(OK)
    expect((await talk.ask(RAW)).body).toBe('here')
    talk.close()
  })

  it.each([
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nhere'],
    [
      'length and chunks',
      'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    ['another coding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhere'],
    ['a NUL', 'HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 0\r\n\r\n'],
    ['a folded field', 'HTTP/1.1 200 OK\r\nX: x\r\n y\r\nContent-Length: 0\r\n\r\n'],
    ['a 101 that nobody asked for', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n'],
    ['no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n\r\n'],
    ['a head without end', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100 * KiB)}`],
    ['17 answers before one', 'HTTP/1.1 103 Early\r\n\r\n'.repeat(17)],
  ])('answers with %s costs a 502 or a reset, and is reset', async (_what, text) => {
    const next = nextSocket()
    const talk = await Talk.to(gateway.visitors, get(RAW))
    const { socket, over } = await next
    socket.write(text)
    const got = await Promise.race([talk.answer().then(({ status }) => status), talk.visitor.closed])
    expect([502, 'reset']).toContain(got)
    expect(await over).toBe('reset')
    talk.close()
  })

  it('never answers costs a 504, and learns it by a reset', async () => {
    const next = nextSocket()
    const talk = await Talk.to(gateway.visitors, get(SLOW))
    const { over } = await next
    const answer = await talk.answer()
    expect(answer.status).toBe(504)
    expect(answer.body).toContain('took too long to answer')
    expect(await over).toBe('reset')
    // Either it is said that the connection ends, or it is as good as before.
    hear = (other) => other.write(OK)
    if (answer.headers.get('connection') === 'close') await talk.visitor.ended
    else expect((await talk.ask(RAW)).body).toBe('here')
    talk.close()
  })
})

it('nobody is left', async () => {
  await gateway.reaches('blindgate_visitors', 0)
  await until('the client has no streams but those that rest for the next visitor', async () => {
    const { streams } = JSON.parse(await world.done('home', ['status', '--json'])) as { streams: number }
    const idle = await gateway.gauge('blindgate_idle_streams')
    return streams === idle ? true : `it has ${streams}, ${idle} rest`
  })
})
