import type { Socket } from 'node:net'
import type { TunnelError, UnreachedCode } from '../errors.ts'
import type { Meter, Problem } from '../http/index.ts'
import { HELD_BYTES, TRIES_PER_VISITOR } from '../limits.ts'
import type { StreamSink } from '../mux/index.ts'
import {
  HeldSocket,
  plainAddress,
  resetSocket,
  type Splice,
  type SpliceResult,
  splice,
} from '../net/index.ts'
import { type ClientHello, encodeProxyHeader, type TlsAlert, tlsAlert } from '../protocol/index.ts'
import type { Carried, ConnectedClient } from './connected-client.ts'
import { farewell } from './farewell.ts'
import type { Guest, Lobby } from './lobby.ts'
import type { Route } from './route.ts'
import type { Replica } from './routes.ts'
import { nextVisitorId } from './visitor-id.ts'

/** What a visitor that comes by TLS has said before it is carried. */
export interface TlsVisit {
  readonly hello: ClientHello
  readonly first: readonly Uint8Array[]
  /** Nobody else may have it, and it does not wait: an authority comes to see whether this one has the host. */
  readonly only?: Replica<ConnectedClient> | undefined
}

/** A stream whose splice is about to be made. Nothing can arrive before that. */
const NOBODY: StreamSink = { data() {}, end() {}, reset() {}, drain() {} }
const NOTHING: readonly Uint8Array[] = []

/**
 * One visitor's connection, from accept to end: looks for a client, waits while there is none, is carried by a
 * stream, and looks again if the client says that it reached no target. Owns the socket.
 */
export class TcpVisitor implements Guest, Carried {
  readonly route: Route
  readonly socket: Socket
  readonly address: string
  /** Since when it waits, in all its tries. */
  waitingSince: number | undefined

  readonly #lobby: Lobby
  #held: HeldSocket | undefined
  #splice: Splice | undefined
  #client: ConnectedClient | undefined
  #replica: Replica<ConnectedClient> | undefined
  /** Clients that said they reached no target, and what the last one said. */
  #tried: Set<ConnectedClient> | undefined
  #unreached: UnreachedCode | undefined
  #over = false
  readonly #meter: Meter
  readonly #tls: TlsVisit | undefined
  /** What of `bytes` is in the meter. */
  #metered = { in: 0, out: 0 }

  /** `tls`: how it began, for one that was routed by that. */
  constructor(lobby: Lobby, socket: Socket, route: Route, meter: Meter, tls?: TlsVisit) {
    this.#tls = tls
    this.#lobby = lobby
    this.#meter = meter
    this.socket = socket
    this.route = route
    this.address = plainAddress(socket.remoteAddress ?? '')
  }

  /** Moved so far: from the visitor, and to it. */
  get bytes(): { in: number; out: number } {
    return { in: this.#splice?.sent ?? 0, out: this.#splice?.delivered ?? 0 }
  }

  tally(): void {
    this.#count(this.bytes)
  }

  #count(bytes: { in: number; out: number }): void {
    this.#meter.in += bytes.in - this.#metered.in
    this.#meter.out += bytes.out - this.#metered.out
    this.#metered = { ...bytes }
  }

  /** Looks for a client; holds the visitor if there is none. False: it is held. */
  seek(): boolean {
    const held = this.#held
    if (held === undefined) return this.#seek(this.#tls?.first ?? NOTHING)
    this.#held = undefined
    return this.#seek(held.release())
  }

  /** It cannot be served, or waited too long: TCP has no words for why. */
  dismiss(problem: Problem): void {
    this.#held?.release()
    this.#held = undefined
    this.#reset(problem)
  }

  /** Resets it and its stream. */
  cut(): void {
    if (this.#over) return
    if (this.#splice !== undefined) {
      this.#splice.detach()
      this.#leaveClient()
    }
    this.#held?.release()
    this.#lobby.leave(this)
    this.#reset('cut')
  }

  #seek(chunks: readonly Uint8Array[]): boolean {
    const { routes } = this.#lobby
    let full: Set<ConnectedClient> | undefined
    for (;;) {
      const replica = this.#pick(full ?? this.#tried)
      if (replica === undefined) break
      const stream = replica.tunnel.open(NOBODY)
      if (stream !== undefined) {
        stream.write(this.#header(replica.service))
        this.#client = replica.tunnel
        this.#replica = replica
        replica.tunnel.carried.set(stream.id, this)
        routes.begin(replica)
        this.#splice = splice(this.socket, stream, {
          prefix: chunks,
          keep: HELD_BYTES,
          onStreamReset: this.#onStreamReset,
          onEnd: this.#onEnd,
        })
        return true
      }
      full ??= new Set(this.#tried)
      full.add(replica.tunnel)
    }
    // Every replica was tried and said no; waiting for them would only repeat the question.
    if (full === undefined && this.#unreached !== undefined && routes.usable(this.route))
      this.#reset(this.#unreached)
    else this.#hold(chunks)
    return this.#held === undefined
  }

  #pick(exclude: ReadonlySet<ConnectedClient> | undefined): Replica<ConnectedClient> | undefined {
    const only = this.#tls?.only
    if (only === undefined) return this.#lobby.routes.pick(this.route, exclude, performance.now())
    return exclude?.has(only.tunnel) === true || !only.tunnel.usable ? undefined : only
  }

  #hold(chunks: readonly Uint8Array[]): void {
    const held = new HeldSocket(this.socket, { chunks, onGone: this.#onGone, onEnded: this.#onEnded })
    this.#held = held
    if (this.#tls?.only !== undefined || !this.#lobby.hold(this, this.route)) this.dismiss('absent')
  }

  #header(service: string): Buffer {
    const { remotePort, localAddress, localPort } = this.socket
    return encodeProxyHeader({
      ...(this.address === '' ? {} : { source: { address: this.address, port: remotePort ?? 0 } }),
      destination: { address: plainAddress(localAddress ?? '0.0.0.0'), port: localPort ?? 0 },
      tlvs: {
        alpn: this.#tls?.hello.alpnBytes,
        authority: this.#tls?.hello.serverName,
        uniqueId: nextVisitorId(),
        service,
      },
    })
  }

  readonly #onGone = (): void => {
    this.#held = undefined
    this.#lobby.leave(this)
    this.#done(undefined)
  }

  /**
   * A FIN: over TCP one who left looks the same as one who sends no more and waits. While its client is away it is
   * taken for the former, so that nothing is done in the name of somebody who has gone; while there is only no room
   * just now it waits on.
   */
  readonly #onEnded = (held: HeldSocket): void => {
    if (this.#lobby.routes.usable(this.route)) return
    held.drop()
    this.#onGone()
  }

  /** True: it gets another try, or an answer. */
  readonly #onStreamReset = (gone: Splice): boolean => {
    const client = this.#client
    const replica = this.#replica
    const never = client?.tunnel.peerLeft === true && !gone.stream.acknowledged
    const unreached = client?.unreached.get(gone.stream.id) ?? (never ? 'draining' : undefined)
    this.#leaveClient()
    if (client === undefined || unreached === undefined || gone.delivered > 0) return false
    this.#unreached = unreached
    if (unreached === 'draining') this.#lobby.draining(client)
    else {
      if (replica !== undefined && unreached !== 'overloaded')
        this.#lobby.routes.failed(replica, performance.now())
      this.#tried ??= new Set()
      this.#tried.add(client)
    }
    if (gone.replay === undefined || (this.#tried?.size ?? 0) >= TRIES_PER_VISITOR) this.#reset(unreached)
    else this.#seek(gone.replay)
    return true
  }

  readonly #onEnd = (result: SpliceResult): void => {
    this.#leaveClient()
    this.#done(result.error, result)
  }

  #leaveClient(): void {
    const stream = this.#splice?.stream
    if (stream !== undefined) {
      this.#client?.carried.delete(stream.id)
      this.#client?.unreached.delete(stream.id)
    }
    if (this.#replica !== undefined) this.#lobby.routes.end(this.#replica)
    this.#client = undefined
    this.#replica = undefined
    this.#splice = undefined
  }

  #reset(code: string): void {
    // One who has said hello and heard nothing is told that it is not his fault, and is here until that has left.
    if (this.#tls !== undefined && code !== 'cut' && !this.socket.destroyed) {
      this.socket.once('close', () => this.#done(undefined, undefined, code))
      farewell(this.socket, tlsAlert(this.#alertFor(code)))
      return
    }
    this.socket.on('error', () => {})
    resetSocket(this.socket)
    this.#done(undefined, undefined, code)
  }

  #alertFor(code: string): TlsAlert {
    if (code !== 'no_route') return 'internal_error'
    // There is the host, and nothing at it of the one kind that was asked for.
    return this.route === '' ? 'unrecognized_name' : 'no_application_protocol'
  }

  #done(error: TunnelError | undefined, result?: SpliceResult, code?: string): void {
    if (this.#over) return
    this.#over = true
    const bytes = result === undefined ? this.#metered : { in: result.bytesIn, out: result.bytesOut }
    this.#count(bytes)
    this.#lobby.done(this, bytes, code ?? error?.code)
  }
}
