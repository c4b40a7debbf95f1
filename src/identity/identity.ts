import { createPrivateKey, createPublicKey, type KeyObject, webcrypto, X509Certificate } from 'node:crypto'
import { userError } from '../errors.ts'
import { type Pin, pinOf } from './pins.ts'

/** One side's Ed25519 key and the self-signed certificate that shows it, both PEM. The pin is what peers know. */
export interface Identity {
  /** PKCS#8. */
  key: string
  certificate: string
  pin: Pin
}

/** No peer looks at the dates; these pass whoever else does, on machines whose clock is wrong as well. */
const NOT_BEFORE = new Date(0)
const NOT_AFTER = new Date('9999-12-31T23:59:59Z')

/** Makes a new key and its certificate. Slow (≈0.2 s) the first time. */
export async function createIdentity(): Promise<Identity> {
  // Loaded here and nowhere else: once in a machine's life, and 20 MB of memory. It throws without the former.
  await import('reflect-metadata')
  const { X509CertificateGenerator } = await import('@peculiar/x509')
  const keys = await webcrypto.subtle.generateKey({ name: 'Ed25519' }, true, ['sign', 'verify'])
  if (!('privateKey' in keys)) throw new Error('Ed25519 gives a pair of keys')
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      name: 'CN=blindgate',
      notBefore: NOT_BEFORE,
      notAfter: NOT_AFTER,
      keys,
      signingAlgorithm: { name: 'Ed25519' },
    },
    webcrypto,
  )
  const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
  return readIdentity(
    createPrivateKey({ key, format: 'der', type: 'pkcs8' })
      .export({ type: 'pkcs8', format: 'pem' })
      .toString(),
    certificate.toString('pem'),
  )
}

/** Checks what was kept: both readable, Ed25519, and of one another. Throws `state_invalid` for people. */
export function readIdentity(key: string, certificate: string): Identity {
  const privateKey = readable('private key', () => createPrivateKey(key))
  const x509 = readable('certificate', () => new X509Certificate(certificate))
  if (privateKey.asymmetricKeyType !== 'ed25519') throw damaged('the private key is not an Ed25519 key')
  if (!x509.checkPrivateKey(privateKey)) throw damaged('the certificate belongs to another private key')
  return { key, certificate, pin: pinOf(createPublicKey(privateKey)) }
}

function readable<T extends KeyObject | X509Certificate>(what: string, read: () => T): T {
  try {
    return read()
  } catch {
    // Without its cause, which could quote what it read.
    throw damaged(`the ${what} cannot be read`)
  }
}

function damaged(fact: string) {
  return userError(
    'state_invalid',
    `${fact}: restore the .key and .crt files from a backup, or remove both to become a new machine that others have to accept anew`,
  )
}
