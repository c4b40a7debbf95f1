import { connect, isIP } from 'node:net'
import { formatAddress } from '../../config/index.ts'
import { DOCTOR_ANSWER_MS, DOCTOR_PORTS } from '../../limits.ts'
import { Dns } from '../trust/dns.ts'
import { type DoctorContext, urlsOf } from './context.ts'
import type { DoctorFinding } from './index.ts'

const PORTS: Readonly<Record<string, number>> = { 'http:': 80, 'https:': 443 }

/**
 * Whether visitors' ports take connections, seen from here. Only a running client knows where they are; addresses of names
 * are as their zone's own servers give them.
 */
export async function portChecks(context: DoctorContext): Promise<DoctorFinding[]> {
  const { services, signal, trust } = context
  const dns = new Dns({ nameservers: trust.settings.nameservers, signal })
  const places = new Map<string, { name: string; port: number }>()
  for (const { name } of services) {
    for (const url of urlsOf(context, name)) {
      const { protocol, hostname, port } = new URL(url)
      const number = Number(port) || PORTS[protocol]
      // Whatever is below a wildcard is where the wildcard is, and DNS has been looked at.
      if (number === undefined || hostname.includes('*')) continue
      places.set(`${hostname}:${number}`, { name: hostname.replace(/^\[|\]$/g, ''), port: number })
    }
  }
  const findings: Promise<DoctorFinding>[] = []
  for (const [where, { name, port }] of places) {
    // One that has none is told of by the check of DNS.
    const addresses = isIP(name) === 0 ? await dns.addressesOf(name).catch(() => []) : [name]
    for (const host of addresses) {
      if (findings.length < DOCTOR_PORTS) findings.push(portCheck(where, { host, port }, signal))
    }
  }
  return Promise.all(findings)
}

function portCheck(
  where: string,
  { host, port }: { host: string; port: number },
  signal: AbortSignal,
): Promise<DoctorFinding> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    const address = formatAddress({ host, port })
    const about = { check: 'port' as const, about: where }
    const done = (finding: Omit<DoctorFinding, 'check' | 'about'>): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', aborted)
      socket.destroy()
      resolve({ ...about, ...finding })
    }
    const closed = (why: string): void =>
      done({
        level: 'fail',
        text: `${address} takes no connections: ${why}`,
        advice: "see the gateway's listeners and its firewall, and that the name leads there",
      })
    const aborted = (): void => closed('nobody waits for it')
    const timer = setTimeout(() => closed(`no answer within ${DOCTOR_ANSWER_MS / 1000} s`), DOCTOR_ANSWER_MS)
    signal.addEventListener('abort', aborted, { once: true })
    socket.once('connect', () => done({ level: 'ok', text: `${address} takes connections` }))
    socket.on('error', (error: NodeJS.ErrnoException) => closed(error.code ?? error.message))
  })
}
