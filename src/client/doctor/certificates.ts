import { X509Certificate } from 'node:crypto'
import { checkServerIdentity, connect } from 'node:tls'
import { CERTIFICATE_LOW_MS, DOCTOR_ANSWER_MS } from '../../limits.ts'
import { socketOptions } from '../../net/index.ts'
import { printable } from '../../protocol/index.ts'
import type { ClientService } from '../services.ts'
import { readFiles } from '../tls/files.ts'
import { believing } from '../trust/https-get.ts'
import type { DoctorContext } from './context.ts'
import type { DoctorFinding } from './index.ts'

/** Whether each https service has a certificate that visitors believe, and for how long. */
export async function certificateChecks(context: DoctorContext): Promise<DoctorFinding[]> {
  const https = context.services.filter(({ type }) => type === 'https')
  return Promise.all(https.map((service) => certificateCheck(context, service)))
}

async function certificateCheck(context: DoctorContext, service: ClientService): Promise<DoctorFinding> {
  const about = { check: 'certificate' as const, about: service.name }
  const { tls, files } = service
  if (tls === 'self-signed') {
    return {
      ...about,
      level: 'warn',
      text: 'self-signed: unverified by visitors',
      advice: 'leave `tls` out for a certificate that they believe',
    }
  }
  if (tls === 'passthrough') return { ...about, ...(await shownBy(service, context)) }
  if (files !== undefined) {
    const { current, trouble } = await readFiles(service, files)
    if (current === undefined || trouble !== undefined) {
      return {
        ...about,
        level: 'fail',
        text: trouble ?? 'there is none',
        advice: 'put a certificate for its hosts and its key there',
      }
    }
    return { ...about, ...lifetime(Date.parse(new X509Certificate(current.chain).validTo)) }
  }
  return { ...about, ...ordered(context, service) }
}

/** One that the client orders is known to the client that runs. */
function ordered(
  { running }: DoctorContext,
  { name }: ClientService,
): Omit<DoctorFinding, 'check' | 'about'> {
  const states = running.flatMap(({ routes }) =>
    routes.flatMap((route) => (route.name === name ? (route.tls ?? []) : [])),
  )
  const [state] = states
  if (state === undefined) {
    return {
      level: 'warn',
      text: 'no client that runs has one',
      advice: 'start `blindgate up`: it orders one',
    }
  }
  const { expires, trouble } = state
  if (expires === undefined) {
    return {
      level: 'fail',
      text: `there is none yet: ${trouble ?? 'it is being ordered'}`,
      advice: 'see `blindgate status` and the log',
    }
  }
  const life = lifetime(Date.parse(expires))
  if (trouble === undefined || life.level === 'fail') return life
  return { level: 'warn', text: `${life.text}, and the next one fails: ${trouble}`, advice: 'see the log' }
}

function lifetime(end: number): Omit<DoctorFinding, 'check' | 'about'> {
  const days = Math.floor((end - Date.now()) / (24 * 3_600_000))
  const until = new Date(end).toISOString().slice(0, 10)
  if (end <= Date.now()) return { level: 'fail', text: `it has expired on ${until}`, advice: 'renew it' }
  if (end - Date.now() < CERTIFICATE_LOW_MS) {
    return {
      level: 'warn',
      text: `it expires on ${until}, in ${days} days`,
      advice: 'renew it: see why that has not happened',
    }
  }
  return { level: 'ok', text: `good until ${until}, for ${days} days` }
}

/** What a target that speaks TLS shows for the first of its hosts. */
function shownBy(
  { target, hosts }: ClientService,
  { trust, signal }: DoctorContext,
): Promise<Omit<DoctorFinding, 'check' | 'about'>> {
  const servername = hosts[0]?.replace('*', 'blindgate-doctor') ?? ''
  return new Promise((resolve) => {
    const where =
      target.kind === 'unix'
        ? { path: target.path }
        : { host: target.host, port: target.port, ...socketOptions }
    const socket = connect({
      ...where,
      servername,
      // A certificate that is not believed is looked at all the same, and reported.
      rejectUnauthorized: false,
      checkServerIdentity,
      ...believing(trust.ca),
    })
    const done = (finding: Omit<DoctorFinding, 'check' | 'about'>): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', aborted)
      socket.destroy()
      resolve(finding)
    }
    const failed = (why: string): void =>
      done({
        level: 'fail',
        text: `${target.text} shows none: ${printable(why)}`,
        advice: 'let the target speak TLS there',
      })
    const aborted = (): void => failed('nobody waits for it')
    const timer = setTimeout(() => failed(`no answer within ${DOCTOR_ANSWER_MS / 1000} s`), DOCTOR_ANSWER_MS)
    signal.addEventListener('abort', aborted, { once: true })
    socket.on('error', (error: NodeJS.ErrnoException) => failed(error.code ?? error.message))
    socket.once('secureConnect', () => {
      const certificate = socket.getPeerX509Certificate()
      const why = socket.authorizationError as unknown
      if (certificate === undefined) failed('no certificate')
      else if (!socket.authorized) {
        const reason = why instanceof Error ? why.message : String(why)
        done({
          level: 'fail',
          text: `visitors do not believe what ${target.text} shows: ${printable(reason)}`,
          advice: 'get one for this host from an authority that they know',
        })
      } else done(lifetime(Date.parse(certificate.validTo)))
    })
  })
}
