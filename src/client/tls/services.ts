import { CERTIFICATE_END_MS } from '../../limits.ts'
import type { ClientService } from '../services.ts'
import type { CertificateSource } from './certificate.ts'
import { TlsService, type TlsSurroundings } from './service.ts'

/** Where certificates come from. */
export interface CertificateSources {
  /** Of a service; it is started and closed by the callee. */
  of(service: ClientService): CertificateSource
  /** What it would be made of, besides the service: another text means that the one there is of no use. */
  about(service: ClientService): string
}

export interface TlsServicesOptions extends TlsSurroundings {
  sources: CertificateSources
}

/** The services whose TLS ends in this process, by name. One stays as it is while its hosts and its certificate do. */
export class TlsServices {
  readonly #options: TlsServicesOptions
  readonly #services = new Map<string, { service: TlsService; about: string }>()
  /** Of those that are closed: what is to be waited for before the same certificate is anybody else's. */
  readonly #ending = new Map<string, Promise<void>>()

  constructor(options: TlsServicesOptions) {
    this.#options = options
  }

  get(name: string): TlsService | undefined {
    return this.#services.get(name)?.service
  }

  /** The chains that visitors are shown, PEM. */
  get chains(): string[] {
    return [...this.#services.values()].flatMap(({ service }) => service.chain ?? [])
  }

  /** Replaces the list; those that are no part of TLS that ends here are not looked at. */
  update(services: Iterable<ClientService>): void {
    const { sources } = this.#options
    const wanted = new Map<string, { settings: ClientService; about: string }>()
    for (const settings of services) {
      if (endsHere(settings))
        wanted.set(settings.name, { settings, about: aboutOf(settings) + sources.about(settings) })
    }
    for (const [name, { about }] of this.#services) if (wanted.get(name)?.about !== about) this.#close(name)
    for (const [name, { settings, about }] of wanted) {
      const known = this.#services.get(name)
      if (known !== undefined) known.service.update(settings)
      else {
        const service = new TlsService(settings, sources.of(settings), this.#options, this.#ending.get(name))
        this.#services.set(name, { service, about })
      }
    }
  }

  /** Resolves when all have let go of their certificates, within CERTIFICATE_END_MS. */
  async close(): Promise<void> {
    for (const name of this.#services.keys()) this.#close(name)
    await Promise.all(this.#ending.values())
  }

  #close(name: string): void {
    const ended = this.#services.get(name)?.service.close()
    this.#services.delete(name)
    const over = within(CERTIFICATE_END_MS, Promise.all([ended, this.#ending.get(name)])).then(() => {
      if (this.#ending.get(name) === over) this.#ending.delete(name)
    })
    this.#ending.set(name, over)
  }
}

/** TLS of its visitors ends in this process. */
export function endsHere({ type, tls }: Pick<ClientService, 'type' | 'tls'>): boolean {
  return type === 'https' && tls !== 'passthrough'
}

/** What cannot change while its visitors stay. */
function aboutOf({ hosts, tls, files, target }: ClientService): string {
  return JSON.stringify([hosts, tls, files, target.speaks === 'h2c' ? target : undefined])
}

async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, ms)
    timer.unref()
  })
  await Promise.race([work, late])
  clearTimeout(timer)
}
