import { X509Certificate } from 'node:crypto'
import { checkServerIdentity, connect } from 'node:tls'
import { CERTIFICATE_LOW_MS, DOCTOR_ANSWER_MS } from '../../limits.ts'
import { socketOptions } from '../../net/index.ts'
import { printable } from '../../protocol/index.ts'
import type { State } from '../../state/index.ts'
import { type Lifetime, renewAt } from '../acme/renewal.ts'
import type { ClientService } from '../services.ts'
import { readFiles } from '../tls/files.ts'
import { believing } from '../trust/https-get.ts'
import type { DoctorContext } from './context.ts'
import type { DoctorFinding } from './index.ts'

/** Whether each https service has a certificate that visitors believe, and for how long. */
export async function certificateChecks(context: DoctorContext): Promise<DoctorFinding[]> {
  // A server of this process that has the whole session has its certificate too.
  const https = context.services.filter(
    ({ type, tls, serve }) => type === 'https' && (tls !== 'passthrough' || serve === undefined),
  )
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
    return { ...about, ...lifetime(lifetimeOf(new X509Certificate(current.chain))) }
  }
  return { ...about, ...(await ordered(context, service)) }
}

type Said = Omit<DoctorFinding, 'check' | 'about'>

/** One that the client orders stands in the state; what became of the next one is known to the client that runs. */
async function ordered({ running, state }: DoctorContext, { name, tls }: ClientService): Promise<Said> {
  const [told] = running.flatMap(({ routes }) =>
    routes.flatMap((route) => (route.name === name ? (route.tls ?? []) : [])),
  )
  const kept = tls === 'acme' ? await readOrdered(state, name) : undefined
  if (told === undefined) {
    if (kept === undefined) {
      return { level: 'warn', text: 'there is none yet', advice: 'start `blindgate up`: it orders one' }
    }
    const life = lifetime(kept, true)
    if (life.level === 'fail') return { ...life, advice: 'start `blindgate up`: it orders another' }
    const text = `there is one until ${dayOf(kept.notAfter)}, and no client runs that shows it`
    return { level: 'warn', text, advice: 'start `blindgate up`' }
  }
  const { expires, trouble } = told
  if (expires === undefined) {
    return {
      level: 'fail',
      text: `there is none yet (${trouble ?? 'it is being ordered'})`,
      advice: 'see `blindgate status` and the log',
    }
  }
  const end = Date.parse(expires)
  // One that another process has renewed is about to be shown here too.
  const life = lifetime(kept?.notAfter === end ? kept : { notAfter: end }, tls === 'acme')
  if (trouble === undefined || life.level === 'fail') return life
  return { level: 'warn', text: `${life.text}, and the next one fails: ${trouble}`, advice: 'see the log' }
}

async function readOrdered(state: State, service: string): Promise<Lifetime | undefined> {
  const { readCertificate } = await import('../acme/certificate-file.ts')
  return (await readCertificate(state, service))?.leaf
}

/** Milliseconds of the epoch; the first is not known of every certificate. */
type Lived = Partial<Lifetime> & Pick<Lifetime, 'notAfter'>

function lifetimeOf({ validFrom, validTo }: X509Certificate): Lifetime {
  return { notBefore: Date.parse(validFrom), notAfter: Date.parse(validTo) }
}

/**
 * By when it is to be renewed: those that we order at the time planned, whatever their life; others in their last
 * CERTIFICATE_LOW_MS, or later if they live so shortly.
 */
function lifetime({ notBefore, notAfter }: Lived, ours = false): Said {
  const now = Date.now()
  const left = notAfter - now
  const until = dayOf(notAfter)
  if (left <= 0) return { level: 'fail', text: `it has expired on ${until}`, advice: 'renew it' }
  const planned =
    notBefore === undefined ? notAfter - CERTIFICATE_LOW_MS : renewAt({ notBefore, notAfter }, 0)
  const due = ours ? planned : Math.max(planned, notAfter - CERTIFICATE_LOW_MS)
  if (now < due) return { level: 'ok', text: `good until ${until}, for ${lengthOf(left)}` }
  return {
    level: 'warn',
    text: `it expires on ${until}, in ${lengthOf(left)}, and should have been renewed on ${dayOf(due)}`,
    advice: 'see why that has not happened',
  }
}

function dayOf(at: number): string {
  return new Date(at).toISOString().slice(0, 10)
}

function lengthOf(ms: number): string {
  const hours = Math.floor(ms / 3_600_000)
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} days`
}

/** What a target that speaks TLS shows for the first of its hosts. */
function shownBy({ target, hosts }: ClientService, { trust, signal }: DoctorContext): Promise<Said> {
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
    const done = (finding: Said): void => {
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
      } else done(lifetime(lifetimeOf(certificate)))
    })
  })
}
