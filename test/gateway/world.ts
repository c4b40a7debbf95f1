import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client, type ClientOptions, type ClientService } from '../../src/client/index.ts'
import { DEFAULT_HTTP_LIMITS, type GatewaySettings, type Grant } from '../../src/config/index.ts'
import {
  type ClientRow,
  type Gateway,
  type GatewayStatus,
  type InviteAnswer,
  startGateway,
} from '../../src/gateway/index.ts'
import { createIdentity, decodeInvite, type Identity } from '../../src/identity/index.ts'
import type { Hello, ServiceOffer } from '../../src/protocol/index.ts'
import { identityIn, openState, type State } from '../../src/state/index.ts'
import type { Moments } from '../client/moments.ts'
import { FakeTarget, type Line, recordingLog } from '../client/world.ts'
import { Relay } from './relay.ts'
import { type Carried, ScriptedClient } from './scripted-client.ts'
import { Visit } from './visit.ts'

export const HTTP: ServiceOffer = { name: 'web', type: 'http' }
export const tcp = (port: number, name = `tcp-${port}`): ServiceOffer => ({ name, type: 'tcp', port })
export const REQUEST = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
export const ANSWER = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhere'

export function settings(changes: Partial<GatewaySettings> = {}): GatewaySettings {
  return {
    listen: { http: { host: '127.0.0.1', port: 0 }, tunnel: { host: '127.0.0.1', port: 0 } },
    address: '127.0.0.1:9001',
    grants: undefined,
    workers: 1,
    memoryBytes: 256 * 1024 * 1024,
    drainMs: 5_000,
    holdMs: 10_000,
    keepaliveSeconds: 5,
    trustedProxies: [],
    limits: DEFAULT_HTTP_LIMITS,
    routeLimits: new Map(),
    log: { access: 'off', address: 'full', query: false },
    ...changes,
  }
}

const TYPES: Grant['types'] = ['http', 'tcp']

/** Grants by name: ports as ranges, and the default route for those named with a `*`. */
export function granted(
  grants: Record<string, { hosts?: string[]; ports?: [from: number, to: number][]; types?: Grant['types'] }>,
): Map<string, Grant> {
  return new Map(
    Object.entries(grants).map(([name, { hosts = [], ports = [], types = TYPES }]) => [
      name,
      { types, hosts, ports: ports.map(([from, to]) => ({ from, to })) } satisfies Grant,
    ]),
  )
}

/** A gateway that runs, and the words for what tests do with it. */
export interface Running {
  gateway: Gateway
  state: State
  lines: Moments<Line>
  /** Of its tunnel port. */
  address: string
  /** What visitors of the default route dial. */
  http: number
}

/** Everything of one test, closed at its end. */
export class World {
  readonly #closing: (() => unknown)[] = []
  readonly #identities = new Map<string, Identity>()

  later(close: () => unknown): void {
    this.#closing.push(close)
  }

  async close(): Promise<void> {
    for (const close of this.#closing.splice(0).toReversed()) await close()
  }

  async folder(): Promise<State> {
    const path = await mkdtemp(join(tmpdir(), 'bg-'))
    this.later(() => rm(path, { recursive: true, force: true }))
    return openState(path)
  }

  async gateway(
    changes: Partial<GatewaySettings> = {},
    given?: State,
    access?: (text: string, done: () => void) => void,
  ): Promise<Running> {
    const state = given ?? (await this.folder())
    const { log, lines } = recordingLog()
    const identity = await identityIn(state, 'gateway')
    const gateway = await startGateway({
      settings: settings(changes),
      state,
      identity,
      version: '0',
      log,
      ...(access === undefined ? {} : { access }),
    })
    this.later(() => gateway.close())
    const { host, port } = gateway.clients
    return { gateway, state, lines, address: `${host}:${port}`, http: gateway.visitors.port }
  }

  /** A machine's key, the same for the same machine. */
  async machine(name: string): Promise<Identity> {
    const known = this.#identities.get(name) ?? createIdentity()
    this.#identities.set(name, known)
    return known
  }

  /** The secret of a new invite. */
  async secret({ gateway }: Running, name?: string, uses = 1): Promise<string> {
    const { invite } = (await gateway.command({
      command: 'invite',
      uses,
      expiresMs: 60_000,
      ...(name === undefined ? {} : { name }),
    })) as InviteAnswer
    return Buffer.from(decodeInvite(invite).secret).toString('base64url')
  }

  /** Its hello is on the way. */
  async dial(
    running: Running,
    machine: string,
    hello: Partial<Hello> = {},
    serve?: (visit: Carried) => unknown,
  ): Promise<ScriptedClient> {
    const client = await ScriptedClient.dial(running.address, await this.machine(machine), hello, serve)
    this.later(async () => {
      client.tunnel.end()
      await client.closed
    })
    return client
  }

  /** Enrols a machine with the tunnel that then serves. Resolves after `welcome`. */
  async enroll(
    running: Running,
    machine: string,
    options: { name?: string; serve?: (visit: Carried) => unknown } & Partial<Hello> = {},
  ): Promise<ScriptedClient> {
    const { name, serve, ...hello } = options
    const secret = await this.secret(running, name)
    const client = await this.dial(running, machine, { ...hello, enroll: { secret } }, serve)
    await client.welcome()
    return client
  }

  /** The real client of a machine that is enrolled; ready when this resolves. */
  async client(
    running: Running,
    machine: string,
    services: ClientService[],
    rest: Partial<ClientOptions> = {},
  ): Promise<Client> {
    const client = new Client({
      identity: await this.machine(machine),
      instance: `instance-of-${machine}`,
      version: '0',
      gateways: [{ addresses: [running.address], pin: running.gateway.pin }],
      services,
      log: recordingLog().log,
      random: () => 0,
      ...rest,
    })
    this.later(() => client.close())
    client.start()
    await client.ready()
    return client
  }

  async target(onSocket?: (socket: Socket) => void): Promise<FakeTarget> {
    const target = await FakeTarget.start(onSocket)
    this.later(() => target.close())
    return target
  }

  /** A network to the gateway's tunnel port, which may fall silent. */
  async relay({ gateway }: Running): Promise<Relay> {
    const relay = await Relay.to(gateway.clients.port)
    this.later(() => relay.close())
    return relay
  }

  visit(port: number, text?: string | Uint8Array): Visit {
    const visit = new Visit(port, text)
    this.later(() => visit.socket.destroy())
    return visit
  }
}

export function status({ gateway }: Running): Promise<GatewayStatus> {
  return gateway.status()
}

export async function clients({ gateway }: Running): Promise<ClientRow[]> {
  const answer = (await gateway.command({ command: 'clients' })) as { clients: ClientRow[] }
  return answer.clients
}

export async function heldAt(running: Running, route = 'default'): Promise<number> {
  return (await status(running)).routes.find((entry) => entry.route === route)?.held ?? 0
}

/** Ports open only after a name was looked up: there is time between the claim and the listener. */
export const SLOW_PORTS = { ...settings().listen, portsHost: 'localhost' }

/** A port that nobody listens on just now. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}
