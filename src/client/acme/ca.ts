import type { z } from 'zod'
import { ACME_NONCE_TRIES } from '../../limits.ts'
import type { Millis } from '../../mux/index.ts'
import { printable } from '../../protocol/index.ts'
import { AcmeError } from './acme-error.ts'
import type { Clock } from './clock.ts'
import { type AcmeHttp, type HttpReply, httpsUrl } from './http.ts'
import { type Signer, signed } from './jws.ts'
import { type Directory, directory } from './messages.ts'
import { acmeProblem, retryAfter } from './problem.ts'

/** An answer that is no refusal. */
export interface Reply {
  status: number
  /** Where what was made is (RFC 8555, 7.3 and 7.4). */
  location: string | undefined
  retryAfterMs: Millis | undefined
  body: Buffer
  type: string
}

const JSON_TYPES = /^application\/(?:[a-z0-9.-]+\+)?json$/
const CHAIN_TYPE = 'application/pem-certificate-chain'

/**
 * A certificate authority during one conversation: its directory, its nonces, and requests that a key signs. Every
 * refusal, and all that RFC 8555 does not allow, is an AcmeError.
 */
export class Ca {
  /** Its host, by which people are told of it. */
  readonly name: string
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly #url: string
  readonly #http: AcmeHttp
  #directory: Directory | undefined
  #nonce: string | undefined

  constructor(url: string, { http, clock, signal }: { http: AcmeHttp; clock: Clock; signal: AbortSignal }) {
    this.name = httpsUrl(url).host
    this.clock = clock
    this.signal = signal
    this.#url = url
    this.#http = http
  }

  async directory(): Promise<Directory> {
    this.#directory ??= this.read(directory, await this.get(this.#url, 'its directory'), 'its directory')
    return this.#directory
  }

  /** A plain GET. `what` is what is asked for, for people. */
  async get(url: string, what: string): Promise<Reply> {
    const reply = await this.#http.send({ method: 'GET', url }, this.signal)
    this.#keepNonce(reply)
    return this.#granted(reply, what)
  }

  /** Signed, with a payload or as POST-as-GET without one. A bad nonce is replaced by a new one, so often. */
  async post(signer: Signer, url: string, payload: unknown, what: string): Promise<Reply> {
    for (let tries = 1; ; tries++) {
      const nonce = await this.#takeNonce()
      const body = await signed(signer, { url, nonce, payload })
      const reply = await this.#http.send({ method: 'POST', url, body }, this.signal)
      this.#keepNonce(reply)
      try {
        return this.#granted(reply, what)
      } catch (error) {
        const stale = error instanceof AcmeError && error.problem === 'badNonce'
        if (!stale || tries >= ACME_NONCE_TRIES) throw error
      }
    }
  }

  /** What an answer says, as `schema` has it. */
  read<T>(schema: z.ZodType<T>, { body, type }: Reply, what: string): T {
    if (!JSON_TYPES.test(type))
      throw this.nonsense(what, `is not JSON but ${printable(type, 80) || 'nothing'}`)
    const parsed = schema.safeParse(jsonOf(body))
    if (parsed.success) return parsed.data
    const path = parsed.error.issues[0]?.path.map(String).join('.') ?? ''
    throw this.nonsense(what, path === '' ? 'is none' : `has a wrong "${printable(path, 80)}"`)
  }

  /** The text of a chain of certificates (RFC 8555, 9.1). */
  chain({ body, type }: Reply): string {
    if (type !== CHAIN_TYPE) {
      throw this.nonsense('the certificate', `is not PEM but ${printable(type, 80) || 'nothing'}`)
    }
    return body.toString('latin1')
  }

  nonsense(what: string, fact: string): AcmeError {
    return new AcmeError('nonsense', `${this.name} breaks the protocol: ${what} ${fact}`)
  }

  #granted({ status, headers, body }: HttpReply, what: string): Reply {
    const type = (headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase() ?? ''
    const retryAfterMs = retryAfter(headers['retry-after'], this.clock.now())
    if (status >= 200 && status <= 299) {
      return { status, location: headers.location, retryAfterMs, body, type }
    }
    if (status >= 300 && status <= 399) {
      throw this.nonsense(what, 'is said to be elsewhere, where nobody follows: check directory under [acme]')
    }
    const problem = JSON_TYPES.test(type) ? jsonOf(body) : undefined
    throw acmeProblem(`${this.name} refused ${what}`, { status, problem, retryAfterMs })
  }

  async #takeNonce(): Promise<string> {
    if (this.#nonce === undefined) {
      const { newNonce } = await this.directory()
      // The directory's answer may have had one.
      if (this.#nonce === undefined) {
        const reply = await this.#http.send({ method: 'HEAD', url: newNonce }, this.signal)
        this.#granted(reply, 'a nonce')
        this.#keepNonce(reply)
      }
    }
    const nonce = this.#nonce
    this.#nonce = undefined
    if (nonce === undefined) throw this.nonsense('its nonce', 'is missing')
    return nonce
  }

  #keepNonce({ headers }: HttpReply): void {
    const nonce = headers['replay-nonce']
    // RFC 8555, 6.5.1: one that is not base64url does not count.
    if (typeof nonce === 'string' && /^[A-Za-z0-9_-]{1,1024}$/.test(nonce)) this.#nonce = nonce
  }
}

function jsonOf(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString())
  } catch {
    return undefined
  }
}
