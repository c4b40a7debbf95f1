/** Visitors by TLS, targets that answer them, and a gateway with a client between. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { Client, type ClientOptions, type ClientService } from '../../../src/client/index.ts'
import { type Running, World } from '../../gateway/world.ts'
import { until } from '../../net/joined.ts'
import type { Moments } from '../moments.ts'
import { type Line, recordingLog, service } from '../world.ts'

const LISTEN = { http: { host: '127.0.0.1', port: 0 }, tls: { host: '127.0.0.1', port: 0 } }

/** A gateway with a port for TLS, whatever runs there, and their end. */
export class TlsWorld extends World {
  running!: Running
  lines!: Moments<Line>

  static async start(): Promise<TlsWorld> {
    const world = new TlsWorld()
    world.running = await world.gateway({ listen: LISTEN })
    await (await world.enroll(world.running, 'm')).welcome()
    return world
  }

  get port(): number {
    return this.running.gateway.tls?.port ?? 0
  }

  async offer(services: ClientService[], rest: Partial<ClientOptions> = {}): Promise<Client> {
    const { log, lines } = recordingLog()
    this.lines = lines
    return this.client(this.running, 'm', services, { log, ...rest })
  }

  /** A web server that answers as it is told to. */
  async web(answer: RequestListener): Promise<Web> {
    const server = createServer({ keepAliveTimeout: 60_000 }, answer)
    let connections = 0
    server.on('connection', () => (connections += 1))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    this.later(async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    })
    return { server, port: (server.address() as AddressInfo).port, connections: () => connections }
  }

  /** A visitor whose handshake may fail. */
  dialTls(host: string, options: ConnectionOptions = {}): TLSSocket {
    const socket = connect({
      host: '127.0.0.1',
      port: this.port,
      servername: host,
      rejectUnauthorized: false,
      ...options,
    })
    socket.on('error', () => {})
    this.later(() => socket.destroy())
    return socket
  }

  async visitor(host: string, options: ConnectionOptions = {}): Promise<Browser> {
    const socket = this.dialTls(host, options)
    await once(socket, 'secureConnect')
    return new Browser(socket)
  }
}

export interface Web {
  server: Server
  port: number
  /** Made to it so far. */
  connections(): number
}

/** Whoever speaks HTTP/1.1 over a connection, in text. */
export class Browser {
  readonly socket: TLSSocket
  text = ''
  over: 'end' | 'reset' | undefined

  constructor(socket: TLSSocket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => (this.text += chunk.toString('latin1')))
    socket.on('end', () => (this.over ??= 'end'))
    socket.on('error', () => (this.over ??= 'reset'))
    socket.on('close', () => (this.over ??= 'reset'))
  }

  write(text: string): void {
    this.socket.write(text, 'latin1')
  }

  /** Asks, and gives what came since when it contains `wanted`. */
  async ask(text: string, wanted: string): Promise<string> {
    const from = this.text.length
    this.write(text)
    await until(() => this.text.slice(from).includes(wanted) || this.over !== undefined)
    return this.text.slice(from)
  }
}

export function secure(
  name: string,
  hosts: string[],
  target: string | number,
  rest: Partial<ClientService> = {},
): ClientService {
  return service(name, target, { type: 'https', tls: 'self-signed', hosts, ...rest })
}

export function get(host: string, path = '/', ...lines: string[]): string {
  return `GET ${path} HTTP/1.1\r\n${[`Host: ${host}`, ...lines].join('\r\n')}\r\n\r\n`
}

/** All of a request's body. */
export async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
