import { createServer, type Server } from 'node:net'
import type { Logger } from 'pino'
import { TunnelError } from '../errors.ts'
import { gatewayDescriptors, readShared, visitorServerOptions } from '../net/index.ts'
import type { Listening } from './listening.ts'
import { DEFAULT_ROUTE, parseRoute, type Route } from './route.ts'
import type { Visitors } from './visitors.ts'

export interface VisitorPortsOptions {
  visitors: Visitors
  /** Where `tcp` ports open; undefined: on all addresses. */
  host(): string | undefined
  listening: Listening
  log: Logger
}

/** The listeners that visitors connect to: one per route. Open ones stay open while their route is owned. */
export class VisitorPorts {
  readonly #options: VisitorPortsOptions
  readonly #open = new Map<Route, Server>()
  readonly #capacity = gatewayDescriptors().ports
  #closed = false

  constructor(options: VisitorPortsOptions) {
    this.#options = options
  }

  /** Opens the port of a `tcp` route; nothing if it is open. Rejects with `port_in_use`. */
  async open(route: Route): Promise<void> {
    const parsed = parseRoute(route)
    if (parsed.kind !== 'tcp' || this.#open.has(route)) return
    if (this.#open.size >= this.#capacity) {
      const detail = `the gateway has ${this.#open.size} ports open, as many as its open files allow: ask its operator`
      throw new TunnelError('port_in_use', { scope: 'stream', remote: true, detail })
    }
    const host = this.#options.host()
    try {
      await this.listen(route, { ...(host === undefined ? {} : { host }), port: parsed.port })
    } catch (error) {
      throw portInUse(parsed.port, error)
    }
  }

  /** Listens for the visitors of `route`. Rejects with `address_in_use` and the like. */
  async listen(
    route: Route,
    address: { host?: string | undefined; port: number },
  ): Promise<{ host: string; port: number }> {
    const { visitors, log } = this.#options
    // Read only once it is known where to: a visitor whose bytes lie in the kernel costs nothing here.
    const http = route === DEFAULT_ROUTE
    const options = { ...visitorServerOptions, pauseOnConnect: true }
    const server = createServer(options, (socket) => {
      readShared(socket)
      if (http) visitors.arriveHttp(socket)
      else visitors.arrive(socket, route)
    })
    const bound = await this.#options.listening.listen(server, address)
    server.on('error', (error) => log.error({ err: error, route }, 'a visitors’ port has a problem'))
    this.#open.set(route, server)
    // All may have been closed while it opened.
    if (this.#closed) this.#close(route)
    return bound
  }

  /** Closes the port of a `tcp` route; those who are here stay. The visitors' HTTP port is the gateway's own, whoever owns the route. */
  close(route: Route): void {
    if (parseRoute(route).kind === 'tcp') this.#close(route)
  }

  /** No new visitors. */
  closeAll(): void {
    this.#closed = true
    for (const route of Array.from(this.#open.keys())) this.#close(route)
  }

  #close(route: Route): void {
    const server = this.#open.get(route)
    if (server === undefined) return
    this.#open.delete(route)
    void this.#options.listening.close(server)
  }
}

function portInUse(port: number, cause: unknown): TunnelError {
  const why = cause instanceof Error ? (cause.cause as NodeJS.ErrnoException | undefined)?.code : undefined
  const detail =
    why === 'EADDRINUSE'
      ? `port ${port} is used by another program on the gateway: choose another`
      : `the gateway cannot open port ${port} (${why ?? 'for a reason that its log tells'}): choose another, or ask its operator`
  return new TunnelError('port_in_use', { scope: 'stream', remote: true, detail, cause })
}
