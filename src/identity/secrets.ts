import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'

/** An invite's secret: 128 bits. Only its hash is ever kept; a hash needs no salt where nothing can be guessed. */
export const SECRET_BYTES = 16

export function newSecret(): Uint8Array {
  return new Uint8Array(randomBytes(SECRET_BYTES))
}

/** SHA-256 in hex, 64 characters. */
export function hashSecret(secret: Uint8Array): string {
  return createHash('sha256').update(secret).digest('hex')
}

/** What an invite is called in logs and lists: the first 8 characters of its secret's hash. */
export function inviteId(secretHash: string): string {
  return secretHash.slice(0, 8)
}

/** Compares in constant time. */
export function sameSecretHash(a: string, b: string): boolean {
  const left = Buffer.from(a)
  const right = Buffer.from(b)
  return left.length === right.length && timingSafeEqual(left, right)
}
