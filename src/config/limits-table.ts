import { z } from 'zod'
import { userError } from '../errors.ts'
import { HTTP_HEAD_BYTES_MAX, HTTP_HEAD_BYTES_MIN, HTTP_TIMEOUT_MS_MIN, TIMER_MS_MAX } from '../limits.ts'
import type { HttpLimits } from './gateway-settings.ts'
import { key, textAs } from './schema.ts'
import { parseBytes, parseDuration, quoted } from './units.ts'

const ANY = Number.MAX_SAFE_INTEGER

/** Whole numbers from 1, or "off" for any number, which is 0 from here on: to who writes 0 it would mean nobody. */
const count = z
  .preprocess((value) => (value === 'off' ? ANY : value), atLeast(1, ', or "off" for any number'))
  .transform((number) => (number === ANY ? 0 : number))

const size = textAs((text) => (text === 'off' ? 0 : parseBytes(text)))

const timeout = textAs((text) => {
  const ms = parseDuration(text)
  if (ms >= HTTP_TIMEOUT_MS_MIN) return Math.min(ms, TIMER_MS_MAX)
  throw userError(
    'config_invalid',
    `${quoted(text)} is too short for any visitor: give ${HTTP_TIMEOUT_MS_MIN}ms or more`,
  )
})

/** What `[limits]` says for every http route, and `[route."…"]` for one. */
export const limitsTable = z.strictObject({
  connections: key(
    count,
    'Connections of one address (IPv6: /64) at once on a route; "off", as when left out, for any number.',
    '64',
  ),
  requests: key(
    count,
    'Requests per second of one address (IPv6: /64) on a route; "off", as when left out, for any number.',
    '20',
  ),
  burst: key(
    atLeast(1),
    'Requests of one address at once, before `requests` per second counts; twice `requests` when left out.',
    '40',
  ),
  total_connections: key(
    count,
    'Connections of all addresses together at once on a route; "off", as when left out, for any number.',
    '1000',
  ),
  total_requests: key(
    count,
    'Requests per second of all addresses together on a route; "off", as when left out, for any number.',
    '500',
  ),
  total_burst: key(
    atLeast(1),
    'Requests of all addresses at once, before `total_requests` per second counts; twice that when left out.',
    '1000',
  ),
  head: key(
    textAs(parseHead),
    "A request's head at most: its line and headers. From 1KiB to 256KiB; 32KiB when left out.",
    '"32KiB"',
  ),
  body: key(size, 'A request\'s body at most; "off", as when left out, for any size.', '"10MiB"'),
  head_timeout: key(
    timeout,
    "From the first byte of a request's head to its last; 10s when left out.",
    '"10s"',
  ),
  idle_timeout: key(
    timeout,
    "How long a visitor's connection stays between two requests; 75s when left out.",
    '"75s"',
  ),
  response_timeout: key(
    timeout,
    'From the last byte of a request to the first of its answer; 2m when left out.',
    '"2m"',
  ),
  stall_timeout: key(
    timeout,
    'How long bytes wait for a visitor or a service that takes none; 1m when left out.',
    '"1m"',
  ),
  body_rate: key(
    size,
    'The least that a body of a request may come with, per second; "off" for any. 256B when left out.',
    '"256B"',
  ),
})

export type LimitsTable = z.infer<typeof limitsTable>

/** What a table says, and only that. */
export function limitsSaid(table: LimitsTable): Partial<HttpLimits> {
  const said: Partial<Record<keyof HttpLimits, number | undefined>> = {
    connections: table.connections,
    requests: table.requests,
    requestBurst: table.burst,
    routeConnections: table.total_connections,
    routeRequests: table.total_requests,
    routeRequestBurst: table.total_burst,
    headBytes: table.head,
    bodyBytes: table.body,
    headMs: table.head_timeout,
    idleMs: table.idle_timeout,
    responseMs: table.response_timeout,
    stallMs: table.stall_timeout,
    bodyRate: table.body_rate,
  }
  return Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined))
}

/**
 * Gives each number of requests that has no burst one of twice its size. `general` is what `[limits]` says, for
 * the table of one route: a burst that stands there is meant for it too.
 */
export function withBursts(
  said: Partial<HttpLimits>,
  general: Partial<HttpLimits> = {},
): Partial<HttpLimits> {
  const { requestBurst = general.requestBurst, routeRequestBurst = general.routeRequestBurst } = said
  return {
    ...said,
    ...(said.requests === undefined || requestBurst !== undefined ? {} : { requestBurst: 2 * said.requests }),
    ...(said.routeRequests === undefined || routeRequestBurst !== undefined
      ? {}
      : { routeRequestBurst: 2 * said.routeRequests }),
  }
}

function atLeast(least: number, or = '') {
  return z.int().superRefine((number, context) => {
    if (number >= least) return
    context.addIssue({
      code: 'custom',
      message: `${number} is too few: write a whole number from ${least}${or}`,
    })
  })
}

function parseHead(text: string): number {
  const bytes = parseBytes(text)
  if (bytes >= HTTP_HEAD_BYTES_MIN && bytes <= HTTP_HEAD_BYTES_MAX) return bytes
  throw userError(
    'config_invalid',
    `${quoted(text)}: give a head from ${HTTP_HEAD_BYTES_MIN / 1024}KiB to ${HTTP_HEAD_BYTES_MAX / 1024}KiB`,
  )
}
