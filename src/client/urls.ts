import { isIP } from 'node:net'
import type { ServiceType } from '../protocol/index.ts'

/** What is known of a gateway without its word. */
export interface Whereabouts {
  /** The host that its tunnel was dialled at. */
  host: string
  /** Hosts of all its addresses. */
  hosts: readonly string[]
  /** Services without a host may be one label below it; said by the invite, and pinned with the key. */
  domain?: string | undefined
}

/** The part of a service that its URLs are made of. */
export interface Reached {
  type: ServiceType
  hosts: readonly string[]
  path?: string | undefined
  port?: number | undefined
}

/**
 * Where visitors reach a service, as far as a gateway's word is taken for it: scheme, hosts and path are the
 * service's own, and the gateway adds a port where the service names none. A service without a host is at the host
 * that this client dials or, for http, at a name below the gateway's domain. So nothing that a gateway writes
 * can lead whoever clicks on it elsewhere.
 *
 * One URL per host, and one for a service without any. `dropped` is what the gateway said besides: text from a
 * peer, to be printed with care.
 */
export function visitorUrls(
  service: Reached,
  said: readonly string[],
  gateway: Whereabouts,
): { urls: string[]; dropped: string[] } {
  const { type, hosts } = service
  const dropped: string[] = []
  const stated: Stated[] = []
  for (const text of said) {
    const one = statedBy(text, type)
    if (one === undefined) dropped.push(text)
    else stated.push(one)
  }
  if (hosts.length > 0) {
    const urls = hosts.flatMap((host) => {
      const [port] = [...stated.filter((one) => one.host === unbracketed(host)), ...stated].map(
        (one) => one.port,
      )
      return port === undefined ? [] : [urlOf(service, host === '*' ? gateway.host : host, port)]
    })
    return { urls, dropped }
  }
  const known = service.port === undefined || service.port === 0 ? undefined : service.port
  let url = known === undefined ? undefined : urlOf(service, gateway.host, known)
  for (const { text, host, port } of stated) {
    const own = type === 'http' ? ownHost(host, gateway) : gateway.host
    const made = own === undefined ? undefined : urlOf(service, own, port)
    if (made === undefined || (url !== undefined && url !== made)) dropped.push(text)
    else url = made
  }
  return { urls: url === undefined ? [] : [url], dropped }
}

interface Stated {
  text: string
  /** Lower case; IPv6 without brackets. */
  host: string
  port: number
}

const DEFAULT_PORTS: Partial<Record<ServiceType, number>> = { http: 80, https: 443 }

function statedBy(text: string, type: ServiceType): Stated | undefined {
  if (!URL.canParse(text)) return undefined
  const { protocol, hostname, port } = new URL(text)
  if (protocol !== `${type}:`) return undefined
  const number = port === '' ? DEFAULT_PORTS[type] : Number(port)
  if (number === undefined || number === 0) return undefined
  return { text, host: unbracketed(hostname.toLowerCase()), port: number }
}

function unbracketed(host: string): string {
  return host.replace(/^\[|\]$/g, '')
}

const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/

/** The host of a URL for a service without one, as we write it; undefined: it cannot be that. */
function ownHost(stated: string, { host, hosts, domain }: Whereabouts): string | undefined {
  // An address is the gateway's own as far as it knows: behind another NAT, in a container, that is not where it is dialled.
  if (isIP(stated) !== 0 || stated === 'localhost') return host
  if ([host, ...hosts].some((one) => one.toLowerCase() === stated)) return host
  if (domain === undefined || !stated.endsWith(`.${domain}`)) return undefined
  const label = stated.slice(0, -domain.length - 1)
  return LABEL.test(label) ? `${label}.${domain}` : undefined
}

function urlOf({ type, path = '' }: Reached, host: string, port: number): string {
  const name = host.includes(':') && !host.startsWith('[') ? `[${host}]` : host
  return `${type}://${name}${DEFAULT_PORTS[type] === port ? '' : `:${port}`}${path}`
}
