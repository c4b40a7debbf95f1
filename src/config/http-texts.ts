/** What an http service says of requests: hosts, paths, and headers for its target. */
import { isIPv6 } from 'node:net'
import { TunnelError, userError } from '../errors.ts'
import { CONTROL_TEXT_CHARACTERS, HOSTS_PER_SERVICE, REWRITE_VALUE_CHARACTERS } from '../limits.ts'
import { parseBareHost, parseRemote } from './address.ts'
import { parseHostPattern } from './patterns.ts'
import { quoted } from './units.ts'

/** Host patterns of one service, each once. Throws `config_invalid`. */
export function parseHosts(texts: readonly string[]): string[] {
  if (texts.length === 0) {
    throw userError('config_invalid', 'an empty list names no host: write one, or leave host out')
  }
  if (texts.length > HOSTS_PER_SERVICE) {
    throw userError(
      'config_invalid',
      `${texts.length} hosts are too many for one service: split it, ${HOSTS_PER_SERVICE} each`,
    )
  }
  return [...new Set(texts.map(parseHostPattern))]
}

/** RFC 3986, 3.3, without escapes: what a path is must not depend on who decodes it. */
const PATH = /^\/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*$/
const QUERY = /^(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*$/

/** First match wins. */
const PATH_MISTAKES: readonly (readonly [RegExp, string])[] = [
  [/^[a-z]+:\/\//i, 'is a URL: write only its path, as in "/api"'],
  [/^(?!\/)/, 'does not begin with a slash: put one before it'],
  [/[?#]/, 'has a query or a fragment: visitors are told apart by paths alone, leave it out'],
  [/%/, 'has an escape: write the character itself, or choose another path'],
  [/\\/, 'has a backslash: write "/"'],
  [/\/\//, 'has an empty part: write one slash'],
  [/(?:^|\/)\.{1,2}(?:\/|$)/, 'has a "." or ".." in it: write where that leads'],
]

/** A path that visitors' paths begin with, without a slash at its end unless it is all. Throws `config_invalid`. */
export function parsePath(text: string): string {
  checkPath(text, text)
  return text.length > 1 && text.endsWith('/') ? text.slice(0, -1) : text
}

/** A path at the target, a query allowed. Throws `config_invalid`. */
export function parseHealthPath(text: string): string {
  const [path = '', ...rest] = text.split('?')
  checkPath(path, text)
  if (!QUERY.test(rest.join('?'))) {
    throw userError(
      'config_invalid',
      `${quoted(text)} has a character in its query that a URL has not: escape it with %`,
    )
  }
  return text
}

function checkPath(path: string, text: string): void {
  const mistake = PATH_MISTAKES.find(([pattern]) => pattern.test(path))?.[1]
  if (mistake !== undefined) throw userError('config_invalid', `${quoted(text)} ${mistake}`)
  if (!PATH.test(path)) {
    throw userError(
      'config_invalid',
      `${quoted(text)} has a character that a path has not: use letters, digits and -._~!$&'()*+,;=:@`,
    )
  }
  if (text.length > CONTROL_TEXT_CHARACTERS) {
    throw userError(
      'config_invalid',
      `${quoted(text)} is too long: a path has ${CONTROL_TEXT_CHARACTERS} characters at most`,
    )
  }
}

/** What a target wants in Host: a host, with a port if it asks for one; IPv6 in brackets. Throws `config_invalid`. */
export function parseHostHeader(text: string): string {
  try {
    if (isIPv6(text)) return `[${text}]`
    // With a port it is an address; a Host that ends in digits otherwise is a host, or a mistake.
    if (/[^:]:[0-9]+$|\]:[0-9]+$/.test(text)) parseRemote(text)
    else parseBareHost(text)
    return text
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error
    throw userError(
      'config_invalid',
      `${quoted(text)} is not a host: write "intern.local" or "intern.local:8080"`,
    )
  }
}

/** RFC 9110, 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
/** They frame a message, route it, or are the gateway's to set. */
const RESERVED =
  /^(?:host|content-length|transfer-encoding|connection|keep-alive|proxy-connection|te|trailer|upgrade|expect|forwarded|x-forwarded-.*|x-real-ip|x-request-id)$/

/** The name of a header that is added to requests, as it stands. Throws `config_invalid`. */
export function parseHeaderName(text: string): string {
  if (!TOKEN.test(text) || text.length > CONTROL_TEXT_CHARACTERS) {
    throw userError(
      'config_invalid',
      `${quoted(text)} is not the name of a header: use letters, digits and -, as in "X-From"`,
    )
  }
  // Many a server takes one for the other.
  const name = text.toLowerCase().replaceAll('_', '-')
  if (name === 'host')
    throw userError('config_invalid', `${quoted(text)} has a key of its own: write host_header`)
  if (RESERVED.test(name)) {
    throw userError(
      'config_invalid',
      `${quoted(text)} is set by the gateway, or holds the request together: leave it out`,
    )
  }
  return text
}

/** Throws `config_invalid`. */
export function parseHeaderValue(text: string): string {
  // oxlint-disable-next-line no-control-regex -- finding control characters is what this is for
  if (/[\u0000-\u001f\u007f-\u009f]|[^\u0000-\u00ff]/.test(text)) {
    throw userError(
      'config_invalid',
      `${quoted(text)} has a character that no header can carry: use printable Latin-1 ones`,
    )
  }
  if (text.trim() !== text) {
    throw userError('config_invalid', `${quoted(text)} has a space at its end or beginning: leave it out`)
  }
  if (text.length > REWRITE_VALUE_CHARACTERS) {
    throw userError(
      'config_invalid',
      `${quoted(text)} is too long: a value has ${REWRITE_VALUE_CHARACTERS} characters at most`,
    )
  }
  return text
}
