/**
 * Looks at everything that a user would otherwise ask about, from this machine, and says of each thing whether it is well
 * and what to do if not. It changes nothing, and does not care whether the client runs.
 */
import { setMaxListeners } from 'node:events'
import type { Finding, TrustCheck } from '../trust/index.ts'
import { certificateChecks } from './certificates.ts'
import { clockChecks } from './clock.ts'
import type { DoctorContext } from './context.ts'
import { dnsChecks } from './dns.ts'
import { gatewayChecks } from './gateways.ts'
import { portChecks } from './ports.ts'
import { runningChecks } from './running.ts'
import { targetChecks } from './targets.ts'
import { trustFindings } from './trust.ts'

export type { DoctorContext } from './context.ts'
export { servicesTold } from './told.ts'
export { probeFromHere } from './trust.ts'

export type DoctorCheck =
  | TrustCheck
  | 'state'
  | 'gateway'
  | 'clock'
  | 'service'
  | 'dns'
  | 'port'
  | 'target'
  | 'certificate'
export type DoctorFinding = Finding<DoctorCheck>

/** The folder was opened, and the key read: what is wrong with either ends the command before. */
function stateChecks({ state, identity }: DoctorContext): Promise<DoctorFinding[]> {
  const text = `is private, and has this machine's key ${identity.pin}`
  return Promise.resolve([{ check: 'state', about: state.path, level: 'ok', text }])
}

/** For a machine that has no gateway yet: there is nothing else to look at. */
export const NO_GATEWAY: DoctorFinding = {
  check: 'gateway',
  about: 'none',
  level: 'fail',
  text: 'this machine has joined no gateway',
  advice: 'run `blindgate invite` on the gateway, and `blindgate join` here',
}

/** In the order in which one thing needs the one before. They are made at once. */
const CHECKS: readonly ((context: DoctorContext) => Promise<DoctorFinding[]>)[] = [
  stateChecks,
  gatewayChecks,
  clockChecks,
  runningChecks,
  targetChecks,
  dnsChecks,
  portChecks,
  certificateChecks,
  trustFindings,
]

/** Makes every check. Never rejects for what it finds. */
export async function examine(context: DoctorContext): Promise<DoctorFinding[]> {
  // Each look from here listens to it.
  setMaxListeners(0, context.signal)
  return (await Promise.all(CHECKS.map((check) => check(context)))).flat()
}

/** Whoever runs the gateway knows this, also if it is hostile. */
export const GATEWAY_KNOWS = [
  'the names of your hosts and services, and the name that you are enrolled under',
  'when visitors come, how long they stay, how many bytes they send and get',
  "visitors' addresses, and what their programs say before encryption begins: host, protocols, the make of their TLS",
  'of http services, and of tcp that is not encrypted: everything that is said',
  'when this machine is connected, and its address',
] as const

/** As long as nobody has a certificate of his own for the host; that is what the checks are for. */
export const GATEWAY_DOES_NOT_KNOW = [
  'of https services: paths, headers, cookies, passwords, contents',
  'the private keys of certificates, and of this machine',
  'where your targets are, and what else there is in your network',
] as const
