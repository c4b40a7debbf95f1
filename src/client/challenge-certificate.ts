import { createHash, webcrypto } from 'node:crypto'

/** What a tls-alpn-01 challenge is answered with; PEM. */
export interface ChallengeCertificate {
  /** PKCS#8, of an ECDSA P-256 key of its own, for this one challenge. */
  readonly key: string
  readonly cert: string
}

/** id-pe-acmeIdentifier (RFC 8737, 6.1), and what stands before its 32 bytes: an OCTET STRING of that length. */
const ACME_IDENTIFIER = '1.3.6.1.5.5.7.1.31'
const OCTET_STRING = [4, 32] as const
/** Nobody looks at the dates, and a machine's clock may be wrong. */
const NOT_BEFORE = new Date(0)
const NOT_AFTER = new Date('9999-12-31T23:59:59Z')

/**
 * The self-signed certificate by which an authority sees that whoever answers for `host` made the order (RFC 8737, 3): for
 * exactly that name, with SHA-256 of the key authorization in a critical extension. Good for nothing else.
 */
export async function challengeCertificate(
  host: string,
  keyAuthorization: string,
): Promise<ChallengeCertificate> {
  // Loaded when a certificate is ordered, every few weeks: 20 MB of memory. It throws without the former.
  await import('reflect-metadata')
  const { Extension, SubjectAlternativeNameExtension, X509CertificateGenerator } = await import(
    '@peculiar/x509'
  )
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  if (!('privateKey' in keys)) throw new Error('ECDSA gives a pair of keys')
  const digest = createHash('sha256').update(keyAuthorization).digest()
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      name: 'CN=ACME challenge',
      notBefore: NOT_BEFORE,
      notAfter: NOT_AFTER,
      keys,
      signingAlgorithm: algorithm,
      extensions: [
        new SubjectAlternativeNameExtension([{ type: 'dns', value: host }]),
        new Extension(ACME_IDENTIFIER, true, Uint8Array.from([...OCTET_STRING, ...digest])),
      ],
    },
    webcrypto,
  )
  const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
  return {
    key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n`,
    cert: certificate.toString('pem'),
  }
}
