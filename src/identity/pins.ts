import { createHash, type KeyObject, timingSafeEqual, type X509Certificate } from 'node:crypto'
import { userError } from '../errors.ts'

/** `sha256:` and 43 characters: unpadded standard base64 of SHA-256 over a public key's DER SPKI. */
export type Pin = `sha256:${string}`

const PREFIX = 'sha256:'
export const PIN_BYTES = 32

export function pinOf(publicKey: KeyObject): Pin {
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  return pinOfHash(createHash('sha256').update(spki).digest())
}

/** The hash inside a pin: 32 bytes. The pin must be a checked one. */
export function hashOfPin(pin: Pin): Buffer {
  return Buffer.from(pin.slice(PREFIX.length), 'base64')
}

export function pinOfHash(hash: Uint8Array): Pin {
  return `${PREFIX}${Buffer.from(hash).toString('base64').slice(0, 43)}`
}

/**
 * Who a tunnel's peer is: undefined without a certificate, and for any key that is not Ed25519. Its dates,
 * names, issuer and extensions are not looked at: on a machine without a clock, or against a self-signed
 * certificate, they prove nothing. Take it from `getPeerX509Certificate()`.
 */
export function peerPin(certificate: X509Certificate | undefined): Pin | undefined {
  if (certificate === undefined) return undefined
  let key: KeyObject
  try {
    key = certificate.publicKey
  } catch {
    return undefined // a kind of key that this OpenSSL does not know
  }
  return key.asymmetricKeyType === 'ed25519' ? pinOf(key) : undefined
}

/** Checks a pin that somebody typed or pasted; throws `config_invalid` for people. */
export function parsePin(text: string): Pin {
  const trimmed = text.trim()
  // Re-encoded, so that two texts never stand for one key.
  if (/^sha256:[A-Za-z0-9+/]{43}$/.test(trimmed)) {
    const pin = pinOfHash(hashOfPin(trimmed as Pin))
    if (pin === trimmed) return pin
  }
  throw userError(
    'config_invalid',
    `${JSON.stringify(trimmed.slice(0, 80))} is not a key: copy it whole, "sha256:" and 43 characters`,
  )
}

/** Compares in constant time; pins of different length are different. */
export function samePin(a: Pin, b: Pin): boolean {
  const left = Buffer.from(a)
  const right = Buffer.from(b)
  return left.length === right.length && left.length === PREFIX.length + 43 && timingSafeEqual(left, right)
}
