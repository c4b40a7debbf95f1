import { parseRemote } from '../../config/index.ts'
import type { Pin } from '../../identity/index.ts'
import { DOCTOR_HOSTS } from '../../limits.ts'
import { chainsInFiles } from '../tls/files.ts'
import { trustChecks } from '../trust/checks.ts'
import { Dns } from '../trust/dns.ts'
import type { Finding } from '../trust/index.ts'
import { type ClientTrust, keysOf } from '../trust/of-client.ts'
import { checkProbe, publicFor } from '../trust/probe-check.ts'
import { subjectsOf } from '../trust/subjects.ts'
import { type DoctorContext, urlsOf } from './context.ts'

/** CAA, certificate transparency and a look from outside, for each https host. */
export async function trustFindings(context: DoctorContext): Promise<Finding[]> {
  const { gateways, trust, identity, state, signal } = context
  const services = context.services.filter(({ name }) => !context.told.has(name))
  // Where no client runs that was told, visitors come to the usual port.
  const subjects = subjectsOf(services, (name) => [...urlsOf(context, name), 'https://'])
  const chains = await chainsInFiles(services)
  const checks = trustChecks({
    settings: trust.settings,
    identity: identity.pin,
    hosts: () => subjects.map(({ host }) => host),
    gateways: () =>
      gateways.flatMap(({ addresses }) => addresses.map((address) => parseRemote(address).host)),
    accounts: async () => (await trust.accounts?.()) ?? [],
    methods: trust.methods ?? [],
    requireCaa: trust.requireCaa === true,
    known: () => keysOf(chains, { trust, state }),
    ca: trust.ca,
    now: Date.now,
  })
  const findings = toldFindings(context)
  for (let at = 0; at < subjects.length; at += DOCTOR_HOSTS) {
    const some = subjects.slice(at, at + DOCTOR_HOSTS).map(async (subject) => {
      const [caa, ct, probe] = await Promise.all([
        checks.caa(subject, signal),
        checks.ct(subject, signal),
        checks.probe(subject, signal),
      ])
      return [...caa, ...ct, ...probe.map((finding) => elsewhere(finding, identity.pin, subject.port))]
    })
    findings.push(...(await Promise.all(some)).flat())
  }
  return findings
}

/**
 * What the last checks of the running client came to, for services that are not to be judged by the settings here. Its alarms are told by themselves.
 */
export function toldFindings({ services, told, running }: DoctorContext): Finding[] {
  const found = running.flatMap(({ trust }) => trust?.findings ?? [])
  const hosts = services.flatMap(({ name, type, hosts, tls }) =>
    told.has(name) && type === 'https' && tls !== 'self-signed' ? hosts : [],
  )
  return [...new Set(hosts)].flatMap((host): Finding[] => {
    const about = found.filter((finding) => finding.about === host)
    if (about.length > 0) return about.filter(({ alarm }) => alarm !== true)
    const text = 'the running client has not looked yet'
    return [{ check: 'caa', about: host, level: 'warn', text, advice: 'ask again in some minutes' }]
  })
}

/** How to look from another machine: the one thing that a probe from here cannot show. */
function elsewhere(finding: Finding, pin: Pin, port = 443): Finding {
  if (finding.level !== 'ok' || finding.about.startsWith('*.')) return finding
  const url = `https://${finding.about}${port === 443 ? '' : `:${port}`}`
  const details = [...(finding.details ?? []), `elsewhere: blindgate doctor --probe ${url} --expect ${pin}`]
  return { ...finding, details }
}

/** A look at a host from this machine, which need not know more of it than whose terminator it is to find. */
export function probeFromHere(options: {
  host: string
  port: number
  expected: readonly Pin[]
  trust: ClientTrust
  signal: AbortSignal
}): Promise<Finding[]> {
  const { host, port, expected, trust, signal } = options
  const { nameservers, probeVia, replicas } = trust.settings
  return checkProbe(new Dns({ nameservers, signal }), {
    host,
    port,
    accepted: [...expected, ...replicas],
    via: probeVia,
    wantsTrust: true,
    isPublic: publicFor(nameservers),
    ca: trust.ca,
    signal,
  })
}
