import { constants, type X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContext, type TLSSocket, connect as tlsConnect } from 'node:tls'
import { TunnelError } from '../errors.ts'
import { HANDSHAKE_MS } from '../limits.ts'
import { TUNNEL_ALPN } from '../protocol/index.ts'

/** A private key and its certificate, both PEM. */
export interface Keys {
  readonly key: string
  readonly certificate: string
}

/**
 * TLS 1.3 with our own certificate and nothing that could resume: a resumed session shows the peer's
 * certificate without a proof of its key. (TLS 1.3 still sends two tickets under `SSL_OP_NO_TICKET`;
 * they do not resume, and a test offers one.)
 */
export function tunnelContext(keys: Keys): SecureContext {
  return createSecureContext({
    key: keys.key,
    cert: keys.certificate,
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    // AES-128 first: half the cost of AES-256 per byte where the CPU has AES; ChaCha20 for where it has not.
    ciphers: 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384',
    secureOptions: constants.SSL_OP_NO_TICKET,
  })
}

export interface DialOptions {
  host: string
  port: number
  context: SecureContext
  /**
   * Called once the handshake has proved that the peer holds the key of `certificate`, and before anything is
   * written: throws a `TunnelError` for anybody but the gateway that was meant. `where` is for its message.
   */
  verify(certificate: X509Certificate | undefined, where: string): void
  signal?: AbortSignal | undefined
}

/**
 * Dials a gateway and checks its key. Resolves to a socket on which this side has not written one byte; the
 * caller owns it. Rejects with `dial_failed`, `handshake_timeout`, `handshake_failed` (all scope `tunnel`) or
 * what `verify` threw; then nothing is left open.
 */
export function dialTls(options: DialOptions): Promise<TLSSocket> {
  const { host, port, signal } = options
  const where = `${host.includes(':') ? `[${host}]` : host}:${port}`
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({
      host,
      port,
      secureContext: options.context,
      ALPNProtocols: [TUNNEL_ALPN],
      // Set explicitly, so that nothing in the environment changes it. The pin is checked below, before any write.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      // No name: an on-path observer learns nothing from it, and the pin does not need it.
      servername: '',
    })
    socket.setNoDelay(true)
    let connected = false

    const fail = (error: TunnelError): void => {
      settle()
      socket.on('error', () => {})
      socket.destroy()
      reject(error)
    }
    const onConnect = (): void => {
      connected = true
    }
    const onError = (cause: NodeJS.ErrnoException): void => {
      const text = cause.code ?? cause.message
      fail(
        connected
          ? tunnelError(
              'handshake_failed',
              `${where} does not speak the tunnel protocol (${text}): check the address and port`,
              cause,
            )
          : tunnelError(
              'dial_failed',
              `cannot reach ${where} (${text}): check the address, and that the gateway runs`,
              cause,
            ),
      )
    }
    const onClose = (): void =>
      onError(Object.assign(new Error('closed by the other side'), { code: 'closed by the other side' }))
    const onAbort = (): void => fail(tunnelError('closed', 'dialling was cancelled', signal?.reason))
    const timer = setTimeout(() => {
      fail(
        tunnelError(
          'handshake_timeout',
          `${where} did not answer within ${HANDSHAKE_MS / 1000} s: check the address and port`,
        ),
      )
    }, HANDSHAKE_MS)
    const onSecure = (): void => {
      if (socket.alpnProtocol !== TUNNEL_ALPN) {
        fail(notAGateway(where))
        return
      }
      try {
        options.verify(socket.getPeerX509Certificate(), where)
      } catch (error) {
        fail(error instanceof TunnelError ? error : notAGateway(where, error))
        return
      }
      settle()
      resolve(socket)
    }
    const settle = (): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      socket
        .off('connect', onConnect)
        .off('error', onError)
        .off('close', onClose)
        .off('secureConnect', onSecure)
    }

    socket.on('connect', onConnect).on('error', onError).on('close', onClose).on('secureConnect', onSecure)
    if (signal?.aborted) onAbort()
    else signal?.addEventListener('abort', onAbort)
  })
}

/** It speaks TLS 1.3, and not our protocol. */
export function notAGateway(where: string, cause?: unknown): TunnelError {
  return tunnelError(
    'handshake_failed',
    `${where} answers TLS but is not a blindgate gateway: check the address and port`,
    cause,
  )
}

function tunnelError(
  code: 'dial_failed' | 'handshake_failed' | 'handshake_timeout' | 'closed',
  detail: string,
  cause?: unknown,
): TunnelError {
  return new TunnelError(code, {
    scope: 'tunnel',
    remote: code !== 'closed',
    detail,
    ...(cause === undefined ? {} : { cause }),
  })
}
