import { createHash, createPrivateKey, type KeyObject } from 'node:crypto'
import type { JWK } from 'jose'

/** Who signs: an account that the CA knows by its URI, or a key that it does not know yet. */
export interface Signer {
  /** P-256. */
  key: KeyObject
  /** The account's URI; without it the key itself is sent along. */
  uri?: string | undefined
}

/** The public half, with nothing but what RFC 7638 wants for a thumbprint. */
export function publicJwk(key: KeyObject): JWK & { kty: string } {
  const { kty = '', crv, x, y } = key.export({ format: 'jwk' })
  return { kty, ...(crv === undefined ? {} : { crv }), ...(x && { x }), ...(y && { y }) }
}

/** A request as RFC 8555, 6.2 wants it: flattened, ES256. No payload: POST-as-GET. */
export async function signed(
  { key, uri }: Signer,
  { url, nonce, payload }: { url: string; nonce: string; payload: unknown },
): Promise<string> {
  const { FlattenedSign } = await import('jose')
  const bytes = payload === undefined ? '' : JSON.stringify(payload)
  const header = {
    alg: 'ES256',
    url,
    nonce,
    ...(uri === undefined ? { jwk: publicJwk(key) } : { kid: uri }),
  }
  const jws = await new FlattenedSign(Buffer.from(bytes)).setProtectedHeader(header).sign(key)
  return JSON.stringify(jws)
}

/** Binds an account's key to one that its CA keeps outside of ACME (RFC 8555, 7.3.4). */
export async function externalBinding(
  { kid, secret }: { kid: string; secret: Uint8Array },
  { key, url }: { key: KeyObject; url: string },
): Promise<unknown> {
  const { FlattenedSign } = await import('jose')
  return new FlattenedSign(Buffer.from(JSON.stringify(publicJwk(key))))
    .setProtectedHeader({ alg: 'HS256', kid, url })
    .sign(secret)
}

/** What answers a challenge (RFC 8555, 8.1). */
export async function keyAuthorization(token: string, key: KeyObject): Promise<string> {
  const { calculateJwkThumbprint } = await import('jose')
  return `${token}.${await calculateJwkThumbprint(publicJwk(key))}`
}

/** What a dns-01 challenge wants in its TXT record (RFC 8555, 8.4). */
export function dnsValue(authorization: string): string {
  return createHash('sha256').update(authorization).digest('base64url')
}

/** Reads a key that was kept; undefined for what is no P-256 key. */
export function readKey(pem: string): KeyObject | undefined {
  try {
    const key = createPrivateKey(pem)
    return key.asymmetricKeyDetails?.namedCurve === 'prime256v1' ? key : undefined
  } catch {
    return undefined
  }
}
