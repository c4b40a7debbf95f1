import { readFileSync } from 'node:fs'
import type { ServerOpts } from 'node:net'
import { HELD_BYTES, RESERVED_DESCRIPTORS, TCP_KEEPALIVE_MS } from '../limits.ts'

/** Options of every TCP socket that carries a visitor's bytes, for `net.connect`. */
export const socketOptions = {
  allowHalfOpen: true,
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: TCP_KEEPALIVE_MS,
} as const

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

/** What is left of `limit` for visitors and targets; a fifth at least, where the limit is so low that the reserve would take all. */
export function descriptorsForVisitors(limit: number | undefined = descriptorLimit()): number {
  if (limit === undefined) return Number.POSITIVE_INFINITY
  return Math.max(limit - RESERVED_DESCRIPTORS, Math.floor(limit / 5))
}
