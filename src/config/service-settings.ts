import { isIP } from 'node:net'
import { type TunnelError, userError } from '../errors.ts'
import { HTTP_IDLE_MS } from '../limits.ts'
import type { ServiceType } from '../protocol/index.ts'
import { serviceNameOf, type Target } from './target.ts'
import { quoted } from './units.ts'

/** A service as the client runs it. */
export interface ServiceSettings {
  name: string
  type: ServiceType
  /** http: host patterns, `*` for the default route; none: what the gateway gives a service without one. https: one at least, never `*`. */
  hosts: string[]
  /** http: visitors' paths begin with it; undefined: all. */
  path?: string | undefined
  /** https: who ends TLS. `passthrough`: the target; otherwise the client, with a certificate by ACME, of files, or its own. */
  tls?: TlsMode | undefined
  /** https that ends here: where its certificate and key are kept by somebody else. */
  files?: CertificateFiles | undefined
  /** https that ends here, with a certificate by ACME: browsers are told to use nothing but https. */
  hsts?: boolean | undefined
  /** For a target that speaks TLS: the key that it must show; undefined: a certificate that is valid for its name. */
  targetKey?: `sha256:${string}` | undefined
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

export type TlsMode = 'passthrough' | 'acme' | 'files' | 'self-signed'

/** Paths of PEM files; the certificate's begins with the leaf. */
export interface CertificateFiles {
  cert: string
  key: string
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
  type: 'http' | 'https' | 'tcp'
  hosts?: string[] | undefined
  path?: string | undefined
  tls?: 'passthrough' | 'self-signed' | undefined
  cert?: string | undefined
  key?: string | undefined
  hsts?: boolean | undefined
  targetKey?: `sha256:${string}` | undefined
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
  const { type, hosts = [], health, retry, port, target, targetKey, gateways } = wish
  // All paths begin with it: it says nothing, and a replica that leaves it out has the same route.
  const path = wish.path === '/' ? undefined : wish.path
  return {
    name: nameOf(wish) ?? '',
    type,
    hosts,
    path,
    tls: tlsOf(wish),
    files: filesOf(wish),
    hsts: wish.hsts,
    targetKey,
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

function filesOf({ cert, key }: ServiceWish): CertificateFiles | undefined {
  return cert === undefined || key === undefined ? undefined : { cert, key }
}

function tlsOf(wish: ServiceWish): TlsMode | undefined {
  if (wish.type !== 'https') return undefined
  return wish.tls ?? (filesOf(wish) === undefined ? 'acme' : 'files')
}

/** The key of a file, its value in a wish, and the types that have it. */
const KEYS_OF = [
  ['host', 'hosts', ['http', 'https']],
  ['path', 'path', ['http']],
  ['health', 'health', ['http', 'https']],
  ['host_header', 'hostHeader', ['http', 'https']],
  ['add_headers', 'addHeaders', ['http', 'https']],
  ['strip_path', 'stripPath', ['http']],
  ['retry', 'retry', ['http', 'https']],
  ['tls', 'tls', ['https']],
  ['cert', 'cert', ['https']],
  ['key', 'key', ['https']],
  ['hsts', 'hsts', ['https']],
] as const satisfies readonly (readonly [string, keyof ServiceWish, readonly ServiceWish['type'][]])[]

/** Why a type has not what others have. */
const WITHOUT = {
  http: 'its visitors come without TLS',
  https: 'https is found by its host alone, and nobody on the way can read more',
  tcp: 'tcp is carried as it is, to a port of its own',
} as const satisfies Record<ServiceWish['type'], string>

/** First match wins: a wrong type explains all that follows from it. */
const MISFITS: readonly (readonly [key: string, complaint: (wish: ServiceWish) => string | undefined])[] = [
  ...KEYS_OF.map(
    ([key, field, types]) =>
      [
        key,
        (wish: ServiceWish) =>
          (types as readonly string[]).includes(wish.type) || wish[field] === undefined
            ? undefined
            : `${key} is for ${types.join(' and ')}: ${WITHOUT[wish.type]}: leave ${key} out, or offer ${types[0]}`,
      ] as const,
  ),
  [
    'port',
    ({ type, port }) =>
      type !== 'tcp' && port !== undefined
        ? `${type} has no port of its own, visitors use the gateway's: leave port out, or offer tcp`
        : undefined,
  ],
  [
    'tls',
    ({ tls, cert, key }) =>
      tls !== undefined && (cert !== undefined || key !== undefined)
        ? `tls = "${tls}" needs no files: leave cert and key out, or leave tls out`
        : undefined,
  ],
  ...(['cert', 'key'] as const).map(
    (one) =>
      [
        one,
        (wish: ServiceWish) =>
          wish[one] !== undefined && (wish.cert === undefined || wish.key === undefined)
            ? `${one} stands alone: give both, the certificate with its chain and its private key`
            : undefined,
      ] as const,
  ),
  ...(['health', 'hostHeader', 'addHeaders', 'retry', 'hsts'] as const).map(
    (field) =>
      [
        KEYS_OF.find(([, one]) => one === field)?.[0] ?? field,
        (wish: ServiceWish) =>
          wish.tls === 'passthrough' && wish[field] !== undefined
            ? 'with tls = "passthrough" nobody on the way can read or change anything: leave it out'
            : undefined,
      ] as const,
  ),
  [
    'target',
    ({ type, tls, target, targetKey, health }) => {
      const { speaks } = target
      if (targetKey !== undefined && speaks !== 'https')
        return 'target_key is the key of a target that speaks TLS: write target = "https://…", or leave target_key out'
      if (speaks === 'h2c' && (type !== 'https' || tls === 'passthrough'))
        return `h2c is for https whose TLS ends here: a target of ${type === 'https' ? 'passthrough' : type} is host:port`
      if (speaks === 'h2c' && health !== undefined)
        return 'a target of h2c:// is not asked for its health in this version: leave health out'
      if (speaks === 'https' && (type === 'tcp' || tls === 'passthrough'))
        return `${type === 'tcp' ? 'tcp' : 'passthrough'} carries what visitors send, TLS too: write the target as host:port`
      return undefined
    },
  ],
  [
    'type',
    ({ type, hosts = [] }) =>
      type === 'https' && hosts.length === 0
        ? 'https is found by the host that visitors ask for: add host = ["app.example.com"]'
        : undefined,
  ],
  [
    'host',
    ({ type, hosts = [] }) => {
      const wrong = type === 'https' ? hosts.find((host) => host === '*' || isAddress(host)) : undefined
      return wrong === undefined
        ? undefined
        : `${quoted(wrong)} is no host that visitors can ask for by TLS: write DNS names, as in "app.example.com" or "*.example.com"`
    },
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

/** As a host pattern has it: IPv6 in brackets. */
function isAddress(host: string): boolean {
  return isIP(host.replace(/^\[|\]$/g, '')) !== 0
}

function rewriteOf({ hostHeader, addHeaders, stripPath }: ServiceWish, path?: string): Rewrite | undefined {
  const rewrite = {
    ...(hostHeader === undefined ? {} : { host: hostHeader }),
    ...(addHeaders === undefined || addHeaders.length === 0 ? {} : { headers: addHeaders }),
    ...(stripPath === true && path !== undefined ? { stripPath } : {}),
  }
  return Object.keys(rewrite).length === 0 ? undefined : rewrite
}
