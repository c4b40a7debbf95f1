import type { Socket } from 'node:net'
import type { Logger } from 'pino'
import { TunnelError, UNREACHED_CODES, type UnreachedCode } from '../errors.ts'
import {
  HALF_CLOSED_MS,
  HANDSHAKE_MS,
  LINGER_MS,
  STREAMS_PER_CLIENT,
  STREAMS_PER_SERVICE,
  TARGET_CONNECT_MS,
  TARGET_DIALS_BURST,
  TARGET_DIALS_PER_SECOND,
  TCP_KEEPALIVE_MS,
} from '../limits.ts'
import type { Millis, Stream } from '../mux/index.ts'
import { descriptorsForVisitors, duplexOf, readyEvent, type SpliceResult, splice } from '../net/index.ts'
import {
  ACME_ALPN,
  type ClientHello,
  encodeProxyHeader,
  isOnlyAlpn,
  type ProxyHeader,
  type ProxyTlvs,
  printable,
} from '../protocol/index.ts'
import { type ChallengeVisit, ChallengeVisits } from './challenge-visits.ts'
import type { PendingChallenges } from './challenges.ts'
import { Finishing } from './finishing.ts'
import { HeaderSink } from './header-sink.ts'
import { asksFor, readHello, turnAway } from './hello-gate.ts'
import { Patience } from './patience.ts'
import { Repeats } from './repeats.ts'
import { type ClientService, targetText, type VisitorInfo } from './services.ts'
import type { Tally } from './tally.ts'
import { type TargetBounds, Targets } from './targets.ts'
import type { CertificateState } from './tls/certificate.ts'
import type { TlsSurroundings } from './tls/service.ts'
import { type CertificateSources, endsHere, TlsServices } from './tls/services.ts'
import { VisitorAddresses } from './visitor-address.ts'

/** Where a visitor's stream came from. */
export interface Origin {
  readonly gateway: string
  /** This side drains: nobody is served any more. */
  readonly draining: boolean
  /** Whether the service is offered there. */
  has(service: string): boolean
  unreached(stream: number, code: UnreachedCode): void
  /** A stream that was accepted is over. */
  ended(): void
}

/** What a client serves at once; all of it holds against a hostile gateway. */
export interface Bounds extends TargetBounds {
  streams: number
}

export interface ServingOptions {
  log: Logger
  /** Where the certificates of services come from whose TLS ends here. */
  sources?: CertificateSources | undefined
  /** What is answered in a target's place, where TLS ends here. */
  local?: TlsSurroundings['local']
  tally: Tally
  challenges: PendingChallenges
  bounds?: Bounds | undefined
  addresses?: VisitorAddresses | undefined
}

/** One visitor, from its stream's first frame to its end. */
interface Visitor {
  readonly stream: Stream
  readonly origin: Origin
  service: ClientService | undefined
  /** Resets it, both sides. */
  cut: (reason: TunnelError) => void
  /** Takes no further request of it; undefined: it has none that could be told apart. */
  drain: (() => void) | undefined
}

/**
 * Serves visitors' streams: reads the PROXY header that each begins with, finds the service that it names among
 * those that are offered where it came from, and joins it to the target. The header says nothing else that
 * counts, and none of it reaches the target. A visitor of `https` must also ask for one of the service's hosts; one that
 * comes for an authority's challenge is answered here.
 *
 * Owns every stream that it accepts, and the sockets to targets.
 */
export class Serving {
  readonly #tls: TlsServices
  #services: ReadonlyMap<string, ClientService> = new Map()
  readonly #log: Logger
  readonly #tally: Tally
  readonly #challenges: ChallengeVisits
  readonly #bounds: Bounds
  readonly #addresses: VisitorAddresses
  readonly #visitors = new Set<Visitor>()
  readonly #perService = new Map<string, number>()
  readonly #failures = new Repeats()
  /** Visitors whose PROXY header is not whole, or then their ClientHello. */
  readonly #openings = new Patience<Visitor>(HANDSHAKE_MS, (visitor) => this.#late(visitor))
  readonly #dials = new Patience<Visitor>(TARGET_CONNECT_MS, (visitor) => this.#lateTarget(visitor))
  readonly #finishing = new Finishing<Visitor>((visitor) => this.#end(visitor))
  readonly #targets: Targets
  #bytesIn = 0
  #bytesOut = 0
  #quiet: (() => void) | undefined

  constructor(options: ServingOptions) {
    const { log, tally, challenges, bounds, addresses, sources = NO_SOURCES, local } = options
    this.#log = log
    this.#tally = tally
    this.#challenges = new ChallengeVisits({
      pending: challenges,
      log,
      count: (code) => tally.count(code),
      warn: (key, text) => this.#warn(key, text),
    })
    this.#bounds = bounds ?? {
      streams: STREAMS_PER_CLIENT,
      perService: STREAMS_PER_SERVICE,
      sockets: descriptorsForVisitors(),
      dialsPerSecond: TARGET_DIALS_PER_SECOND,
      dialsBurst: TARGET_DIALS_BURST,
    }
    this.#addresses = addresses ?? new VisitorAddresses()
    this.#targets = new Targets(this.#bounds, (service, text) => this.#warn(service, text))
    this.#tls = new TlsServices({
      sources,
      // Kept between visits, most of them.
      dial: (service) => this.#targets.dial(service)?.setKeepAlive(true, TCP_KEEPALIVE_MS),
      count: (code) => tally.count(code),
      warn: (key, text) => this.#warn(key, text),
      debug: (text) => this.#log.debug(text),
      local,
    })
  }

  /** The certificate chains that visitors are shown, PEM. */
  get chains(): string[] {
    return this.#tls.chains
  }

  get services(): ReadonlyMap<string, ClientService> {
    return this.#services
  }

  /** Those that are gone or changed let nobody in any more; visitors that they have go on. */
  set services(services: ReadonlyMap<string, ClientService>) {
    this.#services = services
    this.#tls.update(services.values())
  }

  /** Of a service whose TLS ends here. */
  certificate(service: string): CertificateState | undefined {
    return this.#tls.get(service)?.certificate
  }

  /** Takes no further request of visitors, of one tunnel or of all. */
  drain(origin?: Origin): void {
    for (const visitor of this.#visitors)
      if (origin === undefined || visitor.origin === origin) visitor.drain?.()
  }

  get active(): number {
    return this.#visitors.size
  }

  /** From visitors and to them, by streams that ended and live ones. */
  get bytes(): { in: number; out: number } {
    let bytesIn = this.#bytesIn
    let bytesOut = this.#bytesOut
    for (const { stream } of this.#visitors) {
      bytesIn += stream.bytesIn
      bytesOut += stream.bytesOut
    }
    return { in: bytesIn, out: bytesOut }
  }

  /** Takes over a stream that a gateway opened. */
  accept(stream: Stream, origin: Origin): void {
    const visitor: Visitor = {
      stream,
      origin,
      service: undefined,
      cut: () => stream.reset(),
      drain: undefined,
    }
    this.#visitors.add(visitor)
    if (origin.draining) this.#refuse(visitor, 'draining')
    else if (this.#visitors.size > this.#bounds.streams) {
      this.#warn('client', `more than ${this.#bounds.streams} visitors at once: further ones are sent away`)
      this.#refuse(visitor, 'overloaded')
    } else this.#readHeader(visitor)
  }

  /** Resolves when nobody is served any more, or after `ms`. */
  async quiet(ms: Millis): Promise<void> {
    if (this.#visitors.size === 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#quiet = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** Resets everybody. Resolves when nothing is left. */
  close(): Promise<void> {
    const reason = new TunnelError('closed', { scope: 'stream', detail: 'the client was closed' })
    for (const visitor of this.#visitors) {
      visitor.cut(reason)
      this.#end(visitor)
    }
    this.#openings.close()
    this.#dials.close()
    return this.#tls.close()
  }

  // ── The header ────────────────────────────────────────────────────────────────────────────────────────

  #readHeader(visitor: Visitor): void {
    this.#openings.add(visitor)
    visitor.stream.sink = new HeaderSink({
      header: (header, rest) => {
        this.#openings.delete(visitor)
        this.#serve(visitor, header, rest)
      },
      failed: (reason) => this.#unserved(visitor, reason),
    })
  }

  /** It does not begin as it must. */
  #unserved(visitor: Visitor, reason: TunnelError): void {
    visitor.stream.reset()
    this.#tally.count(reason.code)
    this.#log.debug({ gateway: visitor.origin.gateway, code: reason.code }, printable(reason.message))
    this.#end(visitor)
  }

  #late(visitor: Visitor): void {
    visitor.cut(
      new TunnelError('timeout', { scope: 'stream', remote: true, detail: 'it took too long to begin' }),
    )
    this.#tally.count('timeout')
    this.#end(visitor)
  }

  // ── The service ───────────────────────────────────────────────────────────────────────────────────────

  #serve(visitor: Visitor, header: ProxyHeader, rest: Uint8Array): void {
    const { origin } = visitor
    const name = header.service ?? ''
    const service = origin.has(name) ? this.#services.get(name) : undefined
    if (origin.draining) return this.#refuse(visitor, 'draining')
    if (service === undefined) {
      this.#warn(
        'unknown',
        `gateway ${origin.gateway} asks for a service that is not offered there: ${printable(name)}`,
      )
      return this.#refuse(visitor, 'unknown_service')
    }
    const active = this.#perService.get(name) ?? 0
    if (active >= this.#bounds.perService) return this.#overloaded(visitor, name, active)
    visitor.service = service
    this.#perService.set(name, active + 1)
    if (service.type === 'https') this.#readHello(visitor, service, header, rest)
    else this.#admit(visitor, service, header, [rest])
  }

  #overloaded(visitor: Visitor, name: string, active: number): void {
    this.#warn(name, `service "${name}" is overloaded: ${active} visitors, further ones are sent away`)
    this.#refuse(visitor, 'overloaded')
  }

  /** What the gateway says that the visitor asked for is not looked at. */
  #readHello(visitor: Visitor, service: ClientService, header: ProxyHeader, rest: Uint8Array): void {
    this.#openings.add(visitor)
    // A target that speaks TLS itself may order certificates by itself.
    const ours = endsHere(service)
    readHello(visitor.stream, rest, {
      hello: (hello, first) => {
        this.#openings.delete(visitor)
        if (visitor.origin.draining) this.#refuse(visitor, 'draining')
        else if (!asksFor(hello, service.hosts)) this.#turnAway(visitor, service, hello)
        else if (ours && isOnlyAlpn(hello, ACME_ALPN)) {
          const { serverName = '' } = hello
          this.#challenged(visitor, service, (visit) => this.#challenges.tls(visit, serverName, first))
        } else if (ours) this.#handshake(visitor, service, header, hello, first)
        else this.#admit(visitor, service, header, first, hello)
      },
      failed: (reason) => this.#unserved(visitor, reason),
      // No TLS: an authority's request, since nobody else is passed on so.
      ...(ours && {
        plain: (first: Uint8Array) => {
          if (visitor.origin.draining) this.#refuse(visitor, 'draining')
          else this.#challenged(visitor, service, (visit) => this.#challenges.http(visit, first))
        },
      }),
    })
  }

  #turnAway(visitor: Visitor, { name }: ClientService, { serverName }: ClientHello): void {
    this.#tally.count('unknown_service')
    const wanted = serverName === undefined ? 'without a host' : `for ${printable(serverName)}`
    this.#warn(
      `host of ${name}`,
      `gateway ${visitor.origin.gateway} sends service "${name}" a visitor ${wanted}, which is not its own: turned away`,
    )
    turnAway(visitor.stream, 'unrecognized_name')
    this.#finish(visitor, LINGER_MS)
  }

  /** It comes for an authority's challenge, of whatever gateway: `answer` is given what it needs, and nothing of the service. */
  #challenged(visitor: Visitor, service: ClientService, answer: (visit: ChallengeVisit) => () => void): void {
    const { stream, origin } = visitor
    this.#openings.add(visitor)
    const over = (): void => {
      this.#openings.delete(visitor)
      this.#finish(visitor, LINGER_MS)
    }
    visitor.cut = answer({ stream, service, gateway: origin.gateway, over })
  }

  /** Its TLS ends here. */
  #handshake(
    visitor: Visitor,
    { name }: ClientService,
    header: ProxyHeader,
    hello: ClientHello,
    first: readonly Uint8Array[],
  ): void {
    const service = this.#tls.get(name)
    if (service === undefined) return this.#refuse(visitor, 'unknown_service')
    const guest = service.accept({
      stream: visitor.stream,
      first,
      hello,
      info: this.#infoOf(visitor, header, name),
      closed: () => this.#finish(visitor),
    })
    visitor.cut = () => guest.cut()
    visitor.drain = () => guest.drain()
  }

  #infoOf({ origin }: Visitor, header: ProxyHeader, service: string): VisitorInfo {
    const { address: remoteAddress, port: remotePort } = this.#addresses.of(header) ?? {}
    return { remoteAddress, remotePort, service, gateway: origin.gateway }
  }

  /** `first` is what the visitor has sent, and not consumed. */
  #admit(
    visitor: Visitor,
    service: ClientService,
    header: ProxyHeader,
    first: readonly Uint8Array[],
    hello?: ClientHello,
  ): void {
    const { serve } = service
    if (serve !== undefined) this.#serveHere(visitor, service, serve, header, first)
    else {
      const socket = this.#targets.dial(service)
      if (socket === undefined) this.#refuse(visitor, 'overloaded')
      else this.#join(visitor, service, socket, header, first, hello)
    }
  }

  #join(
    visitor: Visitor,
    service: ClientService,
    socket: Socket,
    header: ProxyHeader,
    first: readonly Uint8Array[],
    hello: ClientHello | undefined,
  ): void {
    // Ours alone: what the gateway wrote stays here. It waits in the socket until there is a connection.
    if (service.proxyHeader) {
      const tlvs: ProxyTlvs | undefined = hello && { authority: hello.serverName, alpn: hello.alpnBytes }
      socket.write(encodeProxyHeader({ source: this.#addresses.of(header), tlvs }))
    }
    let connected = false
    this.#dials.add(visitor)
    socket.once(readyEvent(socket), () => {
      // A target that is not the right one was turned away before this.
      connected = !socket.destroyed
      this.#dials.delete(visitor)
    })
    const joined = splice(socket, visitor.stream, {
      first,
      idleMs: service.idleMs,
      onEnd: ({ error }: SpliceResult) => {
        if (error === undefined) this.#finish(visitor)
        else {
          this.#broken(visitor, service, error, connected)
          this.#end(visitor)
        }
      },
    })
    visitor.cut = (reason) => joined.abort(reason)
  }

  /** A connection to a target ended in disorder. Only one that was never made can be tried elsewhere. */
  #broken(visitor: Visitor, service: ClientService, error: TunnelError, connected: boolean): void {
    this.#tally.count(error.code)
    if (connected || visitor.stream.closed || !isUnreached(error.code)) return
    visitor.origin.unreached(visitor.stream.id, error.code)
    this.#warn(
      service.name,
      `target ${targetText(service)} of service "${service.name}" fails: ${error.message}`,
    )
  }

  #lateTarget(visitor: Visitor): void {
    const detail = `no connection within ${TARGET_CONNECT_MS / 1000} s`
    visitor.cut(new TunnelError('timeout', { scope: 'stream', remote: true, detail }))
  }

  #serveHere(
    visitor: Visitor,
    service: ClientService,
    serve: NonNullable<ClientService['serve']>,
    header: ProxyHeader,
    chunks: readonly Uint8Array[],
  ): void {
    const first = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)
    const info = this.#infoOf(visitor, header, service.name)
    const { remoteAddress, remotePort } = info
    const duplex = duplexOf(visitor.stream, { remoteAddress, remotePort, first })
    visitor.cut = () => duplex.resetAndDestroy()
    duplex.once('close', () => this.#finish(visitor))
    // The owner's own listeners come on top; without any, a visitor's reset must not end the process.
    duplex.on('error', ({ message }) => this.#log.debug({ service: service.name }, message))
    try {
      serve(duplex, info)
    } catch (error) {
      this.#log.error({ err: error, service: service.name }, `service "${service.name}" threw at a visitor`)
      duplex.resetAndDestroy()
    }
  }

  // ── The end ───────────────────────────────────────────────────────────────────────────────────────────

  /** Not one byte reached a target: the gateway may send the visitor elsewhere. */
  #refuse(visitor: Visitor, code: UnreachedCode): void {
    this.#tally.count(code)
    visitor.origin.unreached(visitor.stream.id, code)
    visitor.stream.reset()
    this.#end(visitor)
  }

  /**
   * Its target is done, and its last bytes may still wait for a visitor that reads slowly: until they have left
   * it counts, so that no drain ends the tunnel under them. One that takes nothing for `mostMs` is reset.
   */
  #finish(visitor: Visitor, mostMs: Millis = HALF_CLOSED_MS): void {
    const { stream, service } = visitor
    if (stream.closed) {
      this.#end(visitor)
      return
    }
    visitor.cut = () => stream.reset()
    const idleMs = service?.idleMs ?? 0
    this.#finishing.add(visitor, idleMs > 0 ? Math.min(idleMs, mostMs) : mostMs)
  }

  /** Once per visitor, whatever happened. */
  #end(visitor: Visitor): void {
    if (!this.#visitors.delete(visitor)) return
    this.#openings.delete(visitor)
    this.#dials.delete(visitor)
    this.#finishing.delete(visitor)
    this.#bytesIn += visitor.stream.bytesIn
    this.#bytesOut += visitor.stream.bytesOut
    const name = visitor.service?.name
    if (name !== undefined) {
      const left = (this.#perService.get(name) ?? 0) - 1
      if (left > 0) this.#perService.set(name, left)
      else this.#perService.delete(name)
    }
    visitor.origin.ended()
    if (this.#visitors.size === 0) this.#quiet?.()
  }

  #warn(key: string, text: string): void {
    const times = this.#failures.note(key, performance.now())
    if (times !== undefined) this.#log.warn(times === 1 ? text : `${text} (${times} times)`)
  }
}

/** For a client that has no service of that kind. */
const NO_SOURCES: CertificateSources = {
  about: () => '',
  of({ name }) {
    const detail = `service "${name}" has no source of certificates`
    throw new TunnelError('internal', { scope: 'process', detail })
  },
}

function isUnreached(code: string): code is UnreachedCode {
  return (UNREACHED_CODES as readonly string[]).includes(code)
}
