/** What the tests of this room stand on: two sessions joined in memory, sockets joined by the kernel, and an end for all of them. */
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { afterEach } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { Session, type SessionOptions, type Stream, type StreamSink } from '../../src/mux/index.ts'

const SESSION_END = new TunnelError('closed', { scope: 'tunnel', detail: 'the test is over' })

export interface JoinedOptions extends Omit<Partial<SessionOptions>, 'role' | 'events'> {
  /** Bytes given to `receive` at a time; all at once without it. */
  segment?: number
}

/** Two sessions, as a tunnel drives them: what one turn produces is delivered at its end. */
export class Joined {
  readonly server: Session
  readonly client: Session
  /** Nothing is delivered while it is true. */
  stalled = false
  readonly #accepted: Stream[] = []
  readonly #waiting: ((stream: Stream) => void)[] = []
  readonly #segment: number | undefined

  constructor(options: JoinedOptions = {}) {
    const { segment, ...rest } = options
    this.#segment = segment
    const side = (role: 'client' | 'server'): Session =>
      new Session({
        ...rest,
        role,
        events: {
          stream: (stream) => this.#onStream(stream),
          wake: () => setImmediate(() => this.#flush(role)),
          goAway: () => {},
          idsLow: () => {},
        },
      })
    this.client = side('client')
    this.server = side('server')
  }

  /** A stream as the gateway opens it, and its other end as the client gets it. */
  async open(sink: StreamSink = silent): Promise<[Stream, Stream]> {
    const near = this.server.open(sink)
    if (near === undefined) throw new Error('no stream')
    const far =
      this.#accepted.shift() ?? (await new Promise<Stream>((resolve) => this.#waiting.push(resolve)))
    return [near, far]
  }

  release(): void {
    this.stalled = false
    this.#flush('client')
    this.#flush('server')
  }

  end(reason: TunnelError = SESSION_END): void {
    this.client.abort(reason)
    this.server.abort(reason)
  }

  #onStream(stream: Stream): void {
    stream.sink = silent
    const waiting = this.#waiting.shift()
    if (waiting === undefined) this.#accepted.push(stream)
    else waiting(stream)
  }

  #flush(role: 'client' | 'server'): void {
    if (this.stalled) return
    const [from, to] = role === 'client' ? [this.client, this.server] : [this.server, this.client]
    const out: Uint8Array[] = []
    from.take(out, 256 * 1024)
    const now = performance.now()
    for (const chunk of out) {
      // As from the wire: nobody's buffer but the receiver's.
      const copy = Buffer.from(chunk)
      const step = this.#segment ?? copy.length
      for (let at = 0; at < copy.length; at += step) to.receive(copy.subarray(at, at + step), now)
    }
    if (from.pending) setImmediate(() => this.#flush(role))
  }
}

const silent: StreamSink = { data: () => {}, end: () => {}, reset: () => {}, drain: () => {} }

/** What a test opened, and closes. */
export class Opened {
  readonly #sockets: Socket[] = []
  readonly #servers: Server[] = []
  readonly #joined: Joined[] = []

  joined(options?: JoinedOptions): Joined {
    const joined = new Joined(options)
    this.#joined.push(joined)
    return joined
  }

  /** A listening server on a free port, or on a unix path. */
  async server(path?: string): Promise<Server> {
    const server = createServer({ allowHalfOpen: true, noDelay: true })
    this.#servers.push(server)
    server.on('connection', (socket) => this.keep(socket))
    server.listen(path ?? { port: 0, host: '127.0.0.1' })
    await once(server, 'listening')
    return server
  }

  /** A socket to `server`, not connected yet. */
  dial(server: Server | { port: number }): Socket {
    const address = 'port' in server ? server : server.address()
    if (typeof address === 'string') return this.keep(connect({ path: address, allowHalfOpen: true }))
    const port = address?.port ?? 0
    return this.keep(connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true }))
  }

  /** Two ends of one connection: one for the splice, one for the test. */
  async sockets(path?: string): Promise<[Socket, Socket]> {
    const server = await this.server(path)
    const far = this.dial(server)
    const [near] = (await once(server, 'connection')) as [Socket]
    if (far.connecting) await once(far, 'connect')
    return [near, far]
  }

  keep(socket: Socket): Socket {
    this.#sockets.push(socket)
    // A test that cares listens itself.
    socket.on('error', () => {})
    return socket
  }

  async close(): Promise<void> {
    for (const joined of this.#joined) joined.end()
    await Promise.all(
      this.#sockets.map(async (socket) => {
        socket.destroy()
        if (!socket.closed) await once(socket, 'close')
      }),
    )
    await Promise.all(this.#servers.map((server) => new Promise((resolve) => server.close(resolve))))
    this.#sockets.length = 0
    this.#servers.length = 0
    this.#joined.length = 0
  }
}

/** What each test of a file opens; closed behind it, and nothing is left. */
export function openedPerTest(): Opened {
  const opened = new Opened()
  const handles = openHandles()
  afterEach(async () => {
    await opened.close()
    await until(() => openHandles() === handles)
  })
  return opened
}

/** Everything that `socket` says until its end. Rejects if it breaks. (Iterating would destroy the socket at its end.) */
export function all(socket: Readable): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.once('end', () => resolve(Buffer.concat(chunks)))
    socket.once('error', reject)
  })
}

/** Turns of the event loop, until `condition` holds. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let turn = 0; turn < 100_000; turn += 1) {
    if (await condition()) return
    await new Promise((resolve) => setImmediate(resolve))
  }
  throw new Error('it never came to that')
}

export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve))
}

/** Handles of sockets and servers that keep this process busy. */
export function openHandles(): number {
  return process.getActiveResourcesInfo().filter((name) => /TCP|Pipe|ConnectWrap|Server/.test(name)).length
}

/** Bytes that differ everywhere, so that a lost or doubled piece shows. */
export function pattern(length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  let value = 0x9e3779b9
  for (let at = 0; at < length; at += 1) {
    value = (Math.imul(value, 1664525) + 1013904223) >>> 0
    bytes[at] = value >>> 24
  }
  return bytes
}
