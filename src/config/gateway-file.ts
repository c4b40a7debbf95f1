import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { TunnelError } from '../errors.ts'
import { DRAIN_MS_MAX, HOLD_RECENT_MS } from '../limits.ts'
import { SERVICE_TYPES, type ServiceType } from '../protocol/index.ts'
import {
  formatAddress,
  type Listen,
  parseAddress,
  parseAddressBlock,
  parseBareHost,
  parseRemote,
} from './address.ts'
import { parseDomain } from './domain.ts'
import { type Complain, loadFile } from './file.ts'
import type { AccessLogSettings, HttpLimits } from './gateway-settings.ts'
import { parseHttpRoute } from './http-route.ts'
import { limitsSaid, limitsTable, withBursts } from './limits-table.ts'
import { type PortRange, parseHostPattern, parseLabel, parsePortRange } from './patterns.ts'
import { attempt, documentedKeys, key, textAs } from './schema.ts'
import { readToken } from './token-file.ts'
import { parseDuration, parseMemory, parseWorkers } from './units.ts'

/** How the access log is written; no more than a person may say. */
export const ACCESS_FORMS = ['off', 'json', 'combined'] as const

/** What a name may offer. `hosts`: exact names, `*.` patterns (one label), `*` for the default route; lower case. */
export interface Grant {
  types: ServiceType[]
  hosts: string[]
  ports: PortRange[]
}

/** gateway.toml, read and checked; what it does not say is undefined. */
export interface GatewayFile {
  domain?: string | undefined
  /** What invites carry, `host:port`. */
  address?: string | undefined
  workers?: number | 'auto' | undefined
  /** Bytes. */
  memory?: number | undefined
  listen: {
    http?: Listen | undefined
    tls?: Listen | undefined
    tunnel?: Listen | undefined
    admin?: Listen | undefined
    /** What the file of `admin_token_file` holds. */
    adminToken?: string | undefined
    /** The host on which `tcp` ports open. */
    ports?: string | undefined
  }
  trustedProxies: string[]
  /** What `[limits]` says, and `[route."…"]` by the route as `status` writes it. */
  limits: Partial<HttpLimits>
  routeLimits: Map<string, Partial<HttpLimits>>
  log: { [Key in keyof AccessLogSettings]?: AccessLogSettings[Key] | undefined }
  /** In the order of the file; undefined without any `[grant.NAME]`. */
  grants: Map<string, Grant> | undefined
  drainMs?: number | undefined
  holdMs?: number | undefined
}

const address = textAs(parseAddress)

const grantTable = z.strictObject({
  types: key(
    z.array(z.enum(SERVICE_TYPES)),
    'Types of service that the name may offer; all of them when left out.',
    '["http", "tcp"]',
  ),
  hosts: key(
    z.array(textAs(parseHostPattern)),
    'Hosts that the name may take: exact ones, "*." for exactly one label, "*" for the default route; none when left out.',
    '["*.example.com"]',
  ),
  ports: key(
    // A port alone is a number to whoever writes it.
    z.array(z.preprocess((port) => (Number.isInteger(port) ? String(port) : port), textAs(parsePortRange))),
    'Ports of this machine that the name may open for tcp, and ranges of them; none when left out.',
    '["2222", "8000-8100"]',
  ),
})

const schema = z.strictObject({
  domain: key(
    textAs(parseDomain),
    'Services without a host are reached at SERVICE.DOMAIN; on the default route when left out.',
    '"example.com"',
  ),
  address: key(
    textAs((text) => formatAddress(parseRemote(text))),
    'What invites carry: where clients reach this gateway from outside.',
    '"vps.example.com:9001"',
  ),
  workers: key(
    // Of any kind: what is wrong with it is said in one way, and a number stands without quotes.
    z.custom<unknown>().transform((said, context) => attempt(context, [], () => parseWorkers(said))),
    'Processes that serve visitors: a number up to 64, or "auto" for one a core. Each counts the connections and requests of [limits] for itself. 1 when left out.',
    '"auto"',
  ),
  memory: key(
    textAs(parseMemory),
    'Memory (buffers) for what has come from one side and the other has not taken yet, in equal parts for all workers; a quarter of the machine when left out.',
    '"256MiB"',
  ),
  drain: key(
    textAs((text) => Math.min(parseDuration(text), DRAIN_MS_MAX)),
    'How long visitors may go on after the first Ctrl-C or SIGTERM; at most 10m.',
    '"30s"',
  ),
  hold: key(
    textAs((text) => Math.min(parseDuration(text), HOLD_RECENT_MS)),
    'How long a visitor waits for a client that is away; at most 10m.',
    '"10s"',
  ),
  trusted_proxies: key(
    z.array(textAs(parseAddressBlock)),
    "Proxies in front of the gateway, whose word about visitors' addresses is believed: IP addresses and blocks of them.",
    '["10.0.0.0/8", "2001:db8::1"]',
  ),
  listen: z
    .strictObject({
      http: key(address, 'Where visitors of http connect.', '":9000"'),
      tls: key(
        address,
        'Where visitors connect by TLS, routed by the host they ask for, and clients too. Nobody by TLS when left out.',
        '":443"',
      ),
      tunnel: key(address, 'Where clients connect; with tls it may be left out.', '":9001"'),
      admin: key(
        address,
        'Where /healthz, /readyz and /metrics are; on this machine only, unless there is a token.',
        '"127.0.0.1:9002"',
      ),
      admin_token_file: key(
        z.string(),
        'A file (0600) whose first line the admin port asks for as a Bearer token; its path may start at the folder of this file.',
        '"/etc/blindgate/admin.token"',
      ),
      ports: key(
        textAs(parseBareHost),
        'The host on which tcp ports open; that of http when left out.',
        '"203.0.113.7"',
      ),
    })
    .optional(),
  limits: limitsTable.optional(),
  // A head is read before anybody knows which route it is for.
  route: z.record(z.string(), limitsTable.omit({ head_timeout: true })).optional(),
  log: z
    .strictObject({
      access: key(
        z.enum(ACCESS_FORMS),
        'A line for each http request on stderr: "json", "combined" as Apache and nginx write it, or "off", as when left out.',
        '"json"',
      ),
      address: key(
        z.enum(['full', 'truncated', 'none']),
        'How much of a visitor\'s address the access log has; "truncated" keeps a /24 of IPv4, a /48 of IPv6. "full" when left out.',
        '"truncated"',
      ),
      query: key(
        z.boolean(),
        'Whether the access log has what follows the ? of a request and of the page that led to it; false when left out.',
        'false',
      ),
    })
    .optional(),
  grant: z.record(z.string(), grantTable).optional(),
})

/** The keys of gateway.toml with their sentences. */
export const GATEWAY_KEYS = documentedKeys(schema)

/** Reads gateway.toml, and the token that it names. Throws `not_found` and `config_invalid`, with the line. */
export async function loadGatewayFile(path: string): Promise<GatewayFile> {
  let adminToken: string | undefined
  const file = await loadFile(path, schema, async (value, complain) => {
    checkGrants(value, complain)
    checkRoutes(value, complain)
    const { admin_token_file: tokenFile } = value.listen ?? {}
    if (tokenFile === undefined) return
    try {
      adminToken = await readToken(resolve(dirname(path), tokenFile))
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error
      complain(['listen', 'admin_token_file'], `admin_token_file: ${error.message}`)
    }
  })
  const { listen = {}, grant = {}, limits = {}, route = {}, log = {} } = file
  const grants = Object.entries(grant).map(([name, { types, hosts, ports }]): [string, Grant] => [
    name,
    { types: [...new Set(types ?? SERVICE_TYPES)], hosts: [...new Set(hosts)], ports: ports ?? [] },
  ])
  const general = limitsSaid(limits)
  return {
    domain: file.domain,
    address: file.address,
    workers: file.workers,
    memory: file.memory,
    listen: {
      http: listen.http,
      tls: listen.tls,
      tunnel: listen.tunnel,
      admin: listen.admin,
      adminToken,
      ports: listen.ports,
    },
    trustedProxies: file.trusted_proxies ?? [],
    limits: withBursts(general),
    routeLimits: new Map(
      Object.entries(route).map(([name, table]) => [
        parseHttpRoute(name),
        withBursts(limitsSaid(table), general),
      ]),
    ),
    log,
    grants: grants.length === 0 ? undefined : new Map(grants),
    drainMs: file.drain,
    holdMs: file.hold,
  }
}

/** Routes have one spelling each, so that what is meant for one is found; two spellings of one are a mistake. */
const checkRoutes = ({ route = {} }: z.infer<typeof schema>, complain: Complain): void => {
  const names = new Map<string, string>()
  for (const name of Object.keys(route)) {
    try {
      const canonical = parseHttpRoute(name)
      const other = names.get(canonical)
      if (other === undefined) names.set(canonical, name)
      else complain(['route', name], `route "${name}" stands here as "${other}" already: keep one of them`)
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error
      complain(['route', name], error.message)
    }
  }
}

/**
 * Names are DNS labels, and a pattern stands in one grant: with equal ones nobody could say who owns the host.
 * Of a wildcard and an exact host below it the exact one wins, so these may stand in two.
 */
const checkGrants = ({ grant = {} }: z.infer<typeof schema>, complain: Complain): void => {
  const holders = new Map<string, string>()
  for (const [name, { hosts = [] }] of Object.entries(grant)) {
    try {
      parseLabel(name)
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error
      complain(['grant', name], error.message)
    }
    for (const [index, host] of hosts.entries()) {
      const holder = holders.get(host)
      if (holder === undefined) holders.set(host, name)
      else if (holder !== name) {
        complain(
          ['grant', name, 'hosts', index],
          `host "${host}" is granted to "${holder}" already: keep it in one of the two grants`,
        )
      }
    }
  }
}
