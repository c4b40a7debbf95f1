import { createPrivateKey, type JsonWebKey, webcrypto, X509Certificate } from 'node:crypto'
import type { Logger } from 'pino'
import { z } from 'zod'
import { SELF_SIGNED_DAYS } from '../../limits.ts'
import type { State } from '../../state/index.ts'
import type { Certificate, CertificateSource } from './certificate.ts'

const DAY_MS = 86_400_000
/** Visitors' clocks may be behind. */
const BACKDATED_MS = DAY_MS
/** How often its age is looked at. */
const LOOK_MS = DAY_MS

const kept = z.object({ hosts: z.array(z.string()), key: z.string(), chain: z.string() })

/**
 * A certificate that we sign ourselves, for the hosts of one service. No visitor can verify it; one who is told its key
 * by other means can. Kept in the state, so that it stays the same, and made anew when it grows old.
 */
export class SelfSigned implements CertificateSource {
  current: Certificate | undefined
  trouble: string | undefined
  readonly transportSecurity = undefined
  changed: () => void = () => {}

  readonly #file: string
  readonly #hosts: readonly string[]
  readonly #state: State | undefined
  readonly #log: Logger
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor(options: {
    service: string
    hosts: readonly string[]
    state: State | undefined
    log: Logger
  }) {
    this.#file = `self-signed-${options.service}.json`
    this.#hosts = options.hosts
    this.#state = options.state
    this.#log = options.log
  }

  start(): void {
    void this.#look()
    this.#timer = setInterval(() => void this.#look(), LOOK_MS).unref()
  }

  close(): void {
    this.#closed = true
    clearInterval(this.#timer)
  }

  /** Takes the kept one, or makes one. */
  async #look(): Promise<void> {
    try {
      const found = this.current ?? (await this.#read())
      const certificate = found === undefined || isOld(found) ? await this.#make() : found
      if (this.#closed || certificate === this.current) return
      this.current = certificate
      this.trouble = undefined
    } catch (error) {
      this.trouble = `no certificate could be made: ${error instanceof Error ? error.message : String(error)}`
      this.#log.error(this.trouble)
    }
    this.changed()
  }

  async #read(): Promise<Certificate | undefined> {
    const file = await this.#state?.readJson(this.#file, kept)
    if (file === undefined || file.hosts.join() !== this.#hosts.join()) return undefined
    return { key: file.key, chain: file.chain }
  }

  async #make(): Promise<Certificate> {
    const certificate = await selfSigned(this.#hosts, Date.now())
    await this.#state?.writeJson(this.#file, { hosts: this.#hosts, ...certificate })
    return certificate
  }
}

function isOld({ chain }: Certificate): boolean {
  const { validFrom, validTo } = new X509Certificate(chain)
  const from = Date.parse(validFrom)
  return Date.now() > from + ((Date.parse(validTo) - from) * 2) / 3
}

/** An ECDSA P-256 certificate for these names, from the day before `now` (ms) on. */
export async function selfSigned(hosts: readonly string[], now: number): Promise<Certificate> {
  // Loaded where a certificate is made and nowhere else: 20 MB of memory. It throws without the former.
  await import('reflect-metadata')
  const { SubjectAlternativeNameExtension, X509CertificateGenerator } = await import('@peculiar/x509')
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      name: 'CN=blindgate, unverified',
      notBefore: new Date(now - BACKDATED_MS),
      notAfter: new Date(now + SELF_SIGNED_DAYS * DAY_MS - BACKDATED_MS),
      keys,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      extensions: [
        new SubjectAlternativeNameExtension(hosts.map((value) => ({ type: 'dns' as const, value }))),
      ],
    },
    webcrypto,
  )
  const jwk = (await webcrypto.subtle.exportKey('jwk', keys.privateKey)) as JsonWebKey
  return {
    key: createPrivateKey({ key: jwk, format: 'jwk' }).export({ type: 'pkcs8', format: 'pem' }).toString(),
    chain: certificate.toString('pem'),
  }
}
