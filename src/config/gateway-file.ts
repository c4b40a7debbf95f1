import { z } from 'zod'
import { TunnelError } from '../errors.ts'
import { DRAIN_MS_MAX, HOLD_RECENT_MS } from '../limits.ts'
import { SERVICE_TYPES, type ServiceType } from '../protocol/index.ts'
import { formatAddress, type Listen, parseAddress, parseBareHost, parseRemote } from './address.ts'
import { type Check, loadFile } from './file.ts'
import { type PortRange, parseHostPattern, parseLabel, parsePortRange } from './patterns.ts'
import { documentedKeys, key, notYet, textAs } from './schema.ts'
import { parseDuration, parseMemory } from './units.ts'

/** What a name may offer. `hosts`: exact names, `*.` patterns (one label), `*` for the default route; lower case. */
export interface Grant {
  types: ServiceType[]
  hosts: string[]
  ports: PortRange[]
}

/** gateway.toml, read and checked; what it does not say is undefined. */
export interface GatewayFile {
  /** What invites carry, `host:port`. */
  address?: string | undefined
  /** Bytes. */
  memory?: number | undefined
  listen: {
    http?: Listen | undefined
    tunnel?: Listen | undefined
    admin?: Listen | undefined
    /** The host on which `tcp` ports open. */
    ports?: string | undefined
  }
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
  domain: notYet('domain', "leave it out; one http service is reached on the visitors' port"),
  address: key(
    textAs((text) => formatAddress(parseRemote(text))),
    'What invites carry: where clients reach this gateway from outside.',
    '"vps.example.com:9001"',
  ),
  memory: key(
    textAs(parseMemory),
    'Memory for what has come from one side and the other has not taken yet; a quarter of the machine when left out.',
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
  listen: z
    .strictObject({
      http: key(address, 'Where visitors connect to the default route.', '":9000"'),
      tls: notYet('listen.tls', 'leave it out; offer tcp to carry TLS'),
      tunnel: key(address, 'Where clients connect.', '":9001"'),
      admin: key(
        address,
        'Where /healthz, /readyz and /metrics are, on this machine only.',
        '"127.0.0.1:9002"',
      ),
      ports: key(
        textAs(parseBareHost),
        'The host on which tcp ports open; that of http when left out.',
        '"203.0.113.7"',
      ),
    })
    .optional(),
  grant: z.record(z.string(), grantTable).optional(),
})

/** The keys of gateway.toml with their sentences. */
export const GATEWAY_KEYS = documentedKeys(schema)

/** Reads gateway.toml. Throws `not_found` and `config_invalid`, with the line. */
export async function loadGatewayFile(path: string): Promise<GatewayFile> {
  const { address, memory, listen = {}, grant = {}, drain, hold } = await loadFile(path, schema, checkGrants)
  const grants = Object.entries(grant).map(([name, { types, hosts, ports }]): [string, Grant] => [
    name,
    { types: [...new Set(types ?? SERVICE_TYPES)], hosts: [...new Set(hosts)], ports: ports ?? [] },
  ])
  return {
    address,
    memory,
    listen: { http: listen.http, tunnel: listen.tunnel, admin: listen.admin, ports: listen.ports },
    grants: grants.length === 0 ? undefined : new Map(grants),
    drainMs: drain,
    holdMs: hold,
  }
}

/**
 * Names are DNS labels, and a pattern stands in one grant: with equal ones nobody could say who owns the host.
 * Of a wildcard and an exact host below it the exact one wins, so these may stand in two.
 */
const checkGrants: Check<z.infer<typeof schema>> = ({ grant = {} }, complain) => {
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
