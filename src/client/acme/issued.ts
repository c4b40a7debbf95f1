import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto'
import { ACME_CHAIN_CERTIFICATES } from '../../limits.ts'
import type { Lifetime } from './renewal.ts'

/** A certificate as its names and times go. */
export interface Leaf extends Lifetime {
  /** Its DNS names, lower case. */
  names: string[]
  der: Buffer
  /** SHA-256 over the certificate. */
  fingerprint: string
}

const BLOCK = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g

/** The blocks of a chain alone, one after the other: whatever else a CA wrote there is not kept. */
export function chainOf(pem: string): string {
  return (pem.match(BLOCK) ?? []).map((block) => `${block}\n`).join('')
}

/** What the first certificate of a chain says; undefined for text that is no chain, or none for this key. */
export function leafOf(chain: string, key: KeyObject): Leaf | undefined {
  const blocks = chain.match(BLOCK) ?? []
  if (blocks.length > ACME_CHAIN_CERTIFICATES) return undefined
  try {
    const [leaf] = blocks.map((block) => new X509Certificate(block))
    if (leaf === undefined || !leaf.publicKey.equals(createPublicKey(key))) return undefined
    return {
      names: dnsNames(leaf),
      notBefore: Date.parse(leaf.validFrom),
      notAfter: Date.parse(leaf.validTo),
      der: leaf.raw,
      fingerprint: leaf.fingerprint256,
    }
  } catch {
    return undefined
  }
}

/** Whether visitors of `host`, or of all that a wildcard `host` stands for, may be shown it (RFC 9525, 6.3). */
export function covers({ names }: Pick<Leaf, 'names'>, host: string): boolean {
  const parent = host.slice(host.indexOf('.') + 1)
  return names.includes(host) || names.includes(`*.${parent}`)
}

function dnsNames({ subjectAltName = '' }: X509Certificate): string[] {
  return subjectAltName
    .split(', ')
    .filter((name) => name.startsWith('DNS:'))
    .map((name) => name.slice(4).toLowerCase())
}
