import { availableParallelism, totalmem } from 'node:os'
import { userError } from '../errors.ts'
import {
  HOLD_MS,
  HOLD_RECENT_MS,
  HTTP_BODY_RATE,
  HTTP_HEAD_BYTES,
  HTTP_HEAD_MS,
  HTTP_KEEPALIVE_MS,
  HTTP_RESPONSE_MS,
  HTTP_STALL_MS,
  KEEPALIVE_SECONDS,
  TUNNELS_PER_GATEWAY,
} from '../limits.ts'
import {
  formatAddress,
  isLoopback,
  type Listen,
  parseAddress,
  parseBareHost,
  parseRemote,
} from './address.ts'
import { parseDomain } from './domain.ts'
import { ACCESS_FORMS, type GatewayFile, type Grant } from './gateway-file.ts'
import { drainSetting, type Environment, flagOrVariable } from './sources.ts'
import { parseDuration, parseMemory, parseWorkers, quoted } from './units.ts'

/** What the http visitors of a route may do. 0 stands for no bound, where a key's sentence says so. */
export interface HttpLimits {
  /** Of one address at once on the route; 0: any. */
  connections: number
  /** Per second of one address; 0: any. `requestBurst` at once. */
  requests: number
  requestBurst: number
  /** The same for all addresses together; 0: any. */
  routeConnections: number
  routeRequests: number
  routeRequestBurst: number
  /** A request's head: longer is 431, or 414 where it is the target. */
  headBytes: number
  /** A request's body; 0: any. */
  bodyBytes: number
  /** From the first byte of a head to its last. */
  headMs: number
  /** Between two requests of a connection. */
  idleMs: number
  /** From the last byte of a request to the first of its answer. */
  responseMs: number
  /** Bytes wait for one side and it takes none. */
  stallMs: number
  /** The least that a body may come with, bytes per second, while nothing but the visitor delays it; 0: any. */
  bodyRate: number
}

/** The gateway's record of requests, on stderr. */
export interface AccessLogSettings {
  access: (typeof ACCESS_FORMS)[number]
  address: 'full' | 'truncated' | 'none'
  /** Query strings too. */
  query: boolean
}

/** All that the gateway room takes. */
export interface GatewaySettings {
  listen: {
    http: Listen
    /** Visitors by SNI, and clients; undefined: nowhere. */
    tls?: Listen | undefined
    /** Undefined, where there is tls: clients have no port of their own. */
    tunnel?: Listen | undefined
    /** On a loopback address, unless there is a token. */
    admin?: Listen | undefined
    /** Where `tcp` ports open; undefined: all addresses. */
    portsHost?: string | undefined
  }
  /** `host:port` that invites carry; undefined: the gateway looks for one. */
  address?: string | undefined
  /** undefined without any `[grant.NAME]`: one name, http and tcp, the default route, ports from 1024 less our own. */
  grants: Map<string, Grant> | undefined
  /** Processes that serve; 1: this one does. */
  workers: number
  /** Of all of them together. */
  memoryBytes: number
  drainMs: number
  holdMs: number
  keepaliveSeconds: number
  /** Services without a host get SERVICE.DOMAIN. */
  domain?: string | undefined
  /** IP addresses and CIDR blocks of proxies in front, whose forwarding headers are believed. */
  trustedProxies: string[]
  /** Of every http route, and what single routes have otherwise; by the route as `status` writes it. */
  limits: HttpLimits
  routeLimits: Map<string, Partial<HttpLimits>>
  log: AccessLogSettings
  /** Asked for by the admin port; without one it is on loopback only. */
  adminToken?: string | undefined
}

/** Flags of `blindgate gateway`, as typed. */
export interface GatewayFlags {
  http?: string | undefined
  tls?: string | undefined
  tunnel?: string | undefined
  admin?: string | undefined
  address?: string | undefined
  domain?: string | undefined
  accessLog?: string | undefined
  workers?: string | undefined
  drain?: string | undefined
}

/** The environment variable of each setting that has one. */
export const GATEWAY_ENVIRONMENT = {
  http: 'BLINDGATE_HTTP',
  tls: 'BLINDGATE_TLS',
  tunnel: 'BLINDGATE_TUNNEL',
  admin: 'BLINDGATE_ADMIN',
  ports: 'BLINDGATE_PORTS',
  address: 'BLINDGATE_ADDRESS',
  domain: 'BLINDGATE_DOMAIN',
  accessLog: 'BLINDGATE_ACCESS_LOG',
  workers: 'BLINDGATE_WORKERS',
  memory: 'BLINDGATE_MEMORY',
  drain: 'BLINDGATE_DRAIN',
  hold: 'BLINDGATE_HOLD',
} as const

type Setting = keyof typeof GATEWAY_ENVIRONMENT

export interface GatewaySources {
  flags: GatewayFlags
  env: Environment
  file?: GatewayFile | undefined
}

const DEFAULT_HTTP: Listen = { port: 9_000 }
const DEFAULT_TUNNEL: Listen = { port: 9_001 }

/** Generous to people and their browsers, not to floods; each can be changed in the file. */
export const DEFAULT_HTTP_LIMITS: HttpLimits = {
  connections: 0,
  requests: 0,
  requestBurst: 0,
  routeConnections: 0,
  routeRequests: 0,
  routeRequestBurst: 0,
  headBytes: HTTP_HEAD_BYTES,
  bodyBytes: 0,
  headMs: HTTP_HEAD_MS,
  idleMs: HTTP_KEEPALIVE_MS,
  responseMs: HTTP_RESPONSE_MS,
  stallMs: HTTP_STALL_MS,
  bodyRate: HTTP_BODY_RATE,
}

/** Flag over environment over file over default. Throws `usage` for a bad flag, else `config_invalid`. */
export function gatewaySettings({ flags, env, file }: GatewaySources): GatewaySettings {
  const given = <T>(setting: Setting, parse: (text: string) => T): T | undefined =>
    flagOrVariable(
      [flagOf(setting), setting in flags ? flags[setting as keyof GatewayFlags] : undefined],
      [GATEWAY_ENVIRONMENT[setting], env],
      parse,
    )
  const http = given('http', parseAddress) ?? file?.listen.http ?? DEFAULT_HTTP
  const tls = given('tls', parseAddress) ?? file?.listen.tls
  const tunnel =
    given('tunnel', parseAddress) ?? file?.listen.tunnel ?? (tls === undefined ? DEFAULT_TUNNEL : undefined)
  const admin = given('admin', parseAddress) ?? file?.listen.admin
  const adminToken = file?.listen.adminToken
  checkAdmin(admin, adminToken)
  checkListeners({ visitors: http, 'visitors by TLS': tls, clients: tunnel, admin })
  return {
    listen: {
      http,
      tls,
      tunnel,
      admin,
      portsHost: given('ports', parseBareHost) ?? file?.listen.ports ?? http.host,
    },
    address: given('address', (text) => formatAddress(parseRemote(text))) ?? file?.address,
    grants: file?.grants,
    workers: workersOf(given('workers', parseWorkers) ?? file?.workers ?? 1),
    memoryBytes: given('memory', parseMemory) ?? file?.memory ?? defaultMemory(),
    drainMs: drainSetting({ flag: flags.drain, env, fileMs: file?.drainMs }),
    holdMs: Math.min(given('hold', parseDuration) ?? file?.holdMs ?? HOLD_MS, HOLD_RECENT_MS),
    keepaliveSeconds: KEEPALIVE_SECONDS,
    domain: given('domain', parseDomain) ?? file?.domain,
    trustedProxies: file?.trustedProxies ?? [],
    limits: { ...DEFAULT_HTTP_LIMITS, ...file?.limits },
    routeLimits: file?.routeLimits ?? new Map(),
    log: {
      access: given('accessLog', parseAccess) ?? file?.log.access ?? 'off',
      address: file?.log.address ?? 'full',
      query: file?.log.query ?? false,
    },
    adminToken,
  }
}

/** As many as there are cores for; a client keeps no more tunnels to one address than TUNNELS_PER_GATEWAY. */
function workersOf(workers: number | 'auto'): number {
  return workers === 'auto' ? Math.min(availableParallelism(), TUNNELS_PER_GATEWAY) : workers
}

/** `--access-log` of `accessLog`. */
function flagOf(setting: Setting): string {
  return `--${setting.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}

function parseAccess(text: string): AccessLogSettings['access'] {
  const form = ACCESS_FORMS.find((form) => form === text)
  if (form !== undefined) return form
  throw userError(
    'config_invalid',
    `${quoted(text)} is no form of the access log: write ${ACCESS_FORMS.join(', ').replace(/, (?=\w+$)/, ' or ')}`,
  )
}

/** A quarter of what the process may use: of the machine, or of its container (cgroup). */
export function defaultMemory(
  total: number = totalmem(),
  constrained: number = process.constrainedMemory(),
): number {
  // Without a limit Node says 0 or, by version, a number near 2⁶⁴.
  const available = constrained > 0 ? Math.min(constrained, total) : total
  return Math.floor(available / 4)
}

/** What the admin port shows is for the operator alone. */
function checkAdmin(admin: Listen | undefined, token: string | undefined): void {
  if (admin === undefined || token !== undefined) return
  if (admin.host !== undefined && isLoopback(admin.host)) return
  throw userError(
    'config_invalid',
    `admin on ${formatAddress(admin)} could be read by others: write 127.0.0.1:${admin.port}, or give it a token with admin_token_file under [listen]`,
  )
}

function checkListeners(
  listeners: Record<'visitors' | 'visitors by TLS' | 'clients' | 'admin', Listen | undefined>,
): void {
  const seen: [string, Listen][] = []
  for (const [who, listen] of Object.entries(listeners)) {
    if (listen === undefined || listen.port === 0) continue
    for (const [other, { host, port }] of seen) {
      if (port !== listen.port || (host !== listen.host && host !== undefined && listen.host !== undefined))
        continue
      const advice =
        other === 'visitors by TLS' && who === 'clients'
          ? 'leave tunnel out, clients connect where tls is too'
          : 'give each a port of its own'
      throw userError('config_invalid', `${other} and ${who} are both on port ${port}: ${advice}`)
    }
    seen.push([who, listen])
  }
}
