import type { Duplex } from 'node:stream'
import { formatAddress, parseRemote, type ServiceSettings } from '../config/index.ts'
import { userError } from '../errors.ts'
import { CONTROL_MESSAGE_BYTES } from '../limits.ts'
import type { ServiceOffer } from '../protocol/index.ts'
import type { GatewayEntry } from './gateways.ts'
import { Generations } from './generation.ts'

/** What is known of a visitor whose connection is served in this process. A claim of the gateway, no more. */
export interface VisitorInfo {
  /** Undefined where the gateway does not say, or says what no visitor can have. */
  remoteAddress: string | undefined
  remotePort: number | undefined
  service: string
  gateway: string
}

/** A service, and for one that is served in this process instead of at a target, what serves it. */
export type ClientService = ServiceSettings & {
  /** Takes ownership of `connection`. */
  serve?: ((connection: Duplex, info: VisitorInfo) => void) | undefined
}

/**
 * What became of a service at one gateway: the URLs where visitors reach it, or why they do not. All text is
 * safe to print. `target` as the owner wrote it.
 */
export type ServiceOutcome = {
  gateway: string
  name: string
  type: ServiceSettings['type']
  target: string
} & ({ urls: string[]; error?: never } | { urls?: never; error: { code: string; message: string } })

/** In a target's place, for a service that has none. */
export const THIS_PROCESS = 'this process'

/** What logs call the place where a service is served. */
export function targetText({ serve, target }: ClientService): string {
  return serve === undefined ? target.text : THIS_PROCESS
}

/** Services by name. Throws `config_invalid` for two of one name, one too large, or one for a gateway that is not there. */
export function servicesByName(
  services: readonly ClientService[],
  gateways: readonly GatewayEntry[],
): Map<string, ClientService> {
  const byName = new Map<string, ClientService>()
  for (const service of services) {
    const { name } = service
    if (byName.has(name)) throw userError('config_invalid', `two services are called "${name}": rename one`)
    // Half a message: any service then fits the `hello`, whatever else stands there.
    const bytes = Buffer.byteLength(JSON.stringify(offerOf(service, new Generations())))
    if (bytes > CONTROL_MESSAGE_BYTES / 2) {
      throw userError(
        'config_invalid',
        `service "${name}" has too many hosts or headers for one message: split it, or write shorter ones`,
      )
    }
    for (const address of service.gateways ?? []) {
      if (gateways.some((gateway) => isAt(gateway, address))) continue
      const known = gateways.map(({ addresses }) => addresses[0]).join(', ')
      throw userError(
        'config_invalid',
        `service "${name}" is for gateway ${address}, which is not among ${known}: join it, or correct the address`,
      )
    }
    byName.set(name, service)
  }
  return byName
}

/** What is offered to one gateway: the services that name it, and those that name none. */
export function offersFor(
  gateway: GatewayEntry,
  services: Iterable<ClientService>,
  generations: Generations,
): ServiceOffer[] {
  return [...services]
    .filter(({ gateways }) => gateways === undefined || gateways.some((address) => isAt(gateway, address)))
    .map((service) => offerOf(service, generations))
}

function offerOf(service: ClientService, generations: Generations): ServiceOffer {
  const { name, type, hosts, path, port, tls } = service
  // Of https the gateway sees no request: what is done with one is nobody's business but ours.
  const { rewrite, retry } = type === 'http' ? service : {}
  return {
    name,
    type,
    ...(hosts.length === 0 ? {} : { hosts }),
    ...(path === undefined ? {} : { path }),
    ...(port === undefined || port === 0 ? {} : { port }),
    ...(tls === undefined ? {} : { tls: tls === 'passthrough' ? tls : 'client' }),
    ...(isOneVisitors(service) ? { share: false } : {}),
    // Only streams of http outlive what they were opened for.
    ...(type === 'http' ? { generation: generations.of(service) } : {}),
    ...(retry === undefined ? {} : { retry }),
    ...(rewrite === undefined ? {} : { rewrite }),
  }
}

/** The target is told who the visitor of a connection is, so its stream can be nobody else's. */
function isOneVisitors({ proxyHeader, serve }: ClientService): boolean {
  return proxyHeader || serve !== undefined
}

/** Whether a gateway is dialled at an address, however that is spelled. */
export function isAt({ addresses }: GatewayEntry, address: string): boolean {
  return addresses.some((one) => sameAddress(one, address))
}

function sameAddress(a: string, b: string): boolean {
  return a === b || formatAddress(parseRemote(a)) === formatAddress(parseRemote(b))
}
