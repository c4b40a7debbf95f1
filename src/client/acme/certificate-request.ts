import { createPublicKey, generateKeyPairSync, type KeyObject, webcrypto } from 'node:crypto'

/** A key for one certificate. */
export function newCertificateKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
}

/** A request for a certificate (RFC 2986) with these DNS names and no other word, DER as base64url (RFC 8555, 7.4). */
export async function certificateRequest(key: KeyObject, hosts: readonly string[]): Promise<string> {
  // Loaded here: some 20 MB that a client without certificates of its own never needs. It throws without the former.
  await import('reflect-metadata')
  const { Pkcs10CertificateRequestGenerator, SubjectAlternativeNameExtension } = await import(
    '@peculiar/x509'
  )
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' }
  const { subtle } = webcrypto
  const keys = {
    privateKey: await subtle.importKey(
      'pkcs8',
      key.export({ type: 'pkcs8', format: 'der' }),
      algorithm,
      false,
      ['sign'],
    ),
    publicKey: await subtle.importKey(
      'spki',
      createPublicKey(key).export({ type: 'spki', format: 'der' }),
      algorithm,
      true,
      ['verify'],
    ),
  }
  const request = await Pkcs10CertificateRequestGenerator.create(
    {
      keys,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      extensions: [new SubjectAlternativeNameExtension(hosts.map((value) => ({ type: 'dns', value })))],
    },
    webcrypto,
  )
  return Buffer.from(request.rawData).toString('base64url')
}

/**
 * How a CA is asked about a certificate's renewal (RFC 9773, 4.1): its issuer's key id and its serial number, with the
 * zero byte that DER puts before a high bit. Undefined where the certificate does not name its issuer's key.
 */
export async function renewalId(der: Uint8Array): Promise<string | undefined> {
  await import('reflect-metadata')
  const { AuthorityKeyIdentifierExtension, X509Certificate } = await import('@peculiar/x509')
  const certificate = new X509Certificate(Uint8Array.from(der))
  const keyId = certificate.getExtension(AuthorityKeyIdentifierExtension)?.keyId
  if (keyId === undefined) return undefined
  const { serialNumber } = certificate
  const hex = /^[89a-f]/i.test(serialNumber) ? `00${serialNumber}` : serialNumber
  return [keyId, hex].map((part) => Buffer.from(part, 'hex').toString('base64url')).join('.')
}
