import type { Socket } from 'node:net'
import type { Logger } from 'pino'
import { type AccessLogSettings, formatAddress, type GatewaySettings } from '../config/index.ts'
import { type Identity, type Pin, peerPin } from '../identity/index.ts'
import { CHANGES_LOGGED_BURST, CHANGES_LOGGED_PER_SECOND } from '../limits.ts'
import { MemoryBudget } from '../mux/index.ts'
import { Pace, TunnelListener } from '../transport/index.ts'
import { AccessLog, type AccessWrite } from './access-log.ts'
import type { Authority, Revoked } from './authority.ts'
import { ChallengeDesk } from './challenge-desk.ts'
import { Clients } from './clients.ts'
import type { ConnectedClient } from './connected-client.ts'
import type { Ledger } from './ledger.ts'
import { LimitsOf } from './limits-of.ts'
import type { Listening } from './listening.ts'
import { Registrar, refusal, type Serving } from './registrar.ts'
import { reportStation, type StationReport } from './report.ts'
import { DEFAULT_HOST, DEFAULT_ROUTE, parseRoute, type Route } from './route.ts'
import { Routes } from './routes.ts'
import { TlsPort } from './tls-port.ts'
import { TrustedProxies } from './trusted.ts'
import { VisitorPorts } from './visitor-ports.ts'
import { Visitors } from './visitors.ts'

export interface Address {
  host: string
  port: number
}

export interface StationOptions {
  settings: GatewaySettings
  identity: Identity
  /** A client counts its tunnels by it, under the gateway's key. */
  id: string
  /** Of all gateways behind this one's address, as they are at first. */
  ids: readonly string[]
  version: string
  /** What is asked while visitors are on their way; changed through `ledger` alone. */
  authority: Authority
  ledger: Ledger
  listening: Listening
  /** A tunnel that came by TLS to the visitors' port, if it is not to be taken here. Owns `socket`. */
  tunnel?: (socket: Socket, first: Uint8Array) => void
  /** The host of the invites; undefined while nobody can know it. */
  ownHost: () => string | undefined
  log: Logger
  access: AccessWrite | undefined
}

/**
 * Where services are served: the routing table, the clients and the visitors, wired to their sockets. A gateway of one
 * process has one; of several, each worker has its own, and a copy of the record that one process writes.
 */
export class Station {
  visitors: Address = { host: '', port: 0 }
  clients: Address = { host: '', port: 0 }
  tls: Address | undefined

  readonly #options: StationOptions
  readonly #memory: MemoryBudget
  readonly #routes: Routes<ConnectedClient>
  readonly #visitors: Visitors
  readonly #ports: VisitorPorts
  readonly #registrar: Registrar
  readonly #clients: Clients
  readonly #listener: TunnelListener<Pin>
  readonly #tlsPort: TlsPort
  readonly #access: AccessLog | undefined
  readonly #goneLines = new Pace(CHANGES_LOGGED_PER_SECOND, CHANGES_LOGGED_BURST)
  #ids: readonly string[]
  #limits: LimitsOf
  #trusted: TrustedProxies
  #closing: Promise<void> | undefined

  constructor(options: StationOptions) {
    const { settings, identity, authority, ledger, listening, log } = options
    this.#options = options
    this.#ids = options.ids
    this.#access = options.access && accessLog(settings.log, options.access)
    this.#limits = new LimitsOf(settings)
    this.#trusted = new TrustedProxies(settings.trustedProxies)
    this.#memory = new MemoryBudget(settings.memoryBytes, () => performance.now())
    this.#routes = new Routes<ConnectedClient>({
      isLive: (client) => client.usable,
      onLive: (route) => {
        ledger.markLive(route)
        this.#visitors.release(route)
        log.debug({ route }, 'route is live')
      },
      onGone: (route) => {
        ledger.markGone(route)
        const level = this.#goneLines.take(performance.now()) ? 'info' : 'debug'
        log[level]({ route }, 'route has no client: its visitors are held')
      },
      onLeft: (client, route) => challenges.left(client, route),
    })
    const challenges = new ChallengeDesk({ authority, routes: this.#routes, log })
    this.#visitors = new Visitors({
      authority,
      routes: this.#routes,
      challenges,
      memory: this.#memory,
      holdMs: settings.holdMs,
      limits: () => this.#limits,
      trusted: () => this.#trusted,
      access: this.#access,
      tlsPort: () => this.tls?.port ?? 0,
      log,
    })
    const { portsHost = settings.listen.http.host } = settings.listen
    this.#ports = new VisitorPorts({ visitors: this.#visitors, host: () => portsHost, listening, log })
    this.#registrar = new Registrar({
      authority,
      routes: this.#routes,
      ports: this.#ports,
      ledger,
      urlOf: (route) => this.#urlOf(route),
      clients: () => this.#clients.all,
      onWithdrawn: (route) => this.#visitors.dismiss(route),
      log,
    })
    this.#clients = new Clients({
      authority,
      routes: this.#routes,
      registrar: this.#registrar,
      challenges,
      ledger,
      gateway: { id: options.id, version: options.version },
      ids: () => this.#ids,
      keepaliveSeconds: settings.keepaliveSeconds,
      memory: this.#memory,
      onOpenable: (client) => {
        for (const { routes } of client.services.values())
          for (const route of routes) this.#visitors.release(route)
      },
      onDraining: (client) => this.#visitors.clientLeaves(client),
      log,
    })
    const turnedAway = (address: string, why: string): void => log.debug({ address }, `turned away: ${why}`)
    this.#listener = new TunnelListener({
      keys: identity,
      identify: peerPin,
      accept: this.#clients.accept,
      turnedAway,
    })
    this.#tlsPort = new TlsPort({
      tunnel: options.tunnel ?? ((socket, first) => this.#listener.adopt(socket, first)),
      visitor: (socket, hello, first) => this.#visitors.arriveTls(socket, hello, first),
      turnedAway,
      listening,
    })
  }

  /** Listens for all who come; for clients too, where they have a port that is not somebody else's business. */
  async listen({ tls, tunnel, http }: GatewaySettings['listen']): Promise<void> {
    if (tls !== undefined) this.tls = await this.#tlsPort.listen(tls)
    this.clients = tunnel === undefined ? (this.tls ?? this.clients) : await this.#listener.listen(tunnel)
    this.visitors = await this.#ports.listen(DEFAULT_ROUTE, http)
  }

  /** Opens the ports of owned routes. */
  openOwned(): Promise<void> {
    return this.#registrar.openOwned()
  }

  /** Takes a tunnel's connection from elsewhere; `first` was read from it. Owns `socket`. */
  adopt(socket: Socket, first: Uint8Array): void {
    this.#listener.adopt(socket, first)
  }

  /** Cuts whom the authority knows no more, and what it took away, at once. */
  revoked({ keys, routes }: Revoked): void {
    this.#clients.revoke(keys)
    this.#registrar.abandon(routes, refusal('not_granted', 'the name was revoked on the gateway'))
  }

  /** A route that nobody owns any more. */
  released(route: Route): void {
    this.#registrar.abandon([route], refusal('route_taken', 'the route was released on the gateway'))
  }

  serving(route: Route): Serving | undefined {
    return this.#registrar.serving(route)
  }

  /**
   * Takes what changes without a restart. `uncovered` are the routes that the grants no longer cover: their services are
   * withdrawn and their visitors cut.
   */
  async reload(settings: GatewaySettings, uncovered: readonly { route: Route }[]): Promise<void> {
    this.#limits = new LimitsOf(settings)
    this.#trusted = new TrustedProxies(settings.trustedProxies)
    this.#access?.reload(settings.log)
    const why = refusal('not_granted', 'the grant was narrowed on the gateway')
    this.#registrar.withdraw(uncovered.map(({ route }) => ({ route, why })))
    for (const { route } of uncovered) this.#ports.close(route)
    // What it covers again has an owner still.
    await this.#registrar.openOwned()
  }

  /** Other gateways are behind the address now. */
  behind(ids: readonly string[]): void {
    this.#ids = ids
    this.#clients.tellIds(ids)
  }

  report(): StationReport {
    return reportStation({
      authority: this.#options.authority,
      routes: this.#routes,
      clients: this.#clients,
      visitors: this.#visitors,
      memory: this.#memory,
      unauthenticated: this.#listener.waiting + this.#tlsPort.waiting,
    })
  }

  /** No new visitors and clients; resolves when those who are here have finished, after `ms` at the latest. */
  async drain(ms: number): Promise<void> {
    this.#options.log.info({ visitors: this.#visitors.served, ms }, 'draining')
    this.#clients.drain(ms)
    this.#ports.closeAll()
    await this.#visitors.drained(ms)
  }

  /** At once: visitors are reset, tunnels end; nothing is asked of the ledger after it. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#ports.closeAll()
    this.#visitors.close()
    await Promise.all([this.#listener.close(), this.#tlsPort.close(), this.#clients.end()])
    // What was being answered when the clients were cut may still write.
    await this.#registrar.idle()
    this.#access?.close()
  }

  /** As a visitor would type it, with the host of the invites: the client puts the one it dialled in its place. */
  #urlOf(route: Route): string {
    const parsed = parseRoute(route)
    const own = this.#options.ownHost() ?? this.clients.host
    if (parsed.kind === 'tcp') return `tcp://${formatAddress({ host: own, port: parsed.port })}`
    const bracketed = own.includes(':') ? `[${own}]` : own
    if (parsed.kind === 'https') {
      const port = this.tls?.port ?? 443
      return `https://${parsed.host}${port === 443 ? '' : `:${port}`}/`
    }
    const host = parsed.host === DEFAULT_HOST ? bracketed : parsed.host
    const port = this.visitors.port === 80 ? '' : `:${this.visitors.port}`
    return `http://${host}${port}${route === DEFAULT_ROUTE ? '' : parsed.path}`
  }
}

function accessLog({ access, ...rest }: AccessLogSettings, write: AccessWrite): AccessLog | undefined {
  return access === 'off' ? undefined : new AccessLog({ access, ...rest }, write)
}
