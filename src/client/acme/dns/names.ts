import { Resolver } from 'node:dns/promises'
import { isIPv6 } from 'node:net'
import { ACME_CNAMES, ACME_DNS_MS, ACME_DNS_SERVERS } from '../../../limits.ts'
import type { DnsServer } from './exchange.ts'

/** What DNS says of a name before anything is written there. Nothing of it rejects. */
export interface DnsNames {
  /** Where its CNAMEs lead; the name itself without any. */
  canonical(name: string): Promise<string>
  /** The name servers of its zone, some of them; none when they cannot be found. */
  serversOf(name: string): Promise<DnsServer[]>
}

/**
 * By this machine's resolver, which finds the zone's own servers; with `nameservers` those are asked instead, and
 * taken for the zone's.
 */
export function dnsNames(nameservers: readonly DnsServer[] = []): DnsNames {
  const resolver = new Resolver({ timeout: ACME_DNS_MS, tries: 1 })
  if (nameservers.length > 0) {
    resolver.setServers(
      nameservers.map(({ host, port }) => (isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`)),
    )
  }
  const none = (): string[] => []
  return {
    async canonical(name) {
      let at = name
      for (let left = ACME_CNAMES; left > 0; left--) {
        const [next] = await resolver.resolveCname(at).catch(none)
        if (next === undefined) return at
        at = next.toLowerCase()
      }
      return at
    },
    async serversOf(name) {
      if (nameservers.length > 0) return [...nameservers]
      const labels = name.split('.')
      for (let from = 0; from < labels.length - 1; from++) {
        const servers = await resolver.resolveNs(labels.slice(from).join('.')).catch(none)
        if (servers.length === 0) continue
        const found = await Promise.all(
          servers.slice(0, ACME_DNS_SERVERS).map((server) => resolver.resolve4(server).catch(none)),
        )
        return found.flatMap(([host]) => (host === undefined ? [] : [{ host, port: 53 }]))
      }
      return []
    },
  }
}
