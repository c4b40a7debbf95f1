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
  /** Lines to copy or to read: DNS records, foreign certificates. */
  details?: string[]
  /** What holds whatever was found, as what such a check proves: said once for all findings. */
  remarks?: string[]
}

/** Two findings of one key are about the same fact: said once. */
export function findingKey({ check, about, text }: Finding<string>): string {
  return `${check}\n${about}\n${text}`
}

/** The fact and what to do about it, for a log: records to copy do not stand there. */
export function sentenceOf({ about, text, advice, details = [] }: Finding<string>): string {
  const records = details.some((line) => line.includes(' IN CAA ')) ? ': `blindgate doctor` prints them' : ''
  return `${about}: ${text}${advice === undefined ? '' : `: ${advice}${records}`}`
}
