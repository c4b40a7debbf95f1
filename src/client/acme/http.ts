import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { ACME_BODY_BYTES, ACME_REQUEST_MS, ACME_URL_CHARACTERS } from '../../limits.ts'
import type { Millis } from '../../mux/index.ts'
import { printable } from '../../protocol/index.ts'
import { AcmeError } from './acme-error.ts'

export interface HttpRequest {
  method: 'GET' | 'HEAD' | 'POST'
  url: string
  /** A JWS. */
  body?: string
}

export interface HttpReply {
  status: number
  headers: IncomingHttpHeaders
  body: Buffer
}

export interface HttpOptions {
  /** PEM: the roots that count instead of the usual ones. */
  ca?: string | undefined
  agent: string
  timeoutMs?: Millis | undefined
}

/**
 * HTTPS as ACME needs it: one request, one whole answer, both small. The server proves who it is, whatever the
 * environment says; redirects are answers like others. Rejects with an AcmeError.
 */
export class AcmeHttp {
  readonly #options: HttpOptions

  constructor(options: HttpOptions) {
    this.#options = options
  }

  /** Lets go of its socket when done, when `signal` is aborted, and when it took too long. */
  send({ method, url, body }: HttpRequest, signal: AbortSignal): Promise<HttpReply> {
    const target = httpsUrl(url)
    const { ca, agent, timeoutMs = ACME_REQUEST_MS } = this.#options
    return new Promise((resolve, reject) => {
      const sent = request(target, {
        method,
        // A socket of its own: between two orders lie weeks.
        agent: false,
        // Said, since NODE_TLS_REJECT_UNAUTHORIZED=0 would be the default otherwise.
        rejectUnauthorized: true,
        minVersion: 'TLSv1.2',
        ...(ca === undefined ? {} : { ca }),
        signal,
        headers: {
          'user-agent': agent,
          'accept-language': 'en',
          ...(body === undefined
            ? {}
            : { 'content-type': 'application/jose+json', 'content-length': Buffer.byteLength(body) }),
        },
      })
      const timer = setTimeout(() => sent.destroy(new Slow()), timeoutMs)
      const fail = (error: unknown): void => {
        clearTimeout(timer)
        sent.destroy()
        reject(failureOf(target.host, timeoutMs, error))
      }
      sent.on('error', fail)
      sent.on('response', (response) => {
        collect(response)
          .then((bytes) => {
            clearTimeout(timer)
            resolve({ status: response.statusCode ?? 0, headers: response.headers, body: bytes })
          })
          .catch(fail)
      })
      sent.end(body)
    })
  }
}

class Slow extends Error {}
class Huge extends Error {}

async function collect(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > ACME_BODY_BYTES) throw new Huge()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** A URL that a CA or a setting gave. Throws an AcmeError for all but https. */
export function httpsUrl(url: string): URL {
  if (url.length <= ACME_URL_CHARACTERS && URL.canParse(url)) {
    const parsed = new URL(url)
    if (parsed.protocol === 'https:' && parsed.username === '' && parsed.password === '') return parsed
  }
  throw new AcmeError('nonsense', `the CA leads to ${printable(JSON.stringify(url))}, which is no https URL`)
}

/** What OpenSSL and Node say of a server that proves nothing. */
const UNPROVED =
  /^(?:CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|ERR_TLS_CERT|INVALID_(?:CA|PURPOSE)|HOSTNAME_MISMATCH|UNSPECIFIED)/

function failureOf(host: string, timeoutMs: Millis, error: unknown): unknown {
  if (error instanceof Slow) {
    return new AcmeError('unreachable', `${host} did not answer within ${timeoutMs / 1_000} s`)
  }
  if (error instanceof Huge) {
    return new AcmeError(
      'nonsense',
      `${host} sent more than ${ACME_BODY_BYTES / 1_024} KiB where a small answer belongs`,
    )
  }
  const { code = 'unknown error', name } = error as NodeJS.ErrnoException
  if (name === 'AbortError') return error
  if (UNPROVED.test(code)) {
    const advice = 'a CA of your own needs its root in ca_file under [acme]; check this machine’s clock'
    return new AcmeError('unreachable', `${host} does not prove to be itself (${code}): ${advice}`)
  }
  return new AcmeError('unreachable', `${host} does not answer (${printable(code)})`)
}
