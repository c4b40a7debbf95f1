import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { userError } from '../errors.ts'
import { DRAIN_MS_MAX, REWRITE_HEADERS } from '../limits.ts'
import { SERVICE_TYPES } from '../protocol/index.ts'
import { type AcmeSettings, acmeSettings, acmeTable, DEFAULT_ACME, unprovable } from './acme-table.ts'
import { formatAddress, parseRemote } from './address.ts'
import { type Check, type Complain, loadFile } from './file.ts'
import {
  parseHeaderName,
  parseHeaderValue,
  parseHealthPath,
  parseHostHeader,
  parseHosts,
  parsePath,
} from './http-texts.ts'
import { nearest } from './nearest.ts'
import { parseKey, parseLabel } from './patterns.ts'
import { clashesOf } from './places.ts'
import { attempt, documentedKeys, key, requiredKey, textAs } from './schema.ts'
import { misfitOf, type ServiceSettings, type ServiceWish, serviceSettings } from './service-settings.ts'
import { parseTarget } from './target.ts'
import { type TrustSettings, trustSettings, trustTable } from './trust-settings.ts'
import { parseDuration, parseIdle, quoted } from './units.ts'

/** A gateway as blindgate.toml names it. */
export interface GatewayAddress {
  /** `host:port` */
  address: string
  key: `sha256:${string}`
}

/** blindgate.toml, read and checked. Without gateways the one joined gateway is meant. */
export interface ClientFile {
  gateways: GatewayAddress[]
  services: ServiceSettings[]
  /** How https services come to their certificates. */
  acme: AcmeSettings
  trust: TrustSettings
  drainMs?: number | undefined
}

/** The address in the one spelling by which a service names its gateway. */
const address = textAs((text) => formatAddress(parseRemote(text)))

const gatewayTable = z.strictObject({
  address: requiredKey(address, 'Where the gateway is.', '"vps.example.com:9001"'),
  key: requiredKey(
    textAs(parseKey),
    'The key that the gateway must prove to have, as it prints it.',
    '"sha256:…"',
  ),
})

const type = z.enum(SERVICE_TYPES).superRefine((type, context) => {
  if (type !== 'udp') return
  const message = `not in this version yet: type "${type}": offer "http", "https" or "tcp"`
  context.addIssue({ code: 'custom', message, params: { whole: true } })
})

const port = z.int().superRefine((port, context) => {
  if (port >= 1 && port <= 65_535) return
  context.addIssue({ code: 'custom', message: `there is no port ${port}: give one from 1 to 65535` })
})

/** One host, or a list of them. */
const hosts = z.union([z.string(), z.array(z.unknown())]).transform((said, context): string[] => {
  if (typeof said === 'string') return attempt(context, [], () => parseHosts([said]))
  // Each by itself first: the complaint is about its line.
  const each = said.flatMap((one, index) => attempt(context, [index], () => parseHosts([textOf(one)])))
  return context.issues.length > 0 ? z.NEVER : attempt(context, [], () => parseHosts(each))
})

const headers = z.record(z.string(), z.unknown()).transform((said, context): [string, string][] => {
  const names = Object.keys(said)
  const lower = names.map((name) => name.toLowerCase())
  const about = <T>(path: string[], parse: () => T): T => attempt(context, path, parse, 'add_headers')
  about([], () => checkCount(names.length))
  return names.map((name, index) =>
    about([name], () => {
      if (lower.indexOf(lower[index] ?? '') !== index) {
        throw userError(
          'config_invalid',
          `${quoted(name)} stands here twice, case does not count: keep one of them`,
        )
      }
      return [parseHeaderName(name), parseHeaderValue(textOf(said[name]))]
    }),
  )
})

function checkCount(headers: number): void {
  if (headers <= REWRITE_HEADERS) return
  throw userError('config_invalid', `${headers} headers are too many: ${REWRITE_HEADERS} at most`)
}

/** An element of a list or table that must be text. */
function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  throw userError('config_invalid', 'only text can stand here: put it in quotes')
}

const serviceTable = z.strictObject({
  name: key(
    textAs(parseLabel),
    'What logs and `status` call it; made of type and target when left out.',
    '"web"',
  ),
  type: requiredKey(
    type.transform((type) => type as ServiceWish['type']),
    '"http": visitors\' HTTP port of the gateway. "https": its TLS port, by host. "tcp": a port of its own on the gateway.',
    '"http"',
  ),
  host: key(
    hosts,
    'http and https: the hosts that it answers for: exact ones, "*." for exactly one label; http: also "*", for every host that nobody else answers for. https needs it; of http the gateway chooses when it is left out.',
    '["app.example.com"]',
  ),
  tls: key(
    z.enum(['passthrough', 'self-signed']),
    'https: "passthrough": the target speaks TLS itself, and neither gateway nor client can read it. "self-signed": TLS ends in the client, with a certificate that no visitor can verify. When left out TLS ends in the client, with a certificate by ACME or of `cert`.',
    '"self-signed"',
  ),
  cert: key(
    z.string(),
    'https: a PEM file with the certificate for its hosts, and its chain behind it. Read again when it changes; its path may start at the folder of this file.',
    '"/etc/ssl/app.pem"',
  ),
  key: key(z.string(), "https: the PEM file with the certificate's private key.", '"/etc/ssl/app.key"'),
  hsts: key(
    z.boolean(),
    'https: browsers are told to use nothing but https for its hosts (RFC 6797), for a day at first and for a year after 7 days. On when left out, for certificates by ACME; never for others.',
    'false',
  ),
  path: key(
    textAs(parsePath),
    'http: only for paths that begin with it, so that services share a host; the longest one that fits wins.',
    '"/api"',
  ),
  port: key(
    port,
    'tcp: the port that visitors connect to; the lowest free one of the grant when left out.',
    '2222',
  ),
  target: requiredKey(
    textAs(parseTarget),
    'The private server: a port of this machine, host:port, [IPv6]:port or unix:/path. "https://host:port": it speaks TLS itself, and its certificate is verified. "h2c://host:port": it speaks HTTP/2 without TLS, as gRPC servers do; https only.',
    '"127.0.0.1:8080"',
  ),
  target_key: key(
    textAs(parseKey),
    'The key that a target of "https://…" must show, SHA-256 of its public key, instead of a certificate that is valid for its name.',
    '"sha256:…"',
  ),
  strip_path: key(
    z.boolean(),
    'http: take `path` off before the target sees it: "/api/users" becomes "/users".',
    'true',
  ),
  host_header: key(
    textAs(parseHostHeader),
    'http and https: what the target gets as Host, instead of the visitor\'s; needs `host`, without "*".',
    '"intern.local"',
  ),
  add_headers: key(
    headers,
    "http and https: headers that each request to the target gets; a visitor's own of these names are dropped.",
    '{ "X-From" = "blindgate" }',
  ),
  health: key(
    textAs(parseHealthPath),
    'http and https: asked of the target every 5 s. After 3 questions in a row without a 2xx or 3xx visitors go to other replicas, or wait; after 2 answers they come again.',
    '"/healthz"',
  ),
  retry: key(
    z.enum(['idempotent']),
    'http and https: "idempotent" lets the gateway (for https: the client) repeat PUT and DELETE after a broken connection too, as it does GET, HEAD and OPTIONS.',
    '"idempotent"',
  ),
  gateway: key(
    z.array(address),
    'Which gateways of this file offer it, by address; all when left out.',
    '["vps.example.com:9001"]',
  ),
  idle_timeout: key(
    textAs(parseIdle),
    'A visitor without a byte either way this long is let go; "off" for never, while both sides are open. 10m for http, off for https and tcp.',
    '"10m"',
  ),
  proxy_protocol: key(
    z.boolean(),
    "Begin each connection to the target with a PROXY v2 header with the visitor's address; for https also the host and the ALPN that it asked for.",
    'true',
  ),
})

const schema = z.strictObject({
  drain: key(
    textAs((text) => Math.min(parseDuration(text), DRAIN_MS_MAX)),
    'How long visitors may go on after the first Ctrl-C or SIGTERM; at most 10m.',
    '"30s"',
  ),
  gateway: z.array(gatewayTable).optional(),
  service: z.array(serviceTable).optional(),
  acme: acmeTable.optional(),
  trust: trustTable.optional(),
})

/** The keys of blindgate.toml with their sentences. */
export const CLIENT_KEYS = documentedKeys(schema)

/** Reads blindgate.toml. Throws `not_found` and `config_invalid`, with the line. */
export async function loadClientFile(path: string): Promise<ClientFile> {
  let acme = DEFAULT_ACME
  const file = await loadFile(path, schema, async (value, complain) => {
    await checkNames(value, complain)
    checkPlaces(value, complain)
    acme = await acmeSettings(value.acme, path, complain)
    checkProvable(value, acme, complain)
  })
  const { gateway = [], service = [], trust, drain } = file
  const folder = dirname(path)
  const at = (name: string): string => resolve(folder, name)
  const services = service.map((each) => {
    const made = serviceSettings(wishOf(each))
    const { files } = made
    return files === undefined ? made : { ...made, files: { cert: at(files.cert), key: at(files.key) } }
  })
  return { gateways: gateway, services, acme, trust: trustSettings(trust), drainMs: drain }
}

/** One place of visitors is one service's: on a gateway that is asked for both the second would be refused. */
function checkPlaces({ service = [] }: z.infer<typeof schema>, complain: Complain): void {
  const wishes = service.map(wishOf)
  const placed = wishes.map((wish) => (misfitOf(wish) === undefined ? serviceSettings(wish) : undefined))
  for (const { index, key, detail } of clashesOf(placed)) complain(['service', index, key], detail)
}

/** Services whose certificate comes from a CA have hosts that can be proved to it. */
function checkProvable(
  { service = [] }: z.infer<typeof schema>,
  { challenge }: AcmeSettings,
  complain: Complain,
): void {
  for (const [index, { type, tls, cert, host = [] }] of service.entries()) {
    const ordered = type === 'https' && tls === undefined && cert === undefined
    const why = ordered ? unprovable(host, challenge) : undefined
    if (why !== undefined) complain(['service', index, 'host'], why)
  }
}

function wishOf(service: z.infer<typeof serviceTable>): ServiceWish {
  const { name, type, host, tls, path, health, retry, port, target, gateway } = service
  return {
    name,
    type,
    hosts: host,
    tls,
    cert: service.cert,
    key: service.key,
    hsts: service.hsts,
    targetKey: service.target_key,
    path,
    health,
    hostHeader: service.host_header,
    addHeaders: service.add_headers,
    stripPath: service.strip_path,
    retry,
    port,
    target,
    gateways: gateway,
    idleMs: service.idle_timeout,
    proxyHeader: service.proxy_protocol,
  }
}

/** Services have names of their own, also those made for them, and name gateways that stand in the file. */
const checkNames: Check<z.infer<typeof schema>> = ({ gateway = [], service = [] }, complain) => {
  const addresses = gateway.map(({ address }) => address)
  for (const [index, address] of addresses.entries()) {
    if (addresses.indexOf(address) === index) continue
    complain(['gateway', index, 'address'], `gateway ${address} stands here twice: keep one of them`)
  }
  const names = new Map<string, number>()
  for (const [index, each] of service.entries()) {
    const misfit = misfitOf(wishOf(each))
    if (misfit !== undefined) complain(['service', index, misfit.key], misfit.error.message)
    else {
      const { name } = serviceSettings(wishOf(each))
      const other = names.get(name)
      names.set(name, other ?? index)
      if (other !== undefined) {
        const made = each.name === undefined ? ' (made of type and target)' : ''
        complain(
          ['service', index, 'name'],
          `service name "${name}"${made} is taken by an earlier [[service]]: give each a name of its own`,
        )
      }
    }
    if (gateway.length === 0) continue
    for (const [at, wanted] of (each.gateway ?? []).entries()) {
      if (addresses.includes(wanted)) continue
      const near = nearest(wanted, addresses)
      const advice = near === undefined ? 'add it as [[gateway]]' : `did you mean "${near}"?`
      complain(['service', index, 'gateway', at], `no [[gateway]] has the address "${wanted}": ${advice}`)
    }
  }
}
