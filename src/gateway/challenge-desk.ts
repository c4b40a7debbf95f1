import type { Logger } from 'pino'
import type { RequestHead } from '../http1/index.ts'
import { CHANGES_LOGGED_BURST, CHANGES_LOGGED_PER_SECOND, IDLE_SWEEP_MS } from '../limits.ts'
import { type Challenge, printable } from '../protocol/index.ts'
import { Pace } from '../transport/index.ts'
import type { Authority } from './authority.ts'
import { Challenges, type Told } from './challenges.ts'
import type { ConnectedClient } from './connected-client.ts'
import { refusal } from './registrar.ts'
import { httpsRoute, type Route, readRoute } from './route.ts'
import type { Replica, Routes } from './routes.ts'

export interface ChallengeDeskOptions {
  authority: Authority
  routes: Routes<ConnectedClient>
  log: Logger
}

/**
 * Where clients announce what an authority is about to ask one of their hosts for, and where visitors that come for it find
 * who answers. A client may do so for hosts whose visitors come to it now, of a route that its name owns; that is asked
 * when it announces and again for each visitor.
 */
export class ChallengeDesk {
  readonly #options: ChallengeDeskOptions
  readonly #table = new Challenges<ConnectedClient>()
  readonly #lines = new Pace(CHANGES_LOGGED_PER_SECOND, CHANGES_LOGGED_BURST)
  #sweep: NodeJS.Timeout | undefined

  constructor(options: ChallengeDeskOptions) {
    this.#options = options
  }

  ask(client: ConnectedClient, challenge: Challenge): void {
    const { seq, host } = challenge
    const route = this.#routeOf(host)
    if (route !== undefined && this.#replica(client, route) !== undefined) {
      this.#tell(this.#table.ask(client, route, challenge, performance.now()))
      this.#arm()
      return
    }
    const why = `no https service of this client has the visitors of "${printable(host)}" here: register one first`
    const error = refusal('not_granted', `the challenge is refused: ${why}`)
    this.#tell([{ holder: client, host, message: { type: 'challenge_ready', seq, error } }])
  }

  done(client: ConnectedClient, seq: number): void {
    this.#tell(this.#table.done(client, seq))
  }

  /** A client serves a route no more. Who is told, is told later: a word may end a tunnel, and change more routes. */
  left(client: ConnectedClient, route: Route): void {
    const answers = this.#table.left(client, route)
    if (answers.length > 0) queueMicrotask(() => this.#tell(answers))
  }

  /** Who answers a hello for this host that offers ACME_ALPN alone. */
  tlsAlpn(host: string): Replica<ConnectedClient> | undefined {
    const route = this.#routeOf(host)
    const pending = route === undefined ? undefined : this.#table.tlsAlpn(route, host, performance.now())
    return pending && this.#replica(pending.holder, pending.route)
  }

  /** Who answers this request; undefined for one that is like any other. */
  http(head: RequestHead): Replica<ConnectedClient> | undefined {
    if (this.#table.size === 0 || head.method !== 'GET' || !head.target.startsWith(WELL_KNOWN))
      return undefined
    if (head.framing !== 'none' || head.expects || head.upgrade !== undefined) return undefined
    const route = this.#routeOf(head.host)
    if (route === undefined) return undefined
    const token = head.target.slice(WELL_KNOWN.length)
    const pending = this.#table.http(route, head.host, token, performance.now())
    return pending && this.#replica(pending.holder, pending.route)
  }

  /** Of the host itself, or of the wildcard above it: where its visitors by TLS go. */
  #routeOf(host: string): Route | undefined {
    const route = readRoute(httpsRoute(host))
    // In the one spelling that visitors' hosts are compared in, and not a wildcard.
    if (route?.kind !== 'https' || route.host !== host || host.startsWith('*')) return undefined
    return this.#options.authority.hosts.find(host)?.tls
  }

  #replica(client: ConnectedClient, route: Route): Replica<ConnectedClient> | undefined {
    const { authority, routes } = this.#options
    if (authority.ownerOf(route) !== client.name) return undefined
    return routes.replicas(route).find(({ tunnel }) => tunnel === client)
  }

  #tell(answers: readonly Told<ConnectedClient>[]): void {
    for (const { holder, host, message } of answers) {
      holder.tunnel.send(message)
      const { error } = message
      const about = { name: holder.name, host: printable(host), key: holder.key }
      const rare = this.#lines.take(performance.now())
      if (error === undefined)
        this.#options.log[rare ? 'info' : 'debug'](
          about,
          'a challenge of a certificate authority is passed on',
        )
      else
        this.#options.log[rare ? 'warn' : 'debug'](
          { ...about, code: error.code },
          printable(error.message, 400),
        )
    }
  }

  #arm(): void {
    if (this.#sweep !== undefined || this.#table.size === 0) return
    this.#sweep = setTimeout(() => {
      this.#sweep = undefined
      this.#tell(this.#table.expire(performance.now()))
      this.#arm()
    }, IDLE_SWEEP_MS)
    this.#sweep.unref()
  }
}

/** RFC 8555, 8.3; what follows is the token and nothing else. */
const WELL_KNOWN = '/.well-known/acme-challenge/'
