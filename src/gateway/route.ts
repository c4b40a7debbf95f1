import { TunnelError, userError } from '../errors.ts'
import { printable, type ServiceOffer } from '../protocol/index.ts'

/**
 * The gateway's entry for visitors, as people write it and as it is kept: `default` (the visitors' HTTP port)
 * or `tcp:2222`. Always the text that `parseRoute` gives back, so that equal routes are equal strings.
 */
export type Route = string

export type ParsedRoute = { kind: 'default' } | { kind: 'tcp'; port: number }

export const DEFAULT_ROUTE: Route = 'default'

/** The route of a port that visitors reach by plain TCP. */
export function tcpRoute(port: number): Route {
  return `tcp:${port}`
}

const TCP = /^tcp:([1-9][0-9]{0,4})$/

/** Reads what `formatRoute` wrote or a person typed. Throws `usage`. */
export function parseRoute(text: string): ParsedRoute {
  if (text === DEFAULT_ROUTE) return { kind: 'default' }
  const port = Number(TCP.exec(text)?.[1])
  if (port >= 1 && port <= 65_535) return { kind: 'tcp', port }
  throw userError('usage', `"${text}" is not a route: write "default", or a port as "tcp:2222"`)
}

export function formatRoute(route: ParsedRoute): Route {
  return route.kind === 'tcp' ? tcpRoute(route.port) : DEFAULT_ROUTE
}

/** True for the text of a route, in the one spelling that is kept. */
export function isRoute(text: string): boolean {
  if (text === DEFAULT_ROUTE) return true
  const port = Number(TCP.exec(text)?.[1])
  return port >= 1 && port <= 65_535
}

/**
 * Where visitors reach an offer; undefined for `tcp` without a port (or 0), which the gateway has yet to choose.
 * Throws `unsupported` for what this version does not carry and `bad_service` for what makes no sense.
 */
export function routeOf(offer: ServiceOffer): Route | undefined {
  const byHost = (offer.hosts?.length ?? 0) > 0 || offer.path !== undefined
  const port = offer.port ?? 0
  if (offer.type === 'http') {
    if (port !== 0) throw refused('bad_service', offer, 'http has no port of its own: leave it out')
    if (!byHost) return DEFAULT_ROUTE
    throw refused('unsupported', offer, 'this gateway has no host or path routes yet: leave both out')
  }
  if (offer.type === 'tcp') {
    if (byHost) throw refused('bad_service', offer, 'tcp is reached by port: leave out hosts and path')
    return port === 0 ? undefined : tcpRoute(port)
  }
  throw refused('unsupported', offer, 'this gateway carries only http and tcp so far: offer one of them')
}

function refused(code: 'bad_service' | 'unsupported', offer: ServiceOffer, why: string): TunnelError {
  const detail = `service "${printable(offer.name)}": ${why}`
  return new TunnelError(code, { scope: 'stream', remote: true, detail })
}
