/**
 * The path of a request target as routes are compared with it: without the query, escapes of unreserved characters
 * decoded (RFC 3986, 6.2.2.2). Undefined for one that servers are known to read in different ways, and
 * that could lead past a route's path: dot segments, `//`, `\`, and escaped `/`, `\` or NUL. Also for a broken escape.
 *
 * The target itself is passed on as it came.
 */
export function routingPath(target: string): string | undefined {
  const query = target.indexOf('?')
  const raw = query < 0 ? target : target.slice(0, query)
  if (raw === '*') return '/'
  if (!raw.startsWith('/')) return undefined
  const path = raw.includes('%') ? decodeUnreserved(raw) : raw
  if (path === undefined || path.includes('\\') || path.includes('//')) return undefined
  return DOT_SEGMENT.test(path) ? undefined : path
}

/** Also with a parameter behind the dots, which some servers take off first. */
const DOT_SEGMENT = /\/\.{1,2}(?:[/;]|%3b|$)/i
const UNRESERVED = /[A-Za-z0-9._~-]/

function decodeUnreserved(raw: string): string | undefined {
  let broken = false
  const path = raw.replaceAll(/%(.{0,2})/gs, (escape, digits: string) => {
    if (!/^[0-9a-f]{2}$/i.test(digits)) broken = true
    const character = String.fromCharCode(Number.parseInt(digits, 16))
    if (character === '/' || character === '\\' || character === '\0') broken = true
    return UNRESERVED.test(character) ? character : escape
  })
  return broken ? undefined : path
}

/**
 * What is left of an origin-form target when `prefix`, the path of its route, is taken off: it begins with exactly
 * one `/`, so that no target takes it for another host's (`//evil.example/`). The query stays.
 */
export function stripPath(target: string, prefix: string): string {
  if (prefix === '/') return target
  // The prefix may have been written with escapes, so it ends where as many segments of the target end.
  let end = 0
  const { length } = prefix.replace(/\/+$/, '').split('/')
  for (let segments = length - 1; segments > 0; segments--) {
    const next = target.slice(end + 1).search(/[/?]/)
    end = next < 0 ? target.length : end + 1 + next
  }
  return `/${target.slice(end).replace(/^\/+/, '')}`
}
