import { z } from 'zod'
import { TunnelError } from '../errors.ts'
import { DRAIN_MS_MAX } from '../limits.ts'
import { SERVICE_TYPES } from '../protocol/index.ts'
import { formatAddress, parseRemote } from './address.ts'
import { type Check, loadFile } from './file.ts'
import { nearest } from './nearest.ts'
import { parseKey, parseLabel } from './patterns.ts'
import { documentedKeys, key, notYet, requiredKey, textAs } from './schema.ts'
import { type ServiceSettings, serviceSettings } from './service-settings.ts'
import { parseTarget } from './target.ts'
import { parseDuration, parseIdle } from './units.ts'

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
  drainMs?: number | undefined
}

const HOSTS_LATER = "leave it out; http is reached on the gateway's visitors' port"

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
  if (type === 'http' || type === 'tcp') return
  const message = `not in this version yet: type "${type}": offer "http" or "tcp"`
  context.addIssue({ code: 'custom', message, params: { whole: true } })
})

const port = z.int().superRefine((port, context) => {
  if (port >= 1 && port <= 65_535) return
  context.addIssue({ code: 'custom', message: `there is no port ${port}: give one from 1 to 65535` })
})

const serviceTable = z.strictObject({
  name: key(
    textAs(parseLabel),
    'What logs and `status` call it; made of type and target when left out.',
    '"web"',
  ),
  type: requiredKey(
    type.transform((type) => type as 'http' | 'tcp'),
    '"http": visitors\' HTTP port of the gateway. "tcp": a port of its own on the gateway.',
    '"http"',
  ),
  host: notYet('host', HOSTS_LATER),
  path: notYet('path', HOSTS_LATER),
  port: key(
    port,
    'tcp: the port that visitors connect to; the lowest free one of the grant when left out.',
    '2222',
  ),
  target: requiredKey(
    textAs(parseTarget),
    'The private server: a port of this machine, host:port, [IPv6]:port or unix:/path.',
    '"127.0.0.1:8080"',
  ),
  gateway: key(
    z.array(address),
    'Which gateways of this file offer it, by address; all when left out.',
    '["vps.example.com:9001"]',
  ),
  idle_timeout: key(
    textAs(parseIdle),
    'A visitor without a byte either way this long is let go; "off" for never, while both sides are open. 10m for http, off for tcp.',
    '"10m"',
  ),
  proxy_protocol: key(
    z.boolean(),
    "Begin each connection to the target with a PROXY v2 header with the visitor's address.",
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
})

/** The keys of blindgate.toml with their sentences. */
export const CLIENT_KEYS = documentedKeys(schema)

/** Reads blindgate.toml. Throws `not_found` and `config_invalid`, with the line. */
export async function loadClientFile(path: string): Promise<ClientFile> {
  const { gateway = [], service = [], drain } = await loadFile(path, schema, checkNames)
  return { gateways: gateway, services: service.map(settingsOf), drainMs: drain }
}

function settingsOf(service: z.infer<typeof serviceTable>): ServiceSettings {
  const { name, type, port, target, gateway, idle_timeout, proxy_protocol } = service
  return serviceSettings({
    name,
    type,
    port,
    target,
    gateways: gateway,
    idleMs: idle_timeout,
    proxyHeader: proxy_protocol,
  })
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
    try {
      const { name } = settingsOf(each)
      const other = names.get(name)
      names.set(name, other ?? index)
      if (other !== undefined) {
        const made = each.name === undefined ? ' (made of type and target)' : ''
        complain(
          ['service', index, 'name'],
          `service name "${name}"${made} is taken by an earlier [[service]]: give each a name of its own`,
        )
      }
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error
      complain(
        ['service', index, each.type === 'http' && each.port !== undefined ? 'port' : 'target'],
        error.message,
      )
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
