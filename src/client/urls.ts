import type { ServiceType } from '../protocol/index.ts'

/**
 * Where visitors reach a service, as far as a gateway's word is taken for it: the host is the one that this
 * client dials, the scheme is the service's own, and the gateway adds a port where the service names none. So
 * nothing that a gateway writes can lead whoever clicks on it elsewhere.
 *
 * A service has one route in this version, so it has one URL at most. `dropped` is what the gateway said
 * besides: text from a peer, to be printed with care.
 */
export function visitorUrls(
  service: { type: ServiceType; port?: number | undefined },
  said: readonly string[],
  host: string,
): { urls: string[]; dropped: string[] } {
  const known = service.port === undefined || service.port === 0 ? undefined : service.port
  const dropped: string[] = []
  let port = known
  for (const text of said) {
    const stated = portOf(text, service.type)
    if (stated === undefined || (port !== undefined && stated !== port)) dropped.push(text)
    else port = stated
  }
  return { urls: port === undefined ? [] : [urlOf(service.type, host, port)], dropped }
}

const DEFAULT_PORTS: Partial<Record<ServiceType, number>> = { http: 80, https: 443 }

function portOf(text: string, type: ServiceType): number | undefined {
  if (!URL.canParse(text)) return undefined
  const { protocol, port } = new URL(text)
  if (protocol !== `${type}:`) return undefined
  const number = port === '' ? DEFAULT_PORTS[type] : Number(port)
  return number === 0 ? undefined : number
}

function urlOf(type: ServiceType, host: string, port: number): string {
  const name = host.includes(':') ? `[${host}]` : host
  return DEFAULT_PORTS[type] === port ? `${type}://${name}` : `${type}://${name}:${port}`
}
