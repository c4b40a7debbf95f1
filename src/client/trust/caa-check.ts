import { SocketAddress } from 'node:net'
import { TunnelError } from '../../errors.ts'
import { plainAddress } from '../../net/index.ts'
import { printable } from '../../protocol/index.ts'
import { type CaaAccount, type CaaFacts, judgeCaa, type ValidationMethod } from './caa.ts'
import { type Dns, parentOf, type Resolved, type Zone } from './dns.ts'
import type { CaaRecord } from './dns-message.ts'
import { type Finding, sentenceOf } from './finding.ts'

export interface CaaQuestion {
  /** As configured, `*.` included. */
  host: string
  /** All hosts that are configured, for what `issuewild` is to say. */
  hosts: readonly string[]
  accounts: readonly CaaAccount[]
  methods: readonly ValidationMethod[]
  /** Where the gateways are reached: IP addresses. */
  gatewayAddresses: readonly string[]
}

/** Asks for everything that decides who may have a certificate for a host, and judges it. Never rejects. */
export async function checkCaa(dns: Dns, question: CaaQuestion): Promise<Finding[]> {
  const { host } = question
  try {
    const { facts, zone } = await gather(dns, question)
    return [judgeCaa(facts), await checkDnssec(dns, host, zone)]
  } catch (error) {
    return [unknown('caa', host, error)]
  }
}

/**
 * Why no certificate should be ordered for these hosts, in one sentence; undefined when their records let our account and
 * nobody else. What cannot be found out is a reason too. For `acme.require_caa`.
 */
export async function caaProblem(
  dns: Dns,
  hosts: readonly string[],
  question: Omit<CaaQuestion, 'host' | 'hosts'>,
): Promise<string | undefined> {
  for (const host of hosts) {
    try {
      const { facts } = await gather(dns, { ...question, host, hosts })
      const finding = judgeCaa(facts)
      if (finding.level !== 'ok') return sentenceOf(finding)
    } catch (error) {
      return `${host}: ${unknown('caa', host, error).text}`
    }
  }
  return undefined
}

async function gather(
  dns: Dns,
  { host, hosts, accounts, methods, gatewayAddresses }: CaaQuestion,
): Promise<{ facts: CaaFacts; zone: Zone }> {
  const base = host.replace(/^\*\./, '')
  const own = await dns.resolve(base, 'CAA')
  const climbed = own.records.length > 0 ? own : await climb(dns, parentOf(base))
  const challenge = await dns.resolve(`_acme-challenge.${base}`, 'CAA')
  const deciding = [...own.zones, ...challenge.zones, ...(climbed?.zones ?? [])]
  const zones = [...deciding, ...(await zonesAbove(dns, deciding))]
  const gateway = new Set(gatewayAddresses.map(canonical))
  const atGateway = zones.filter(({ addresses }) => addresses.some((each) => gateway.has(canonical(each))))
  const zone = (climbed ?? own).zones.at(-1)
  if (zone === undefined)
    throw new TunnelError('internal', { scope: 'process', detail: 'a name without a zone' })
  const facts = {
    host,
    relevant:
      climbed === undefined ? undefined : { owner: printable(climbed.owner), records: caaIn(climbed) },
    place: printable(own.owner),
    atGateway: [...new Set(atGateway.map(({ apex }) => apex))],
    accounts,
    methods,
    wildcard: hosts.includes(`*.${base}`),
  }
  return { facts, zone }
}

/** Who runs a zone above can give the one below to others. One that does not answer here decides nothing here. */
async function zonesAbove(dns: Dns, zones: readonly Zone[]): Promise<Zone[]> {
  const above = new Map<string, Zone>()
  for (const { apex } of zones) {
    for (let name = parentOf(apex); name !== '' && !above.has(name); ) {
      const zone = await dns.zoneOf(name).catch(() => undefined)
      if (zone === undefined) break
      above.set(name, zone)
      name = parentOf(zone.apex)
    }
  }
  return [...above.values()]
}

/** The first name upwards that has CAA records (RFC 8659, 3). An alias is followed, and climbed past, not along. */
async function climb(dns: Dns, from: string): Promise<Resolved | undefined> {
  for (let name = from; name !== ''; name = parentOf(name)) {
    const found = await dns.resolve(name, 'CAA')
    if (found.records.length > 0) return found
  }
  return undefined
}

function caaIn({ records }: Resolved): CaaRecord[] {
  return records.flatMap((record) => (record.type === 'CAA' ? [record.data] : []))
}

/** Whether forged answers would be noticed by an authority: it asks for these records, from wherever it is. */
async function checkDnssec(dns: Dns, host: string, zone: Zone): Promise<Finding> {
  const { apex } = zone
  const named = `zone ${printable(apex)}`
  try {
    const keys = await dns.ofZone(zone, apex, 'DNSKEY')
    const above = parentOf(apex)
    const chained = above === '' || (await dns.ofZone(await dns.zoneOf(above), apex, 'DS')).length > 0
    if (keys.length > 0 && chained) {
      return { check: 'dnssec', about: host, level: 'ok', text: `DNSSEC signs ${named}` }
    }
    return {
      check: 'dnssec',
      about: host,
      level: 'warn',
      text:
        keys.length === 0
          ? `DNSSEC does not sign ${named}`
          : `${named} has DNSSEC keys, and its parent has no DS record of them`,
      advice:
        'whoever is on the path between an authority and the name servers can forge the answers on which certificates depend: turn DNSSEC on where the zone is kept',
    }
  } catch (error) {
    return unknown('dnssec', host, error)
  }
}

function unknown(check: 'caa' | 'dnssec', about: string, error: unknown): Finding {
  if (!(error instanceof TunnelError)) throw error
  return {
    check,
    about,
    level: 'warn',
    text: `the name servers could not be asked: ${error.message}`,
    advice:
      'see that this machine can send DNS questions to the internet, or name servers to ask in [trust] nameservers',
  }
}

/** One spelling for one address. */
function canonical(ip: string): string {
  const plain = plainAddress(ip)
  return plain.includes(':') ? new SocketAddress({ address: plain, family: 'ipv6' }).address : plain
}
