import { readFileSync } from 'node:fs'
import type { ServerOpts } from 'node:net'
import { HELD_BYTES, KEPT_DESCRIPTORS, RESERVED_DESCRIPTORS } from '../limits.ts'

/**
 * Options of every TCP socket that carries a visitor's bytes, for `net.connect`. TCP's keepalive is not among them: whoever
 * has a socket that lasts asks for it then, which spares a short visit four calls of the system on each side.
 */
export const socketOptions = { allowHalfOpen: true, noDelay: true } as const

/**
 * The same for `net.createServer`. The mark makes a paused socket stop after one read on every Node line
 * (the newer ones would read on to 64 KiB); writes do not go by it.
 */
export const visitorServerOptions: ServerOpts = { ...socketOptions, highWaterMark: HELD_BYTES }

/** How many files and sockets this process may have open: the soft RLIMIT_NOFILE; undefined where nobody tells. */
export function descriptorLimit(): number | undefined {
  let limits: string
  try {
    limits = readFileSync('/proc/self/limits', 'utf8')
  } catch {
    return undefined
  }
  const soft = /^Max open files\s+(\d+|unlimited)/m.exec(limits)?.[1]
  return soft === undefined || soft === 'unlimited' ? undefined : Number(soft)
}

/**
 * How a gateway deals out its descriptors, so that no kind of connection can take those of another: an eighth each
 * for tunnels, for those who have not logged in and for visitors' ports, the rest for visitors. What is left over
 * (state, admin port, local commands) nobody gets.
 */
export function gatewayDescriptors(limit: number = descriptorLimit() ?? Number.POSITIVE_INFINITY): {
  visitors: number
  tunnels: number
  unauthenticated: number
  ports: number
} {
  const rest = Math.max(0, limit - KEPT_DESCRIPTORS)
  const eighth = Math.max(1, Math.floor(rest / 8))
  return { visitors: Math.max(1, rest - 3 * eighth), tunnels: eighth, unauthenticated: eighth, ports: eighth }
}

/** What is left of `limit` for visitors and targets; a fifth at least, where the limit is so low that the reserve would take all. */
export function descriptorsForVisitors(limit: number | undefined = descriptorLimit()): number {
  if (limit === undefined) return Number.POSITIVE_INFINITY
  return Math.max(limit - RESERVED_DESCRIPTORS, Math.floor(limit / 5))
}
