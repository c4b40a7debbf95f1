import { type TunnelError, userError } from '../errors.ts'
import { HTTP_IDLE_MS } from '../limits.ts'
import type { ServiceType } from '../protocol/index.ts'
import { serviceNameOf, type Target } from './target.ts'

/** A service as the client runs it. */
export interface ServiceSettings {
  name: string
  type: ServiceType
  /** http: host patterns, `*` for the default route; none: what the gateway gives a service without one. */
  hosts: string[]
  /** http: visitors' paths begin with it; undefined: all. */
  path?: string | undefined
  /** http: a GET of this at the target tells whether it works; undefined: it is not asked. */
  health?: string | undefined
  /** http: what the gateway changes in each request. */
  rewrite?: Rewrite | undefined
  /** http: the gateway may repeat PUT and DELETE too. */
  retry?: 'idempotent' | undefined
  /** tcp: the gateway's port; undefined lets the gateway choose. */
  port?: number | undefined
  target: Target
  /** Addresses of the gateways that offer it; undefined: all. */
  gateways?: string[] | undefined
  /** A visitor silent both ways this long is let go; 0: never. */
  idleMs: number
  /** Begin each connection to the target with a PROXY v2 header. */
  proxyHeader: boolean
}

export interface Rewrite {
  /** Instead of the visitor's Host. */
  host?: string | undefined
  /** Set in each request. */
  headers?: [name: string, value: string][] | undefined
  /** The service's path is taken off. */
  stripPath?: boolean | undefined
}

/** A service as a file or a command line says it: parsed, with what was left out undefined. */
export interface ServiceWish {
  name?: string | undefined
  type: 'http' | 'tcp'
  hosts?: string[] | undefined
  path?: string | undefined
  health?: string | undefined
  hostHeader?: string | undefined
  addHeaders?: [name: string, value: string][] | undefined
  stripPath?: boolean | undefined
  retry?: 'idempotent' | undefined
  port?: number | undefined
  target: Target
  gateways?: string[] | undefined
  idleMs?: number | undefined
  proxyHeader?: boolean | undefined
}

/** What does not fit together in a wish. `key` is where it stands in a file. */
export interface Misfit {
  key: string
  error: TunnelError
}

/** Fills in what was left out. Throws `config_invalid` for what `misfitOf` finds. */
export function serviceSettings(wish: ServiceWish): ServiceSettings {
  const misfit = misfitOf(wish)
  if (misfit !== undefined) throw misfit.error
  const { type, hosts = [], health, retry, port, target, gateways } = wish
  // All paths begin with it: it says nothing, and a replica that leaves it out has the same route.
  const path = wish.path === '/' ? undefined : wish.path
  return {
    name: nameOf(wish) ?? '',
    type,
    hosts,
    path,
    health,
    rewrite: rewriteOf(wish, path),
    retry,
    port,
    target,
    gateways,
    idleMs: wish.idleMs ?? (type === 'http' ? HTTP_IDLE_MS : 0),
    proxyHeader: wish.proxyHeader ?? false,
  }
}

/** The name that a service has or gets; undefined where none can be made. */
function nameOf({ name, type, target }: ServiceWish): string | undefined {
  return name ?? serviceNameOf(type, target)
}

/** The first thing in a wish that makes no sense with the rest of it. */
export function misfitOf(wish: ServiceWish): Misfit | undefined {
  for (const [key, complaint] of MISFITS) {
    const detail = complaint(wish)
    if (detail !== undefined) return { key, error: userError('config_invalid', detail) }
  }
  return undefined
}

/** Only of http: the key of a file, and its value in a wish. */
const HTTP_ONLY = [
  ['host', 'hosts'],
  ['path', 'path'],
  ['health', 'health'],
  ['host_header', 'hostHeader'],
  ['add_headers', 'addHeaders'],
  ['strip_path', 'stripPath'],
  ['retry', 'retry'],
] as const satisfies readonly (readonly [string, keyof ServiceWish])[]

/** First match wins: a wrong type explains all that follows from it. */
const MISFITS: readonly (readonly [key: string, complaint: (wish: ServiceWish) => string | undefined])[] = [
  ...HTTP_ONLY.map(
    ([key, field]) =>
      [
        key,
        (wish: ServiceWish) =>
          wish.type === 'http' || wish[field] === undefined
            ? undefined
            : `${key} is for http: ${wish.type} is carried as it is, to a port of its own: leave ${key} out, or offer http`,
      ] as const,
  ),
  [
    'port',
    ({ type, port }) =>
      type === 'http' && port !== undefined
        ? "http has no port of its own, visitors use the gateway's: leave port out, or offer tcp"
        : undefined,
  ],
  [
    'strip_path',
    ({ stripPath, path }) =>
      stripPath === true && path === undefined
        ? 'strip_path takes off the path that visitors ask for, and there is none: add path, or leave strip_path out'
        : undefined,
  ],
  [
    // With it the target no longer sees that a visitor's browser was led here under another name (DNS rebinding).
    'host_header',
    ({ hostHeader, hosts = [] }) =>
      hostHeader !== undefined && (hosts.length === 0 || hosts.includes('*'))
        ? 'host_header hides from the target under which name it was reached, so the names must be yours: add host, without "*", or leave host_header out'
        : undefined,
  ],
  [
    'target',
    (wish) =>
      nameOf(wish) === undefined
        ? `no name can be made of ${wish.target.text}: give the service a name`
        : undefined,
  ],
]

function rewriteOf({ hostHeader, addHeaders, stripPath }: ServiceWish, path?: string): Rewrite | undefined {
  const rewrite = {
    ...(hostHeader === undefined ? {} : { host: hostHeader }),
    ...(addHeaders === undefined || addHeaders.length === 0 ? {} : { headers: addHeaders }),
    ...(stripPath === true && path !== undefined ? { stripPath } : {}),
  }
  return Object.keys(rewrite).length === 0 ? undefined : rewrite
}
