/**
 * The one error type of the project, and the table of its codes.
 *
 * A `code` is stable and is what code compares; a message is for people. Codes that travel on the wire
 * are listed with their meaning in docs/PROTOCOL.md, and a test holds the two together.
 */

/** Sent in `reject`. `final` ones end dialling that gateway; the others are retried. */
export const REJECT_CODES = {
  unknown_client: { final: true },
  revoked: { final: true },
  invite_invalid: { final: true },
  invite_used: { final: true },
  invite_expired: { final: true },
  unsupported_protocol: { final: true },
  protocol_error: { final: false },
  overloaded: { final: false },
  draining: { final: false },
} as const

/** Sent per service in `welcome`, `registered` and `withdrawn`. */
export const SERVICE_CODES = [
  'bad_service',
  'unsupported',
  'not_granted',
  'route_taken',
  'route_conflict',
  'port_in_use',
  'too_many_services',
] as const

/** Sent in `unreached`: no byte of the stream reached a target. */
export const UNREACHED_CODES = [
  'refused',
  'timeout',
  'unreachable',
  'overloaded',
  'draining',
  'unknown_service',
] as const

/** Never sent: what happened on this side. */
export const LOCAL_CODES = [
  'config_invalid',
  'state_invalid',
  'state_locked',
  'state_unwritable',
  'not_found',
  'usage',
  'address_in_use',
  'wrong_pin',
  'dial_failed',
  'handshake_failed',
  'handshake_timeout',
  'silent',
  'closed',
  'window_exceeded',
  'flood',
  'too_many_streams',
  'out_of_memory',
  'reset',
  'bad_message',
  'idle',
  'not_well',
  'acme_failed',
  'internal',
] as const

export type RejectCode = keyof typeof REJECT_CODES
export type ServiceCode = (typeof SERVICE_CODES)[number]
export type UnreachedCode = (typeof UNREACHED_CODES)[number]
export type ErrorCode = RejectCode | ServiceCode | UnreachedCode | (typeof LOCAL_CODES)[number]

/** True for a code of these tables: what another process of ours says is text until then. */
export function isErrorCode(code: string): code is ErrorCode {
  const tables: readonly (readonly string[])[] = [
    Object.keys(REJECT_CODES),
    SERVICE_CODES,
    UNREACHED_CODES,
    LOCAL_CODES,
  ]
  return tables.some((table) => table.includes(code))
}

/** What ends because of the error. */
export type Scope = 'visitor' | 'stream' | 'tunnel' | 'process'

export interface TunnelErrorOptions {
  scope: Scope
  /** True when the other side caused it. */
  remote?: boolean
  /** The sentence for people: the thing, the fact, and the way out. Never a secret. */
  detail: string
  cause?: unknown
}

export class TunnelError extends Error {
  readonly code: ErrorCode
  readonly scope: Scope
  readonly remote: boolean

  constructor(code: ErrorCode, options: TunnelErrorOptions) {
    super(options.detail, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'TunnelError'
    this.code = code
    this.scope = options.scope
    this.remote = options.remote ?? false
  }
}

/** An error for the person who typed the command or wrote the file: ends the process, is our side's, prints as is. */
export function userError(code: ErrorCode, detail: string, cause?: unknown): TunnelError {
  return new TunnelError(code, { scope: 'process', detail, ...(cause === undefined ? {} : { cause }) })
}
