import { posix } from 'node:path'
import { TunnelError, userError } from '../errors.ts'
import { SOCKET_PATH_BYTES } from '../limits.ts'
import type { ServiceType } from '../protocol/index.ts'
import { formatAddress, parseAddress } from './address.ts'
import { quoted } from './units.ts'

/**
 * The private server. `text` is how it is shown: `127.0.0.1:8080`, `[::1]:80`, `unix:/run/app.sock`, `https://nas.lan:443`.
 * `speaks`: more than bytes as they come: TLS around them, or HTTP/2 without TLS.
 */
export type Target =
  | { kind: 'tcp'; host: string; port: number; speaks?: 'https' | 'h2c' | undefined; text: string }
  | { kind: 'unix'; path: string; speaks?: undefined; text: string }

const UNIX = 'unix:'
const SCHEME = /^(https|h2c):\/\//

/** `8080` (on 127.0.0.1), `host:port`, `[::1]:80`, `unix:/path`, `https://` or `h2c://` before the first three. Throws `config_invalid`. */
export function parseTarget(text: string): Target {
  if (text.startsWith(UNIX)) return unixTarget(text)
  const speaks = SCHEME.exec(text)?.[1] as 'https' | 'h2c' | undefined
  const { host = '127.0.0.1', port } = addressOf(speaks === undefined ? text : withPort(text, speaks))
  if (port === 0) throw noPort(text, port)
  const address = formatAddress({ host, port })
  if (speaks === undefined) return { kind: 'tcp', host, port, text: address }
  return { kind: 'tcp', host, port, speaks, text: `${speaks}://${address}` }
}

/**
 * The name of a service that was given none: TYPE-PORT of its target, or the base name of its socket without
 * the ending, in the letters of a DNS label. undefined when the base name has none of them.
 */
export function serviceNameOf(type: ServiceType, target: Target): string | undefined {
  if (target.kind === 'tcp') return `${type}-${target.port}`
  const base = posix.basename(target.path).replace(/\.[^.]*$/, '')
  const label = base
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 63)
    .replace(/^-+|-+$/g, '')
  return label === '' ? undefined : label
}

/** What stands behind the scheme; of https the port may be left out, as everywhere. */
function withPort(text: string, speaks: 'https' | 'h2c'): string {
  const rest = text.slice(speaks.length + 3).replace(/\/$/, '')
  return speaks === 'https' && !/:\d+$|^\d+$/.test(rest) ? `${rest}:443` : rest
}

function unixTarget(text: string): Target {
  const path = text.slice(UNIX.length)
  if (!path.startsWith('/') || path.includes('\0')) {
    throw userError(
      'config_invalid',
      `target ${quoted(text)}: write the whole path, as in unix:/run/app.sock`,
    )
  }
  // Node 20 would cut it without a word and dial another path.
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES) {
    throw userError(
      'config_invalid',
      `target ${quoted(text)}: its path is longer than the ${SOCKET_PATH_BYTES} bytes of a socket: give the socket a shorter one`,
    )
  }
  return { kind: 'unix', path, text }
}

function noPort(text: string, port: number): TunnelError {
  return userError(
    'config_invalid',
    `target ${quoted(text)}: there is no port ${port}: give one from 1 to 65535`,
  )
}

function addressOf(text: string) {
  const port = Number(/(?:^|:)([0-9]{1,15})$/.exec(text)?.[1] ?? 0)
  if (port > 65_535) throw noPort(text, port)
  try {
    return parseAddress(text)
  } catch (error) {
    if (!(error instanceof TunnelError) || text.includes('://')) throw error
    throw userError(
      'config_invalid',
      `${quoted(text)} is not a target: write a port, host:port, [IPv6]:port, unix:/path, https://host:port or h2c://host:port`,
    )
  }
}
