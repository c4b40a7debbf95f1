import { isIP } from 'node:net'
import { z } from 'zod'
import { userError } from '../errors.ts'
import { formatAddress, parseRemote } from './address.ts'
import { parseKey } from './patterns.ts'
import { key, textAs } from './schema.ts'
import { quoted } from './units.ts'

/** How the client finds out whether somebody stands between it and its visitors: `[trust]` of blindgate.toml. */
export interface TrustSettings {
  /** The search for certificates, a URL of https with `{host}` in it. */
  ct: string
  /** Keys of certificates that are ours, though this client did not order them. */
  keys: `sha256:${string}`[]
  probeVia: ProbeProxy[]
  /** Keys of other machines that serve the same hosts. */
  replicas: `sha256:${string}`[]
  /** Asked instead of a zone's own name servers; none: those. */
  nameservers: { host: string; port: number }[]
}

/** A proxy that probes go through. */
export interface ProbeProxy {
  kind: 'http' | 'socks5'
  host: string
  port: number
  /** As it was written. */
  text: string
}

/**
 * SSLMate's search, whose answers are documented: https://sslmate.com/help/reference/ct_search_api_v1. `{subdomains}` is
 * `true` for a host with a wildcard.
 */
const CT_SEARCH =
  'https://api.certspotter.com/v1/issuances?domain={host}&include_subdomains={subdomains}&match_wildcards=true&expand=dns_names'

/** `[trust]` when nothing stands there. */
export const DEFAULT_TRUST: TrustSettings = {
  ct: CT_SEARCH,
  keys: [],
  probeVia: [],
  replicas: [],
  nameservers: [],
}

export const trustTable = z.strictObject({
  ct: key(
    textAs(parseSearch),
    'The search for the certificates of a host, over https, instead of api.certspotter.com; it must answer as that does. `{host}` is the host, `{subdomains}` is `true` for a wildcard.',
    '"https://ct.example.com/v1/issuances?domain={host}&include_subdomains={subdomains}&expand=dns_names"',
  ),
  keys: key(
    z.array(textAs(parseKey)),
    'Keys of certificates that are yours though this client did not order them: of a CDN, of the time before. Every other one is an alarm.',
    '["sha256:…"]',
  ),
  probe_via: key(
    z.array(textAs(parseProxy)),
    'Proxies elsewhere through which the client looks at its own hosts, so that a gateway cannot tell it from a visitor by its address.',
    '["http://proxy.example.com:3128", "socks5://127.0.0.1:9050"]',
  ),
  replicas: key(
    z.array(textAs(parseKey)),
    'Keys of other machines of yours that serve the same hosts, as `blindgate clients` shows them: their answers to a probe count too.',
    '["sha256:…"]',
  ),
  nameservers: key(
    z.array(textAs(parseNameserver)),
    "Name servers to ask instead of each zone's own, by IP address: where a firewall lets no other through, or in a closed network.",
    '["192.0.2.53", "[2001:db8::53]:5353"]',
  ),
})

/** The settings of a table, with what was left out filled in. */
export function trustSettings({
  ct,
  keys,
  probe_via,
  replicas,
  nameservers,
}: z.infer<typeof trustTable> = {}): TrustSettings {
  return {
    ct: ct ?? DEFAULT_TRUST.ct,
    keys: keys ?? [],
    probeVia: probe_via ?? [],
    replicas: replicas ?? [],
    nameservers: nameservers ?? [],
  }
}

/** A URL of https in which `{host}` stands. Throws `config_invalid`. */
export function parseSearch(text: string): string {
  if (!text.includes('{host}')) {
    throw userError('config_invalid', `${quoted(text)} has no {host} in it: write it where the host belongs`)
  }
  const url = text.replaceAll('{host}', 'example.com').replaceAll('{subdomains}', 'false')
  if (!URL.canParse(url) || new URL(url).protocol !== 'https:') {
    throw userError('config_invalid', `${quoted(text)} is not a URL of https: write https://…{host}…`)
  }
  return text
}

/** `http://host:port` or `socks5://host:port`. Throws `config_invalid`. */
export function parseProxy(text: string): ProbeProxy {
  const [, kind, address = ''] = /^(http|socks5):\/\/([^/@]+)\/?$/.exec(text) ?? []
  if (kind !== 'http' && kind !== 'socks5') {
    // Whoever may read the file would have the password, and so would our log.
    const password = text.includes('@') ? ', without a password' : ''
    const shown = text.includes('@') ? 'this' : quoted(text)
    throw userError(
      'config_invalid',
      `${shown} is not a proxy: write http://host:port or socks5://host:port${password}`,
    )
  }
  const { host, port } = parseRemote(address)
  return { kind, host, port, text: `${kind}://${formatAddress({ host, port })}` }
}

/** An IP address, with a port where that is not 53. Throws `config_invalid`. */
export function parseNameserver(text: string): { host: string; port: number } {
  if (isIP(text) !== 0) return { host: text, port: 53 }
  const { host, port } = parseRemote(text)
  if (isIP(host) === 0) {
    throw userError(
      'config_invalid',
      `${quoted(text)}: a name server is named by its IP address, as in "192.0.2.53"`,
    )
  }
  return { host, port }
}
