import {
  ACME_LATEST_RENEWAL,
  ACME_RENEWAL_JITTER,
  ACME_RENEWAL_SHARE,
  ACME_SHORT_LIFETIME_MS,
  ACME_SHORT_RENEWAL_SHARE,
} from '../../limits.ts'
import type { Millis } from '../../mux/index.ts'

/** From when to when a CA would like a certificate to be renewed (RFC 9773, 4.2). */
export interface RenewalWindow {
  start: Millis
  end: Millis
}

export interface Lifetime {
  notBefore: Millis
  notAfter: Millis
}

/**
 * When a certificate is to be renewed. `lot` (0 ≤ x < 1) is drawn once for each certificate: drawn at each look, the
 * earliest of many would win, and all certificates of a CA would be renewed at the start of its window.
 *
 * A window is a wish: past nine tenths of a lifetime nobody waits for it, since a certificate that has run out serves nobody.
 */
export function renewAt({ notBefore, notAfter }: Lifetime, lot: number, window?: RenewalWindow): Millis {
  const lifetime = Math.max(0, notAfter - notBefore)
  const latest = notBefore + lifetime * ACME_LATEST_RENEWAL
  if (window !== undefined) {
    return Math.min(latest, window.start + Math.max(0, window.end - window.start) * lot)
  }
  const share = lifetime < ACME_SHORT_LIFETIME_MS ? ACME_SHORT_RENEWAL_SHARE : ACME_RENEWAL_SHARE
  return notBefore + lifetime * (share - ACME_RENEWAL_JITTER * lot)
}
