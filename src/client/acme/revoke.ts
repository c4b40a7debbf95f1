import type { AcmeSettings } from '../../config/index.ts'
import { userError } from '../../errors.ts'
import type { State } from '../../state/index.ts'
import { keptAccount } from './accounts.ts'
import { AcmeError } from './acme-error.ts'
import { Ca } from './ca.ts'
import { certificateFile, readCertificate } from './certificate-file.ts'
import { type Clock, systemClock } from './clock.ts'
import { AcmeHttp } from './http.ts'
import { Journal } from './journal.ts'

export interface RevokeOptions {
  service: string
  settings: AcmeSettings
  state: State
  version: string
  clock?: Clock
}

/**
 * Has the CA revoke a service's certificate (RFC 8555, 7.6) and removes it, so that nobody serves it again: clients that
 * run take note within seconds and order another. One that the CA revoked before is removed as well. Gives the names
 * that it was for. Throws `not_found`, `state_…`, or an AcmeError: then the certificate stays.
 */
export async function revokeCertificate(options: RevokeOptions): Promise<string[]> {
  const { service, settings, state, version, clock = systemClock } = options
  const kept = await readCertificate(state, service)
  if (kept === undefined) {
    const names = await state.names('certificate-', '.pem')
    const services = names.map((name) => name.slice('certificate-'.length, -'.pem'.length))
    const advice =
      services.length === 0 ? 'there is none in this state' : `there is one of ${services.join(', ')}`
    throw userError('not_found', `service "${service}" has no certificate to revoke: ${advice}`)
  }
  const account = await keptAccount(state, kept.directory)
  if (account === undefined) {
    throw userError(
      'not_found',
      `the account at ${kept.directory} that ordered this certificate is gone: restore its file, or ask the CA`,
    )
  }
  const ca = new Ca(kept.directory, {
    http: new AcmeHttp({ ca: settings.ca, agent: `blindgate/${version}` }),
    clock,
    signal: new AbortController().signal,
  })
  const { revokeCert } = await ca.directory()
  if (revokeCert === undefined) throw ca.nonsense('its directory', 'has no revokeCert')
  const certificate = kept.leaf.der.toString('base64url')
  await ca.post(account, revokeCert, { certificate }, 'to revoke the certificate').catch((error: unknown) => {
    if (!(error instanceof AcmeError) || error.problem !== 'alreadyRevoked') throw error
  })
  // A client that crashed after it kept the certificate still has its order, and would download it again.
  await new Journal(state, service).forget(kept.certificate.key)
  // A client that renewed it meanwhile has another there.
  const now = await readCertificate(state, service)
  if (now?.leaf.fingerprint === kept.leaf.fingerprint) await state.remove(certificateFile(service))
  return kept.leaf.names
}
