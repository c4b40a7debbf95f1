import type { TlsMode } from '../../config/index.ts'
import type { ClientService } from '../services.ts'

/** A host of ours that somebody could answer for in our place. */
export interface TrustSubject {
  service: string
  /** `*.` included. */
  host: string
  /** Where its certificate comes from. */
  tls: TlsMode
  /** Where visitors come in. */
  port: number
  /** Its terminator answers probes. */
  probed: boolean
}

/** The port of https where no gateway has told another one. */
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
    const port = portIn(urls(name)) ?? HTTPS_PORT
    for (const host of hosts) {
      if (!subjects.has(host)) subjects.set(host, { service: name, host, tls, port, probed })
    }
  }
  return [...subjects.values()]
}

function portIn(urls: readonly string[]): number | undefined {
  for (const url of urls) {
    const port = /^https:\/\/[^/]*:([0-9]{1,5})(?:\/|$)/.exec(url)?.[1]
    if (port !== undefined) return Number(port)
  }
  return undefined
}
