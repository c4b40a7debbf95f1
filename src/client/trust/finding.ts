/** What was looked at. */
export type TrustCheck = 'caa' | 'dnssec' | 'ct' | 'probe'

/**
 * What a check came to. `warn` is also what could not be found out: it is never `ok`. All text is safe to print.
 */
export interface Finding<Check extends string = TrustCheck> {
  check: Check
  /** The host, gateway or service that it is about. */
  about: string
  level: 'ok' | 'warn' | 'fail'
  /** Somebody did this: no setting of ours explains it. Its level is `fail`. */
  alarm?: true
  /** The fact. */
  text: string
  /** What to do about it. */
  advice?: string
  /** Lines to copy or to read: DNS records, foreign certificates, what remains possible. */
  details?: string[]
}

/** Two findings of one key are about the same fact: said once. */
export function findingKey({ check, about, text }: Finding<string>): string {
  return `${check}\n${about}\n${text}`
}
