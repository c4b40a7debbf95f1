import { parseHostPattern } from '../config/index.ts'
import { TunnelError, userError } from '../errors.ts'
import { CONTROL_TEXT_CHARACTERS } from '../limits.ts'

/**
 * The gateway's entry for visitors, as people write it and as it is kept: `app.example.com/`, `*.example.com/api`,
 * `default` and `default/api` (every other host), `https:app.example.com` (by the name that a TLS visitor asks for), or
 * `tcp:2222`. Always the text that `formatRoute` writes, so that
 * equal routes are equal strings.
 */
export type Route = string

export type ParsedRoute =
  | { kind: 'tcp'; port: number }
  | { kind: 'http'; host: string; path: string }
  | { kind: 'https'; host: string }

export const DEFAULT_ROUTE: Route = 'default'
/** In place of a host: every host that nobody owns. */
export const DEFAULT_HOST = '*'

/** The route of a port that visitors reach by plain TCP. */
export function tcpRoute(port: number): Route {
  return `tcp:${port}`
}

/** The route of a host, as `hostOf` gives it, and a path. */
export function httpRoute(host: string, path = '/'): Route {
  if (host !== DEFAULT_HOST) return `${host}${path}`
  return path === '/' ? DEFAULT_ROUTE : `${DEFAULT_ROUTE}${path}`
}

/** The route of a host whose visitors come by TLS. Nothing but the host is seen of them, so there is no path. */
export function httpsRoute(host: string): Route {
  return `${HTTPS}${host}`
}

const HTTPS = 'https:'

export function formatRoute(route: ParsedRoute): Route {
  if (route.kind === 'tcp') return tcpRoute(route.port)
  return route.kind === 'https' ? httpsRoute(route.host) : httpRoute(route.host, route.path)
}

/** Reads what `formatRoute` wrote or a person typed, who may leave out the slash of a host. Throws `usage`. */
export function parseRoute(text: string): ParsedRoute {
  const route = readRoute(text)
  if (route !== undefined) return route
  throw userError(
    'usage',
    `"${text}" is not a route: write a host as "app.example.com", with a path as "app.example.com/api", for TLS as "https:app.example.com", "default", or a port as "tcp:2222"`,
  )
}

/** As `parseRoute`; undefined for a text that is no route. */
export function readRoute(text: string): ParsedRoute | undefined {
  const port = Number(/^tcp:([1-9][0-9]{0,4})$/.exec(text)?.[1])
  if (port <= 65_535) return { kind: 'tcp', port }
  if (text.startsWith(HTTPS)) {
    const host = readHost(text.slice(HTTPS.length))
    return host === undefined || host === DEFAULT_HOST ? undefined : { kind: 'https', host }
  }
  const slash = text.indexOf('/')
  const said = slash < 0 ? text : text.slice(0, slash)
  const path = slash < 0 ? '/' : text.slice(slash)
  if (!isPath(path) || said === DEFAULT_HOST) return undefined
  if (said === DEFAULT_ROUTE) return { kind: 'http', host: DEFAULT_HOST, path }
  const host = readHost(said)
  return host === undefined ? undefined : { kind: 'http', host, path }
}

function readHost(text: string): string | undefined {
  try {
    return hostOf(text)
  } catch (error) {
    if (error instanceof TunnelError) return undefined
    throw error
  }
}

/** True for the text of a route, in the one spelling that is kept. */
export function isRoute(text: string): boolean {
  const route = readRoute(text)
  return route !== undefined && formatRoute(route) === text
}

/** A host or pattern in its one spelling; `*` is the default route's. Throws `config_invalid`. */
export function hostOf(text: string): string {
  const host = parseHostPattern(text)
  if (host !== DEFAULT_ROUTE) return host
  throw userError('config_invalid', '"default" stands for every other host: call the host otherwise')
}

/** Of characters that mean themselves: an escape or a `..` would be one more way to write another path. */
const PATH = /^(?:\/|(?:\/[\w.~!$&'()*+,;=:@-]+)+)$/

/** Whether a route may have this path: it begins with a slash and ends with none, but for `/` itself. */
export function isPath(text: string): boolean {
  return (
    text.length <= CONTROL_TEXT_CHARACTERS &&
    PATH.test(text) &&
    !text.split('/').some((segment) => segment === '.' || segment === '..')
  )
}
