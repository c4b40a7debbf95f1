import type { TLSSocket } from 'node:tls'
import type { Logger } from 'pino'
import { TunnelError } from '../errors.ts'
import { hashSecret, type Pin } from '../identity/index.ts'
import {
  CHANGES_LOGGED_BURST,
  CHANGES_LOGGED_PER_SECOND,
  DRAIN_MS_MAX,
  HELLO_BYTES,
  ORDERLY_CLOSE_MS,
  PROBE_MS,
  REPEATED_LOG_MS,
  REQUESTS_UNANSWERED,
  REVOKED_CLOSE_MS,
  SERVICES_BURST,
  SERVICES_PER_SECOND,
  STREAM_WINDOW_BYTES,
  TUNNELS,
  TUNNELS_PER_KEY,
} from '../limits.ts'
import type { MemoryBudget } from '../mux/index.ts'
import { gatewayDescriptors } from '../net/index.ts'
import {
  type ClientMessage,
  type Hello,
  isRejectCode,
  isUnreachedCode,
  type Message,
  PROTOCOL_VERSION,
  packItems,
  printable,
  rejection,
  type ServiceOffer,
  type ServiceResult,
} from '../protocol/index.ts'
import { Pace, Tunnel } from '../transport/index.ts'
import type { Authority } from './authority.ts'
import type { ChallengeDesk } from './challenge-desk.ts'
import { ConnectedClient } from './connected-client.ts'
import type { Ledger } from './ledger.ts'
import { LiveKeys } from './live-keys.ts'
import type { Registrar } from './registrar.ts'
import type { Routes } from './routes.ts'
import { Shares } from './shares.ts'

export interface ClientsOptions {
  authority: Authority
  routes: Routes<ConnectedClient>
  registrar: Registrar
  challenges: ChallengeDesk
  ledger: Ledger
  gateway: { id: string; version: string }
  /** Of all gateways behind this one's address, itself among them. */
  ids(): readonly string[]
  keepaliveSeconds: number
  memory: MemoryBudget
  /** A client's tunnel has room for streams again. */
  onOpenable(client: ConnectedClient): void
  /** A client wants no more streams, nor requests on those it has. */
  onDraining(client: ConnectedClient): void
  log: Logger
}

/** Told to a client when the state cannot be written and the like. Seconds. */
const OWN_PROBLEM = 'the gateway has a problem of its own: its log says which'
const OWN_PROBLEM_SECONDS = 30

/**
 * The clients that are connected: who they are, from `hello` to the end of the tunnel, and what they ask for.
 * Visitors are not its business; it tells `Routes` who may get them.
 */
export class Clients {
  readonly #options: ClientsOptions
  readonly #all = new Set<ConnectedClient>()
  readonly #keys = new LiveKeys()
  /** Set once, by `drain`: from then on nobody is let in. */
  #draining = false
  readonly #whenEmpty = new Set<() => void>()
  readonly #shares: Shares
  readonly #tunnelsOf = new Map<Pin, number>()
  readonly #paces = new Map<string, Pace>()
  readonly #healthLines = new Pace(CHANGES_LOGGED_PER_SECOND, CHANGES_LOGGED_BURST)
  readonly #strangers = { unsaid: 0, saidAt: -REPEATED_LOG_MS }
  readonly errors = new Map<string, number>()

  constructor(options: ClientsOptions) {
    this.#options = options
    const capacity = Math.min(TUNNELS, gatewayDescriptors().tunnels)
    this.#shares = new Shares(capacity, () => options.authority.severalNames)
  }

  get all(): ReadonlySet<ConnectedClient> {
    return this.#all
  }

  get copiedKeys(): readonly Pin[] {
    return this.#keys.copied
  }

  /** Takes a connection whose peer has proved its key, and nothing else. Owns `socket`. */
  accept = (socket: TLSSocket, pin: Pin, authenticated: () => void): void => {
    const log = this.#options.log
    let client: ConnectedClient | undefined
    let greeted = false
    const tunnel: Tunnel = new Tunnel(
      socket,
      {
        message: (message) => {
          // The codec of this side lets only a client's messages through.
          const said = message as ClientMessage
          if (client?.welcomed === true) this.#onMessage(client, said)
          else if (greeted || said.type !== 'hello') {
            this.#reject(
              tunnel,
              'protocol_error',
              `expected hello, got ${said.type}${greeted ? ' before the welcome' : ''}`,
            )
          } else {
            greeted = true
            const login = (known: ConnectedClient): void => {
              client = known
              authenticated()
            }
            this.#welcome(tunnel, pin, said, login).catch((error: unknown) => {
              log.error({ err: error, key: pin }, 'cannot let a client in')
              this.#reject(tunnel, 'overloaded', OWN_PROBLEM, OWN_PROBLEM_SECONDS)
            })
          }
        },
        // A client opens its control stream and no other; the tunnel holds that, so this is never reached.
        stream: (stream) => stream.reset(),
        closed: (reason) => {
          if (reason.code !== 'closed') this.errors.set(reason.code, (this.errors.get(reason.code) ?? 0) + 1)
          if (client !== undefined) this.#onClosed(client, reason)
          else
            log.debug(
              { address: tunnel.remoteAddress, key: pin, code: reason.code },
              `no client: ${printable(reason.message)}`,
            )
        },
        openable: () => {
          if (client === undefined) return
          this.#options.routes.refresh(client)
          this.#options.onOpenable(client)
        },
        // It finishes what it carries; the tunnel that takes over gets all others, who wait for it.
        idsLow: () => {
          tunnel.send({ type: 'drain', deadlineMs: DRAIN_MS_MAX })
          if (client === undefined) return
          this.#drains(client)
        },
      },
      { role: 'gateway', memory: this.#options.memory },
    )
  }

  /** Cuts the tunnels of revoked keys, and their visitors, at once. */
  revoke(keys: readonly Pin[]): void {
    const revoked = new Set(keys)
    for (const client of Array.from(this.#all)) {
      if (!revoked.has(client.key)) continue
      client.cut()
      this.#reject(client.tunnel, 'revoked', 'this key was revoked on the gateway')
      // What it has said and still says counts no more, though its tunnel takes a moment to end.
      this.#forget(client)
    }
  }

  /** Tells everybody that other gateways are behind this one's address now. */
  tellIds(ids: readonly string[]): void {
    for (const { welcomed, tunnel } of this.#all)
      if (welcomed) tunnel.send({ type: 'gateways', ids: [...ids] })
  }

  /** Lets nobody in any more, and tells those who are in. */
  drain(deadlineMs: number): void {
    this.#draining = true
    for (const { tunnel } of this.#all) tunnel.send({ type: 'drain', deadlineMs })
  }

  /** Ends every tunnel in order; resolves when the last is closed, which each bounds by itself. */
  async end(): Promise<void> {
    this.#draining = true
    for (const { tunnel } of this.#all) tunnel.end()
    if (this.#all.size > 0) await new Promise<void>((resolve) => this.#whenEmpty.add(resolve))
  }

  async #welcome(
    tunnel: Tunnel,
    key: Pin,
    hello: Hello,
    login: (client: ConnectedClient) => void,
  ): Promise<void> {
    const { ledger, gateway, log, keepaliveSeconds } = this.#options
    if (this.#draining) {
      this.#reject(tunnel, 'draining', 'this gateway is being shut down', 1)
      return
    }
    const { min, max } = hello.protocol
    if (min > PROTOCOL_VERSION || max < PROTOCOL_VERSION) {
      const side = min > PROTOCOL_VERSION ? 'gateway' : 'client'
      const spoken = `this gateway speaks protocol ${PROTOCOL_VERSION}, the client ${min} to ${max}`
      this.#reject(tunnel, 'unsupported_protocol', `${spoken}: upgrade the ${side}`)
      return
    }
    const name = await this.#identify(tunnel, key, hello)
    if (name === undefined || tunnel.ending) return

    const client = new ConnectedClient(tunnel, { ...hello, key, name })
    if (!this.#admit(client, hello.services.length)) return
    login(client)
    tunnel.establish({ peerStreamWindow: hello.streamWindow, keepaliveSeconds })
    this.#all.add(client)
    if (this.#keys.add(key, client.instance)) {
      log.warn(
        { name, key },
        'one key is live from two machines or state folders: if you did not copy it, revoke it',
      )
    }
    ledger.seen(key, client.instance)
    const older = this.#probeOlder(client)

    const results = await this.#register(client, hello.services, older)
    if (tunnel.ending) return
    const welcome: Message = {
      type: 'welcome',
      protocol: PROTOCOL_VERSION,
      gateway: { id: gateway.id, version: gateway.version, ids: [...this.#options.ids()] },
      name,
      streamWindow: STREAM_WINDOW_BYTES,
      keepalive: keepaliveSeconds,
      services: [],
    }
    const [first = [], ...rest] = packItems(results, welcome, HELLO_BYTES)
    tunnel.send({ ...welcome, services: first })
    for (const services of rest) tunnel.send({ type: 'registered', seq: 0, services })
    client.welcomed = true
    const { instance, agent } = client
    const services = client.services.size
    log.info({ name, key, instance, address: tunnel.remoteAddress, agent, services }, 'client connected')
    this.#options.onOpenable(client)
  }

  /** A conflict may be with the client's own ghost: then it is worth knowing first whether that one still lives. */
  async #register(
    client: ConnectedClient,
    offers: readonly ServiceOffer[],
    older?: Promise<unknown>,
  ): Promise<ServiceResult[]> {
    const results = await this.#options.registrar.register(client, offers)
    const conflict = results.some((result) => 'error' in result && result.error.code === 'route_conflict')
    if (!conflict || older === undefined) return results
    await older
    return this.#options.registrar.register(client, offers)
  }

  /** The name under which this key is enrolled, enrolling it first if it brought an invite's secret. */
  async #identify(tunnel: Tunnel, key: Pin, hello: Hello): Promise<string | undefined> {
    const { authority, ledger, log } = this.#options
    try {
      if (hello.enroll !== undefined) {
        const secretHash = hashSecret(Buffer.from(hello.enroll.secret, 'base64url'))
        const redeemed = await ledger.redeem({ secretHash, key, instance: hello.instance })
        await ledger.save()
        if (!redeemed.again) {
          log.warn(
            {
              key,
              invite: redeemed.inviteId,
              address: tunnel.remoteAddress,
              name: redeemed.name,
              usesLeft: redeemed.usesLeft,
            },
            'a machine enrolled',
          )
        }
        // It may have been revoked while that was written.
        if (authority.identify(key) !== 'revoked') return redeemed.name
        this.#reject(tunnel, 'revoked', 'this key was revoked on the gateway')
        return undefined
      }
      const known = authority.identify(key)
      if (known !== undefined && known !== 'revoked') return known.name
      if (known === 'revoked') this.#reject(tunnel, 'revoked', 'this key was revoked on the gateway')
      else
        this.#reject(
          tunnel,
          'unknown_client',
          `this gateway does not know the key ${key}: enroll with an invite, \`blindgate join\``,
        )
    } catch (error) {
      if (!(error instanceof TunnelError) || !isRejectCode(error.code)) throw error
      this.#reject(tunnel, error.code, error.message)
    }
    return undefined
  }

  /**
   * An instance that dials again may have left a dead tunnel behind. No new visitor is sent into one that stays
   * silent. Undefined when there is none.
   */
  #probeOlder(client: ConnectedClient): Promise<unknown> | undefined {
    const older = [...this.#all].filter(
      (other) => other !== client && other.instance === client.instance && other.key === client.key,
    )
    if (older.length === 0) return undefined
    const { routes } = this.#options
    return Promise.all(
      older.map(async (other) => {
        if (!(await other.tunnel.probe(PROBE_MS))) routes.refresh(other)
      }),
    )
  }

  #onMessage(client: ConnectedClient, message: ClientMessage): void {
    const { registrar, routes, challenges, log } = this.#options
    const { tunnel } = client
    const failed = (error: unknown): void => {
      log.error({ err: error, key: client.key }, `cannot answer ${message.type}`)
      this.#reject(tunnel, 'overloaded', OWN_PROBLEM, OWN_PROBLEM_SECONDS)
    }
    const answered = (): void => {
      client.unanswered -= 1
    }
    switch (message.type) {
      case 'hello':
        this.#reject(tunnel, 'protocol_error', 'a second hello')
        return
      case 'register':
        if (!this.#mayAsk(client, message.services.length)) return
        this.#register(client, message.services)
          .then((results) => sendResults(tunnel, message.seq, results), failed)
          .finally(answered)
        return
      case 'unregister':
        if (!this.#mayAsk(client, message.names.length)) return
        registrar
          .unregister(client, message.names, message.release === true)
          .then(() => tunnel.send({ type: 'unregistered', seq: message.seq }), failed)
          .finally(answered)
        return
      case 'unreached':
        // Only for streams that live: the reset that follows takes it out again.
        if (isUnreachedCode(message.code) && client.carried.has(message.stream)) {
          client.unreached.set(message.stream, message.code)
        }
        return
      case 'health': {
        const { name, up } = message
        // Each word may concern every route of a service, and every replica there.
        if (!client.healthPace.take(performance.now())) {
          this.#reject(tunnel, 'overloaded', 'too many words on health', OWN_PROBLEM_SECONDS)
          return
        }
        if (!routes.setHealth(client, name, up)) return
        const level = this.#healthLines.take(performance.now()) ? 'info' : 'debug'
        const about = { name: client.name, service: name, key: client.key }
        log[level](about, up ? 'target is up' : 'target is down: its client gets no visitors for it')
        return
      }
      case 'challenge':
        challenges.ask(client, message)
        return
      case 'challenge_done':
        challenges.done(client, message.seq)
        return
      case 'drain':
        this.#drains(client)
        log.info({ name: client.name, key: client.key, streams: client.carried.size }, 'client drains')
        return
    }
  }

  /** All names wait in one line for their answers: nobody may fill it. */
  #mayAsk(client: ConnectedClient, services: number): boolean {
    client.unanswered += 1
    const many = client.unanswered > REQUESTS_UNANSWERED
    if (!many && this.#paceOf(client.name).take(performance.now(), services)) return true
    const detail = many
      ? `more than ${REQUESTS_UNANSWERED} requests wait for their answers`
      : `"${client.name}" asks for more than ${SERVICES_BURST} services at once, or ${SERVICES_PER_SECOND} per second`
    this.#reject(client.tunnel, 'overloaded', detail, OWN_PROBLEM_SECONDS)
    return false
  }

  /** Of enrolled names only, so there are no more than of those. */
  #paceOf(name: string): Pace {
    const pace = this.#paces.get(name) ?? new Pace(SERVICES_PER_SECOND, SERVICES_BURST)
    this.#paces.set(name, pace)
    return pace
  }

  /** False, and the tunnel is rejected: one key, or one name, has as many as it may. */
  #admit(client: ConnectedClient, services: number): boolean {
    const { key, name, tunnel } = client
    const own = this.#tunnelsOf.get(key) ?? 0
    const paced = this.#paceOf(name).take(performance.now(), services)
    if (paced && own < TUNNELS_PER_KEY && this.#shares.take(name)) {
      this.#tunnelsOf.set(key, own + 1)
      return true
    }
    const detail = !paced
      ? `"${name}" asks for more than ${SERVICES_BURST} services at once, or ${SERVICES_PER_SECOND} per second`
      : own >= TUNNELS_PER_KEY
        ? `this key has ${own} tunnels already, the most there may be`
        : 'this gateway has as many tunnels as it may'
    this.#reject(tunnel, 'overloaded', detail, OWN_PROBLEM_SECONDS)
    return false
  }

  #drains(client: ConnectedClient): void {
    client.draining = true
    this.#options.onDraining(client)
    this.#options.routes.refresh(client)
  }

  #onClosed(client: ConnectedClient, reason: TunnelError): void {
    const { log } = this.#options
    const about = {
      name: client.name,
      key: client.key,
      address: client.tunnel.remoteAddress,
      code: reason.code,
    }
    const text = `client gone: ${printable(reason.message)}`
    if (reason.code === 'closed') log.info(about, text)
    else log.warn(about, text)
    this.#forget(client)
  }

  #forget(client: ConnectedClient): void {
    if (!this.#all.delete(client)) return
    this.#keys.remove(client.key, client.instance)
    this.#options.ledger.seen(client.key, client.instance)
    this.#options.routes.drop(client)
    this.#shares.give(client.name)
    const own = (this.#tunnelsOf.get(client.key) ?? 1) - 1
    if (own > 0) this.#tunnelsOf.set(client.key, own)
    else this.#tunnelsOf.delete(client.key)
    if (this.#all.size === 0) for (const empty of this.#whenEmpty) empty()
  }

  #reject(tunnel: Tunnel, code: Parameters<typeof rejection>[0], message: string, retryAfter?: number): void {
    this.#logRejection(tunnel, code, `rejected: ${printable(message, 400)}`)
    tunnel.send(rejection(code, message, retryAfter))
    const patience = code === 'revoked' ? REVOKED_CLOSE_MS : ORDERLY_CLOSE_MS
    tunnel.end(new TunnelError(code, { scope: 'tunnel', remote: true, detail: message }), patience)
  }

  /** Anybody can be rejected as often as they like before they are somebody: then a line now and then must do. */
  #logRejection(tunnel: Tunnel, code: string, text: string): void {
    const { log } = this.#options
    const about = { address: tunnel.remoteAddress, code }
    const strangers = this.#strangers
    const now = performance.now()
    if (!tunnel.established && now - strangers.saidAt < REPEATED_LOG_MS) {
      strangers.unsaid += 1
      log.debug(about, text)
      return
    }
    const { unsaid } = strangers
    log.info({ ...about, ...(unsaid > 0 ? { unsaid } : {}) }, text)
    if (!tunnel.established) Object.assign(strangers, { unsaid: 0, saidAt: now })
  }
}

function sendResults(tunnel: Tunnel, seq: number, results: readonly ServiceResult[]): void {
  const registered = { type: 'registered', seq, services: [] } as const
  for (const services of packItems(results, registered)) tunnel.send({ ...registered, services })
}
