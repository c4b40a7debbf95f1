import { createHash, randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import { type AccessLogSettings, formatAddress, type GatewaySettings } from '../config/index.ts'
import { userError } from '../errors.ts'
import { type Identity, type Pin, peerPin } from '../identity/index.ts'
import { CHANGES_LOGGED_BURST, CHANGES_LOGGED_PER_SECOND, INVITE_EXPIRES_MS } from '../limits.ts'
import { MemoryBudget } from '../mux/index.ts'
import { globalAddresses } from '../net/index.ts'
import { type Lock, type State, serveLocal } from '../state/index.ts'
import { Pace, TunnelListener } from '../transport/index.ts'
import { AccessLog, type AccessWrite } from './access-log.ts'
import { Admin } from './admin.ts'
import { ChallengeDesk } from './challenge-desk.ts'
import { Clients } from './clients.ts'
import {
  GATEWAY_LOCK,
  GATEWAY_SOCKET,
  type GatewayRequest,
  gatewayRequestSchema,
  makeInvite,
} from './commands.ts'
import type { ConnectedClient } from './connected-client.ts'
import { inviteAddress } from './invite-address.ts'
import { LimitsOf } from './limits-of.ts'
import { Registrar, refusal } from './registrar.ts'
import { type GatewayStatus, type Reported, reportClients, reportGauges, reportStatus } from './report.ts'
import { DEFAULT_HOST, DEFAULT_ROUTE, formatRoute, parseRoute, type Route } from './route.ts'
import { Routes } from './routes.ts'
import { Store } from './store.ts'
import { TlsPort } from './tls-port.ts'
import { TrustedProxies } from './trusted.ts'
import { VisitorPorts } from './visitor-ports.ts'
import { Visitors } from './visitors.ts'

export interface GatewayOptions {
  settings: GatewaySettings
  state: State
  identity: Identity
  version: string
  log: Logger
  /** Where the access log goes; without it there is none. */
  access?: AccessWrite
}

/**
 * Starts a gateway: listens for clients and visitors, and answers this machine's commands. It holds the lock of
 * `state` until it is closed. Rejects with one error (`state_locked`, `address_in_use`, …) and leaves nothing open.
 */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const lock = await options.state.lock(GATEWAY_LOCK)
  let gateway: Gateway | undefined
  try {
    gateway = new Gateway(options, lock, await Store.open(options.state, options.log))
    await gateway.start()
    return gateway
  } catch (error) {
    if (gateway === undefined) await lock.release()
    else await gateway.close()
    throw error
  }
}

/** A running gateway: wires the authority, the routing table, the clients and the visitors to their sockets. */
export class Gateway {
  readonly pin: Pin
  visitors: { host: string; port: number } = { host: '', port: 0 }
  clients: { host: string; port: number } = { host: '', port: 0 }
  /** Where visitors of `https` services connect, and clients too. */
  tls: { host: string; port: number } | undefined
  admin: { host: string; port: number } | undefined

  readonly #options: GatewayOptions
  readonly #lock: Lock
  readonly #store: Store
  readonly #memory: MemoryBudget
  readonly #routes: Routes<ConnectedClient>
  readonly #visitors: Visitors
  readonly #ports: VisitorPorts
  readonly #registrar: Registrar
  readonly #clients: Clients
  readonly #goneLines = new Pace(CHANGES_LOGGED_PER_SECOND, CHANGES_LOGGED_BURST)
  readonly #listener: TunnelListener<Pin>
  readonly #tlsPort: TlsPort
  readonly #admin: Admin
  readonly #access: AccessLog | undefined
  #settings: GatewaySettings
  #limits: LimitsOf
  #trusted: TrustedProxies
  #local: { close(): Promise<void> } | undefined
  #ready = false
  #closing: Promise<void> | undefined

  constructor(options: GatewayOptions, lock: Lock, store: Store) {
    const { settings, identity, log, version } = options
    const { authority } = store
    this.#access = options.access && accessLog(settings.log, options.access)
    this.pin = identity.pin
    this.#options = options
    this.#settings = settings
    this.#limits = new LimitsOf(settings)
    this.#trusted = new TrustedProxies(settings.trustedProxies)
    store.setDomain(settings.domain)
    this.#lock = lock
    this.#store = store
    this.#memory = new MemoryBudget(settings.memoryBytes, () => performance.now())
    const save = (): Promise<void> => store.save()
    this.#routes = new Routes<ConnectedClient>({
      isLive: (client) => client.usable,
      onLive: (route) => {
        authority.markLive(route)
        store.saveSoon()
        this.#visitors.release(route)
        log.debug({ route }, 'route is live')
      },
      onGone: (route) => {
        authority.markGone(route, Date.now())
        store.saveSoon()
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
    this.#ports = new VisitorPorts({ visitors: this.#visitors, host: () => this.#portsHost, log })
    this.#registrar = new Registrar({
      authority,
      routes: this.#routes,
      ports: this.#ports,
      save,
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
      save,
      gateway: { id: gatewayId(identity), version },
      keepaliveSeconds: settings.keepaliveSeconds,
      memory: this.#memory,
      onOpenable: (client) => {
        for (const { routes } of client.services.values())
          for (const route of routes) this.#visitors.release(route)
      },
      onDraining: (client) => this.#visitors.clientLeaves(client),
      log,
    })
    this.#listener = new TunnelListener({
      keys: identity,
      identify: peerPin,
      accept: this.#clients.accept,
      turnedAway: (address, why) => log.debug({ address }, `turned away: ${why}`),
    })
    this.#tlsPort = new TlsPort({
      tunnel: (socket, first) => this.#listener.adopt(socket, first),
      visitor: (socket, hello, first) => this.#visitors.arriveTls(socket, hello, first),
      turnedAway: (address, why) => log.debug({ address }, `turned away: ${why}`),
    })
    this.#admin = new Admin(
      { ready: () => this.#ready, gauges: () => reportGauges(this.#reported) },
      settings.adminToken,
    )
  }

  async start(): Promise<void> {
    const { settings, state } = this.#options
    const { authority } = this.#store
    this.#store.setGrants(settings.grants)
    authority.restarted(Date.now())
    const { tls, tunnel } = settings.listen
    if (tls !== undefined) this.tls = await this.#tlsPort.listen(tls)
    authority.tls = tls !== undefined
    this.clients = tunnel === undefined ? (this.tls ?? this.clients) : await this.#listener.listen(tunnel)
    this.visitors = await this.#ports.listen(DEFAULT_ROUTE, settings.listen.http)
    if (settings.listen.admin !== undefined) this.admin = await this.#admin.listen(settings.listen.admin)
    authority.reservedPorts = new Set([
      this.clients.port,
      this.visitors.port,
      ...(this.tls === undefined ? [] : [this.tls.port]),
      ...(this.admin === undefined ? [] : [this.admin.port]),
    ])
    await this.#registrar.openOwned()
    this.#chooseAddress()
    this.#local = await serveLocal(state.socketPath(GATEWAY_SOCKET), (request) => {
      const parsed = gatewayRequestSchema.safeParse(request)
      if (parsed.success) return this.command(parsed.data)
      throw userError(
        'usage',
        'this gateway does not know that command: use the same version of blindgate for both',
      )
    })
    await this.#store.save()
    this.#ready = true
  }

  /** One command of this machine. What it changed is on disk when it resolves. */
  async command(request: GatewayRequest): Promise<unknown> {
    const { authority } = this.#store
    const { log } = this.#options
    switch (request.command) {
      case 'invite': {
        const answer = makeInvite(this.#store, this.pin, request)
        await this.#store.save()
        log.info({ name: answer?.name, uses: request.uses }, 'invite made')
        return answer
      }
      case 'revoke': {
        const revoked = authority.revoke(request.target, Date.now())
        this.#clients.revoke(revoked.keys)
        const why = refusal('not_granted', 'the name was revoked on the gateway')
        this.#registrar.abandon(revoked.routes, why)
        // Not behind whatever others are asking for: it must be on disk now.
        await this.#store.save()
        log.warn(revoked, 'revoked')
        return revoked
      }
      case 'release': {
        const name = await this.#registrar.release(request.route)
        const route = formatRoute(parseRoute(request.route))
        log.warn({ route, name }, 'route released')
        return { route, name }
      }
      case 'clients':
        return { clients: reportClients(this.#reported) }
      case 'status':
        return this.status()
    }
  }

  /** The invite of a first run; undefined once somebody has enrolled, or when nobody can know the address. */
  async firstInvite(): Promise<string | undefined> {
    if (this.#store.addresses.length === 0) return undefined
    const made = makeInvite(this.#store, this.pin, { uses: 1, expiresMs: INVITE_EXPIRES_MS, first: true })
    await this.#store.save()
    return made?.invite
  }

  /** True while no machine has enrolled. */
  get nobodyEnrolled(): boolean {
    return this.#store.authority.needsFirstInvite
  }

  status(): GatewayStatus {
    return reportStatus(this.#reported)
  }

  /**
   * Takes the grants of a reloaded file: what they no longer cover is withdrawn and its visitors are cut; and its
   * limits, trusted proxies and what the access log shows. Listeners stay as they are; returns what of the file needs
   * a restart.
   */
  async reload(settings: GatewaySettings): Promise<string[]> {
    const old = this.#settings
    const { grants, limits, routeLimits, trustedProxies, log } = settings
    this.#settings = {
      ...old,
      grants,
      limits,
      routeLimits,
      trustedProxies,
      log: { ...log, access: old.log.access },
    }
    this.#limits = new LimitsOf(settings)
    this.#trusted = new TrustedProxies(trustedProxies)
    this.#access?.reload(log)
    const uncovered = this.#store.setGrants(settings.grants)
    const why = refusal('not_granted', 'the grant was narrowed on the gateway')
    this.#registrar.withdraw(uncovered.map(({ route }) => ({ route, why })))
    for (const { route } of uncovered) this.#ports.close(route)
    // What it covers again has an owner still.
    await this.#registrar.openOwned()
    await this.#store.save()
    const before = untilRestart(old)
    return Object.entries(untilRestart(settings))
      .filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(before[key]))
      .map(([key]) => key)
  }

  /** No new visitors and clients; those who are here finish, for at most `ms`; then as `close`. */
  async drain(ms: number = this.#settings.drainMs): Promise<void> {
    this.#ready = false
    this.#options.log.info({ visitors: this.#visitors.served, ms }, 'draining')
    this.#clients.drain(ms)
    this.#ports.closeAll()
    await this.#visitors.drained(ms)
    await this.close()
  }

  /** At once: visitors are reset, tunnels end, the state is written, the lock is free. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#ready = false
    try {
      await this.#local?.close()
      this.#ports.closeAll()
      this.#visitors.close()
      await Promise.all([
        this.#listener.close(),
        this.tls === undefined ? undefined : this.#tlsPort.close(),
        this.#clients.end(),
        this.admin === undefined ? undefined : this.#admin.close(),
      ])
      // What was being answered when the clients were cut may still write: not after the lock is free.
      await this.#registrar.idle()
      this.#access?.close()
      await this.#store.close()
    } finally {
      await this.#lock.release()
    }
  }

  get #portsHost(): string | undefined {
    return this.#settings.listen.portsHost ?? this.#settings.listen.http.host
  }

  #chooseAddress(): void {
    const given = this.#settings.address
    const address = inviteAddress({
      said: given ?? this.#store.address,
      bound: this.clients,
      globals: globalAddresses(),
    })
    this.#store.setAddresses(address === undefined ? [] : [address], given)
  }

  /** As a visitor would type it, with the host of the invites: the client puts the one it dialled in its place. */
  #urlOf(route: Route): string {
    const parsed = parseRoute(route)
    const [address] = this.#store.addresses
    const own =
      address === undefined ? this.clients.host : address.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')
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

  get #reported(): Reported {
    return {
      store: this.#store,
      routes: this.#routes,
      clients: this.#clients,
      visitors: this.#visitors,
      memory: this.#memory,
      unauthenticated: this.#listener.waiting + this.#tlsPort.waiting,
    }
  }
}

/** What a reload leaves as it is, by the key of the file. */
function untilRestart(settings: GatewaySettings): Record<string, unknown> {
  const { listen, adminToken, address, domain, memoryBytes, drainMs, holdMs, log } = settings
  return {
    listen,
    admin_token_file: adminToken,
    address,
    domain,
    memory: memoryBytes,
    drain: drainMs,
    hold: holdMs,
    access: log.access,
  }
}

function accessLog({ access, ...rest }: AccessLogSettings, write: AccessWrite): AccessLog | undefined {
  return access === 'off' ? undefined : new AccessLog({ access, ...rest }, write)
}

/** Distinguishes gateways and runs: a client counts its tunnels by it, under the gateway's key. */
function gatewayId(identity: Identity): string {
  return createHash('sha256').update(identity.pin).update(randomBytes(16)).digest('hex').slice(0, 16)
}
