import type { ChildProcess } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import type { GatewaySettings } from '../config/index.ts'
import { TunnelError, userError } from '../errors.ts'
import type { Identity, Pin } from '../identity/index.ts'
import { INVITE_EXPIRES_MS } from '../limits.ts'
import { globalAddresses } from '../net/index.ts'
import { type Lock, type State, serveLocal } from '../state/index.ts'
import type { AccessWrite } from './access-log.ts'
import { Admin } from './admin.ts'
import type { Revoked } from './authority.ts'
import {
  GATEWAY_LOCK,
  GATEWAY_SOCKET,
  type GatewayRequest,
  gatewayRequestSchema,
  makeInvite,
} from './commands.ts'
import { inviteAddress } from './invite-address.ts'
import { ownLedger } from './ledger.ts'
import { ownListening } from './listening.ts'
import type { Serving } from './registrar.ts'
import {
  type GatewayStatus,
  reportClients,
  reportStatus,
  type StationReport,
  type WorkerRow,
} from './report.ts'
import { formatRoute, parseRoute, type Route } from './route.ts'
import type { Gauge } from './series.ts'
import { type Address, Station } from './station.ts'
import { Store } from './store.ts'

export interface GatewayOptions {
  settings: GatewaySettings
  state: State
  identity: Identity
  version: string
  log: Logger
  /** Where the access log goes; without it there is none. */
  access?: AccessWrite
  /** Starts a process that calls `runWorker`; for settings with more workers than one. */
  fork?: (worker: number) => ChildProcess
}

/** Those who serve: this process itself, or its workers. */
export interface Staff {
  readonly visitors: Address
  readonly clients: Address
  readonly tls: Address | undefined
  /** Those who come may have to wait until `begin`. */
  listen(listen: GatewaySettings['listen']): Promise<void>
  /** Resolves when visitors and clients are served. The authority knows all that it must. */
  begin(): Promise<void>
  /** True while somebody is served who comes. */
  readonly ready: boolean
  /** What the authority took away has been cut when it resolves. */
  revoked(revoked: Revoked): Promise<void>
  released(route: Route): Promise<void>
  reload(settings: GatewaySettings, uncovered: readonly { route: Route }[]): Promise<void>
  serving(route: Route): Promise<Serving | undefined>
  report(): Promise<{ sum: StationReport; workers?: WorkerRow[]; gauges?: Gauge[] }>
  drain(ms: number): Promise<void>
  close(): Promise<void>
}

/**
 * Starts a gateway: listens for clients and visitors, and answers this machine's commands. It holds the lock of
 * `state` until it is closed. Rejects with one error (`state_locked`, `address_in_use`, …) and leaves nothing open.
 */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const lock = await options.state.lock(GATEWAY_LOCK)
  let gateway: Gateway | undefined
  try {
    const store = await Store.open(options.state, options.log)
    gateway = new Gateway(options, lock, store, await staffOf(options, store))
    await gateway.start()
    return gateway
  } catch (error) {
    if (gateway === undefined) await lock.release()
    else await gateway.close()
    throw error
  }
}

/** The code of workers is loaded only where there are some. */
async function staffOf(options: GatewayOptions, store: Store): Promise<Staff> {
  const { settings, fork } = options
  if (settings.workers === 1) return ownStaff(options, store)
  if (fork === undefined)
    throw userError('usage', 'this program runs a gateway in one process: leave workers out')
  const { Workers } = await import('./workers/workers.ts')
  return new Workers({ ...options, fork, store })
}

function ownStaff({ settings, identity, version, log, access }: GatewayOptions, store: Store): Staff {
  const id = gatewayId(identity)
  const station = new Station({
    settings,
    identity,
    id,
    ids: [id],
    version,
    authority: store.authority,
    ledger: ownLedger(store),
    listening: ownListening,
    ownHost: () => store.host,
    log,
    access,
  })
  return {
    get visitors() {
      return station.visitors
    },
    get clients() {
      return station.clients
    },
    get tls() {
      return station.tls
    },
    ready: true,
    listen: (listen) => station.listen(listen),
    begin: () => station.openOwned(),
    revoked: async (revoked) => station.revoked(revoked),
    released: async (route) => station.released(route),
    reload: (changed, uncovered) => station.reload(changed, uncovered),
    serving: async (route) => station.serving(route),
    report: async () => ({ sum: station.report() }),
    drain: (ms) => station.drain(ms),
    close: () => station.close(),
  }
}

/** A running gateway: its record and its commands. Those who come are served by its staff. */
export class Gateway {
  readonly pin: Pin
  admin: Address | undefined

  readonly #options: GatewayOptions
  readonly #lock: Lock
  readonly #store: Store
  readonly #staff: Staff
  readonly #admin: Admin
  #settings: GatewaySettings
  #local: { close(): Promise<void> } | undefined
  #ready = false
  #closing: Promise<void> | undefined

  constructor(options: GatewayOptions, lock: Lock, store: Store, staff: Staff) {
    const { settings, identity } = options
    this.pin = identity.pin
    this.#options = options
    this.#settings = settings
    store.setDomain(settings.domain)
    this.#lock = lock
    this.#store = store
    this.#staff = staff
    this.#admin = new Admin(
      { ready: () => this.#ready && staff.ready, gauges: () => this.#gauges() },
      settings.adminToken,
    )
  }

  get visitors(): Address {
    return this.#staff.visitors
  }

  get clients(): Address {
    return this.#staff.clients
  }

  /** Where visitors of `https` services connect, and clients too. */
  get tls(): Address | undefined {
    return this.#staff.tls
  }

  async start(): Promise<void> {
    const { settings, state } = this.#options
    const { authority } = this.#store
    this.#store.setGrants(settings.grants)
    authority.restarted(Date.now())
    authority.tls = settings.listen.tls !== undefined
    await this.#staff.listen(settings.listen)
    if (settings.listen.admin !== undefined) this.admin = await this.#admin.listen(settings.listen.admin)
    authority.reservedPorts = new Set(
      [this.clients, this.visitors, this.tls, this.admin].flatMap((at) =>
        at === undefined ? [] : [at.port],
      ),
    )
    this.#chooseAddress()
    await this.#staff.begin()
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
        const cut = this.#staff.revoked(revoked)
        // Not behind whatever others are asking for: it must be on disk now.
        await this.#store.save()
        await cut
        log.warn(revoked, 'revoked')
        return revoked
      }
      case 'release':
        return this.#release(formatRoute(parseRoute(request.route)))
      case 'clients': {
        const { sum } = await this.#staff.report()
        return { clients: reportClients(authority, sum) }
      }
      case 'status':
        return this.status()
    }
  }

  /** Only a route that nobody serves. */
  async #release(route: Route): Promise<{ route: Route; name: string }> {
    const serving = await this.#staff.serving(route)
    if (serving !== undefined) {
      const { clients, name, service } = serving
      throw new TunnelError('route_taken', {
        scope: 'process',
        detail: `${route} is being served by ${clients} client(s) of "${name}": stop service "${service}" there first, or revoke it`,
      })
    }
    const name = this.#store.authority.release(route)
    await this.#staff.released(route)
    await this.#store.save()
    this.#options.log.warn({ route, name }, 'route released')
    return { route, name }
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

  async status(): Promise<GatewayStatus> {
    const { sum, workers } = await this.#staff.report()
    return reportStatus(this.#store.authority, sum, workers)
  }

  async #gauges(): Promise<Gauge[]> {
    const { sum, gauges = [] } = await this.#staff.report()
    return [...sum.gauges, ...gauges]
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
    await this.#staff.reload(this.#settings, this.#store.setGrants(grants))
    await this.#store.save()
    const before = untilRestart(old)
    return Object.entries(untilRestart(settings))
      .filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(before[key]))
      .map(([key]) => key)
  }

  /** No new visitors and clients; those who are here finish, for at most `ms`; then as `close`. */
  async drain(ms: number = this.#settings.drainMs): Promise<void> {
    this.#ready = false
    await this.#staff.drain(ms)
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
      await Promise.all([this.#staff.close(), this.admin === undefined ? undefined : this.#admin.close()])
      await this.#store.close()
    } finally {
      await this.#lock.release()
    }
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
}

/** What a reload leaves as it is, by the key of the file. */
function untilRestart(settings: GatewaySettings): Record<string, unknown> {
  const { listen, adminToken, address, domain, workers, memoryBytes, drainMs, holdMs, log } = settings
  return {
    listen,
    admin_token_file: adminToken,
    address,
    domain,
    workers,
    memory: memoryBytes,
    drain: drainMs,
    hold: holdMs,
    access: log.access,
  }
}

/** Distinguishes gateways and runs: a client counts its tunnels by it, under the gateway's key. */
export function gatewayId(identity: Identity): string {
  return createHash('sha256').update(identity.pin).update(randomBytes(16)).digest('hex').slice(0, 16)
}
