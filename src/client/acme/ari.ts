import { ACME_ARI_MS, ACME_ARI_MS_MAX, ACME_ARI_MS_MIN } from '../../limits.ts'
import type { Millis } from '../../mux/index.ts'
import type { Ca } from './ca.ts'
import { renewalInfo } from './messages.ts'
import type { RenewalWindow } from './renewal.ts'

/** What a CA would like, and when to ask it again. */
export interface Advice {
  /** Undefined where the CA has no opinion. */
  window: RenewalWindow | undefined
  askAfterMs: Millis
  /** Why it would like that, a page for people. */
  explanation: string | undefined
}

/** Asks a CA when a certificate of its is to be renewed (RFC 9773, 4). Rejects with an AcmeError. */
export async function adviceFor(ca: Ca, renewalId: string): Promise<Advice> {
  const { renewalInfo: url } = await ca.directory()
  if (url === undefined) return { window: undefined, askAfterMs: ACME_ARI_MS_MAX, explanation: undefined }
  const reply = await ca.get(`${url.replace(/\/$/, '')}/${renewalId}`, 'its renewal information')
  const { suggestedWindow, explanationURL } = ca.read(renewalInfo, reply, 'its renewal information')
  const [start, end] = [Date.parse(suggestedWindow.start), Date.parse(suggestedWindow.end)]
  // RFC 9773, 4.2: one that ends before it begins is none.
  const window = Number.isFinite(start) && end >= start ? { start, end } : undefined
  return { window, askAfterMs: boundedAsk(reply.retryAfterMs), explanation: explanationURL }
}

/** RFC 9773, 4.3.2: a minute at least, a day at most. */
function boundedAsk(retryAfterMs: Millis = ACME_ARI_MS): Millis {
  return Math.min(Math.max(ACME_ARI_MS_MIN, retryAfterMs), ACME_ARI_MS_MAX)
}
