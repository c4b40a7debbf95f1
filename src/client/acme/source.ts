import type { Logger } from 'pino'
import { type AcmeSettings, unprovable } from '../../config/index.ts'
import { TunnelError } from '../../errors.ts'
import { ACME_LOOK_MS, ACME_RETRY_AFTER_MS_MAX } from '../../limits.ts'
import type { Millis } from '../../mux/index.ts'
import { printable } from '../../protocol/index.ts'
import type { Lock, State } from '../../state/index.ts'
import type { Certificate, CertificateSource } from '../tls/certificate.ts'
import { AcmeError } from './acme-error.ts'
import { Ca } from './ca.ts'
import { certificateFile, type Kept, parseCertificate, writeCertificate } from './certificate-file.ts'
import { type Clock, systemClock, timeText } from './clock.ts'
import type { DnsServer } from './dns/exchange.ts'
import { AcmeHttp } from './http.ts'
import { type CaaCheck, issue, namesOf } from './issue.ts'
import { covers } from './issued.ts'
import { Pace } from './pace.ts'
import { type ChallengeBroker, proverOf } from './proofs.ts'
import { RenewalTime } from './renewal-time.ts'

export interface AcmeSourceOptions {
  /** As configured: its files are called after it. */
  service: string
  /** One certificate for all of them: DNS names and `*.` names, lower case. */
  hosts: readonly string[]
  settings: AcmeSettings
  state: State
  log: Logger
  challenges: ChallengeBroker
  /** For User-Agent. */
  version: string
  /** 0 ≤ x < 1. */
  random?: (() => number) | undefined
  clock?: Clock | undefined
  /** Asked when `settings.requireCaa`. */
  caa?: CaaCheck | undefined
  /** Asked instead of the servers of a host's zone whether they show what dns-01 wrote. */
  nameservers?: readonly DnsServer[] | undefined
}

/**
 * The certificate of one service, had from a CA by ACME and renewed for as long as the client runs: kept in the state, so
 * that visitors are served at once after a restart; the old one serves until the new one works. Of several processes on
 * one state one orders, and the others take what it wrote.
 */
export class AcmeSource implements CertificateSource {
  changed: () => void = () => undefined
  /** Whoever wraps it knows since when all is well. */
  readonly transportSecurity = undefined
  /** Resolves once `close` has let go of everything; a proof in DNS is taken back before. */
  ended: Promise<void> = Promise.resolve()
  readonly #options: AcmeSourceOptions
  readonly #clock: Clock
  readonly #random: () => number
  readonly #pace: Pace
  readonly #abort = new AbortController()
  readonly #http: AcmeHttp
  #kept: Kept | undefined
  /** The file that it was read from. */
  #seen: Buffer | undefined
  #trouble: string | undefined
  /** Held from the first try for a new certificate until there is one: others wait and see. */
  #lock: Lock | undefined
  /** No try before this. */
  #notBefore: Millis = 0
  /** What was wrong with the last one. */
  #why: string | undefined
  /** The CA asked for that. */
  #asked = false
  /** Aborted, it ends the rest between two rounds. */
  #nap = new AbortController()
  /** Of `#kept`. */
  #renewal: RenewalTime | undefined

  constructor(options: AcmeSourceOptions) {
    const { settings, version, random = Math.random, clock = systemClock } = options
    this.#options = options
    this.#clock = clock
    this.#random = random
    this.#pace = new Pace(random)
    this.#http = new AcmeHttp({ ca: settings.ca, agent: `blindgate/${version}` })
  }

  get current(): Certificate | undefined {
    return this.#kept?.certificate
  }

  get trouble(): string | undefined {
    return this.#trouble
  }

  start(): void {
    this.ended = this.#run()
  }

  /** Ends the pause: somebody may have mended what was wrong. Not one that the CA asked for. */
  look(): void {
    if (!this.#asked) this.#notBefore = 0
    this.#nap.abort()
  }

  close(): void {
    this.#abort.abort()
    this.#nap.abort()
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort
    try {
      while (!signal.aborted) {
        await this.#round()
        await this.#sleep(this.#rest())
      }
    } catch (error) {
      if (!signal.aborted) this.#failed(error)
    } finally {
      await this.#release()
    }
  }

  /** Until then, or until something wakes it. */
  async #sleep(ms: Millis): Promise<void> {
    this.#nap = new AbortController()
    const { signal } = this.#nap
    if (this.#abort.signal.aborted) return
    await this.#clock.sleep(ms, signal).catch((error: unknown) => {
      if (!signal.aborted) throw error
    })
  }

  /** One look at all of it. What fails is said, and tried again. */
  async #round(): Promise<void> {
    try {
      await this.#look()
      if (this.#kept?.directory === this.#options.settings.directory) await this.#renewal?.ask(this.#ca())
      if (this.#due() === undefined) await this.#settle()
      else if (!this.#pausing() && (await this.#take())) await this.#order()
    } catch (error) {
      if (!this.#abort.signal.aborted) this.#failed(error)
    }
  }

  #pausing(): boolean {
    const left = this.#notBefore - this.#clock.now()
    // One that is longer than it can be is of a clock that was ahead.
    return left > 0 && left <= 2 * ACME_RETRY_AFTER_MS_MAX
  }

  /** Until something may be due: seldom more than a file is looked at, so that one that is gone or new is seen. */
  #rest(): Millis {
    const now = this.#clock.now()
    const times = [this.#notBefore, this.#renewal?.at ?? now].filter((at) => at > now)
    return Math.max(1, Math.min(ACME_LOOK_MS, ...times.map((at) => at - now)))
  }

  /** Takes over what is on the disk: another process may have renewed it, a command may have revoked it. */
  async #look(): Promise<void> {
    const { service, state, hosts } = this.#options
    const bytes = await state.read(certificateFile(service))
    // Most looks see what was there before, which is not read again.
    if (bytes !== undefined && this.#seen?.equals(bytes) === true) return
    const found = bytes === undefined ? undefined : parseCertificate(bytes)
    if (bytes !== undefined && found === undefined) {
      throw new AcmeError(
        'local',
        `${state.path}/${certificateFile(service)} is no certificate with its key: move it away to order a new one`,
      )
    }
    const usable = found !== undefined && hosts.some((host) => covers(found.leaf, host)) ? found : undefined
    this.#seen = bytes
    if (usable?.leaf.fingerprint !== this.#kept?.leaf.fingerprint) this.#serve(usable)
  }

  #serve(kept: Kept | undefined): void {
    this.#kept = kept
    this.#renewal = kept === undefined ? undefined : new RenewalTime(kept, this.#random(), this.#options.log)
    // Visitors who are served can wait for a better one; those who are not cannot.
    if (kept === undefined && !this.#asked) this.#notBefore = 0
    this.changed()
  }

  /** All is well until the next renewal. */
  async #settle(): Promise<void> {
    this.#pace.reset()
    this.#notBefore = 0
    this.#asked = false
    this.#why = undefined
    this.#tell(undefined)
    await this.#release()
  }

  /** Why a certificate is to be ordered now; undefined: the one there is will do. */
  #due(): 'none' | 'names' | 'ca' | 'renewal' | undefined {
    const { hosts, settings } = this.#options
    const kept = this.#kept
    if (kept === undefined) return 'none'
    if (!hosts.every((host) => covers(kept.leaf, host))) return 'names'
    if (kept.directory !== settings.directory) return 'ca'
    return this.#clock.now() >= (this.#renewal?.at ?? 0) ? 'renewal' : undefined
  }

  /** Takes the right to order; false while another process has it. */
  async #take(): Promise<boolean> {
    const { service, state } = this.#options
    if (this.#lock === undefined) {
      this.#lock = await state.tryLock(`certificate-${service}`)
      if (this.#lock !== undefined) this.#trouble = undefined
    }
    if (this.#lock !== undefined) {
      // The other one may have finished just before.
      await this.#look()
      if (this.#due() !== undefined) return true
      await this.#settle()
      return false
    }
    this.#tell('another blindgate on this machine orders the certificate: it is taken from there')
    return false
  }

  async #order(): Promise<void> {
    const { service, hosts, settings, state, log, caa } = this.#options
    const why = unprovable(hosts, settings.challenge)
    if (why !== undefined) throw new AcmeError('misconfigured', why)
    const ca = this.#ca()
    // What was wrong with the last try stays said until this one comes to something.
    if (this.#kept === undefined && this.#trouble === undefined) {
      this.#tell(`waits for a certificate for ${namesOf(hosts)} from ${ca.name}`)
    }
    const prover = proverOf({ ...this.#options, clock: this.#clock })
    const { kept, done } = await issue({
      ca,
      service,
      hosts,
      settings,
      state,
      log,
      prover,
      caa,
      old: this.#kept,
    })
    await writeCertificate(state, service, kept)
    await done()
    // One change, not two: it is there, and all is well.
    this.#trouble = undefined
    this.#serve(kept)
    await this.#settle()
    const until = timeText(kept.leaf.notAfter)
    log.info(
      { service },
      `service "${service}": has a certificate for ${namesOf(hosts)}, valid until ${until}`,
    )
  }

  #ca(): Ca {
    return new Ca(this.#options.settings.directory, {
      http: this.#http,
      clock: this.#clock,
      signal: this.#abort.signal,
    })
  }

  #failed(error: unknown): void {
    const { service, log } = this.#options
    const known = error instanceof TunnelError
    const why = known ? error.message : printable(String(error))
    // The same at a look between two tries.
    if (why === this.#why && this.#pausing()) return
    this.#why = why
    const failure =
      error instanceof AcmeError ? error : { failing: 'local' as const, retryAfterMs: undefined }
    this.#notBefore = this.#clock.now() + this.#pace.afterFailure(failure)
    this.#asked = (failure.retryAfterMs ?? 0) > 0
    const text = `${why}: tried again at ${timeText(this.#notBefore)}`
    this.#tell(text)
    log.warn(
      { service, ...(known ? {} : { err: error }) },
      `service "${service}": no new certificate: ${text}`,
    )
  }

  #tell(trouble: string | undefined): void {
    if (this.#trouble === trouble) return
    this.#trouble = trouble
    this.changed()
  }

  async #release(): Promise<void> {
    const lock = this.#lock
    this.#lock = undefined
    await lock?.release()
  }
}
