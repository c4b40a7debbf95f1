import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { pino } from 'pino'
import { Client, type ClientEvents, type ClientOptions, type ClientService } from '../../src/client/index.ts'
import { parseTarget } from '../../src/config/index.ts'
import { createIdentity, type Identity } from '../../src/identity/index.ts'
import { FakeGateway, type FakeTunnel } from './fake-gateway.ts'
import { Moments } from './moments.ts'

/** A line of the log; levels are pino's: 20 debug, 30 info, 40 warn, 50 error. */
export interface Line {
  level: number
  msg: string
  code?: string
}

export const WARN = 40

/** A logger that writes into a list. */
export function recordingLog(): { log: pino.Logger; lines: Moments<Line> } {
  const lines = new Moments<Line>()
  const log = pino({ level: 'debug' }, { write: (line: string) => lines.add(JSON.parse(line) as Line) })
  return { log, lines }
}

/** A target: a server whose connections are in hand. */
export class FakeTarget {
  readonly sockets = new Moments<Socket>()
  readonly server: Server

  static async start(onSocket: (socket: Socket) => void = () => {}): Promise<FakeTarget> {
    const target = new FakeTarget(onSocket)
    await new Promise<void>((resolve) => target.server.listen(0, '127.0.0.1', resolve))
    return target
  }

  /** Says what it hears. */
  static echo(): Promise<FakeTarget> {
    return FakeTarget.start((socket) => socket.pipe(socket))
  }

  private constructor(onSocket: (socket: Socket) => void) {
    this.server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => {})
      onSocket(socket)
      this.sockets.add(socket)
    })
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port
  }

  async close(): Promise<void> {
    for (const socket of this.sockets.all) socket.destroy()
    if (this.server.listening) await new Promise((resolve) => this.server.close(resolve))
  }
}

export function service(
  name: string,
  target: string | number,
  rest: Partial<ClientService> = {},
): ClientService {
  return {
    name,
    type: 'http',
    hosts: [],
    target: parseTarget(String(target)),
    idleMs: 0,
    proxyHeader: false,
    ...rest,
  }
}

/** An event of a client with its argument. */
export type Event = {
  [Name in keyof ClientEvents]: { event: Name; about: ClientEvents[Name][0] }
}[keyof ClientEvents]

interface Made {
  client: Client
  events: Moments<Event>
  lines: Moments<Line>
}

interface Serving extends Made {
  tunnel: FakeTunnel
}

/** Everything of one test, closed at its end. */
export class World {
  readonly #closing: (() => Promise<unknown>)[] = []

  async gateway(identity?: Identity): Promise<FakeGateway> {
    const gateway = await FakeGateway.start(identity)
    this.later(() => gateway.close())
    return gateway
  }

  async echo(): Promise<FakeTarget> {
    return this.target((socket) => socket.pipe(socket))
  }

  async target(onSocket?: (socket: Socket) => void): Promise<FakeTarget> {
    const target = await FakeTarget.start(onSocket)
    this.later(() => target.close())
    return target
  }

  /** Not started. By default its back-off draws no lot: every wait is 0. */
  async client(
    gateways: FakeGateway[],
    services: ClientService[],
    rest: Partial<ClientOptions> = {},
  ): Promise<Made> {
    const { log, lines } = recordingLog()
    const client = new Client({
      identity: createIdentity(),
      instance: 'test-instance',
      version: '0.0.0',
      gateways: gateways.map(({ address, pin }) => ({ addresses: [address], pin })),
      services,
      log,
      random: () => 0,
      ...rest,
    })
    const events = new Moments<Event>()
    client.on('connected', (about) => events.add({ event: 'connected', about }))
    client.on('disconnected', (about) => events.add({ event: 'disconnected', about }))
    client.on('service', (about) => events.add({ event: 'service', about }))
    client.on('failed', (about) => events.add({ event: 'failed', about }))
    this.later(() => client.close())
    return { client, events, lines }
  }

  later(close: () => Promise<unknown>): void {
    this.#closing.push(close)
  }

  /** A client that has its answers, and its tunnel to the first gateway. */
  async serving(...args: Parameters<World['client']>): Promise<Serving> {
    const made = await this.client(...args)
    made.client.start()
    await made.client.ready()
    const [gateway] = args[0]
    if (gateway === undefined) throw new Error('a client needs a gateway')
    return { ...made, tunnel: await gateway.tunnel() }
  }

  /** In the order opposite to making. */
  async close(): Promise<void> {
    for (const close of this.#closing.splice(0).toReversed()) await close()
  }
}
