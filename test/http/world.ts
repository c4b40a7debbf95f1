/** A proxy under test: visitors come by real sockets, targets are the far ends of streams, and what lies between is the site's. */
import type { Socket } from 'node:net'
import { DEFAULT_HTTP_LIMITS } from '../../src/config/index.ts'
import type { TunnelError } from '../../src/errors.ts'
import type { Exchange, ExchangeLimits, HttpSite, Problem, Refusal } from '../../src/http/index.ts'
import { HttpConnection, Upstream } from '../../src/http/index.ts'
import type { Stream, StreamSink } from '../../src/mux/index.ts'
import { Moments } from '../client/moments.ts'
import { Visit } from '../gateway/visit.ts'
import { type Joined, Opened } from '../net/joined.ts'

export const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
export const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere'

/** A target, by its end of a stream. */
export class Far implements StreamSink {
  readonly stream: Stream
  /** Nothing more comes: 'end', or why it was reset. */
  readonly over: Promise<'end' | TunnelError>
  /** It takes nothing while this is false: what comes counts against its window. */
  reads = true
  #untaken = 0
  readonly #chunks: Buffer[] = []
  readonly #arrived = new Moments<number>()
  #finish: (how: 'end' | TunnelError) => void = () => {}

  constructor(stream: Stream, reads: boolean) {
    this.stream = stream
    this.reads = reads
    this.over = new Promise((resolve) => (this.#finish = resolve))
    stream.sink = this
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString('latin1')
  }

  get bytes(): number {
    return this.stream.bytesIn
  }

  async received(text: string): Promise<void> {
    while (!this.text.includes(text)) await this.#arrived.at(this.#arrived.all.length)
  }

  write(text: string | Uint8Array): boolean {
    return this.stream.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text)
  }

  end(): void {
    this.#finish('end')
  }

  data(stream: Stream, chunk: Uint8Array): void {
    this.#chunks.push(Buffer.from(chunk))
    this.#arrived.add(chunk.length)
    if (this.reads) stream.consume(chunk.length)
    else this.#untaken += chunk.length
  }

  /** Takes what it has not, and what comes. */
  readOn(): void {
    this.reads = true
    this.stream.consume(this.#untaken)
    this.#untaken = 0
  }

  reset(_stream: Stream, reason: TunnelError): void {
    this.#finish(reason)
  }

  drain(): void {}
}

/** A site with one target, and a stream per visitor that stays with its connection. */
export class FakeSite implements HttpSite {
  limits: ExchangeLimits = DEFAULT_HTTP_LIMITS
  /** What `begin` answers. */
  refusal: ((exchange: Exchange) => Refusal | undefined) | undefined
  /** What becomes of a request that needs a stream; by default it gets one. */
  seeking: ((exchange: Exchange) => unknown) | undefined
  /** Whoever sends no more while its request waits for a stream has left. */
  takesForLeft = true
  /** Targets read what they get. */
  readonly fars = new Moments<Far>()
  farsRead = true
  readonly lostOnes = new Moments<string>()
  /** Requests that are over. */
  readonly ended = new Moments<Exchange>()
  readonly malformedOnes = new Moments<{ problem: Problem; requestId: string }>()
  readonly closes = new Moments<string>()
  readonly #joined: Joined
  #kept: Upstream | undefined
  #current: Upstream | undefined

  constructor(joined: Joined) {
    this.#joined = joined
  }

  begin(exchange: Exchange): Refusal | undefined {
    return this.refusal?.(exchange)
  }

  seek(exchange: Exchange): void {
    if (this.seeking === undefined) void this.give(exchange)
    else this.seeking(exchange)
  }

  /** A stream for it: the connection's, or a new one. */
  async give(exchange: Exchange): Promise<void> {
    const kept = this.#kept
    this.#kept = undefined
    if (kept?.usable === true) {
      this.#current = kept
      exchange.use(kept, { added: '' })
      return
    }
    const [near, far] = await this.#joined.open()
    const upstream = new Upstream(near, true)
    if (exchange.answered) return upstream.discard()
    this.fars.add(new Far(far, this.farsRead))
    this.#current = upstream
    exchange.use(upstream, { added: '' })
  }

  lost(exchange: Exchange, _upstream: Upstream, reason: TunnelError): void {
    this.lostOnes.add(reason.code)
    exchange.refuse(reason.code === 'closed' ? 'no_answer' : 'lost')
  }

  left(): boolean {
    return this.takesForLeft
  }

  done(exchange: Exchange): void {
    if (this.#current?.usable === true) this.#kept = this.#current
    this.#current = undefined
    this.ended.add(exchange)
  }

  /** Times that it was told to rest. */
  rested = 0

  rests(): void {
    this.rested += 1
  }

  malformed(problem: Problem, requestId: string): void {
    this.malformedOnes.add({ problem, requestId })
  }

  closed(error: TunnelError | undefined): void {
    this.#kept?.close()
    this.closes.add(error?.code ?? 'in order')
  }
}

/** Everything of one test, closed at its end. */
export class World {
  readonly opened = new Opened()

  /** A port whose visitors all have this site. */
  async start(limits: Partial<ExchangeLimits> = {}): Promise<Proxy> {
    const site = new FakeSite(this.opened.joined())
    site.limits = { ...DEFAULT_HTTP_LIMITS, ...limits }
    const server = await this.opened.server()
    const connections = new Moments<HttpConnection>()
    server.on('connection', (socket) => connections.add(new HttpConnection(socket, site)))
    const { port } = server.address() as { port: number }
    return new Proxy(this.opened, site, connections, port)
  }

  close(): Promise<void> {
    return this.opened.close()
  }
}

/** One that runs. */
export class Proxy {
  readonly site: FakeSite
  readonly connections: Moments<HttpConnection>
  readonly #opened: Opened
  readonly #port: number

  constructor(opened: Opened, site: FakeSite, connections: Moments<HttpConnection>, port: number) {
    this.#opened = opened
    this.site = site
    this.connections = connections
    this.#port = port
  }

  visit(text?: string | Uint8Array): Visit {
    const visit = new Visit(this.#port, text)
    this.#opened.keep(visit.socket)
    return visit
  }

  /** A visitor, our end of it, and the target that its request has reached. */
  async asked(text: string): Promise<{ visit: Visit; connection: HttpConnection; far: Far }> {
    const [visits, fars] = [this.connections.all.length, this.site.fars.all.length]
    const visit = this.visit(text)
    const connection = await this.connections.at(visits)
    const far = await this.site.fars.at(fars)
    await far.received('\r\n\r\n')
    return { visit, connection, far }
  }
}

/** Bytes to a visitor, one by one, each in a segment of its own. */
export async function dribble(socket: Socket, text: string): Promise<void> {
  for (const byte of Buffer.from(text, 'latin1')) {
    await new Promise<void>((resolve) => socket.write(Uint8Array.of(byte), () => resolve()))
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** Later than now by so much, as the sweep gives the time. */
export function later(ms: number): number {
  return performance.now() + ms
}
