import { userError } from '../errors.ts'
import { parseHostPattern } from './patterns.ts'
import { quoted } from './units.ts'

/** Segments of characters that mean themselves, without a slash at the end. */
const PATH = /^\/$|^(?:\/[\w.~!$&'()*+,;=:@-]+)+$/

/**
 * A route of http visitors in the one spelling that `status` has: `default`, `default/api`, `app.example.com/`,
 * `*.example.com/api`. A host alone is all of it. Throws `config_invalid`.
 */
export function parseHttpRoute(text: string): string {
  const slash = text.indexOf('/')
  const host = slash < 0 ? text : text.slice(0, slash)
  const path = slash < 0 ? '/' : text.slice(slash)
  if (!PATH.test(path) || /\/\.\.?(?:\/|$)/.test(path)) {
    throw userError(
      'config_invalid',
      `${quoted(text)} is not a route: write it as status does, "app.example.com/api" or "default"`,
    )
  }
  if (host === 'default') return path === '/' ? host : `${host}${path}`
  if (host === '*') {
    throw userError(
      'config_invalid',
      `${quoted(text)} is not a route: what no other host has is the route "default"`,
    )
  }
  return `${parseHostPattern(host)}${path}`
}
