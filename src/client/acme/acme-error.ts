import { TunnelError } from '../../errors.ts'
import type { Millis } from '../../mux/index.ts'

/**
 * What kind of failure an order met, which says how soon it is tried again.
 *
 * - `unreachable`: no answer, or from somebody who is not proved to be the CA
 * - `overloaded`: the CA has troubles of its own
 * - `limited`: too much was asked of it, by its own count
 * - `unproven`: it did not see the proof that a host is ours, or DNS forbids it to issue
 * - `misconfigured`: it will not be otherwise until somebody changes a setting
 * - `nonsense`: it breaks the protocol
 * - `local`: of this side: disk, hook, name server, gateway, our own bounds
 */
export type Failing =
  | 'unreachable'
  | 'overloaded'
  | 'limited'
  | 'unproven'
  | 'misconfigured'
  | 'nonsense'
  | 'local'

/** Why there is no new certificate: a sentence without an end mark, text of others in it made printable. */
export class AcmeError extends TunnelError {
  readonly failing: Failing
  /** The last part of the problem's type (RFC 8555, 6.7), where the CA gave one. */
  readonly problem: string | undefined
  /** How long the CA asks to be left alone. Bounded. */
  readonly retryAfterMs: Millis | undefined

  constructor(
    failing: Failing,
    detail: string,
    {
      problem,
      retryAfterMs,
      cause,
    }: { problem?: string; retryAfterMs?: Millis | undefined; cause?: unknown } = {},
  ) {
    super('acme_failed', { scope: 'process', remote: failing !== 'local', detail, cause })
    this.name = 'AcmeError'
    this.failing = failing
    this.problem = problem
    this.retryAfterMs = retryAfterMs
  }
}
