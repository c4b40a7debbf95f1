/** The ends of the chain: visitors, targets, and a relay that stands between a client and its gateway. */
import { once } from 'node:events'
import { createServer as createHttpServer, get as httpGet, type RequestListener } from 'node:http'
import {
  type AddressInfo,
  connect,
  createServer,
  type ListenOptions,
  type Server,
  type Socket,
} from 'node:net'
import type { Closable } from './world.ts'

/** How a connection ended: `end` in order, in both directions; `reset` otherwise. */
export type Ending = 'end' | 'reset'

/** Bytes and a reset that come together are bytes and an end to Node; an empty write then fails. */
export function askWhetherReset(socket: Socket, answer: (error?: Error | null) => void = () => {}): void {
  if (socket.writable) socket.write(Buffer.alloc(0), answer)
  else answer(socket.errored)
}

/** One visitor's connection, half-open like any TCP connection. */
export class Visitor {
  readonly socket: Socket
  received = 0
  text = ''
  /** The other side has sent its end. */
  readonly ended: Promise<void>
  readonly closed: Promise<Ending>
  readonly #watchers = new Set<() => void>()

  /** Resolves when it is connected, or was and is no more; rejects where nobody listens. */
  static async to(port: number, first?: string | Uint8Array): Promise<Visitor> {
    const visitor = new Visitor(connect({ host: '127.0.0.1', port, allowHalfOpen: true }))
    if (first !== undefined) visitor.socket.write(first)
    await Promise.race([once(visitor.socket, 'connect'), visitor.closed]).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error
    })
    return visitor
  }

  constructor(socket: Socket) {
    this.socket = socket
    this.ended = new Promise((resolve) => socket.once('end', resolve))
    socket.once('end', () => askWhetherReset(socket))
    this.closed = new Promise((resolve) => {
      let failed = false
      socket.on('error', () => {
        failed = true
      })
      socket.once('close', () => {
        resolve(failed ? 'reset' : 'end')
        for (const look of this.#watchers) look()
      })
    })
  }

  /** Begins to read. Text is kept up to a bound, for what is longer only its length counts. */
  read(): this {
    this.socket.on('data', (chunk: Buffer) => {
      this.received += chunk.length
      if (this.text.length < 64 * 1024) this.text += chunk.toString('latin1')
      for (const look of this.#watchers) look()
    })
    return this
  }

  /** Resolves when so many bytes came in all; rejects if the connection ends before. */
  async has(bytes: number): Promise<void> {
    while (this.received < bytes) {
      if (this.socket.destroyed) throw new Error(`closed after ${this.received} of ${bytes} bytes`)
      await new Promise<void>((resolve) => {
        const look = (): void => {
          this.#watchers.delete(look)
          resolve()
        }
        this.#watchers.add(look)
      })
    }
  }

  /** Sends a line and resolves when as many bytes have come back: for a target that echoes. */
  async echo(text: string): Promise<void> {
    const before = this.received
    this.socket.write(text)
    await this.has(before + text.length)
    if (!this.text.endsWith(text)) throw new Error(`sent ${text}, got ${this.text.slice(-text.length)}`)
  }
}

/** What a visitor of a web server got; `reset` when the connection ended without an answer. */
export interface Got {
  status: number | 'reset'
  body: string
}

/** One request on a connection of its own. Never rejects. */
export function ask(port: number, path = '/', host?: string): Promise<Got> {
  return new Promise((resolve) => {
    const failed = (): void => resolve({ status: 'reset', body: '' })
    const headers = host === undefined ? {} : { host }
    httpGet({ host: '127.0.0.1', port, path, headers, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (text: string) => (body += text))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }))
      response.on('error', failed)
    }).on('error', failed)
  })
}

/** A server behind NAT; only a client knows where it is. */
export class Target implements Closable {
  readonly sockets: Socket[] = []
  readonly #server: Server

  /** `serve` gets each connection, half-open; errors on it are nobody's. */
  static async tcp(serve: (socket: Socket) => void): Promise<Target> {
    return Target.#listening(createServer({ allowHalfOpen: true }, serve), { host: '127.0.0.1', port: 0 })
  }

  /** Sends back what comes. */
  static echo(): Promise<Target> {
    return Target.tcp((socket) => socket.pipe(socket))
  }

  /** A web server that answers with its name, on a port or at a path. */
  static web(name: string, path?: string): Promise<Target> {
    const server = createHttpServer((_request, response) => response.end(name))
    return Target.#listening(server, path === undefined ? { host: '127.0.0.1', port: 0 } : { path })
  }

  /** Any web server. */
  static serving(serve: RequestListener): Promise<Target> {
    return Target.#listening(createHttpServer(serve), { host: '127.0.0.1', port: 0 })
  }

  static async #listening(server: Server, where: ListenOptions): Promise<Target> {
    const target = new Target(server)
    server.listen(where)
    await once(server, 'listening')
    return target
  }

  private constructor(server: Server) {
    this.#server = server
    server.on('connection', (socket: Socket) => {
      socket.on('error', () => undefined)
      this.sockets.push(socket)
    })
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Resolves with the `index`th connection, from 0. */
  async socket(index: number): Promise<Socket> {
    for (;;) {
      const socket = this.sockets[index]
      if (socket !== undefined) return socket
      await once(this.#server, 'connection')
    }
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve))
  }
}

/** Stands between a client and its gateway, and can be frozen: connections are taken, and nothing passes. */
export class Relay implements Closable {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #frozen = false

  static async to(port: number): Promise<Relay> {
    const relay = new Relay(port)
    relay.#server.listen({ host: '127.0.0.1', port: 0 })
    await once(relay.#server, 'listening')
    return relay
  }

  private constructor(port: number) {
    this.#server = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
      this.#pass(near, far)
      this.#pass(far, near)
    })
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  freeze(): void {
    this.#frozen = true
    for (const socket of this.#sockets) socket.pause()
  }

  thaw(): void {
    this.#frozen = false
    for (const socket of this.#sockets) socket.resume()
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #pass(from: Socket, to: Socket): void {
    this.#sockets.add(from)
    from.on('data', (chunk) => to.write(chunk))
    from.on('end', () => to.end())
    from.on('error', () => to.destroy())
    from.on('close', () => this.#sockets.delete(from))
    if (this.#frozen) from.pause()
  }
}

/** A port that nobody listens on, for those who must be told one. */
export async function freePort(): Promise<number> {
  const server = createServer().listen({ host: '127.0.0.1', port: 0 })
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
