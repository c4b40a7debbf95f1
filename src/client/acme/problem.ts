import { ACME_RETRY_AFTER_MS_MAX, ACME_SUBPROBLEMS } from '../../limits.ts'
import type { Millis } from '../../mux/index.ts'
import { printable } from '../../protocol/index.ts'
import { AcmeError, type Failing } from './acme-error.ts'

const PREFIX = 'urn:ietf:params:acme:error:'

/** RFC 8555, 6.7, and RFC 9773, 7.4. What is not in it goes by the status of the answer. */
const PROBLEMS: Readonly<Record<string, Failing>> = {
  rateLimited: 'limited',
  serverInternal: 'overloaded',
  caa: 'unproven',
  connection: 'unproven',
  dns: 'unproven',
  incorrectResponse: 'unproven',
  tls: 'unproven',
  unauthorized: 'unproven',
  externalAccountRequired: 'misconfigured',
  invalidContact: 'misconfigured',
  invalidProfile: 'misconfigured',
  rejectedIdentifier: 'misconfigured',
  unsupportedContact: 'misconfigured',
  unsupportedIdentifier: 'misconfigured',
  userActionRequired: 'misconfigured',
}

/** What a setting has to do with it, where the CA's own words may not say. */
const ADVICE: Readonly<Record<string, string>> = {
  externalAccountRequired: 'it wants an account that it knows: set eab_kid and eab_key_file under [acme]',
  invalidContact: 'check email under [acme]',
  unsupportedContact: 'check email under [acme]',
  invalidProfile: 'check profile under [acme]',
}

/** A problem document (RFC 9457), as far as a CA's is one. */
export interface Problem {
  type?: unknown
  detail?: unknown
  subproblems?: unknown
}

/** What a CA's refusal means. `what` is who refused what, as in `ca.example refused the order`. */
export function acmeProblem(
  what: string,
  { status, problem, retryAfterMs }: { status: number; problem: unknown; retryAfterMs?: Millis | undefined },
): AcmeError {
  const type = typeOf(problem)
  const failing = (type === undefined ? undefined : PROBLEMS[type]) ?? failingOf(status)
  const said = [...wordsOf(problem), ...(type === undefined ? [] : [ADVICE[type]])].filter(Boolean)
  const detail = said.length === 0 ? `status ${status}, and no word why` : said.join('; ')
  return new AcmeError(failing, `${what} (${type ?? status}): ${detail}`, {
    ...(type === undefined ? {} : { problem: type }),
    retryAfterMs,
  })
}

function failingOf(status: number): Failing {
  if (status === 429) return 'limited'
  if (status >= 500) return 'overloaded'
  return 'nonsense'
}

function typeOf(problem: unknown): string | undefined {
  const type = (problem as Problem | null | undefined)?.type
  if (typeof type !== 'string' || !type.startsWith(PREFIX)) return undefined
  return printable(type.slice(PREFIX.length), 40)
}

/** Its own words, and those of its parts: which host it is about stands there. */
function wordsOf(problem: unknown): string[] {
  const { detail, subproblems } = (problem ?? {}) as Problem
  const own = typeof detail === 'string' ? [printable(detail)] : []
  const parts = Array.isArray(subproblems) ? subproblems.slice(0, ACME_SUBPROBLEMS) : []
  return [
    ...own,
    ...parts.flatMap((part: unknown) => {
      const { detail, identifier } = (part ?? {}) as { detail?: unknown; identifier?: { value?: unknown } }
      if (typeof detail !== 'string') return []
      const name = identifier?.value
      return [typeof name === 'string' ? `${printable(name, 80)}: ${printable(detail)}` : printable(detail)]
    }),
  ]
}

/** RFC 9110, 10.2.3: seconds, or a date. Undefined for what is neither; 0 for a moment that has passed. */
export function retryAfter(value: string | undefined, now: Millis): Millis | undefined {
  if (value === undefined) return undefined
  const ms = /^[0-9]+$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - now
  if (Number.isNaN(ms)) return undefined
  return Math.min(Math.max(0, ms), ACME_RETRY_AFTER_MS_MAX)
}
