import { X509Certificate } from 'node:crypto'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { TunnelError } from '../../errors.ts'
import type { LocalAnswer } from '../../http/index.ts'
import type { RequestHead } from '../../http1/index.ts'
import { type Http2Connection, Http2Front, TargetSessions } from '../../http2/index.ts'
import { CERTIFICATE_WAIT_MS, CERTIFICATE_WAITING } from '../../limits.ts'
import type { Stream } from '../../mux/index.ts'
import { Keep } from '../../net/index.ts'
import { type ClientHello, encodeProxyHeader } from '../../protocol/index.ts'
import { isAmong, turnAway } from '../hello-gate.ts'
import { Patience } from '../patience.ts'
import type { ClientService, VisitorInfo } from '../services.ts'
import type { CertificateSource, CertificateState } from './certificate.ts'
import { TlsEndpoint } from './endpoint.ts'
import { DecryptedHttp2Visitor } from './http2-site.ts'
import { type DecryptedService, DecryptedVisitor, type VisitorOfTls } from './site.ts'
import { TargetPool } from './target-pool.ts'

/** What a service of TLS needs of the client that it is part of. */
export interface TlsSurroundings {
  /** A connection to the service's target, which is counted there; undefined: too many. */
  dial(service: ClientService): Socket | undefined
  count(code: string): void
  /** Something happened that whoever runs the client should know, said with moderation. */
  warn(key: string, text: string): void
  /** One visitor's trouble of its own making. */
  debug(text: string): void
  /** What we answer in the target's place. */
  local?:
    | ((head: RequestHead, socket: TLSSocket, service: ClientService) => LocalAnswer | undefined)
    | undefined
}

/** A visitor on its way in: the stream with all that came on it, which is not consumed. */
export interface Arrival {
  readonly stream: Stream
  readonly first: readonly Uint8Array[]
  readonly hello: ClientHello
  readonly info: VisitorInfo
  /** Once: the stream has ended, or is ending. */
  readonly closed: () => void
}

/** One that was let in. */
export interface Guest {
  /** Resets it. */
  cut(): void
  /** No further request is taken of it. */
  drain(): void
}

/**
 * A service of type https whose TLS ends in this process: its certificate, its visitors from their hello to their end, and
 * the connections to its target.
 */
export class TlsService implements DecryptedService {
  readonly pool: TargetPool
  readonly sessions: TargetSessions | undefined
  readonly #front = new Http2Front()
  #settings: ClientService
  readonly #surroundings: TlsSurroundings
  readonly #endpoint: TlsEndpoint
  readonly #source: CertificateSource
  readonly #guests = new Set<TlsGuest>()
  /** Visitors who came before there was a certificate. */
  readonly #waiting = new Patience<TlsGuest>(CERTIFICATE_WAIT_MS, (guest) => this.#unserved(guest))
  #waitingCount = 0
  #ready = false
  #closed = false
  #expires: number | undefined
  /** Hosts of the service that its certificate is not for: one with them is on its way. */
  #uncovered: readonly string[] = []

  /** `after`: whoever looked after the same certificate before has let go of it. */
  constructor(
    settings: ClientService,
    source: CertificateSource,
    surroundings: TlsSurroundings,
    after?: Promise<void>,
  ) {
    this.#settings = settings
    this.#surroundings = surroundings
    this.#source = source
    this.pool = new TargetPool({
      dial: () => surroundings.dial(this.#settings),
      desync: () => surroundings.count('desync'),
    })
    this.sessions =
      settings.target.speaks === 'h2c'
        ? new TargetSessions(() => surroundings.dial(this.#settings))
        : undefined
    this.#endpoint = new TlsEndpoint(settings.name, protocolsOf(settings), (code) => {
      surroundings.count('handshake_failed')
      surroundings.debug(`service "${settings.name}": the handshake of a visitor failed: ${code}`)
    })
    source.changed = () => this.#onCertificate()
    this.#onCertificate()
    if (after === undefined) source.start()
    else void after.then(() => this.#closed || source.start())
  }

  get settings(): ClientService {
    return this.#settings
  }

  get certificate(): CertificateState {
    const { trouble } = this.#source
    const missing = this.#uncovered.length === 0 ? [] : [`not for ${this.#uncovered.join(', ')}`]
    const all = [...missing, ...(trouble === undefined ? [] : [trouble])]
    return { expires: this.#expires, trouble: all.length === 0 ? undefined : all.join('; ') }
  }

  /** What visitors are shown, PEM; undefined: nothing yet. */
  get chain(): string | undefined {
    return this.#source.current?.chain
  }

  get transportSecurity(): string | undefined {
    return this.#settings.hsts === false ? undefined : this.#source.transportSecurity
  }

  /** The same hosts and certificate; what else changed counts for new requests. */
  update(settings: ClientService): void {
    const moved = JSON.stringify(this.#settings.target) !== JSON.stringify(settings.target)
    this.#settings = settings
    // Those at hand end when their requests are over; they are never given to another.
    if (moved) this.pool.close()
    this.#source.look?.()
  }

  accept(arrival: Arrival): Guest {
    const guest = new TlsGuest(this, this.#endpoint, arrival, () => this.#left(guest))
    this.#guests.add(guest)
    if (this.#serves(guest)) guest.begin()
    else if (this.#waitingCount >= CERTIFICATE_WAITING) this.#unserved(guest)
    else {
      this.#waitingCount += 1
      guest.waits = true
      this.#waiting.add(guest)
    }
    return guest
  }

  /** Lets nobody in any more. Visitors go on, and take no further request. Resolves when its certificate is nobody's business any more. */
  close(): Promise<void> {
    this.#closed = true
    this.#source.close()
    this.#endpoint.close()
    this.#waiting.close()
    this.pool.close()
    this.sessions?.close()
    for (const guest of this.#guests) {
      if (guest.waits) this.#unserved(guest)
      else guest.drain()
    }
    return this.#source.ended ?? Promise.resolve()
  }

  // ── For its visitors ──────────────────────────────────────────────────────────────────────────────────

  local(head: RequestHead, socket: TLSSocket): LocalAnswer | undefined {
    return this.#surroundings.local?.(head, socket, this.#settings)
  }

  /** Takes a connection over on which HTTP/2 was agreed on. */
  http2(socket: TLSSocket, visitor: VisitorOfTls): Http2Connection {
    return this.#front.accept(socket, new DecryptedHttp2Visitor(this, socket, visitor))
  }

  readonly preface = ({ address, port, serverName, alpn }: VisitorOfTls): Uint8Array | undefined => {
    if (!this.#settings.proxyHeader) return undefined
    const source = address === undefined ? undefined : { address, port: port ?? 0 }
    return encodeProxyHeader({ source, tlvs: { authority: serverName, alpn } })
  }

  count(code: string): void {
    this.#surroundings.count(code)
  }

  unreached({ code, message }: TunnelError): void {
    const { name, target } = this.#settings
    this.count(code)
    this.#surroundings.warn(name, `target ${target.text} of service "${name}" fails: ${message}`)
  }

  threw(error: unknown): void {
    const { name } = this.#settings
    this.#surroundings.warn(
      `throws of ${name}`,
      `service "${name}" threw at a visitor: ${error instanceof Error ? error.message : String(error)}`,
    )
  }

  // ── Certificates ──────────────────────────────────────────────────────────────────────────────────────

  #onCertificate(): void {
    const { current } = this.#source
    if (current === undefined) {
      this.#ready = false
      this.#expires = undefined
      this.#uncovered = []
      return
    }
    try {
      this.#endpoint.use(current)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      this.#surroundings.warn(
        `certificate of ${this.#settings.name}`,
        `service "${this.#settings.name}": its certificate cannot be used (${why}): the one before stays`,
      )
      return
    }
    this.#ready = true
    const leaf = new X509Certificate(current.chain)
    this.#expires = Date.parse(leaf.validTo)
    this.#uncovered = this.#settings.hosts.filter((host) => !isFor(leaf, host))
    for (const guest of this.#guests) {
      if (!guest.waits || !this.#serves(guest)) continue
      this.#letGo(guest)
      guest.begin()
    }
  }

  /** There is a certificate for the host that it asks for. */
  #serves({ serverName }: TlsGuest): boolean {
    if (!this.#ready) return false
    return this.#uncovered.length === 0 || !isAmong(serverName, this.#uncovered)
  }

  #letGo(guest: TlsGuest): void {
    guest.waits = false
    this.#waitingCount -= 1
    this.#waiting.delete(guest)
  }

  #unserved(guest: TlsGuest): void {
    if (guest.waits) this.#letGo(guest)
    this.count('no_certificate')
    const { name } = this.#settings
    const { trouble } = this.#source
    const why = trouble === undefined ? '' : ` (${trouble})`
    this.#surroundings.warn(
      `no certificate of ${name}`,
      `service "${name}" has no certificate yet: a visitor was turned away${why}`,
    )
    guest.turnAway()
  }

  #left(guest: TlsGuest): void {
    if (guest.waits) this.#letGo(guest)
    this.#guests.delete(guest)
  }
}

/** Whether a certificate is for a host, or for each host of a pattern. */
function isFor(leaf: X509Certificate, host: string): boolean {
  return leaf.checkHost(host.replace(/^\*/, 'any')) !== undefined
}

/** What is spoken inside TLS. A target that speaks HTTP/2 alone is no server for who does not. */
function protocolsOf({ serve, target }: ClientService): string[] {
  if (serve !== undefined) return ['http/1.1']
  return target.speaks === 'h2c' ? ['h2'] : ['h2', 'http/1.1']
}

/** One visitor of a service, from its hello on. */
class TlsGuest implements Guest {
  waits = false
  readonly #service: TlsService
  readonly #endpoint: TlsEndpoint
  readonly #arrival: Arrival
  readonly #left: () => void
  #cut: (() => void) | undefined
  #connection: { drain(): void } | undefined
  /** Came while it waited. */
  readonly #more = new Keep()
  #draining = false
  #over = false

  constructor(service: TlsService, endpoint: TlsEndpoint, arrival: Arrival, left: () => void) {
    this.#service = service
    this.#endpoint = endpoint
    this.#arrival = arrival
    this.#left = left
    if (arrival.stream.closed) queueMicrotask(() => this.#end())
    else {
      const data = (_: Stream, chunk: Uint8Array): void => this.#more.push(chunk)
      arrival.stream.sink = { data, end() {}, reset: () => this.#end(), drain() {} }
    }
  }

  get serverName(): string {
    return this.#arrival.hello.serverName ?? ''
  }

  begin(): void {
    const { stream, first } = this.#arrival
    this.#cut = this.#endpoint.accept(stream, [...first, ...this.#more.take()], {
      secured: (socket) => this.#secured(socket),
      closed: () => this.#end(),
    })
  }

  turnAway(): void {
    turnAway(this.#arrival.stream, 'internal_error')
    this.#end()
  }

  cut(): void {
    if (this.#cut !== undefined) this.#cut()
    else {
      this.#arrival.stream.reset()
      this.#end()
    }
  }

  drain(): void {
    this.#draining = true
    this.#connection?.drain()
  }

  #secured(socket: TLSSocket): void {
    const { hello, info } = this.#arrival
    const { serve } = this.#service.settings
    if (serve !== undefined) {
      // Whoever serves in this process may fail at one visitor, and all others are here too.
      try {
        serve(socket, info)
      } catch (error) {
        this.#service.threw(error)
        socket.resetAndDestroy()
      }
      return
    }
    const visitor: VisitorOfTls = {
      address: info.remoteAddress,
      port: info.remotePort,
      serverName: hello.serverName ?? '',
      alpn: hello.alpnBytes,
    }
    this.#connection =
      socket.alpnProtocol === 'h2'
        ? this.#service.http2(socket, visitor)
        : new DecryptedVisitor(this.#service, socket, visitor).connection
    if (this.#draining) this.#connection.drain()
  }

  #end(): void {
    if (this.#over) return
    this.#over = true
    this.#left()
    this.#arrival.closed()
  }
}
