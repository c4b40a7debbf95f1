import type { ClientService } from '../services.ts'
import type { CertificateSource } from './certificate.ts'
import { TlsService, type TlsSurroundings } from './service.ts'

export interface TlsServicesOptions extends TlsSurroundings {
  /** Where a service's certificate comes from; it is started and closed here. */
  sourceOf(service: ClientService): CertificateSource
}

/** The services whose TLS ends in this process, by name. One stays as it is while its hosts and its certificate do. */
export class TlsServices {
  readonly #options: TlsServicesOptions
  readonly #services = new Map<string, TlsService>()

  constructor(options: TlsServicesOptions) {
    this.#options = options
  }

  get(name: string): TlsService | undefined {
    return this.#services.get(name)
  }

  /** The chains that visitors are shown, PEM. */
  get chains(): string[] {
    return [...this.#services.values()].flatMap(({ chain }) => chain ?? [])
  }

  /** Replaces the list; those that are no part of TLS that ends here are not looked at. */
  update(services: Iterable<ClientService>): void {
    const wanted = new Map<string, ClientService>()
    for (const service of services) if (endsHere(service)) wanted.set(service.name, service)
    for (const [name, one] of this.#services) {
      const service = wanted.get(name)
      if (service !== undefined && sameCertificate(one.settings, service)) continue
      this.#services.delete(name)
      one.close()
    }
    for (const [name, service] of wanted) {
      const one = this.#services.get(name)
      if (one === undefined) {
        this.#services.set(name, new TlsService(service, this.#options.sourceOf(service), this.#options))
      } else one.update(service)
    }
  }

  close(): void {
    for (const one of this.#services.values()) one.close()
    this.#services.clear()
  }
}

/** TLS of its visitors ends in this process. */
export function endsHere({ type, tls }: Pick<ClientService, 'type' | 'tls'>): boolean {
  return type === 'https' && tls !== 'passthrough'
}

function sameCertificate(a: ClientService, b: ClientService): boolean {
  const about = ({ hosts, tls, files, target }: ClientService) =>
    JSON.stringify([hosts, tls, files, target.speaks])
  return about(a) === about(b)
}
