import type { TlsMode } from '../../config/index.ts'
import type { ClientService } from '../services.ts'

/** A host of ours that somebody could answer for in our place. */
export interface TrustSubject {
  service: string
  /** `*.` included. */
  host: string
  /** Where its certificate comes from. */
  tls: TlsMode
  /** Where visitors come in; undefined while no gateway has said. */
  port: number | undefined
  /** Its terminator answers probes. */
  probed: boolean
}

/** Of a URL that names none. */
const HTTPS_PORT = 443

/** Each host of the https services once. `urls` are what gateways said of where visitors reach a service. */
export function subjectsOf(
  services: Iterable<ClientService>,
  urls: (service: string) => readonly string[],
): TrustSubject[] {
  const subjects = new Map<string, TrustSubject>()
  for (const { name, type, hosts, tls = 'passthrough', serve } of services) {
    if (type !== 'https') continue
    // A server of this process has the whole session; a target that speaks TLS has it too.
    const probed = tls !== 'passthrough' && serve === undefined
    const port = portIn(urls(name))
    for (const host of hosts) {
      if (!subjects.has(host)) subjects.set(host, { service: name, host, tls, port, probed })
    }
  }
  return [...subjects.values()]
}

function portIn(urls: readonly string[]): number | undefined {
  for (const url of urls) {
    if (!url.startsWith('https://')) continue
    return Number(/^https:\/\/[^/]*:([0-9]{1,5})(?:\/|$)/.exec(url)?.[1] ?? HTTPS_PORT)
  }
  return undefined
}
