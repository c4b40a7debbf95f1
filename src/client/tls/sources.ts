import type { Logger } from 'pino'
import type { AcmeSettings } from '../../config/index.ts'
import { userError } from '../../errors.ts'
import type { State } from '../../state/index.ts'
import { AcmeSource, type AcmeSourceOptions } from '../acme/source.ts'
import type { ClientService } from '../services.ts'
import type { CertificateSource } from './certificate.ts'
import { CertificateOfFiles } from './files.ts'
import { SelfSigned } from './self-signed.ts'
import type { CertificateSources } from './services.ts'
import { WithTransportSecurity } from './transport-security.ts'

export interface SourcesOptions
  extends Pick<AcmeSourceOptions, 'challenges' | 'version' | 'random' | 'caa' | 'nameservers'> {
  state: State | undefined
  log: Logger
  acme: AcmeSettings
}

/** Where the certificates of a client's services come from. `options` is asked each time: settings may be read again. */
export function certificateSources(options: () => SourcesOptions): CertificateSources {
  return {
    of: (service) => sourceOf(service, options()),
    about: ({ tls }) => (tls === 'acme' ? JSON.stringify(options().acme) : ''),
  }
}

function sourceOf(
  { name: service, hosts, tls, files }: ClientService,
  options: SourcesOptions,
): CertificateSource {
  const { state, log, acme, ...rest } = options
  if (tls === 'self-signed') return new SelfSigned({ service, hosts, state, log })
  if (files !== undefined) return new CertificateOfFiles({ service, hosts, files, log })
  if (state === undefined)
    throw userError(
      'config_invalid',
      `service "${service}" needs a state folder for its certificate: give one, or write tls = "self-signed"`,
    )
  const source = new AcmeSource({ service, hosts, settings: acme, state, log, ...rest })
  return new WithTransportSecurity(source, { service, state, log })
}
