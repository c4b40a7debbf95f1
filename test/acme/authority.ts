/** A root of the test's own, and what it signs: the certificates of test servers, and those that a fake CA gives. */
import { webcrypto } from 'node:crypto'
import 'reflect-metadata'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  type Extension,
  Pkcs10CertificateRequest,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509'

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const DAY_MS = 24 * 3_600_000

export interface Wanted {
  publicKey: webcrypto.CryptoKey | Pkcs10CertificateRequest['publicKey']
  names: { type: 'dns' | 'ip'; value: string }[]
  notBefore?: Date
  notAfter?: Date
  extensions?: Extension[]
}

export class Authority {
  /** PEM. */
  readonly root: string
  readonly #keys: webcrypto.CryptoKeyPair
  readonly #certificate: X509Certificate

  static async create(): Promise<Authority> {
    const keys = await newKeys()
    const certificate = await X509CertificateGenerator.createSelfSigned(
      {
        name: 'CN=test root',
        notBefore: new Date(Date.now() - DAY_MS),
        notAfter: new Date(Date.now() + 3_650 * DAY_MS),
        keys,
        signingAlgorithm: ALGORITHM,
        extensions: [new BasicConstraintsExtension(true, undefined, true)],
      },
      webcrypto,
    )
    return new Authority(keys, certificate)
  }

  constructor(keys: webcrypto.CryptoKeyPair, certificate: X509Certificate) {
    this.#keys = keys
    this.#certificate = certificate
    this.root = `${certificate.toString('pem')}\n`
  }

  /** PEM of one certificate. */
  async sign({ publicKey, names, notBefore, notAfter, extensions = [] }: Wanted): Promise<string> {
    const certificate = await X509CertificateGenerator.create(
      {
        subject: '',
        issuer: this.#certificate.subject,
        notBefore: notBefore ?? new Date(Date.now() - 3_600_000),
        notAfter: notAfter ?? new Date(Date.now() + 90 * DAY_MS),
        publicKey,
        signingKey: this.#keys.privateKey,
        signingAlgorithm: ALGORITHM,
        extensions: [
          new SubjectAlternativeNameExtension(names),
          await AuthorityKeyIdentifierExtension.create(this.#certificate, false, webcrypto),
          ...extensions,
        ],
      },
      webcrypto,
    )
    return `${certificate.toString('pem')}\n`
  }

  /** A server's key and certificate, for addresses of this machine unless other names are given. */
  async server(
    names: Wanted['names'] = [
      { type: 'ip', value: '127.0.0.1' },
      { type: 'dns', value: 'localhost' },
    ],
    extensions: Extension[] = [],
  ): Promise<{ key: string; cert: string }> {
    const keys = await newKeys()
    const cert = await this.sign({ publicKey: keys.publicKey, names, extensions })
    return { key: await pemOf(keys.privateKey), cert }
  }
}

/** What a CSR (DER, base64url) asks for. */
export function requestOf(csr: string): { publicKey: Wanted['publicKey']; names: Wanted['names'] } {
  const request = new Pkcs10CertificateRequest(Uint8Array.from(Buffer.from(csr, 'base64url')))
  const extension = request.extensions.find((one) => one instanceof SubjectAlternativeNameExtension)
  const names = extension?.names.toJSON() ?? []
  return {
    publicKey: request.publicKey,
    names: names.map(({ value }) => ({ type: 'dns', value })),
  }
}

export async function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
}

async function pemOf(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key)).toString('base64')
  return `-----BEGIN PRIVATE KEY-----\n${der.match(/.{1,64}/g)?.join('\n') ?? ''}\n-----END PRIVATE KEY-----\n`
}
