/** HTTP/2 visitors under test: real TLS over the streams of a session, as they come through a tunnel, and targets of every kind. */
import { once } from 'node:events'
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2'
import { type Socket, connect as tcpConnect } from 'node:net'
import {
  createServer as createTlsServer,
  type TLSSocket,
  type Server as TlsServer,
  connect as tlsConnect,
} from 'node:tls'
import { DEFAULT_HTTP_LIMITS } from '../../src/config/index.ts'
import type { TunnelError } from '../../src/errors.ts'
import {
  type ExchangeLimits,
  forwardingFields,
  type Problem,
  type Refusal,
  Upstream,
} from '../../src/http/index.ts'
import {
  type Http2Connection,
  type Http2Exchange,
  Http2Front,
  type Http2Site,
  TargetSessions,
} from '../../src/http2/index.ts'
import { createIdentity } from '../../src/identity/index.ts'
import { duplexOf, splice } from '../../src/net/index.ts'
import { Moments } from '../client/moments.ts'
import { Far } from '../http/world.ts'
import { Opened } from '../net/joined.ts'

const { certificate, key } = createIdentity()
const FACTS = { peer: '192.0.2.7', address: '192.0.2.7', proto: 'https', trusted: false } as const

/** A site of one service, whose host is `x`. */
export class FakeHttp2Site implements Http2Site {
  limits: ExchangeLimits = DEFAULT_HTTP_LIMITS
  origins: readonly string[] = ['https://x']
  hsts: string | undefined
  /** What becomes of a request. By default it gets a stream to a scripted target. */
  seeking: (exchange: Http2Exchange) => unknown
  losing: (exchange: Http2Exchange, upstream: Upstream, reason: TunnelError) => unknown
  readonly fars = new Moments<Far>()
  farsRead = true
  readonly begun = new Moments<Http2Exchange>()
  readonly ended = new Moments<Http2Exchange>()
  readonly malformedOnes = new Moments<Problem>()
  readonly closes = new Moments<string>()
  readonly lostOnes = new Moments<string>()
  readonly upstreams: Upstream[] = []
  readonly #opened: Opened

  constructor(opened: Opened) {
    this.#opened = opened
    this.seeking = (exchange) => this.give(exchange)
    this.losing = (exchange, _upstream, reason) =>
      exchange.refuse(reason.code === 'closed' ? 'no_answer' : 'lost')
  }

  begin(exchange: Http2Exchange): Refusal | undefined {
    this.begun.add(exchange)
    return exchange.head.host === 'x' ? undefined : { problem: 'misdirected' }
  }

  seek(exchange: Http2Exchange): void {
    this.seeking(exchange)
  }

  /** A stream for it to a scripted target. */
  async give(exchange: Http2Exchange): Promise<void> {
    const [near, far] = await this.#opened.joined().open()
    const upstream = new Upstream(near, true)
    this.upstreams.push(upstream)
    this.fars.add(new Far(far, this.farsRead))
    exchange.use(upstream, this.changes(exchange))
  }

  changes(exchange: Http2Exchange): ReturnType<typeof forwardingFields> {
    return forwardingFields(exchange.head, exchange.requestId, FACTS)
  }

  lost(exchange: Http2Exchange, upstream: Upstream, reason: TunnelError): void {
    this.lostOnes.add(reason.code)
    this.losing(exchange, upstream, reason)
  }

  done(exchange: Http2Exchange): void {
    this.ended.add(exchange)
  }

  malformed(problem: Problem): void {
    this.malformedOnes.add(problem)
  }

  closed(error: TunnelError | undefined): void {
    this.closes.add(error?.code ?? 'in order')
  }
}

/** Everything of one test, closed at its end. */
export class World {
  readonly opened = new Opened()
  readonly site = new FakeHttp2Site(this.opened)
  front = new Http2Front()
  readonly connections = new Moments<Http2Connection>()
  readonly #tls: TlsServer
  readonly #sessions: ClientHttp2Session[] = []
  readonly #servers: { close(callback: () => void): unknown }[] = []
  readonly #targets: TargetSessions[] = []

  constructor() {
    this.#tls = createTlsServer({ key, cert: certificate, ALPNProtocols: ['h2'] })
    this.#tls.on('secureConnection', (socket) => this.connections.add(this.front.accept(socket, this.site)))
    this.#tls.on('tlsClientError', () => {})
  }

  /** A visitor's TLS connection, through a tunnel. */
  async socket(): Promise<TLSSocket> {
    const [near, far] = await this.opened.joined().open()
    const socket = tlsConnect({
      socket: duplexOf(near),
      ALPNProtocols: ['h2'],
      servername: 'x',
      rejectUnauthorized: false,
    })
    socket.on('error', () => {})
    this.#tls.emit('connection', duplexOf(far))
    await once(socket, 'secureConnect')
    return socket
  }

  /** A visitor that speaks proper HTTP/2. */
  async visitor(options: { settings?: object } = {}): Promise<ClientHttp2Session> {
    const socket = await this.socket()
    const session = connect('https://x', { createConnection: () => socket, ...options })
    session.on('error', () => {})
    this.#sessions.push(session)
    return session
  }

  /** A port whose connections come by the tunnel: for visitors that dial by themselves. */
  async port(): Promise<number> {
    const server = await this.opened.server()
    const bring = async (socket: Socket): Promise<void> => {
      socket.pause()
      const [near, far] = await this.opened.joined().open()
      splice(socket, near)
      this.#tls.emit('connection', duplexOf(far))
    }
    server.on('connection', (socket: Socket) => void bring(socket))
    return (server.address() as { port: number }).port
  }

  /** All requests go to a server of Node's, each by a stream of its own. */
  http(listener: RequestListener): Server {
    const server = createHttpServer(listener)
    this.site.seeking = async (exchange) => {
      const [near, far] = await this.opened.joined().open()
      server.emit('connection', duplexOf(far))
      exchange.use(new Upstream(near, true), this.site.changes(exchange))
    }
    return server
  }

  /** All requests go to a target of HTTP/2 on this port. */
  h2c(port: number): TargetSessions {
    const targets = new TargetSessions(() => this.opened.keep(tcpConnect({ port, host: '127.0.0.1' })))
    this.#targets.push(targets)
    this.site.seeking = (exchange) => exchange.relay(targets, this.site.changes(exchange))
    return targets
  }

  /** Is closed with the world. */
  keep<S extends { close(callback: () => void): unknown }>(server: S): S {
    this.#servers.push(server)
    return server
  }

  async close(): Promise<void> {
    for (const each of this.#targets) each.close()
    for (const each of this.#sessions) each.destroy()
    await this.opened.close()
    await Promise.all(this.#servers.map((each) => new Promise<void>((resolve) => each.close(resolve))))
  }
}

/** What a visitor got of one request. */
export interface Got {
  status: number
  headers: IncomingHttpHeaders
  raw: string[]
  interim: IncomingHttpHeaders[]
  body: Buffer
  trailers: IncomingHttpHeaders | undefined
  /** Of its reset; 0 for an orderly end. */
  code: number
}

export const GET: OutgoingHttpHeaders = { ':path': '/', ':authority': 'x' }

/** Asks, and waits for the end of it. */
export function ask(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders = GET,
  body?: string | Uint8Array,
): Promise<Got> {
  const stream = session.request({ ':authority': 'x', ...headers }, { endStream: body === undefined })
  if (body !== undefined) stream.end(body)
  return got(stream)
}

export function got(stream: ClientHttp2Stream): Promise<Got> {
  const result: Got = {
    status: 0,
    headers: {},
    raw: [],
    interim: [],
    body: Buffer.alloc(0),
    trailers: undefined,
    code: 0,
  }
  const chunks: Buffer[] = []
  stream.on('headers', (headers) => result.interim.push(headers))
  stream.on('response', ((headers: IncomingHttpHeaders, _flags: number, raw: string[]) => {
    result.status = Number(headers[':status'])
    result.headers = headers
    result.raw = raw
  }) as never)
  stream.on('trailers', (trailers) => (result.trailers = trailers))
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  stream.on('error', () => {})
  return new Promise((resolve) => {
    stream.on('close', () => {
      result.body = Buffer.concat(chunks)
      result.code = stream.rstCode
      resolve(result)
    })
  })
}
