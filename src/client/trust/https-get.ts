import { request } from 'node:https'
import { rootCertificates } from 'node:tls'
import { TunnelError } from '../../errors.ts'
import { printable } from '../../protocol/index.ts'

export interface GetOptions {
  /** More bytes than this are not read. */
  bytes: number
  ms: number
  /** Certificates to believe besides the system's, PEM. */
  ca?: readonly string[] | undefined
  signal?: AbortSignal | undefined
}

/** The body of an answer with its headers. */
export interface Got {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: string
}

/**
 * One GET over https, whose server proves its name whatever the environment says of verification. No redirect is followed.
 * Rejects with `timeout`, `unreachable`, `bad_message` (too long), scope `process`.
 */
export function httpsGet(url: string, { bytes, ms, ca, signal }: GetOptions): Promise<Got> {
  return new Promise((resolve, reject) => {
    const asked = request(url, {
      agent: false,
      rejectUnauthorized: true,
      ...believing(ca),
      headers: { accept: 'application/json', 'user-agent': 'blindgate', connection: 'close' },
    })
    const done = (settle: () => void): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', aborted)
      asked.destroy()
      settle()
    }
    const failed = (code: 'timeout' | 'unreachable' | 'bad_message', why: string): void =>
      done(() =>
        reject(new TunnelError(code, { scope: 'process', remote: true, detail: `${hostOf(url)} (${why})` })),
      )
    const aborted = (): void => failed('timeout', 'the check took too long')
    const timer = setTimeout(() => failed('timeout', `no answer within ${ms / 1000} s`), ms)
    asked.on('error', (error: NodeJS.ErrnoException) =>
      failed('unreachable', printable(error.code ?? error.message)),
    )
    asked.on('response', (response) => {
      const chunks: Buffer[] = []
      let length = 0
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk)
        length += chunk.length
        if (length > bytes) failed('bad_message', `its answer is longer than ${bytes} bytes`)
      })
      response.on('error', () => failed('unreachable', 'its answer breaks off'))
      response.on('end', () => {
        const { statusCode = 0, headers } = response
        done(() => resolve({ status: statusCode, headers, body: Buffer.concat(chunks).toString() }))
      })
      response.on('close', () => failed('unreachable', 'its answer breaks off'))
    })
    if (signal?.aborted === true) aborted()
    else signal?.addEventListener('abort', aborted, { once: true })
    asked.end()
  })
}

/** Options of TLS that believe these certificates too. None: what Node believes by itself, NODE_EXTRA_CA_CERTS included. */
export function believing(ca: readonly string[] | undefined): { ca?: string[] } {
  return ca === undefined || ca.length === 0 ? {} : { ca: [...rootCertificates, ...ca] }
}

function hostOf(url: string): string {
  return printable(new URL(url).host)
}
