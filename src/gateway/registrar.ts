import type { Logger } from 'pino'
import { TunnelError } from '../errors.ts'
import { isName } from '../identity/index.ts'
import { PORT_TRIES, SERVICES_IN_A_ROW, SERVICES_LOGGED, SERVICES_PER_TUNNEL } from '../limits.ts'
import {
  isServiceCode,
  packItems,
  printable,
  type ServiceOffer,
  type ServiceRefusal,
  type ServiceResult,
} from '../protocol/index.ts'
import type { Authority } from './authority.ts'
import type { ConnectedClient } from './connected-client.ts'
import type { Ledger } from './ledger.ts'
import { asksAlike } from './offer.ts'
import { parseRoute, type Route, tcpRoute } from './route.ts'
import type { Replica, Routes } from './routes.ts'

/** How many clients serve a route, under which name and as what. */
export interface Serving {
  clients: number
  name: string
  service: string
}

/** The listeners behind `tcp` routes. Opening one that is open is nothing. */
export interface Ports {
  open(route: Route): Promise<void>
  close(route: Route): void
}

export interface RegistrarOptions {
  authority: Authority
  routes: Routes<ConnectedClient>
  ports: Ports
  ledger: Ledger
  urlOf: (route: Route) => string
  /** Those who are logged in. */
  clients: () => Iterable<ConnectedClient>
  /** Nobody serves the route, and nobody is to wait for it: its owner has lost it. */
  onWithdrawn: (route: Route) => void
  log: Logger
}

/**
 * Takes and gives back services. One at a time, since each may open a port and write to disk between the question
 * and the answer, and two that interleave could both be told yes.
 */
export class Registrar {
  readonly #options: RegistrarOptions
  #last: Promise<unknown> = Promise.resolve()

  constructor(options: RegistrarOptions) {
    this.#options = options
  }

  /**
   * Answers for each offer, in order. What it grants is on disk and open when it resolves. Many offers are taken some
   * at a time: other names, and everything else that the process does, get their turn in between.
   */
  async register(client: ConnectedClient, offers: readonly ServiceOffer[]): Promise<ServiceResult[]> {
    const request: Request = { seen: new Set(), quiet: offers.length > SERVICES_LOGGED, noPort: undefined }
    const results: ServiceResult[] = []
    // Without an offer too: what else is not on disk yet must be before anybody is answered.
    for (let at = 0; at === 0 || at < offers.length; at += SERVICES_IN_A_ROW) {
      if (at > 0) await new Promise(setImmediate)
      await this.#alone(async () => {
        // It has ended meanwhile: what it asked for is nobody's business any more, and the state may be closed.
        if (client.tunnel.ending) return
        for (const together of inRuns(offers.slice(at, at + SERVICES_IN_A_ROW))) {
          const taken = together.map((offer) => this.#registerOne(client, offer, request))
          results.push(...(await Promise.all(taken)))
        }
        await this.#options.ledger.save()
      })
    }
    if (request.quiet) this.#summarize(client, results)
    return results
  }

  #summarize(client: ConnectedClient, results: readonly ServiceResult[]): void {
    const refused = results.flatMap((result) => ('error' in result ? [result] : []))
    const about = { name: client.name, key: client.key, services: results.length - refused.length }
    const [first] = refused
    if (first === undefined) this.#options.log.info(about, 'services registered')
    else {
      const why = `${refused.length} services refused, the first, "${printable(first.name)}": ${printable(first.error.message, 400)}`
      this.#options.log.warn({ ...about, code: first.error.code }, why)
    }
  }

  unregister(client: ConnectedClient, names: readonly string[], release: boolean): Promise<void> {
    return this.#alone(async () => {
      const { routes, ledger, ports } = this.#options
      const gone = routes.unregister(client, names)
      for (const { service } of gone) client.services.delete(service)
      const free = release ? gone.filter(({ route }) => routes.replicas(route).length === 0) : []
      const released = free.map(({ route }) => ledger.releaseBy(client.name, route))
      for (const [at, done] of (await Promise.all(released)).entries()) {
        const route = free[at]?.route
        if (done && route !== undefined) ports.close(route)
      }
      await ledger.save()
    })
  }

  /** Who serves a route, for the operator who would release it: no visitor is to be cut by a typing error. */
  serving(route: Route): Serving | undefined {
    const live = this.#options.routes.replicas(route).filter((replica) => replica.tunnel.usable)
    const [one] = live
    return one && { clients: live.length, name: one.name, service: one.service }
  }

  /** Routes that nobody owns any more: as `withdraw`, at once; their ports are closed when the line comes to it. */
  abandon(routes: readonly Route[], why: ServiceRefusal['error']): void {
    this.withdraw(routes.map((route) => ({ route, why })))
    void this.#alone(async () => {
      const { authority, ports } = this.#options
      for (const route of routes) if (authority.ownerOf(route) === undefined) ports.close(route)
    })
  }

  /**
   * Opens the ports of all owned routes that the grants cover: they are kept while their owners are away. One that
   * cannot be opened now must not stop the rest.
   */
  openOwned(): Promise<void> {
    return this.#alone(async () => {
      const { authority, ports, log } = this.#options
      for (const { route, name } of authority.owners) {
        if (parseRoute(route).kind !== 'tcp' || !authority.covers(name, route)) continue
        await ports.open(route).catch((error: unknown) => {
          const why = error instanceof Error ? error.message : String(error)
          log.error({ route, name }, `cannot open a port that "${name}" owns: ${why}`)
        })
      }
    })
  }

  /**
   * Routes were taken from their owners: services go, their visitors are cut, their clients are told. A service that
   * has other routes too loses those as well, since it is offered on all of them or on none; who visits there stays.
   */
  withdraw(routes: readonly { route: Route; why: ServiceRefusal['error'] }[]): void {
    const gone = routes.flatMap(({ route, why }) =>
      this.#options.routes.withdraw(route).map((replica) => ({ replica, why })),
    )
    this.#cutVisitors(new Set(routes.map(({ route }) => route)))
    const told = new Map<ConnectedClient, ServiceRefusal[]>()
    for (const { replica, why } of gone) {
      const { tunnel: client, service } = replica
      if (!this.#forget(client, service)) continue
      const services = told.get(client) ?? []
      told.set(client, services)
      services.push({ name: service, error: why })
    }
    for (const { route } of routes) this.#options.onWithdrawn(route)
    for (const [client, services] of told) {
      for (const fitting of packItems(services, { type: 'withdrawn', services: [] })) {
        client.tunnel.send({ type: 'withdrawn', services: fitting })
      }
    }
  }

  /** Takes the service off what routes it still has; false when that was done already. */
  #forget(client: ConnectedClient, service: string): boolean {
    this.#options.routes.unregister(client, [service])
    return client.services.delete(service)
  }

  /** Of every client: one that no longer offers a service may still carry visitors who came before. */
  #cutVisitors(routes: ReadonlySet<Route>): void {
    for (const client of this.#options.clients()) cutOn(client, routes)
  }

  async #registerOne(client: ConnectedClient, offer: ServiceOffer, request: Request): Promise<ServiceResult> {
    const { routes, log, urlOf } = this.#options
    const claimed: Route[] = []
    try {
      const known = client.services.get(offer.name)
      checkOffer(client, offer, request)
      const at = await this.#place(client, offer, { request, claimed })
      // Its end may have begun meanwhile, by a revoke too: what is over must not get into the table.
      if (client.tunnel.ending) return { name: offer.name, urls: [] }
      // Writing it down and opening its port took a while: it may have been taken away, or its grant narrowed.
      this.#checkOwned(client.name, at)
      this.#checkCovered(client.name, at, offer)
      const ghosts = routes.register(client, client.name, offer, at)
      client.services.set(offer.name, { offer, routes: [...at] })
      this.#tellGhosts(ghosts)
      const about = { name: client.name, service: offer.name, routes: at, key: client.key }
      log[request.quiet || known !== undefined ? 'debug' : 'info'](about, 'service registered')
      return { name: offer.name, urls: at.map(urlOf) }
    } catch (error) {
      await this.#giveBack(client.name, claimed)
      if (!(error instanceof TunnelError) || !isServiceCode(error.code)) throw error
      const about = { name: client.name, service: printable(offer.name), code: error.code, key: client.key }
      log[request.quiet ? 'debug' : 'warn'](about, `service refused: ${printable(error.message, 400)}`)
      return { name: offer.name, error: { code: error.code, message: error.message } }
    }
  }

  /** What cannot be served is not owned either. */
  async #giveBack(name: string, claimed: readonly Route[]): Promise<void> {
    const { ledger, ports } = this.#options
    for (const route of claimed) if (await ledger.releaseBy(name, route)) ports.close(route)
  }

  /** Finds the routes of an offer, makes its name the owner, which `claimed` is told of, and opens its port. */
  async #place(client: ConnectedClient, offer: ServiceOffer, to: Placing): Promise<readonly Route[]> {
    const { authority } = this.#options
    const { name } = client
    const known = client.services.get(offer.name)
    const kept = known !== undefined && asksAlike(known.offer, offer) ? known.routes : undefined
    const wanted = authority.mayOffer(name, offer, kept)
    // A port that was chosen once is not chosen anew.
    const portAgain = wanted === undefined && known?.offer.type === offer.type
    if (known !== undefined && !portAgain && !sameRoutes(known.routes, wanted ?? [])) {
      const [first = ''] = known.routes
      const more = known.routes.length > 1 ? ` and ${known.routes.length - 1} more` : ''
      throw new TunnelError('bad_service', {
        scope: 'stream',
        remote: true,
        detail: `service "${printable(offer.name)}" is registered on ${first}${more}: unregister it first`,
      })
    }
    if (wanted !== undefined) {
      await this.#claim(wanted, name, to.claimed)
      return wanted
    }
    if (known !== undefined) return known.routes
    // A search that found nothing finds nothing for the next one either.
    if (to.request.noPort !== undefined && authority.portFor(name, offer.name) === undefined)
      throw to.request.noPort
    try {
      return [await this.#choosePort(name, offer.name, to.claimed)]
    } catch (error) {
      if (error instanceof TunnelError) to.request.noPort = error
      throw error
    }
  }

  /** A port for a service that named none: the one it had, else the lowest that can be opened. */
  async #choosePort(name: string, service: string, claimed: Route[]): Promise<Route> {
    const { authority, ledger, ports } = this.#options
    const kept = authority.portFor(name, service)
    const unusable = new Set<number>()
    for (let port = kept; ; port = undefined) {
      port ??= authority.lowestFreePort(name, unusable)
      if (unusable.size >= PORT_TRIES) {
        const detail = `${PORT_TRIES} ports in a row are used by other programs on the gateway: say which one with --port`
        throw new TunnelError('port_in_use', { scope: 'stream', remote: true, detail })
      }
      const route = tcpRoute(port)
      try {
        await ports.open(route)
      } catch (error) {
        if (!(error instanceof TunnelError) || error.code !== 'port_in_use') throw error
        unusable.add(port)
        continue
      }
      try {
        if (await ledger.keepPort(name, service, port)) claimed.push(route)
      } catch (error) {
        // Revoked while the port opened: a listener without an owner would stay for ever.
        ports.close(route)
        // Another name was given it by another worker in the same moment.
        if (!(error instanceof TunnelError) || error.code !== 'route_taken' || kept !== undefined) throw error
        unusable.add(port)
        continue
      }
      return route
    }
  }

  async #claim(routes: readonly Route[], name: string, claimed: Route[]): Promise<void> {
    const { authority, ledger, ports } = this.#options
    claimed.push(...(await ledger.claimAll(routes, name)))
    for (const route of routes) {
      if (parseRoute(route).kind !== 'tcp') continue
      await ports.open(route)
      // Closed here, for whoever took it away found nothing open.
      if (authority.ownerOf(route) !== name) ports.close(route)
    }
  }

  /** A silent tunnel lost its service to another of the same name: if it wakes up, it must know. */
  #tellGhosts(ghosts: readonly Replica<ConnectedClient>[]): void {
    for (const { tunnel: client, service, route } of ghosts) {
      cutOn(client, new Set([route]))
      if (!this.#forget(client, service)) continue
      const error = refusal(
        'route_conflict',
        `route ${route} went to another service while this tunnel was silent`,
      )
      client.tunnel.send({ type: 'withdrawn', services: [{ name: service, error }] })
    }
  }

  #checkOwned(name: string, routes: readonly Route[]): void {
    const lost = routes.find((route) => this.#options.authority.ownerOf(route) !== name)
    if (lost === undefined) return
    const detail = `"${name}" lost ${lost} while it was being opened: it was revoked or released on the gateway`
    throw new TunnelError('not_granted', { scope: 'stream', remote: true, detail })
  }

  #checkCovered(name: string, routes: readonly Route[], offer: ServiceOffer): void {
    const { authority, ports } = this.#options
    const lost = routes.find((route) => !authority.covers(name, route))
    if (lost === undefined) return
    ports.close(lost)
    authority.mayOffer(name, offer, routes)
    throw new TunnelError('not_granted', {
      scope: 'stream',
      remote: true,
      detail: `${lost} is no longer in the grant of "${name}"`,
    })
  }

  /** Resolves when nothing is being given or taken back: what follows may close the state. */
  idle(): Promise<void> {
    return this.#alone(async () => {})
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work)
    this.#last = done.catch(() => {})
    return done
  }
}

/** What the offers of one request have in common. */
interface Request {
  /** Names that were in it already. */
  readonly seen: Set<string>
  /** Too many for a line each. */
  readonly quiet: boolean
  /** What the search for a free port ended with. */
  noPort: TunnelError | undefined
}

/** One offer on its way to its routes. */
interface Placing {
  readonly request: Request
  /** Routes that nobody owned before: not kept when the offer is refused in the end. */
  readonly claimed: Route[]
}

function cutOn(client: ConnectedClient, routes: ReadonlySet<Route>): void {
  for (const carried of Array.from(client.carried.values())) if (routes.has(carried.route)) carried.cut()
}

/**
 * Those that open no port are written down together, in their order: a thousand new services of a client took 330 ms more
 * in a worker than in a gateway of one process, and 480 ms one after another. A port has to be open before the next one is
 * looked for.
 */
function inRuns(offers: readonly ServiceOffer[]): ServiceOffer[][] {
  const runs: ServiceOffer[][] = []
  let open: ServiceOffer[] | undefined
  for (const offer of offers) {
    if (open === undefined || offer.type === 'tcp') runs.push((open = []))
    open.push(offer)
    if (offer.type === 'tcp') open = undefined
  }
  return runs
}

function sameRoutes(one: readonly Route[], other: readonly Route[]): boolean {
  return one.length === other.length && one.every((route) => other.includes(route))
}

/** What can be said of an offer before anything is claimed or opened for it. */
function checkOffer(client: ConnectedClient, offer: ServiceOffer, request: Request): void {
  const refuse = (code: 'bad_service' | 'too_many_services', detail: string): TunnelError =>
    new TunnelError(code, {
      scope: 'stream',
      remote: true,
      detail: `service "${printable(offer.name)}": ${detail}`,
    })
  if (!isName(offer.name)) {
    throw refuse('bad_service', 'a name is 1 to 63 of a-z, 0-9 and -, and does not begin or end with -')
  }
  if (request.seen.has(offer.name)) throw refuse('bad_service', 'twice in one request')
  request.seen.add(offer.name)
  if (!client.services.has(offer.name) && client.services.size >= SERVICES_PER_TUNNEL) {
    throw refuse('too_many_services', `a tunnel carries ${SERVICES_PER_TUNNEL}`)
  }
}

export function refusal(code: ServiceRefusal['error']['code'], message: string): ServiceRefusal['error'] {
  return { code, message }
}
