import type { UnreachedCode } from '../errors.ts'
import type { HttpFault } from '../http1/index.ts'

/** Why there is no answer from a target: stable codes, for pages, logs and counters. */
export type Problem = keyof typeof PAGES

const SERVER = 'the server behind this address'

/**
 * By code, and never in a peer's words: a page must not tell what lies behind NAT. Status codes as RFC 9110, section
 * 15, and RFC 6585 have them.
 */
export const PAGES = {
  moved: { status: 308, text: 'this address is reached by https' },
  bad_request: { status: 400, text: 'this is not a proper HTTP request' },
  no_route: { status: 404, text: 'there is nothing at this address' },
  head_timeout: { status: 408, text: 'the request took too long to arrive' },
  body_timeout: { status: 408, text: "the request's body came too slowly" },
  body_too_large: { status: 413, text: "the request's body is larger than is allowed here" },
  target_too_long: { status: 414, text: 'the address asked for is too long' },
  bad_expectation: { status: 417, text: 'the request expects something that is not done here' },
  misdirected: { status: 421, text: 'this connection is not for the address asked for' },
  too_many_requests: { status: 429, text: 'there are too many requests to this address' },
  too_many_connections: { status: 429, text: 'there are too many connections to this address' },
  head_too_large: { status: 431, text: "the request's header fields are too large" },
  not_implemented: { status: 501, text: 'this is not done here' },
  bad_version: { status: 505, text: 'only HTTP/1.0 and HTTP/1.1 are spoken here' },

  refused: { status: 502, text: `${SERVER} refused the connection` },
  unreachable: { status: 502, text: `${SERVER} cannot be reached` },
  unknown_service: { status: 502, text: `${SERVER} does not offer this` },
  no_answer: { status: 502, text: `${SERVER} closed the connection without an answer` },
  lost: { status: 502, text: `the connection to ${SERVER} was lost` },
  bad_response: { status: 502, text: `${SERVER} gave an answer that is not proper HTTP` },

  absent: { status: 503, text: `${SERVER} is not connected` },
  busy: { status: 503, text: 'the gateway has too many visitors' },
  draining: { status: 503, text: `${SERVER} is restarting` },
  overloaded: { status: 503, text: `${SERVER} has too many visitors` },

  timeout: { status: 504, text: `${SERVER} did not answer` },
  response_timeout: { status: 504, text: `${SERVER} took too long to answer` },
} as const satisfies Record<string, { status: number; text: string }> & Record<UnreachedCode, unknown>

/** Seconds to wait that a 503 asks for, if nothing better is known: a client that restarts is back by then. */
const RETRY_AFTER = 5

const BY_STATUS: ReadonlyMap<number, Problem> = new Map([
  [413, 'body_too_large'],
  [414, 'target_too_long'],
  [417, 'bad_expectation'],
  [421, 'misdirected'],
  [431, 'head_too_large'],
  [501, 'not_implemented'],
  [505, 'bad_version'],
])

/** What a request that is no proper one is answered with. */
export function problemOf({ status }: HttpFault): Problem {
  return BY_STATUS.get(status) ?? 'bad_request'
}

export interface PageOptions {
  problem: Problem
  requestId: string
  /** In words of ours. */
  detail?: string | undefined
  /** Of the request: JSON where it asks for that, else HTML. */
  accept: string | undefined
  retryAfter?: number | undefined
  location?: string | undefined
}

const REASONS: Readonly<Record<number, string>> = {
  308: 'Permanent Redirect',
  400: 'Bad Request',
  404: 'Not Found',
  408: 'Request Timeout',
  413: 'Content Too Large',
  414: 'URI Too Long',
  417: 'Expectation Failed',
  421: 'Misdirected Request',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
  505: 'HTTP Version Not Supported',
}

/** An answer that says why there is no other, in no version's spelling. */
export interface Page {
  readonly status: number
  /** Names as HTTP/1.1 spells them, and values: those that say no more than the answer itself. */
  readonly fields: readonly (readonly [name: string, value: string])[]
  /** Also for HEAD, whose answer leaves it out. */
  readonly body: Buffer
}

export function pageOf(options: PageOptions): Page {
  const { problem, requestId } = options
  const { status, text } = PAGES[problem]
  const reason = REASONS[status] ?? ''
  const message = options.detail === undefined ? text : `${text}: ${options.detail}`
  const json = wantsJson(options.accept)
  const body = Buffer.from(
    json
      ? `${JSON.stringify({ error: { status, code: problem, message, requestId } })}\n`
      : `<!doctype html>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n` +
          `<title>${status} ${reason}</title>\n<style>body{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:36em;padding:0 1em}</style>\n` +
          `<h1>${status} ${reason}</h1>\n<p>${escaped(message)}.\n<p><small>${problem}, request ${escaped(requestId)}</small>\n`,
  )
  const retryAfter = options.retryAfter ?? (status === 503 ? RETRY_AFTER : undefined)
  const fields: [string, string][] = [
    ['Content-Type', json ? 'application/json' : 'text/html; charset=utf-8'],
    ['Content-Length', String(body.length)],
    ['Date', new Date().toUTCString()],
  ]
  if (retryAfter !== undefined) fields.push(['Retry-After', String(retryAfter)])
  if (options.location !== undefined) fields.push(['Location', options.location])
  fields.push(['Cache-Control', 'no-store'], ['X-Request-Id', requestId])
  return { status, fields, body }
}

/** The same as HTTP/1.1 bytes. `head`: the answer to HEAD, which has no body. */
export function page(options: PageOptions & { head: boolean; close: boolean }): Buffer {
  const { status, fields, body } = pageOf(options)
  const head =
    `HTTP/1.1 ${status} ${REASONS[status] ?? ''}\r\n` +
    fields.map(([name, value]) => `${name}: ${value}\r\n`).join('') +
    `${options.close ? 'Connection: close\r\n' : ''}\r\n`
  return options.head ? Buffer.from(head, 'latin1') : Buffer.concat([Buffer.from(head, 'latin1'), body])
}

/** JSON is named before HTML, or instead of it. */
function wantsJson(accept: string | undefined): boolean {
  if (accept === undefined) return false
  const json = accept.search(/application\/(?:[a-z.-]+\+)?json/i)
  const html = accept.search(/text\/html/i)
  return json >= 0 && (html < 0 || json < html)
}

function escaped(text: string): string {
  return text.replaceAll(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
