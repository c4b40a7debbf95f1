import type { Logger } from 'pino'
import { TunnelError } from '../../errors.ts'
import type { State } from '../../state/index.ts'
import type { ClientService } from '../services.ts'
import type { CertificateSource } from './certificate.ts'
import { CertificateOfFiles } from './files.ts'
import { SelfSigned } from './self-signed.ts'

/** Where the certificate of a service comes from, whose TLS ends here. */
export function certificateSource(
  { name, hosts, tls, files }: ClientService,
  { state, log }: { state: State | undefined; log: Logger },
): CertificateSource {
  if (tls === 'self-signed') return new SelfSigned({ service: name, hosts, state, log })
  if (files !== undefined) return new CertificateOfFiles({ service: name, hosts, files, log })
  throw new TunnelError('internal', { scope: 'process', detail: `service "${name}" has no certificate` })
}
