import { randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { totalmem } from 'node:os'
import type { Logger } from 'pino'
import { type AcmeSettings, DEFAULT_ACME, parseRemote } from '../config/index.ts'
import { TunnelError, userError } from '../errors.ts'
import { type Identity, samePin } from '../identity/index.ts'
import { DRAIN_MS, DRAIN_MS_MAX } from '../limits.ts'
import { MemoryBudget, type Millis } from '../mux/index.ts'
import type { ServiceOffer } from '../protocol/index.ts'
import type { State } from '../state/index.ts'
import { tunnelContext } from '../transport/index.ts'
import type { CaaCheck } from './acme/issue.ts'
import { type ChallengeBroker, Challenges } from './challenges.ts'
import { Connector, type ConnectorOwner } from './connector.ts'
import { GatewayLog } from './gateway-log.ts'
import type { GatewayEntry } from './gateways.ts'
import { Generations } from './generation.ts'
import { Outcomes } from './outcomes.ts'
import { Prober } from './prober.ts'
import { type ClientService, offersFor, type ServiceOutcome, servicesByName } from './services.ts'
import { Serving } from './serving.ts'
import { type ClientStatus, statusOf } from './status.ts'
import { StatusSocket } from './status-socket.ts'
import { Tally } from './tally.ts'
import { chainsInFiles } from './tls/files.ts'
import { certificateSources } from './tls/sources.ts'
import { type Finding, ProbeAnswerer, ProbeNonces, type TrustWatch } from './trust/index.ts'
import { type ClientTrust, watchOf } from './trust/of-client.ts'

export interface ClientOptions {
  identity: Identity
  /** Hash of machine and state folder; the same for all its processes. */
  instance: string
  version: string
  gateways: GatewayEntry[]
  services: ClientService[]
  log: Logger
  /** An invite's secret, base64url; for one gateway. The tunnel that enrolls is the one that serves. */
  enroll?: { secret: string } | undefined
  /** Where this process's `status` socket is. */
  state?: State | undefined
  /** How services of `https` have their certificates, where nothing else is said of them; the usual settings when left out. */
  acme?: AcmeSettings | undefined
  /** 0 ≤ x < 1; for the jitter. */
  random?: (() => number) | undefined
  /** How often targets are asked for their health. */
  probeMs?: number | undefined
  /** What tunnels may hold in all; a quarter of RAM by default. */
  memoryBytes?: number | undefined
  /** How it is checked whether visitors come unread; undefined: it is not. */
  trust?: ClientTrust | undefined
  /** Path of the file that all of this stands in, for whoever asks for the status. */
  file?: string | undefined
}

/** All of them after `start`, none after `close` has resolved. */
export interface ClientEvents {
  /** A gateway has a tunnel, or has one again. */
  connected: [{ gateway: string; name: string }]
  /** A gateway's last tunnel was lost, or a dial failed. It is dialled again in `retryMs`, or never. */
  disconnected: [{ gateway: string; reason: TunnelError; retryMs: Millis | undefined }]
  /** What became of a service at a gateway, whenever that is new. */
  service: [ServiceOutcome]
  /** A gateway that can never work; the others go on. */
  failed: [TunnelError]
  /** Somebody may stand between this client and its visitors. Each fact once, and again after a day. */
  trust: [Finding]
}

type Phase = 'made' | 'started' | 'closed'

/**
 * The side behind NAT: keeps tunnels to its gateways and serves their visitors from its targets.
 *
 * Owns its sockets and timers: while started they keep the process alive, after `close` nothing is left. Never
 * throws out of an event of the network; what can never work is a `failed` event.
 */
export class Client extends EventEmitter<ClientEvents> {
  readonly #log: Logger
  readonly #serving: Serving
  readonly #challenges: Challenges
  readonly #connectorTo: (entry: GatewayEntry, secret?: string) => Connector
  #connectors: Connector[]
  /** Of gateways that an update left out, until their last visitors have gone. */
  readonly #retired = new Set<Connector>()
  readonly #generations = new Generations()
  readonly #outcomes: Outcomes
  readonly #prober: Prober
  readonly #tally = new Tally()
  readonly #gatewayLog: GatewayLog
  readonly #status: StatusSocket | undefined
  readonly #watch: TrustWatch | undefined
  readonly #readers = new Set<{
    resolve(outcomes: ServiceOutcome[]): void
    reject(error: TunnelError): void
  }>()
  /** Gateways that have said welcome at least once. */
  readonly #welcomed = new Set<Connector>()
  readonly #file: string | undefined
  #services: Map<string, ClientService>
  #acme: AcmeSettings
  #trust: ClientTrust | undefined
  #phase: Phase = 'made'
  #drained: Promise<void> | undefined
  #closed: Promise<void> | undefined

  /** Throws `config_invalid` for services or gateways that cannot be meant. */
  constructor(options: ClientOptions) {
    super()
    const { gateways, log, identity, version, instance, state } = options
    checkGateways(gateways)
    this.#file = options.file
    if (options.enroll !== undefined && gateways.length !== 1) {
      throw userError('config_invalid', 'an invite is for one gateway: enroll at one at a time')
    }
    this.#log = log
    this.#acme = options.acme ?? DEFAULT_ACME
    this.#gatewayLog = new GatewayLog(log)
    this.#services = servicesByName(options.services, gateways)
    const nonces = new ProbeNonces()
    const probes = new ProbeAnswerer(identity, nonces)
    this.#challenges = new Challenges(log, () => this.#connectors.some(({ seeking }) => seeking))
    this.#serving = new Serving({
      local: (head, socket) => probes.answer(head, socket),
      log,
      tally: this.#tally,
      challenges: this.#challenges,
      sources: certificateSources(() => ({
        state,
        log,
        version,
        random: options.random,
        acme: this.#acme,
        challenges: this.#challenges,
        nameservers: this.#trust?.settings.nameservers,
        caa: this.#guard,
      })),
    })
    this.#outcomes = new Outcomes(log)
    const random = options.random ?? Math.random
    const changed = (name: string, up: boolean): void => {
      for (const connector of [...this.#connectors, ...this.#retired]) connector.health(name, up)
    }
    this.#prober = new Prober({ log, random, everyMs: options.probeMs, changed })
    this.#prober.watch(this.#services.values())
    const context = tunnelContext(identity)
    const memory = new MemoryBudget(options.memoryBytes ?? defaultMemoryBytes(), () => performance.now())
    const introduction = { version, instance, process: randomBytes(16).toString('hex') }
    this.#connectorTo = (entry, secret) =>
      new Connector({
        entry,
        context,
        introduction,
        secret,
        offers: this.#offersFor(entry),
        serving: this.#serving,
        challenges: this.#challenges,
        memory,
        random,
        log,
        owner: this.#owner,
      })
    this.#connectors = gateways.map((entry) => this.#connectorTo(entry, options.enroll?.secret))
    this.#trust = options.trust
    this.#watch = options.trust && this.#watchWith(options.trust, { identity, state, nonces, random })
    this.#status = state === undefined ? undefined : new StatusSocket(state, () => this.status(), log)
  }

  /** Begins to dial. Once. */
  start(): void {
    if (this.#phase !== 'made') return
    this.#phase = 'started'
    this.#serving.services = this.#services
    this.#prober.start()
    this.#watch?.start()
    const dial = (): void => {
      if (this.#phase === 'started') for (const connector of this.#connectors) connector.start()
    }
    // Whoever has seen a URL finds the process that serves it.
    if (this.#status === undefined) dial()
    else void this.#status.open().then(dial)
  }

  /**
   * What became of every service at every gateway, once each has answered. Rejects with the error of the first
   * gateway that can never work (`wrong_pin`, `unknown_client`, `revoked`, `invite_…`), and with `closed`.
   * While a gateway cannot be reached it waits: watch `disconnected`.
   */
  ready(): Promise<ServiceOutcome[]> {
    return new Promise((resolve, reject) => {
      this.#readers.add({ resolve, reject })
      this.#tellReaders()
    })
  }

  /**
   * Replaces the services, with `gateways` where they are offered, and with `settings` how they have certificates. What did not change goes on undisturbed;
   * visitors of what is gone may finish, by a gateway that is gone for 30 s. Throws `config_invalid`, and then nothing has changed.
   */
  update(
    services: ClientService[],
    gateways: GatewayEntry[] = this.#connectors.map(({ entry }) => entry),
    settings: { acme?: AcmeSettings | undefined; trust?: ClientTrust | undefined } = {},
  ): void {
    checkGateways(gateways)
    this.#services = servicesByName(services, gateways)
    if (settings.acme !== undefined) this.#acme = settings.acme
    if (this.#phase === 'started') this.#serving.services = this.#services
    this.#dialOnly(gateways)
    for (const connector of this.#connectors) {
      connector.want(this.#offersFor(connector.entry))
      this.#outcomes.prune(connector)
      // What changed only here, as a target does, has its outcome already.
      this.#owner.answered(connector, [...this.#services.keys()])
    }
    this.#prober.watch(this.#services.values())
    const { trust = this.#trust } = settings
    const sameTrust = JSON.stringify(trust?.settings) === JSON.stringify(this.#trust?.settings)
    this.#trust = trust
    if (sameTrust) this.#watch?.changed()
    else this.#watch?.restart()
    this.#tellReaders()
  }

  /** Reads everything anew each time it looks: services, gateways and settings change. */
  #watchWith(
    first: ClientTrust,
    about: Pick<ClientOptions, 'state'> & { identity: Identity; nonces: ProbeNonces; random: () => number },
  ): TrustWatch {
    const { identity, state, nonces, random } = about
    return watchOf({
      trust: () => this.#trust ?? first,
      identity: identity.pin,
      state,
      nonces,
      random,
      log: this.#log,
      services: () => this.#services.values(),
      urls: (name) => this.#connectors.flatMap((connector) => this.#outcomes.of(connector, name)?.urls ?? []),
      gateways: () => this.#gatewayHosts(),
      chains: async () => [...this.#serving.chains, ...(await chainsInFiles(this.#services.values()))],
      alarm: (finding) => {
        this.#tally.count('trust_alarm')
        this.emit('trust', finding)
      },
    })
  }

  /** Undefined where the client was not told how to look at DNS: then nothing that asks for it is ordered. */
  get #guard(): CaaCheck | undefined {
    const trust = this.#trust
    if (trust === undefined) return undefined
    return async (hosts, accountUri, methods) => {
      const { orderGuard } = await import('./trust/checks.ts')
      const { settings, accounts = async () => [] } = trust
      return orderGuard({ settings, accounts, gateways: () => this.#gatewayHosts() })(
        hosts,
        accountUri,
        methods,
      )
    }
  }

  /** Names or IP addresses, without ports. */
  #gatewayHosts(): string[] {
    return this.#connectors.flatMap(({ entry }) =>
      entry.addresses.map((address) => parseRemote(address).host),
    )
  }

  #offersFor(entry: GatewayEntry): ServiceOffer[] {
    return offersFor(entry, this.#services.values(), this.#generations)
  }

  #dialOnly(gateways: readonly GatewayEntry[]): void {
    const before = this.#connectors
    this.#connectors = gateways.map((entry) => {
      const known = before.find((connector) => sameGateway(connector.entry, entry))
      if (known === undefined) return this.#connectorTo(entry)
      known.domain = entry.domain
      return known
    })
    for (const connector of before) {
      if (this.#connectors.includes(connector)) continue
      this.#outcomes.forget(connector)
      this.#gatewayLog.forget(connector.gateway)
      this.#welcomed.delete(connector)
      this.#retired.add(connector)
      void connector.retire(DRAIN_MS).then(() => this.#retired.delete(connector))
    }
    if (this.#phase !== 'started') return
    for (const connector of this.#connectors) if (!before.includes(connector)) connector.start()
  }

  /** Has what certificate authorities ask this client's hosts for let through to it. */
  get challenges(): ChallengeBroker {
    return this.#challenges
  }

  /** No gateway is left that could ever work. */
  get hopeless(): boolean {
    return this.#connectors.every(({ failure }) => failure !== undefined)
  }

  /** Ends without cutting anybody for `ms` at most: no new visitors, active ones finish, then `close`. */
  drain(ms: Millis): Promise<void> {
    this.#drained ??= this.#drain(Math.min(DRAIN_MS_MAX, Math.max(0, ms)))
    return this.#drained
  }

  async #drain(ms: Millis): Promise<void> {
    for (const connector of this.#connectors) connector.drain(ms)
    await this.#serving.quiet(ms)
    await this.close()
  }

  /** Ends now: visitors are reset, tunnels closed orderly. Resolves when nothing is left. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#phase = 'closed'
    this.#tellReaders()
    this.#prober.close()
    this.#challenges.close()
    const served = this.#serving.close()
    this.#gatewayLog.close()
    const connectors = [...this.#connectors, ...this.#retired]
    await Promise.all([
      ...connectors.map((connector) => connector.close()),
      this.#status?.close(),
      this.#watch?.close(),
      served,
    ])
  }

  status(): ClientStatus {
    return statusOf({
      file: this.#file,
      connectors: this.#connectors,
      services: this.#services,
      outcomes: this.#outcomes,
      serving: this.#serving,
      prober: this.#prober,
      errors: this.#tally.counts,
      trust: this.#watch?.report,
    })
  }

  #tellReaders(): void {
    if (this.#readers.size === 0) return
    const failure =
      this.#phase === 'closed' ? closedError() : this.#connectors.find(({ failure }) => failure)?.failure
    if (failure === undefined && !this.#connectors.every((connector) => this.#answered(connector))) return
    const outcomes = this.#connectors.flatMap((connector) => this.#outcomes.all(connector))
    for (const reader of this.#readers) {
      if (failure === undefined) reader.resolve(outcomes)
      else reader.reject(failure)
    }
    this.#readers.clear()
  }

  #answered(connector: Connector): boolean {
    if (!this.#welcomed.has(connector)) return false
    return this.#offersFor(connector.entry).every(
      ({ name }) => this.#outcomes.of(connector, name) !== undefined,
    )
  }

  // ── What the gateways do ──────────────────────────────────────────────────────────────────────────────

  readonly #owner: ConnectorOwner = {
    connected: (connector) => {
      const { gateway } = connector
      const name = connector.name ?? ''
      this.#gatewayLog.connected(gateway, name)
      this.#welcomed.add(connector)
      this.emit('connected', { gateway, name })
    },
    disconnected: (connector, reason, retryMs, had) => {
      const { gateway } = connector
      this.#tally.count(reason.code)
      if (had) this.#gatewayLog.lost(gateway, reason, retryMs)
      else this.#gatewayLog.missed(gateway, reason, retryMs)
      this.emit('disconnected', { gateway, reason, retryMs })
    },
    isDown: (service) => this.#prober.health(service) === 'down',
    answered: (connector, names) => {
      for (const name of names) {
        const service = this.#services.get(name)
        if (service === undefined) continue
        const outcome = this.#outcomes.learn(connector, service)
        if (outcome !== undefined) this.emit('service', outcome)
      }
      this.#watch?.changed()
      this.#tellReaders()
    },
    failed: (connector, error) => {
      const { gateway } = connector
      this.#tally.count(error.code)
      this.#log.error({ gateway, code: error.code }, error.message)
      this.emit('failed', error)
      this.#tellReaders()
    },
  }
}

function checkGateways(gateways: readonly GatewayEntry[]): void {
  if (gateways.length === 0) {
    throw userError('config_invalid', 'no gateway to dial: run `blindgate join` with an invite first')
  }
  for (const { addresses } of gateways) for (const address of addresses) parseRemote(address)
}

function sameGateway(a: GatewayEntry, b: GatewayEntry): boolean {
  return samePin(a.pin, b.pin) && a.addresses.join() === b.addresses.join()
}

/** A quarter of RAM; in a container, of what it may use. */
function defaultMemoryBytes(): number {
  const allowed = process.constrainedMemory()
  return Math.floor((allowed > 0 ? Math.min(allowed, totalmem()) : totalmem()) / 4)
}

function closedError(): TunnelError {
  return new TunnelError('closed', { scope: 'process', detail: 'the client was closed' })
}
