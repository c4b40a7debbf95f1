import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  X509Certificate,
} from 'node:crypto'
import { userError } from '../errors.ts'
import { selfSignedCertificate } from './certificate.ts'
import { type Pin, pinOf } from './pins.ts'

/** One side's Ed25519 key and the self-signed certificate that shows it, both PEM. The pin is what peers know. */
export interface Identity {
  /** PKCS#8. */
  key: string
  certificate: string
  pin: Pin
}

/** Makes a new key and its certificate. */
export function createIdentity(): Identity {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const certificate = new X509Certificate(selfSignedCertificate(publicKey, privateKey))
  return readIdentity(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), certificate.toString())
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
