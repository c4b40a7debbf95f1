import { ACME_URL_CHARACTERS } from '../../limits.ts'
import type { State } from '../../state/index.ts'
import type { Certificate } from '../tls/certificate.ts'
import { chainOf, type Leaf, leafOf } from './issued.ts'
import { readKey } from './jws.ts'

/** A certificate as it is kept: what it shows, and where it came from. */
export interface Kept {
  certificate: Certificate
  leaf: Leaf
  /** The URL of its CA. */
  directory: string
  /** How the CA is asked about its renewal; undefined where it cannot be. */
  renewalId?: string | undefined
}

const KEY = /-----BEGIN PRIVATE KEY-----[A-Za-z0-9+/=\s]+-----END PRIVATE KEY-----\n?/

/** Key and chain in one file, so that they always fit each other; other programs read it as PEM. */
export function certificateFile(service: string): string {
  return `certificate-${service}.pem`
}

/** Undefined where there is none, and for a file that is no certificate with its key. */
export async function readCertificate(state: State, service: string): Promise<Kept | undefined> {
  const bytes = await state.read(certificateFile(service))
  return bytes === undefined ? undefined : parseCertificate(bytes)
}

/** Resolves when it would survive a power cut. */
export function writeCertificate(state: State, service: string, kept: Kept): Promise<void> {
  const { certificate, directory, renewalId } = kept
  const head = [`directory ${directory}`, ...(renewalId === undefined ? [] : [`renewal ${renewalId}`])]
  return state.write(
    certificateFile(service),
    `${head.join('\n')}\n${certificate.key.trimEnd()}\n${certificate.chain}`,
  )
}

/** What a file of certificates holds; undefined for what is no certificate with its key. */
export function parseCertificate(bytes: Buffer): Kept | undefined {
  const text = bytes.toString('latin1')
  const pem = KEY.exec(text)?.[0]
  const key = pem === undefined ? undefined : readKey(pem)
  if (pem === undefined || key === undefined) return undefined
  const chain = chainOf(text)
  const leaf = leafOf(chain, key)
  if (leaf === undefined) return undefined
  const renewalId = /^renewal ([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)$/m.exec(text)?.[1]
  const directory = /^directory (https:\/\/\S+)$/m.exec(text)?.[1] ?? ''
  if (directory.length > ACME_URL_CHARACTERS) return undefined
  return {
    certificate: { key: pem, chain },
    leaf,
    directory,
    ...(renewalId === undefined ? {} : { renewalId }),
  }
}
