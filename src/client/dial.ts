import { connect, isIP, type Socket } from 'node:net'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import type { ServiceSettings } from '../config/index.ts'
import { TunnelError } from '../errors.ts'
import { pinOf, samePin } from '../identity/index.ts'
import { connectSocket, socketOptions } from '../net/index.ts'
import { printable } from '../protocol/index.ts'

/** What a dial needs of a service. */
export type Dialled = Pick<ServiceSettings, 'target' | 'targetKey'>

/** A connection to a target that is being made; the caller owns it. What is written waits until the target is the right one. */
export function dialTarget(service: Dialled): Socket {
  const { target } = service
  if (target.kind === 'unix') return connectSocket({ path: target.path, allowHalfOpen: true })
  const { host, port, speaks } = target
  if (speaks === 'https') return dialTls(host, port, service.targetKey)
  // HTTP/2 takes the socket's handle for itself, and reads by its own buffers.
  if (speaks === 'h2c') return connect({ host, port, ...socketOptions })
  return connectSocket({ host, port, ...socketOptions })
}

/**
 * Node hands what is written to TLS before it looks at the certificate, and so to whoever answers: it is corked until
 * that is done. It is done here, so that the error can name the key that was shown: a target that is not the right one is
 * destroyed before anybody else hears that there is a connection.
 */
function dialTls(host: string, port: number, key: Dialled['targetKey']): Socket {
  const socket = tlsConnect({
    host,
    port,
    ...socketOptions,
    ALPNProtocols: ['http/1.1'],
    ...(isIP(host) === 0 ? { servername: host } : {}),
    // Checked below, whatever the environment says of verification.
    rejectUnauthorized: false,
  })
  socket.cork()
  socket.once('secureConnect', () => {
    const wrong = wrongTarget(socket, key)
    if (wrong === undefined) socket.uncork()
    else socket.destroy(wrong)
  })
  return socket
}

/** Why what has answered is not the target; undefined: it is. A pin counts in a certificate's place. */
function wrongTarget(socket: TLSSocket, key: Dialled['targetKey']): TunnelError | undefined {
  const certificate = socket.getPeerX509Certificate()
  const shown = certificate === undefined ? undefined : pinOf(certificate.publicKey)
  if (key !== undefined) {
    if (shown !== undefined && samePin(shown, key)) return undefined
    return notTheTarget(
      `the target shows ${shown === undefined ? 'no key' : `key ${shown}`}, not the target_key ${key}`,
    )
  }
  if (socket.authorized && shown !== undefined) return undefined
  // Node gives the code of an error here, and types it as an error.
  const why = socket.authorizationError as unknown
  const code = printable(why instanceof Error ? why.message : String(why))
  return notTheTarget(
    `its certificate is not believed (${code})${shown === undefined ? '' : `: if ${shown} is its key, write target_key = "${shown}"`}`,
  )
}

function notTheTarget(detail: string): TunnelError {
  return new TunnelError('unreachable', { scope: 'stream', remote: true, detail })
}
