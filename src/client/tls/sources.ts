import type { Logger } from 'pino'
import type { AcmeSettings } from '../../config/index.ts'
import { userError } from '../../errors.ts'
import type { State } from '../../state/index.ts'
import type { AcmeSourceOptions } from '../acme/source.ts'
import type { ClientService } from '../services.ts'
import type { Certificate, CertificateSource } from './certificate.ts'
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
  const source = new Later(async () => {
    const { AcmeSource } = await import('../acme/source.ts')
    return new AcmeSource({ service, hosts, settings: acme, state, log, ...rest })
  })
  return new WithTransportSecurity(source, { service, state, log })
}

/** A source that is loaded when it is started: the code of ACME is 5 MB that a client without such a service has not. */
class Later implements CertificateSource {
  changed: () => void = () => {}
  readonly transportSecurity = undefined
  readonly #load: () => Promise<CertificateSource>
  #source: CertificateSource | undefined
  #loaded: Promise<void> = Promise.resolve()
  #closed = false

  constructor(load: () => Promise<CertificateSource>) {
    this.#load = load
  }

  get current(): Certificate | undefined {
    return this.#source?.current
  }

  get trouble(): string | undefined {
    return this.#source?.trouble
  }

  get ended(): Promise<void> {
    return this.#loaded.then(() => this.#source?.ended)
  }

  start(): void {
    this.#loaded = this.#load().then((source) => {
      if (this.#closed) return
      this.#source = source
      source.changed = () => this.changed()
      source.start()
    })
  }

  look(): void {
    this.#source?.look?.()
  }

  close(): void {
    this.#closed = true
    this.#source?.close()
  }
}
