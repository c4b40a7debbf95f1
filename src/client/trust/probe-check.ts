import { randomBytes } from 'node:crypto'
import type { ProbeProxy } from '../../config/index.ts'
import { TunnelError } from '../../errors.ts'
import type { Pin } from '../../identity/index.ts'
import { SELF_PROBE_ADDRESSES, SELF_PROBE_PROXIES, SELF_PROBE_TRIES } from '../../limits.ts'
import { addressClass } from '../../net/index.ts'
import type { KnownKeys } from './ct.ts'
import type { Dns } from './dns.ts'
import type { Finding } from './finding.ts'
import { judgeProbe } from './probe.ts'
import { probeOnce } from './probe-dial.ts'
import type { ProbeNonces } from './probe-nonces.ts'

export interface ProbeQuestion {
  /** As configured; for a wildcard some name below it is visited. */
  host: string
  /** Where visitors come in. */
  port: number
  /** Pins of the machines whose terminators are ours: this one, and `[trust] replicas`. */
  accepted: readonly Pin[]
  /** Each probe goes directly, and through each of these. */
  via: readonly ProbeProxy[]
  /** Keys of our certificates; undefined: not known here. */
  known?: KnownKeys | undefined
  /** Of the terminators in this process; undefined: there are none. */
  nonces?: ProbeNonces | undefined
  /** Addresses where the gateways are reached; none: not known here. */
  gateways?: readonly string[] | undefined
  /** Visitors are to believe the certificate: false for self-signed ones. */
  wantsTrust: boolean
  /** Whether visitors can come to an address. */
  isPublic: (address: string) => boolean
  ca?: readonly string[] | undefined
  signal?: AbortSignal | undefined
  localAddress?: string | undefined
}

/**
 * Visits each public address of a host, as the zone's own servers give them, directly and through each proxy. Never
 * rejects; one finding per connection.
 */
export async function checkProbe(dns: Dns, question: ProbeQuestion): Promise<Finding[]> {
  const { host, via, isPublic } = question
  const name = host.startsWith('*.') ? `${randomLabel()}${host.slice(1)}` : host
  let addresses: string[]
  try {
    addresses = (await dns.addressesOf(name)).filter(isPublic).slice(0, SELF_PROBE_ADDRESSES)
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error
    return [unprobed(host, `its addresses could not be asked for (${error.message})`)]
  }
  if (addresses.length === 0) return [unprobed(host, 'its zone gives it no public address')]
  const ways = [undefined, ...via.slice(0, SELF_PROBE_PROXIES)]
  return Promise.all(
    addresses.flatMap((address) => ways.map((proxy) => probeOne({ ...question, name, address, proxy }))),
  )
}

async function probeOne(
  question: ProbeQuestion & { name: string; address: string; proxy: ProbeProxy | undefined },
): Promise<Finding> {
  const { host, name, address, port, proxy, accepted, known, nonces, wantsTrust, ca, signal, localAddress } =
    question
  const { gateways = [] } = question
  const atGateway = gateways.length === 0 ? undefined : gateways.includes(address)
  for (let tries = 1; ; tries++) {
    const nonce = randomBytes(16).toString('hex')
    nonces?.expect(nonce)
    const sight = await probeOnce({
      host: name,
      address,
      port,
      via: proxy,
      nonce,
      accepted,
      ca,
      signal,
      localAddress,
    })
    const arrived = nonces?.take(nonce)
    const ownLeaf = sight.leaf === undefined ? undefined : known?.has(sight.leaf)
    // A line that broke is no news, and no alarm. A key that is not known for ours is: who shows it has read the probe, and
    // would let the next one pass.
    const broke = sight.verdict === 'none' && (sight.leaf === undefined || ownLeaf === true)
    if (broke && tries < SELF_PROBE_TRIES && signal?.aborted !== true) continue
    return judgeProbe(host, sight, { ownLeaf, arrived, wantsTrust, atGateway })
  }
}

/**
 * Whether an address is one that visitors come to. In a closed network, whose name servers were named and have addresses
 * of that network, so have its hosts.
 */
export function publicFor(nameservers: readonly { host: string }[]): (address: string) => boolean {
  const classes = new Set(['global', ...nameservers.map(({ host }) => addressClass(host))])
  return (address) => classes.has(addressClass(address))
}

/** Eight letters: a name that nobody has, so that its addresses are the wildcard's. */
function randomLabel(): string {
  return [...randomBytes(8)].map((byte) => String.fromCharCode(97 + (byte % 26))).join('')
}

function unprobed(host: string, why: string): Finding {
  return {
    check: 'probe',
    about: host,
    level: 'warn',
    text: `not probed: ${why}`,
    advice: 'point its DNS at the gateway, and see that this machine can send DNS questions to the internet',
  }
}
