import { type ErrorCode, TunnelError } from '../errors.ts'

/** Why a dial failed, by the kernel's or the resolver's code; any other is `unreachable`. */
const DIAL_CODES: Readonly<Record<string, ErrorCode>> = {
  ECONNREFUSED: 'refused',
  ETIMEDOUT: 'timeout',
  // The client's own table of descriptors or ports is full.
  EMFILE: 'overloaded',
  ENFILE: 'overloaded',
  ENOBUFS: 'overloaded',
  EADDRNOTAVAIL: 'overloaded',
}

/**
 * A socket's error as ours: `refused`, `timeout`, `unreachable` or `overloaded` for one that never
 * connected, `reset` for one that did. One that is ours says by itself what it is.
 */
export function connectionError(cause: NodeJS.ErrnoException, connected: boolean): TunnelError {
  if (cause instanceof TunnelError) return cause
  const code = connected ? 'reset' : (DIAL_CODES[cause.code ?? ''] ?? 'unreachable')
  const what = connected ? 'the connection broke' : 'no connection'
  return new TunnelError(code, {
    scope: 'stream',
    remote: code !== 'overloaded',
    detail: `${what} (${cause.code ?? cause.message})`,
    cause,
  })
}
