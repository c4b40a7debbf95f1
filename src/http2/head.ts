import { bad, HeadReader, HttpFault, RequestHead } from '../http1/index.ts'

/** A request as it came by HTTP/2. */
export interface Asking {
  readonly head: RequestHead
  /** `te: trailers`, which says nothing to an HTTP/1.1 target, and to a gRPC one that its caller is a real one. */
  readonly trailers: boolean
}

/**
 * What a request's fields say, held to the rules of HTTP/1.1 as well: it is written as HTTP/1.1 and read again by the
 * one reader that judges all requests. So no target is told by way of HTTP/2 what it would not be told otherwise.
 *
 * `raw` has names and values in turn, as they came; `ended`: no body follows; `last` spares the work for a host
 * that is the same again. Throws an `HttpFault`.
 */
export function readRequest(
  raw: readonly string[],
  ended: boolean,
  maxBytes: number,
  last?: { hostText: string; host: string },
): Asking {
  let method: string | undefined
  let path: string | undefined
  let scheme: string | undefined
  let authority: string | undefined
  let host: string | undefined
  let cookie: string | undefined
  let trailers = false
  let sized = false
  let lines = ''
  let count = 0
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] as string
    const value = raw[at + 1] as string
    switch (name) {
      case ':method':
        method = once(method, value)
        continue
      case ':path':
        path = once(path, value)
        continue
      case ':scheme':
        scheme = once(scheme, value)
        continue
      case ':authority':
        authority = once(authority, value)
        continue
      case 'host':
        host = once(host, value)
        continue
      case 'cookie':
        // In crumbs, so that they compress (RFC 9113, 8.2.3); elsewhere there is one field of them.
        cookie = cookie === undefined ? value : `${cookie}; ${value}`
        continue
      case 'te':
        if (value.toLowerCase() !== 'trailers') throw bad('a te other than trailers')
        trailers = true
        continue
      case 'content-length':
        sized = true
        break
      default:
        if (!NAME.test(name)) throw bad('a field name that HTTP/2 does not have')
        if (OF_CONNECTION.has(name)) throw bad('a field of an HTTP/1.1 connection')
    }
    lines += `${name}: ${value}\r\n`
    count++
  }
  if (method === 'CONNECT') throw new HttpFault(501, 'CONNECT: this is no forward proxy')
  if (method === undefined || path === undefined || scheme === undefined)
    throw bad('a request without a method, a path or a scheme')
  // Of what is not reached by TLS this connection says nothing.
  if (scheme.toLowerCase() !== 'https') throw new HttpFault(421, 'a scheme other than https')
  if (!path.startsWith('/') && path !== '*') throw bad('a path that does not begin with a slash')
  if (authority === undefined) authority = host
  else if (host !== undefined && host.toLowerCase() !== authority.toLowerCase())
    throw bad('a Host field that is not the authority')
  if (cookie !== undefined) {
    lines += `cookie: ${cookie}\r\n`
    count++
  }
  const chunked = !ended && !sized
  const text =
    `${method} ${path} HTTP/1.1\r\n` +
    `${authority === undefined ? '' : `host: ${authority}\r\n`}${lines}` +
    `${chunked ? 'transfer-encoding: chunked\r\n' : ''}\r\n`
  const bytes = Buffer.from(text, 'latin1')
  const reader = new HeadReader()
  const found = reader.push(bytes, 0, maxBytes)
  // A line break in a value would have made two fields of one, or an end before the end.
  const fields = count + (authority === undefined ? 0 : 1) + (chunked ? 1 : 0)
  if (found === undefined || reader.next !== bytes.length || reader.scanner.count !== fields)
    throw bad('a field with a line break')
  const head = new RequestHead(found, reader.scanner, last)
  if (head.method !== method || head.targetEnd - head.targetStart !== path.length)
    throw bad('a method or a path that is not one')
  if (head.hostText !== authority) throw bad('an authority with a blank around it')
  if (ended && head.framing !== 'none') throw bad('a body that is shorter than it said')
  return { head, trailers }
}

const NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/

/** RFC 9113, 8.2.2. */
const OF_CONNECTION: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
])

function once(before: string | undefined, value: string): string {
  if (before !== undefined) throw bad('a field twice that may stand once')
  return value
}
