import { isIP, type Socket } from 'node:net'
import { connect as tlsConnect } from 'node:tls'
import type { ServiceSettings } from '../config/index.ts'
import { pinOf, samePin } from '../identity/index.ts'
import { connectSocket, socketOptions } from '../net/index.ts'

/** What a dial needs of a service. */
export type Dialled = Pick<ServiceSettings, 'target' | 'targetKey'>

/** A connection to a target that is being made; the caller owns it. What is written waits until the target is the right one. */
export function dialTarget(service: Dialled): Socket {
  const { target } = service
  if (target.kind === 'unix') return connectSocket({ path: target.path, allowHalfOpen: true })
  const { host, port, speaks } = target
  return speaks === 'https'
    ? dialTls(host, port, service.targetKey)
    : connectSocket({ host, port, ...socketOptions })
}

/**
 * Node hands what is written to TLS before it looks at the certificate, and so to whoever answers: it is corked until
 * that is done.
 */
function dialTls(host: string, port: number, key: Dialled['targetKey']): Socket {
  const socket = tlsConnect({
    host,
    port,
    ...socketOptions,
    ALPNProtocols: ['http/1.1'],
    ...(isIP(host) === 0 ? { servername: host } : {}),
    // Set explicitly, so that nothing in the environment changes it. A pin is checked below, in a certificate's place.
    rejectUnauthorized: key === undefined,
  })
  socket.cork()
  socket.once('secureConnect', () => {
    const certificate = socket.getPeerX509Certificate()
    if (key === undefined || (certificate !== undefined && samePin(pinOf(certificate.publicKey), key)))
      socket.uncork()
    else {
      const error: NodeJS.ErrnoException = new Error('the target shows another key than target_key')
      error.code = 'WRONG_TARGET_KEY'
      socket.destroy(error)
    }
  })
  return socket
}
