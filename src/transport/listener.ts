import type { X509Certificate } from 'node:crypto'
import { createServer, type Server, type Socket } from 'node:net'
import { type SecureContext, TLSSocket } from 'node:tls'
import { HANDSHAKE_MS, UNAUTHENTICATED_CONNECTIONS, UNAUTHENTICATED_PER_ADDRESS } from '../limits.ts'
import { addressKey, closeServer, gatewayDescriptors, listenOn, plainAddress } from '../net/index.ts'
import { TUNNEL_ALPN } from '../protocol/index.ts'
import { type Keys, tunnelContext } from './tls.ts'
import { WaitingList, type WaitingListOptions } from './waiting-list.ts'

export interface TunnelListenerOptions<Peer> {
  keys: Keys
  /** Who holds the key of this certificate; undefined turns it away. */
  identify(certificate: X509Certificate | undefined): Peer | undefined
  /**
   * A peer has finished the handshake and shown that it holds the key it is identified by; nothing else is known.
   * The callee owns `socket`. Its place among the unauthenticated is kept until it calls `authenticated`; by
   * then, at the latest 10 s after the connection came, it must have made up its mind, or the socket is destroyed.
   */
  accept(socket: TLSSocket, peer: Peer, authenticated: () => void): void
  /** Somebody who was no client: closed, and this is why. For a debug line. */
  turnedAway(address: string, why: string): void
  /** Of those who have not proved themselves; for tests. */
  bounds?: WaitingListOptions | undefined
}

/** Fewer where the process may have few open files. */
function usualBounds(): WaitingListOptions {
  const total = Math.min(UNAUTHENTICATED_CONNECTIONS, gatewayDescriptors().unauthenticated)
  return {
    total,
    perAddress: Math.min(UNAUTHENTICATED_PER_ADDRESS, Math.ceil(total / 2)),
    patience: HANDSHAKE_MS,
  }
}

/**
 * The gateway's door for clients. Accepting never waits for a handshake; who has not proved itself is
 * bounded in all, per address and in time, the oldest dropped first.
 */
export class TunnelListener<Peer> {
  readonly #options: TunnelListenerOptions<Peer>
  readonly #server: Server
  readonly #context: SecureContext
  readonly #bounds: WaitingListOptions
  readonly #unauthenticated: WaitingList<Socket>
  #timer: NodeJS.Timeout | undefined

  constructor(options: TunnelListenerOptions<Peer>) {
    this.#options = options
    this.#bounds = options.bounds ?? usualBounds()
    this.#unauthenticated = new WaitingList(this.#bounds)
    this.#context = tunnelContext(options.keys)
    this.#server = createServer({ noDelay: true }, this.#onConnection)
  }

  /** Connections that have not become a tunnel yet. */
  get waiting(): number {
    return this.#unauthenticated.size
  }

  /** Rejects with `address_in_use` and the like. */
  listen(address: { host?: string | undefined; port: number }): Promise<{ host: string; port: number }> {
    return listenOn(this.#server, address)
  }

  /** Stops accepting and drops the unauthenticated; tunnels are their owners'. */
  async close(): Promise<void> {
    clearTimeout(this.#timer)
    for (const raw of this.#unauthenticated.clear()) raw.destroy()
    await closeServer(this.#server)
  }

  /**
   * Takes a connection that came to another port, whose first bytes, `first`, were read there and are a hello for us. Owns
   * `raw`, which nobody else reads.
   */
  adopt(raw: Socket, first: Uint8Array): void {
    raw.setNoDelay(true)
    raw.unshift(first)
    this.#onConnection(raw)
  }

  readonly #onConnection = (raw: Socket): void => {
    const address = plainAddress(raw.remoteAddress ?? 'unknown')
    const drop = (why: string): void => {
      raw.destroy()
      this.#options.turnedAway(address, why)
    }
    const evicted = this.#unauthenticated.add(raw, addressKey(address), performance.now())
    if (evicted !== undefined) {
      evicted.destroy()
      this.#options.turnedAway(
        plainAddress(evicted.remoteAddress ?? 'unknown'),
        'too many connections that did not log in',
      )
    }
    this.#arm()
    raw.on('close', () => this.#unauthenticated.remove(raw))

    const socket = new TLSSocket(raw, {
      isServer: true,
      secureContext: this.#context,
      requestCert: true,
      // The peer's certificate is self-signed; its key is checked by the owner, once the handshake has proved it.
      rejectUnauthorized: false,
      // Ours and nothing else: one who offers more is no client, but something that would talk to anybody.
      ALPNCallback: ({ protocols }) =>
        protocols.length === 1 && protocols[0] === TUNNEL_ALPN ? TUNNEL_ALPN : undefined,
    })
    const onError = (error: NodeJS.ErrnoException): void => drop(error.code ?? error.message)
    socket.on('error', onError)
    socket.once('secure', () => {
      const peer = this.#options.identify(socket.getPeerX509Certificate())
      // A peer without a certificate, or without our ALPN, gets this far: close it.
      if (socket.alpnProtocol !== TUNNEL_ALPN) drop('a TLS client without our protocol')
      else if (peer === undefined) drop('a TLS client without an Ed25519 certificate')
      else {
        this.#options.accept(socket, peer, () => this.#unauthenticated.remove(raw))
        // The owner has put its own handler by now.
        socket.off('error', onError)
      }
    })
  }

  #arm(): void {
    if (this.#timer !== undefined) return
    const next = this.#unauthenticated.next
    if (next === undefined) return
    this.#timer = setTimeout(this.#expire, Math.max(1, next - performance.now()))
    this.#timer.unref()
  }

  #expire = (): void => {
    this.#timer = undefined
    for (const raw of this.#unauthenticated.expire(performance.now())) {
      raw.destroy()
      this.#options.turnedAway(
        plainAddress(raw.remoteAddress ?? 'unknown'),
        `no login within ${this.#bounds.patience / 1000} s`,
      )
    }
    this.#arm()
  }
}
