import { constants, createHash, randomBytes } from 'node:crypto'
import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls'
import { HANDSHAKE_MS, TICKET_KEY_MS, TICKET_SECONDS } from '../../limits.ts'
import type { Stream } from '../../mux/index.ts'
import type { Certificate } from './certificate.ts'
import { TlsTransport } from './transport.ts'

/** How an endpoint tells of one visitor. Synchronous. */
export interface HandshakeEvents {
  /** The handshake is whole. The callee owns the socket; its `resetAndDestroy` resets the stream. */
  secured(socket: TLSSocket): void
  /** The stream is ending, or reset: nothing more comes of it. Also after `secured`. */
  closed(): void
}

/**
 * The suites that are current (RFC 9325, 4.2), all with forward secrecy and authenticated encryption. AES-128 costs half
 * of AES-256; a visitor whose first wish is ChaCha20 has no AES in its processor, and gets that.
 */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
].join(':')

/** SSL_OP_PRIORITIZE_CHACHA: OpenSSL has it, and Node no name for it. */
const PRIORITIZE_CHACHA = 1 << 21

/** What holds for whatever certificate. */
const RULES = {
  minVersion: 'TLSv1.2',
  ciphers: CIPHERS,
  honorCipherOrder: true,
  // A visitor who renegotiates makes us work for nothing.
  secureOptions: constants.SSL_OP_NO_RENEGOTIATION | PRIORITIZE_CHACHA,
} as const satisfies TlsOptions

/**
 * Where the TLS of one service ends. It has a server, ticket keys and a session id context of its own: a ticket of one
 * service resumes in no other. Ticket keys are drawn anew every TICKET_KEY_MS and never leave the process.
 */
export class TlsEndpoint {
  readonly #server: Server
  readonly #visitors = new Map<TlsTransport, HandshakeEvents>()
  /** Whose bytes TLS is looking at: what it tells meanwhile is of that visitor. */
  #feeding: TlsTransport | undefined
  #timer: NodeJS.Timeout
  readonly #context: string

  /** `failed`: a handshake that came to nothing, with OpenSSL's or Node's code. One may take `handshakeMs`. */
  constructor(
    name: string,
    alpn: readonly string[],
    failed: (code: string) => void,
    handshakeMs = HANDSHAKE_MS,
  ) {
    this.#context = createHash('sha256').update(name).digest('hex').slice(0, 32)
    this.#server = createServer({
      ...RULES,
      ALPNProtocols: [...alpn],
      allowHalfOpen: true,
      handshakeTimeout: handshakeMs,
      sessionIdContext: this.#context,
      sessionTimeout: TICKET_SECONDS,
      ticketKeys: randomBytes(48),
    })
    this.#server.on('secureConnection', this.#onSecure)
    this.#server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) => {
      failed(error.code ?? error.message)
      // After all else Node destroys it, when its alert is written; of this it only tells.
      if (error.code === 'ERR_TLS_HANDSHAKE_TIMEOUT') socket.destroy()
    })
    this.#timer = setInterval(() => this.#server.setTicketKeys(randomBytes(48)), TICKET_KEY_MS).unref()
  }

  /** Whom new visitors see from now on. Throws what OpenSSL says of a key and certificate that it cannot use. */
  use({ key, chain }: Certificate): void {
    this.#server.setSecureContext({
      ...RULES,
      key,
      cert: chain,
      sessionIdContext: this.#context,
      sessionTimeout: TICKET_SECONDS,
      ticketKeys: randomBytes(48),
    })
  }

  /** Takes over a stream; `first` came on it and is not consumed. Gives what cuts it. */
  accept(stream: Stream, first: readonly Uint8Array[], events: HandshakeEvents): () => void {
    const transport = new TlsTransport(stream, first, this.#feed)
    this.#visitors.set(transport, events)
    transport.once('close', () => {
      this.#visitors.delete(transport)
      events.closed()
    })
    this.#server.emit('connection', transport)
    transport.start()
    return () => transport.reset()
  }

  /** Lets go of its timer. Visitors go on. */
  close(): void {
    clearInterval(this.#timer)
  }

  readonly #feed = (transport: TlsTransport, chunk: Uint8Array): void => {
    const before = this.#feeding
    this.#feeding = transport
    transport.emit('data', chunk)
    transport.letGo()
    this.#feeding = before
  }

  /** A handshake ends with bytes of its visitor, and is told while they are looked at. */
  readonly #onSecure = (socket: TLSSocket): void => {
    const transport = this.#feeding
    const events = transport && this.#visitors.get(transport)
    if (transport === undefined || events === undefined) {
      socket.destroy()
      return
    }
    // A socket over a stream has no reset of its own.
    socket.resetAndDestroy = () => {
      transport.reset()
      return socket
    }
    // What TLS writes within this call are tickets. By older versions it is what the visitor waits for; and a visitor by
    // HTTP/2 may wait for the settings that come with them.
    if (socket.getProtocol() === 'TLSv1.3' && socket.alpnProtocol !== 'h2') transport.hold()
    events.secured(socket)
  }
}
