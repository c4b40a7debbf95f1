import type { Logger } from 'pino'
import { z } from 'zod'
import {
  TRANSPORT_SECURITY_FIRST_SECONDS,
  TRANSPORT_SECURITY_PROVEN_MS,
  TRANSPORT_SECURITY_SECONDS,
} from '../../limits.ts'
import type { State } from '../../state/index.ts'
import type { Certificate, CertificateSource } from './certificate.ts'

const kept = z.object({ since: z.number() })

/**
 * The value of Strict-Transport-Security (RFC 6797) for a service that has had good certificates since then. A browser
 * that was told a year cannot be told otherwise by anybody who has no certificate: so it is told a day, until it has gone well for a week.
 */
export function strictTransportSecurity(since: number, now: number): string {
  return now - since < TRANSPORT_SECURITY_PROVEN_MS ? FIRST : PROVEN
}

const FIRST = `max-age=${TRANSPORT_SECURITY_FIRST_SECONDS}`
const PROVEN = `max-age=${TRANSPORT_SECURITY_SECONDS}`

/** A source of certificates that visitors can verify, whose visitors are told to use nothing but https. */
export class WithTransportSecurity implements CertificateSource {
  changed: () => void = () => {}
  readonly #source: CertificateSource
  readonly #file: string
  readonly #state: State | undefined
  readonly #log: Logger
  readonly #now: () => number
  /** Since when there is a good certificate (ms since 1970). */
  #since: number | undefined

  /** `state` undefined: what is learned ends with the process. */
  constructor(
    source: CertificateSource,
    options: { service: string; state: State | undefined; log: Logger; now?: (() => number) | undefined },
  ) {
    this.#source = source
    this.#file = `transport-security-${options.service}.json`
    this.#state = options.state
    this.#log = options.log
    this.#now = options.now ?? Date.now
    source.changed = () => {
      void this.#learn()
      this.changed()
    }
  }

  get current(): Certificate | undefined {
    return this.#source.current
  }

  get trouble(): string | undefined {
    return this.#source.trouble
  }

  get transportSecurity(): string | undefined {
    return this.#since === undefined ? undefined : strictTransportSecurity(this.#since, this.#now())
  }

  start(): void {
    this.#source.start()
    void this.#learn()
  }

  look(): void {
    this.#source.look?.()
  }

  close(): void {
    this.#source.close()
  }

  /** Without a certificate it begins anew. */
  async #learn(): Promise<void> {
    const now = this.#now()
    try {
      if (this.current === undefined) {
        const had = this.#since !== undefined
        this.#since = undefined
        if (had) await this.#state?.remove(this.#file)
      } else if (this.#since === undefined) {
        this.#since = now
        const before = await this.#state?.readJson(this.#file, kept)
        // A clock that was wrong must not promise a year at once.
        if (before !== undefined && before.since <= now) this.#since = before.since
        else await this.#state?.writeJson(this.#file, { since: now })
      }
    } catch (error) {
      this.#log.warn(
        { err: error },
        'since when certificates are good could not be kept: browsers are told a day',
      )
    }
  }
}
