import { parseHostPattern } from '../config/index.ts'
import { TunnelError } from '../errors.ts'
import { plainName } from '../http1/index.ts'
import { HOSTS_PER_SERVICE, REWRITE_HEADERS } from '../limits.ts'
import { printable, type ServiceOffer } from '../protocol/index.ts'
import { DEFAULT_HOST, hostOf, httpRoute, httpsRoute, isPath, type Route, tcpRoute } from './route.ts'

/** What decides, besides the offer, where visitors reach it. */
export interface Surroundings {
  /** Whose offer it is. */
  name: string
  /** Services without a host get SERVICE.DOMAIN. */
  domain: string | undefined
  /** The gateway has a port for visitors that come by TLS. */
  tls: boolean
  /** The host is another name's: it owns it, or a wildcard above it. */
  foreign(host: string): boolean
}

const ALONE: Surroundings = { name: '', domain: undefined, tls: true, foreign: () => false }

/**
 * Where visitors reach an offer: each once, on all of its hosts with its path. Undefined for `tcp` without a port
 * (or 0), which the gateway has yet to choose.
 * Throws `unsupported` for what this version does not carry and `bad_service` for what makes no sense.
 */
export function routesOf(offer: ServiceOffer, surroundings: Surroundings = ALONE): Route[] | undefined {
  const port = offer.port ?? 0
  if (offer.type === 'http') {
    if (port !== 0) throw refused('bad_service', offer, 'http has no port of its own: leave it out')
    checkRequests(offer)
    return httpRoutes(offer, surroundings)
  }
  if (offer.type === 'tcp') {
    const byHost = (offer.hosts?.length ?? 0) > 0 || offer.path !== undefined
    if (byHost) throw refused('bad_service', offer, 'tcp is reached by port: leave out hosts and path')
    if (offer.retry !== undefined || offer.rewrite !== undefined) {
      throw refused(
        'bad_service',
        offer,
        'tcp has no requests to repeat or change: leave out retry and rewrite',
      )
    }
    return port === 0 ? undefined : [tcpRoute(port)]
  }
  if (offer.type === 'https') return httpsRoutes(offer, surroundings)
  throw refused('unsupported', offer, 'this gateway carries http, https and tcp so far: offer one of them')
}

/** True when both ask for the same place. */
export function asksAlike(one: ServiceOffer, other: ServiceOffer): boolean {
  const asked = ({ type, hosts = [], path = '/', port = 0, tls = '' }: ServiceOffer): string =>
    JSON.stringify([type, hosts, path, port, tls])
  return asked(one) === asked(other)
}

function httpRoutes(offer: ServiceOffer, surroundings: Surroundings): Route[] {
  const { hosts = [], path = '/' } = offer
  if (!isPath(path)) {
    const what = `path "${printable(path)}" cannot be a route's`
    throw refused(
      'bad_service',
      offer,
      `${what}: write it as /api/v1, without escapes and a slash at the end`,
    )
  }
  if (hosts.length === 0) return [httpRoute(hostFor(offer, surroundings), path)]
  return distinctHosts(offer, hosts).map((host) => httpRoute(host, path))
}

/** How TLS ends is between the service and its visitors: nothing here looks at `tls`. */
function httpsRoutes(offer: ServiceOffer, surroundings: Surroundings): Route[] {
  const { hosts = [], path, retry, rewrite } = offer
  if ((offer.port ?? 0) !== 0)
    throw refused('bad_service', offer, 'https has no port of its own: leave it out')
  if (path !== undefined || retry !== undefined || rewrite !== undefined) {
    const why = 'the gateway sees no requests of https: leave out path, retry and rewrite'
    throw refused('bad_service', offer, why)
  }
  if (!surroundings.tls) {
    const why = 'this gateway has no port for https: start it with --tls :443, or listen.tls in gateway.toml'
    throw refused('unsupported', offer, why)
  }
  if (hosts.length > 0) return distinctHosts(offer, hosts, false).map(httpsRoute)
  if (surroundings.domain !== undefined) return [httpsRoute(hostFor(offer, surroundings))]
  throw refused('bad_service', offer, 'https is found by the host that visitors ask for: give it hosts')
}

/** The hosts of an offer in their one spelling. */
function distinctHosts(offer: ServiceOffer, said: readonly string[], rest = true): string[] {
  if (said.length > HOSTS_PER_SERVICE) {
    const detail = `${said.length} hosts are more than the ${HOSTS_PER_SERVICE} of one service: make two services of it`
    throw refused('bad_service', offer, detail)
  }
  const hosts = new Set<string>()
  for (const text of said) {
    const host = hostIn(offer, text)
    if (host === DEFAULT_HOST && !rest) {
      throw refused('bad_service', offer, '"*" is no host of https: name the hosts, or "*." and a domain')
    }
    if (hosts.has(host)) throw refused('bad_service', offer, `host "${printable(text)}" is there twice`)
    hosts.add(host)
  }
  return [...hosts]
}

/** The host of a service that named none. */
function hostFor(offer: ServiceOffer, surroundings: Surroundings): string {
  const { name, domain } = surroundings
  if (domain === undefined) return DEFAULT_HOST
  const short = hostIn(offer, `${offer.name}.${domain}`)
  return surroundings.foreign(short) ? hostIn(offer, `${offer.name}-${name}.${domain}`) : short
}

function hostIn(offer: ServiceOffer, text: string): string {
  try {
    return hostOf(text)
  } catch (error) {
    if (error instanceof TunnelError) throw refused('bad_service', offer, error.message)
    throw error
  }
}

// ── Requests ────────────────────────────────────────────────────────────────────────────────────────────

/** They frame the message, belong to its connection, or are the gateway's own word. As `plainName` has them: some targets read `_` and `-` as one. */
const OURS = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'upgrade',
  'expect',
  'forwarded',
  'x-real-ip',
  'x-request-id',
])
/** RFC 9110, 5.6.2. */
const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/
/** No other letters: a writer that keeps one byte of each would make a line break of `Ċ`. */
const VALUE = /^(?:[!-~](?:[ -~]*[!-~])?)?$/

/** What the gateway is to do with the requests of an offer. Throws `bad_service`. */
function checkRequests(offer: ServiceOffer): void {
  const refuse = (why: string): TunnelError => refused('bad_service', offer, why)
  if (offer.retry !== undefined && offer.retry !== 'idempotent') {
    throw refuse(`retry "${printable(offer.retry)}" is unknown: write "idempotent" or leave it out`)
  }
  const { host, headers = [], stripPath } = offer.rewrite ?? {}
  if (stripPath === true && (offer.path ?? '/') === '/') {
    throw refuse('there is no path to strip: give the service one')
  }
  if (host !== undefined) checkHostHeader(offer, host)
  if (headers.length > REWRITE_HEADERS) {
    throw refuse(`${headers.length} headers are more than the ${REWRITE_HEADERS} that a service may set`)
  }
  for (const [name, value] of headers) {
    const said = `header "${printable(name)}"`
    const plain = plainName(name)
    if (!TOKEN.test(name)) throw refuse(`${said} is not the name of a header: use letters, digits and -`)
    if (OURS.has(plain) || plain.startsWith('x-forwarded-')) {
      throw refuse(`${said} is the gateway's to set: leave it out`)
    }
    if (!VALUE.test(value)) {
      throw refuse(`the value of ${said} has more than visible ASCII and single spaces between: change it`)
    }
  }
}

/**
 * A target that trusts its own name must not be reached under any other: a page of somebody else's, whose name leads
 * to this gateway, would speak to it as its own (DNS rebinding). So the service says by which hosts it is reached.
 */
function checkHostHeader(offer: ServiceOffer, text: string): void {
  const [, host = '', port = '1'] = /^(.*?)(?::([0-9]{1,5}))?$/s.exec(text) ?? []
  const canonical = host === DEFAULT_HOST || host.startsWith('*.') ? undefined : hostHeader(host)
  if (canonical !== host.toLowerCase() || Number(port) < 1 || Number(port) > 65_535) {
    throw refused('bad_service', offer, `rewrite.host "${printable(text)}" is not a host, or host:port`)
  }
  const { hosts = [] } = offer
  if (hosts.length === 0 || hosts.includes(DEFAULT_HOST)) {
    const why =
      'with another Host the service must say by which hosts it is reached: give it hosts, without "*"'
    throw refused('bad_service', offer, why)
  }
}

function hostHeader(text: string): string | undefined {
  try {
    // Not `hostOf`: a target may be called "default".
    return parseHostPattern(text)
  } catch (error) {
    if (error instanceof TunnelError) return undefined
    throw error
  }
}

function refused(code: 'bad_service' | 'unsupported', offer: ServiceOffer, why: string): TunnelError {
  const detail = `service "${printable(offer.name)}": ${why}`
  return new TunnelError(code, { scope: 'stream', remote: true, detail })
}
