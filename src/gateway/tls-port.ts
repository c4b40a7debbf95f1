import { createServer, type Server, type Socket } from 'node:net'
import { TunnelError } from '../errors.ts'
import { HANDSHAKE_MS, UNAUTHENTICATED_CONNECTIONS, UNAUTHENTICATED_PER_ADDRESS } from '../limits.ts'
import {
  addressKey,
  gatewayDescriptors,
  Keep,
  plainAddress,
  readShared,
  visitorServerOptions,
} from '../net/index.ts'
import {
  type ClientHello,
  ClientHelloReader,
  isOnlyAlpn,
  looksLikeTls,
  TUNNEL_ALPN,
  tlsAlert,
} from '../protocol/index.ts'
import { WaitingList } from '../transport/index.ts'
import { farewell } from './farewell.ts'
import type { Listening } from './listening.ts'

export interface TlsPortOptions {
  /** A client: `first` is what it sent. The callee owns the socket. */
  tunnel(socket: Socket, first: Uint8Array): void
  /** A visitor, with all that it sent so far, its hello at the head. The callee owns the socket, which is paused. */
  visitor(socket: Socket, hello: ClientHello, first: readonly Uint8Array[]): void
  /** Somebody who was neither: closed, and this is why. For a debug line. */
  turnedAway(address: string, why: string): void
  listening: Listening
}

const USE_HTTPS = 'this port speaks TLS: use https://\n'
/** Told to somebody who speaks HTTP to a port where TLS is spoken. */
const SAY_HTTPS =
  `HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: ${USE_HTTPS.length}\r\n` +
  `Connection: close\r\n\r\n${USE_HTTPS}`

/**
 * The port of all who come by TLS: clients with their tunnels, and visitors of `https` services. It reads a connection's
 * ClientHello, decides by it, and looks at nothing behind it. No key is here: whoever shakes hands does so elsewhere.
 *
 * Those who have not said hello are bounded in all, per address and in time, the oldest dropped first.
 */
export class TlsPort {
  readonly #options: TlsPortOptions
  readonly #server: Server
  readonly #silent: WaitingList<Socket>
  #timer: NodeJS.Timeout | undefined

  constructor(options: TlsPortOptions) {
    const total = Math.min(UNAUTHENTICATED_CONNECTIONS, gatewayDescriptors().unauthenticated)
    const perAddress = Math.min(UNAUTHENTICATED_PER_ADDRESS, Math.ceil(total / 2))
    this.#options = options
    this.#silent = new WaitingList({ total, perAddress, patience: HANDSHAKE_MS })
    this.#server = createServer(visitorServerOptions, this.#onConnection)
  }

  /** Connections that have not said hello yet. */
  get waiting(): number {
    return this.#silent.size
  }

  /** Rejects with `address_in_use` and the like. */
  listen(address: { host?: string | undefined; port: number }): Promise<{ host: string; port: number }> {
    return this.#options.listening.listen(this.#server, address)
  }

  /** Lets nobody in any more, and drops who has not said hello. */
  async close(): Promise<void> {
    clearTimeout(this.#timer)
    for (const socket of this.#silent.clear()) socket.destroy()
    await this.#options.listening.close(this.#server)
  }

  readonly #onConnection = (socket: Socket): void => {
    const address = plainAddress(socket.remoteAddress ?? '')
    const evicted = this.#silent.add(socket, addressKey(address), performance.now())
    if (evicted !== undefined) {
      evicted.destroy()
      this.#options.turnedAway(
        plainAddress(evicted.remoteAddress ?? ''),
        'too many connections without a hello',
      )
    }
    this.#arm()
    const reader = new ClientHelloReader()
    const kept = new Keep()
    const leave = (): void => {
      this.#silent.remove(socket)
      socket.off('data', onData)
      socket.off('end', onGone)
      socket.off('close', onGone)
      socket.off('error', onError)
      socket.pause()
    }
    const onData = (chunk: Uint8Array): void => {
      kept.push(chunk)
      let hello: ClientHello | undefined
      try {
        hello = reader.push(chunk)
      } catch (error) {
        if (!(error instanceof TunnelError)) throw error
        leave()
        this.#turnAway(socket, address, kept.chunks, error)
        return
      }
      if (hello === undefined) return
      leave()
      if (isOnlyAlpn(hello, TUNNEL_ALPN)) this.#options.tunnel(socket, Buffer.concat(kept.chunks))
      else this.#options.visitor(readShared(socket), hello, kept.chunks)
    }
    /** Half a hello, and then nothing: there is nobody to answer. */
    const onGone = (): void => {
      leave()
      socket.on('error', () => {})
      socket.destroy()
    }
    const onError = (): void => {}
    socket.on('data', onData)
    socket.on('end', onGone)
    socket.on('close', onGone)
    socket.on('error', onError)
  }

  #turnAway(socket: Socket, address: string, chunks: readonly Uint8Array[], why: TunnelError): void {
    const [first] = chunks
    if (looksLikeTls(first?.[0])) farewell(socket, tlsAlert('decode_error'))
    else if (LETTER.test(String.fromCharCode(first?.[0] ?? 0))) farewell(socket, SAY_HTTPS)
    else {
      socket.on('error', () => {})
      socket.destroy()
    }
    this.#options.turnedAway(address, why.message)
  }

  #arm(): void {
    const { next } = this.#silent
    if (this.#timer !== undefined || next === undefined) return
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        for (const socket of this.#silent.expire(performance.now())) {
          socket.destroy()
          this.#options.turnedAway(plainAddress(socket.remoteAddress ?? ''), 'no hello in time')
        }
        this.#arm()
      },
      Math.max(1, next - performance.now()),
    )
    this.#timer.unref()
  }
}

/** What a request begins with. */
const LETTER = /[A-Z]/
