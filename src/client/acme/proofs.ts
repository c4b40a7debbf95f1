import type { Logger } from 'pino'
import type { AcmeSettings } from '../../config/index.ts'
import { ACME_REMOVAL_MS } from '../../limits.ts'
import { AcmeError } from './acme-error.ts'
import type { Clock } from './clock.ts'
import type { DnsServer } from './dns/exchange.ts'
import type { TxtRecord } from './dns/messages.ts'
import { type DnsNames, dnsNames } from './dns/names.ts'
import { shown } from './dns/shown.ts'
import { type DnsWriter, writerOf } from './dns/writers.ts'
import { dnsValue } from './jws.ts'

/** Has gateways pass a CA's validation on to this client; src/client/challenges.ts is one. */
export interface ChallengeBroker {
  /**
   * Resolves when at least one gateway passes it on to us, and rejects with a TunnelError otherwise. The function
   * given takes it back.
   */
  offer(challenge: {
    service: string
    host: string
    kind: 'tls-alpn-01' | 'http-01'
    token: string
    keyAuthorization: string
  }): Promise<() => void>
}

/** What proves to a CA that a host is ours. */
export interface Proof {
  /** Without the `*.` of a wildcard. */
  host: string
  token: string
  keyAuthorization: string
}

/** Lays proofs out where a CA looks for them. */
export interface Prover {
  /** Resolves when the CA can find all of them; the function given takes them back, and never rejects. */
  lay(proofs: readonly Proof[], signal: AbortSignal): Promise<() => Promise<void>>
}

export interface ProverOptions {
  service: string
  settings: AcmeSettings
  challenges: ChallengeBroker
  /** Asked instead of the servers of a host's zone. */
  nameservers?: readonly DnsServer[] | undefined
  clock: Clock
  log: Logger
}

export function proverOf(options: ProverOptions): Prover {
  const { settings, challenges, service, clock } = options
  if (settings.challenge !== 'dns-01') return new BrokerProver(challenges, service, settings.challenge)
  // The schema wants it; this is for settings made by hand.
  if (settings.dns === undefined) {
    throw new AcmeError('misconfigured', 'dns-01 needs to know how to write into DNS: add [acme.dns]')
  }
  return new DnsProver(writerOf(settings.dns, clock), dnsNames(options.nameservers), options)
}

class BrokerProver implements Prover {
  readonly #broker: ChallengeBroker
  readonly #service: string
  readonly #kind: 'tls-alpn-01' | 'http-01'

  constructor(broker: ChallengeBroker, service: string, kind: 'tls-alpn-01' | 'http-01') {
    this.#broker = broker
    this.#service = service
    this.#kind = kind
  }

  async lay(proofs: readonly Proof[]): Promise<() => Promise<void>> {
    const offers = await Promise.allSettled(
      proofs.map((proof) => this.#broker.offer({ service: this.#service, kind: this.#kind, ...proof })),
    )
    const takeBack = (): Promise<void> => {
      for (const offer of offers) if (offer.status === 'fulfilled') offer.value()
      return Promise.resolve()
    }
    for (const offer of offers) {
      if (offer.status === 'fulfilled') continue
      await takeBack()
      const why = offer.reason instanceof Error ? offer.reason.message : String(offer.reason)
      throw new AcmeError('local', `no gateway passes the CA’s visit on to this client: ${why}`)
    }
    return takeBack
  }
}

class DnsProver implements Prover {
  readonly #writer: DnsWriter
  readonly #names: DnsNames
  readonly #options: ProverOptions

  constructor(writer: DnsWriter, names: DnsNames, options: ProverOptions) {
    this.#writer = writer
    this.#names = names
    this.#options = options
  }

  async lay(proofs: readonly Proof[], signal: AbortSignal): Promise<() => Promise<void>> {
    const written: TxtRecord[] = []
    const takeBack = async (): Promise<void> => {
      for (const record of written.splice(0)) await this.#remove(record)
    }
    try {
      for (const { host, keyAuthorization } of proofs) {
        const name = await this.#names.canonical(`_acme-challenge.${host}`)
        const record = { name, value: dnsValue(keyAuthorization) }
        // Noted first: a hook that failed half-way is asked to tidy up.
        written.push(record)
        await this.#writer.write('add', record, signal)
      }
      const { clock, log } = this.#options
      for (const record of written) {
        await shown(record, await this.#serversFor(record), { clock, signal, log })
      }
      return takeBack
    } catch (error) {
      await takeBack()
      throw error
    }
  }

  async #serversFor({ name }: TxtRecord): Promise<DnsServer[]> {
    const { dns } = this.#options.settings
    const own = dns?.kind === 'update' ? [dns.server] : []
    return [...own, ...(await this.#names.serversOf(name))]
  }

  async #remove(record: TxtRecord): Promise<void> {
    try {
      // A signal of its own: an order that was aborted leaves nothing behind either.
      await this.#writer.write('remove', record, AbortSignal.timeout(ACME_REMOVAL_MS))
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      this.#options.log.warn({ record: record.name }, `the TXT record of ${record.name} stays in DNS: ${why}`)
    }
  }
}
