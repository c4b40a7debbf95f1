import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { parseRemote } from '../../config/index.ts'
import { TunnelError } from '../../errors.ts'
import { addressClass } from '../../net/index.ts'
import type { GatewayEntry } from '../gateways.ts'
import { isAt } from '../services.ts'
import { Dns } from '../trust/dns.ts'
import type { DoctorContext } from './context.ts'
import type { DoctorFinding } from './index.ts'

/** Whether each host leads visitors to the gateways that offer it, by what its zone's own servers say. */
export async function dnsChecks({
  services,
  gateways,
  trust,
  signal,
}: DoctorContext): Promise<DoctorFinding[]> {
  const dns = new Dns({ nameservers: trust.settings.nameservers, signal })
  const findings: DoctorFinding[] = []
  const seen = new Set<string>()
  for (const { hosts, gateways: wanted } of services) {
    const offering = gateways.filter((entry) => wanted?.some((address) => isAt(entry, address)) ?? true)
    for (const host of hosts) {
      // The default route has no name, an address needs none.
      if (host === '*' || isIP(host.replace(/^\[|\]$/g, '')) !== 0 || seen.has(host)) continue
      seen.add(host)
      findings.push(await dnsCheck(dns, host, offering))
    }
  }
  return findings
}

async function dnsCheck(dns: Dns, host: string, gateways: readonly GatewayEntry[]): Promise<DoctorFinding> {
  const about = { check: 'dns' as const, about: host }
  try {
    // Nobody has this name, so that its addresses are the wildcard's.
    const addresses = await dns.addressesOf(host.replace(/^\*\./, 'blindgate-doctor.'))
    const wanted = await addressesOf(gateways)
    const point = wanted.length === 0 ? 'the gateway' : wanted.join(', ')
    if (addresses.length === 0) {
      const advice = `add A and AAAA records that lead to ${point}`
      return { ...about, level: 'fail', text: 'has no address in DNS', advice }
    }
    const elsewhere = addresses.filter((address) => !wanted.includes(address))
    if (elsewhere.length === 0)
      return { ...about, level: 'ok', text: `leads to the gateway, ${addresses.join(', ')}` }
    // What is dialled need not be where visitors come in.
    const some = elsewhere.length < addresses.length
    return {
      ...about,
      level: 'warn',
      text: `leads to ${addresses.join(', ')}, and the gateway is dialled at ${point}`,
      advice: some
        ? 'let all of its addresses lead to the gateway, or visitors meet somebody else'
        : `if the gateway has no other address, let its A and AAAA records lead to ${point}`,
    }
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error
    return {
      ...about,
      level: 'warn',
      text: `its zone could not be asked: ${error.message}`,
      advice: 'see that the name is right, and that this machine can send DNS questions to the internet',
    }
  }
}

/** Where this machine reaches them, and visitors as well, unless it is an address that only this network has. */
async function addressesOf(gateways: readonly GatewayEntry[]): Promise<string[]> {
  const hosts = gateways.flatMap(({ addresses }) => addresses.map((address) => parseRemote(address).host))
  const found = await Promise.all(
    hosts.map(async (host) => {
      if (isIP(host) !== 0) return [host]
      try {
        return (await lookup(host, { all: true })).map(({ address }) => address)
      } catch {
        return []
      }
    }),
  )
  return [...new Set(found.flat())].filter((address) => addressClass(address) !== undefined)
}
