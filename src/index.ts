/**
 * blindgate for programs: a public address for a server of this process or of this machine.
 *
 * Nothing here handles a signal, ends the process, or keeps it alive after `close`. What is not said is taken from
 * where `blindgate join` leaves it, so that a program needs no word where a shell needs none.
 */
import { EventEmitter } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Server } from 'node:net'
import { homedir } from 'node:os'
import type { Duplex } from 'node:stream'
import { type Logger, pino } from 'pino'
import {
  Client,
  type ClientService,
  checkKnown,
  chooseGateway,
  type Finding,
  type GatewayEntry,
  joinedGateways,
  rememberGateway,
  type ServiceOutcome,
  trustBy,
} from './client/index.ts'
import {
  DEFAULT_ACME,
  DEFAULT_TRUST,
  parseHosts,
  parseLabel,
  parsePath,
  parseTarget,
  serviceSettings,
  type Target,
} from './config/index.ts'
import { isErrorCode, type TunnelError, userError } from './errors.ts'
import { decodeInvite, isName, samePin } from './identity/index.ts'
import { DRAIN_MS } from './limits.ts'
import { identityIn, instanceId, openState, resolveStatePath, type State } from './state/index.ts'

export { type ErrorCode, type Scope, TunnelError } from './errors.ts'

const VERSION = (
  JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
).version

export interface ForwardOptions {
  /** `host:port` of the gateway; needed where several are joined. */
  gateway?: string
  /** The state folder, with this machine's key; by default that of the command line. */
  state?: string
  /** Enrolls this machine first if it is not yet: what `blindgate invite` printed. */
  invite?: string
  /** Of the service. Programs that offer the same service under the same name share its visitors. */
  name?: string
  /**
   * `http` (default): the gateway's http port, and the gateway can read it. `https`: its tls port, by host; needs `host`.
   * `tcp`: a port of its own.
   */
  type?: 'http' | 'https' | 'tcp'
  /**
   * https: `passthrough`, the target (or the server of `listen`) speaks TLS itself; `self-signed`, TLS ends here, with a
   * certificate that visitors cannot verify. Without it TLS ends here, with a certificate by ACME.
   */
  tls?: 'passthrough' | 'self-signed'
  /** http, https: the hosts that it answers for; `*.` stands for one label. Without it http gets what the gateway gives. */
  host?: string | string[]
  /** http: only paths that begin with it. */
  path?: string
  /** tcp: the gateway's port; without it the gateway chooses. */
  port?: number
  /** pino; silent by default. */
  log?: Logger
  /** Gives up waiting for the gateway; once `forward` has resolved it does nothing. */
  signal?: AbortSignal
}

export interface ForwardingEvents {
  /** The gateway has a tunnel again. */
  connected: [{ gateway: string }]
  /** The tunnel is lost. It is dialled again in `retryMs`; visitors wait meanwhile. */
  disconnected: [{ gateway: string; reason: TunnelError; retryMs: number | undefined }]
  /** It can never work again (the key was revoked), or the gateway took the service back: it is closed. */
  failed: [TunnelError]
  /**
   * https whose TLS ends in this process: somebody may stand between it and its visitors, with a certificate of their own.
   * `text` says what was seen, `advice` what to do.
   */
  trust: [TrustAlarm]
}

/** What was seen that no setting explains: by certificate transparency (`ct`) or a look from outside (`probe`). */
export interface TrustAlarm {
  check: 'ct' | 'probe'
  host: string
  text: string
  advice: string
}

/** A service that visitors reach, until it is closed. It keeps the process alive while it is open. */
export class Forwarding extends EventEmitter<ForwardingEvents> {
  /** Where visitors reach it; changes if the gateway comes back with another. */
  get urls(): readonly string[] {
    return this.#urls
  }

  get url(): string {
    return this.#urls[0] ?? ''
  }

  readonly #client: Client
  #urls: readonly string[]

  /** `forward` and `listen` make these. */
  constructor(client: Client, urls: readonly string[]) {
    super()
    this.#client = client
    this.#urls = urls
    client.on('connected', ({ gateway }) => this.emit('connected', { gateway }))
    client.on('disconnected', (event) => this.emit('disconnected', event))
    client.on('service', (outcome) => {
      if (outcome.error === undefined) this.#urls = outcome.urls
      else this.#fail(refusedError(outcome))
    })
    client.on('failed', (error) => this.#fail(error))
    client.on('trust', (finding) => this.emit('trust', alarmOf(finding)))
  }

  /** Ends now: visitors are reset. Resolves when nothing is left. */
  close(): Promise<void> {
    return this.#client.close()
  }

  /** Ends without cutting anybody for `ms`: no new visitors, active ones finish. */
  drain(ms: number = DRAIN_MS): Promise<void> {
    return this.#client.drain(ms)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #fail(error: TunnelError): void {
    this.emit('failed', error)
    void this.close()
  }
}

/**
 * Offers a target (a port of this machine, `host:port`, `unix:/path`) at a gateway. Resolves when visitors can reach
 * it; while the gateway is away it waits. Rejects with a TunnelError, and leaves nothing open: `config_invalid`,
 * `not_found` (not joined), `invite_…`, `wrong_pin`, `revoked`, `unknown_client`, or why the service was refused
 * (`route_taken`, `not_granted`, …).
 */
export async function forward(target: number | string, options: ForwardOptions = {}): Promise<Forwarding> {
  return offer(serviceOf(parseTarget(String(target)), options), options)
}

/**
 * Serves visitors from a server of this process: `http.createServer(…)` for `http`, and for `https` whose TLS ends here;
 * `https.createServer(…)` for `https` with `passthrough`, `net.createServer(…)` for `tcp`. It opens no port, and `server` need not listen.
 * Connections are given to the server, which owns them. Resolves and rejects like `forward`.
 */
export async function listen(server: Server, options: ForwardOptions = {}): Promise<Forwarding> {
  const { type = 'http' } = options
  const target: Target = { kind: 'unix', path: '', text: 'this process' }
  const service = serviceOf(target, { ...options, name: options.name ?? `${type}-listen` })
  return offer({ ...service, serve: (connection) => admit(server, connection) }, options)
}

function admit(server: Server, connection: Duplex): void {
  // What a server's own sockets do: unless half-open ones are wanted, an end is answered with an end.
  if (!(server as { allowHalfOpen?: boolean }).allowHalfOpen) connection.once('end', () => connection.end())
  server.emit('connection', connection)
}

function serviceOf(target: Target, options: ForwardOptions): ClientService {
  const { name, type = 'http', tls, host, path, port } = options
  return serviceSettings({
    type,
    tls,
    target,
    name: name === undefined ? undefined : parseLabel(name),
    hosts: host === undefined ? undefined : parseHosts([host].flat()),
    path: path === undefined ? undefined : parsePath(path),
    port,
  })
}

async function offer(service: ClientService, options: ForwardOptions): Promise<Forwarding> {
  const { signal, log = silent() } = options
  const state = await openState(
    resolveStatePath({ flag: options.state, env: process.env, uid: process.geteuid?.(), home: homedir() }),
    { create: options.invite !== undefined },
  )
  const { entry, secret } = await gatewayOf(state, options)
  const client = new Client({
    identity: await identityIn(state, 'client'),
    instance: instanceId(state.path),
    version: VERSION,
    gateways: [entry],
    services: [service],
    log,
    state,
    trust: trustBy({ trust: DEFAULT_TRUST, acme: DEFAULT_ACME }, state),
    ...(secret === undefined ? {} : { enroll: { secret } }),
  })
  const giveUp = (): void => void client.close()
  signal?.addEventListener('abort', giveUp, { once: true })
  try {
    signal?.throwIfAborted()
    const remembered = secret === undefined ? undefined : rememberWhenEnrolled(client, state, entry)
    client.start()
    const [outcome] = await client.ready()
    await remembered
    if (outcome === undefined)
      throw userError('bad_service', `${entry.addresses[0]} said nothing to the service`)
    if (outcome.error !== undefined) throw refusedError(outcome)
    return new Forwarding(client, outcome.urls)
  } catch (error) {
    await client.close()
    signal?.throwIfAborted()
    throw error
  } finally {
    signal?.removeEventListener('abort', giveUp)
  }
}

function alarmOf({ check, about, text, advice = '' }: Finding): TrustAlarm {
  return { check: check === 'ct' ? 'ct' : 'probe', host: about, text, advice }
}

/** With a stream of its own: pino's usual one listens to the end of the process. */
function silent(): Logger {
  return pino({ level: 'silent' }, { write: () => undefined })
}

/** The gateway that is meant, and the secret of an invite that has not been used here. */
async function gatewayOf(
  state: State,
  { gateway, invite }: ForwardOptions,
): Promise<{ entry: GatewayEntry; secret?: string }> {
  const joined = await joinedGateways(state)
  if (invite === undefined) return { entry: chooseGateway(joined, gateway, 'the option `gateway`') }
  const { addresses, pin, domain, secret } = decodeInvite(invite)
  // A program starts more often than once, and an invite is good once.
  const known = joined.find((entry) => samePin(entry.pin, pin))
  const told = domain === undefined ? {} : { domain }
  if (known !== undefined) return { entry: { ...known, ...told } }
  checkKnown(joined, { addresses, pin }, false)
  return { entry: { addresses, pin, ...told }, secret: Buffer.from(secret).toString('base64url') }
}

/** Resolves when the gateway has enrolled this machine and that is on the disk. */
function rememberWhenEnrolled(client: Client, state: State, entry: GatewayEntry): Promise<void> {
  const remembered = new Promise<void>((resolve, reject) => {
    client.once('connected', ({ name }) => {
      rememberGateway(state, isName(name) ? { ...entry, name } : entry, false).then(resolve, reject)
    })
  })
  // Waited for after `ready`, which may have failed before.
  remembered.catch(() => undefined)
  return remembered
}

function refusedError({ name, gateway, error }: ServiceOutcome): TunnelError {
  const { code, message } = error ?? { code: '', message: '' }
  return userError(
    isErrorCode(code) ? code : 'bad_service',
    `service "${name}" is refused by ${gateway}: ${message}`,
  )
}
