/** A certificate authority of the test's own. */
import { createPublicKey, webcrypto, X509Certificate } from 'node:crypto'
import { type Pin, pinOf } from '../../../src/identity/index.ts'

export interface Issued {
  key: string
  cert: string
  /** Of its key. */
  pin: Pin
  notBefore: string
  notAfter: string
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const DAY = 24 * 3_600_000

export class TestAuthority {
  /** PEM. */
  readonly certificate: string
  readonly #issue: (names: string[], days: number, age: number) => Promise<Issued>

  private constructor(
    certificate: string,
    issue: (names: string[], days: number, age: number) => Promise<Issued>,
  ) {
    this.certificate = certificate
    this.#issue = issue
  }

  static async create(name = 'CN=Test CA'): Promise<TestAuthority> {
    await import('reflect-metadata')
    const x509 = await import('@peculiar/x509')
    const keys = await newKeys()
    const ca = await x509.X509CertificateGenerator.createSelfSigned(
      {
        name,
        keys,
        signingAlgorithm: ALGORITHM,
        notBefore: new Date(Date.now() - DAY),
        notAfter: new Date(Date.now() + 365 * DAY),
        extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
      },
      webcrypto,
    )
    return new TestAuthority(ca.toString('pem'), async (names, days, age) => {
      const own = await newKeys()
      const certificate = await x509.X509CertificateGenerator.create(
        {
          subject: `CN=${names[0] ?? ''}`,
          issuer: ca.subject,
          publicKey: own.publicKey,
          signingKey: keys.privateKey,
          signingAlgorithm: ALGORITHM,
          notBefore: new Date(Date.now() - age * DAY),
          notAfter: new Date(Date.now() + days * DAY),
          extensions: [
            new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: 'dns', value }))),
          ],
        },
        webcrypto,
      )
      const cert = certificate.toString('pem')
      const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', own.privateKey)).toString('base64')
      return {
        key: `-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`,
        cert,
        pin: pinOf(
          createPublicKey(new X509Certificate(cert).publicKey.export({ type: 'spki', format: 'pem' })),
        ),
        notBefore: certificate.notBefore.toISOString(),
        notAfter: certificate.notAfter.toISOString(),
      }
    })
  }

  /** `days`: until it ends; `age`: since it began. */
  issue(names: string[], days = 90, age = 1): Promise<Issued> {
    return this.#issue(names, days, age)
  }
}

async function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
}
