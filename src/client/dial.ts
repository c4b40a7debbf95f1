import { connect, type Socket } from 'node:net'
import type { Target } from '../config/index.ts'
import { socketOptions } from '../net/index.ts'

/** A connection to a target that is being made; the caller owns it. */
export function dialTarget(target: Target): Socket {
  return target.kind === 'unix'
    ? connect({ path: target.path, allowHalfOpen: true })
    : connect({ host: target.host, port: target.port, ...socketOptions })
}
