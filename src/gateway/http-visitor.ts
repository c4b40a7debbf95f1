import type { Socket } from 'node:net'
import { TunnelError, type UnreachedCode } from '../errors.ts'
import {
  ChangesOf,
  type Exchange,
  type ExchangeLimits,
  HttpConnection,
  type HttpSite,
  isPlain,
  isRepeatable,
  isSafe,
  type Problem,
  type Refusal,
  type Upstream,
  type UpstreamKeeper,
  type VisitorFacts,
} from '../http/index.ts'
import { type RequestHead, routingPath } from '../http1/index.ts'
import { KEPT_STREAM_SURE_MS, TRIES_PER_VISITOR } from '../limits.ts'
import type { StreamSink } from '../mux/index.ts'
import { plainAddress } from '../net/index.ts'
import { encodeProxyHeader } from '../protocol/index.ts'
import type { ConnectedClient } from './connected-client.ts'
import type { Guest, HttpLobby } from './lobby.ts'
import type { Seat } from './rate.ts'
import type { Route } from './route.ts'
import type { Replica } from './routes.ts'
import { ServiceStream, type StreamHolder } from './service-stream.ts'
import type { RouteTraffic } from './traffic.ts'
import { nextVisitorId } from './visitor-id.ts'

/** A stream that is about to get its sink. Nothing can arrive before that. */
const NOBODY: StreamSink = { data() {}, end() {}, reset() {}, drain() {} }

/**
 * One visitor of the gateway's http port, from accept to end: finds the route of each of its requests, a stream for it, and
 * another one where the first leads nowhere. Owns the socket, by its connection.
 *
 * While its requests go to one service it keeps its stream, so that a request costs no more than a look at its head. A
 * stream on which nothing can be owed goes to the pool when its visitor leaves.
 */
export class HttpVisitor implements HttpSite, Guest, StreamHolder, UpstreamKeeper {
  readonly connection: HttpConnection
  /** Of the peer. */
  readonly address: string
  readonly limits: ExchangeLimits
  /** Of the last request; empty before the first. */
  route: Route = ''
  waitingSince: number | undefined

  readonly #lobby: HttpLobby
  /** Its `address` is the one that is counted: the peer's, or the one for which a trusted proxy speaks. */
  #facts: VisitorFacts
  readonly #changes = new ChangesOf()
  /** Its place among the connections of its route, while it has one. */
  #counted: { route: Route; address: string; seat: Seat } | undefined
  #kept: ServiceStream | undefined
  /** Whose request it carried last: behind a trusted proxy the next one may be another's. */
  #keptFor = ''
  // Of the request that is under way.
  #asked: Route = ''
  #traffic: RouteTraffic | undefined
  #replica: Replica<ConnectedClient> | undefined
  #stream: ServiceStream | undefined
  /** An authority's, for a pending challenge: who answers it, and nobody else. */
  #answerer: Replica<ConnectedClient> | undefined
  /** Clients that it has been tried on, and what the last one came to. */
  #tried: Set<ConnectedClient> | undefined
  #problem: Problem | undefined
  #repeated = false
  #over = false

  constructor(lobby: HttpLobby, socket: Socket) {
    this.#lobby = lobby
    this.address = plainAddress(socket.remoteAddress ?? '')
    const { address } = this
    this.#facts = { peer: address, address, proto: 'http', trusted: lobby.trusted.has(address) }
    this.limits = lobby.limitsOf(undefined)
    this.connection = new HttpConnection(socket, this)
  }

  get bytes(): { in: number; out: number } {
    return { in: this.connection.bytesIn, out: this.connection.bytesOut }
  }

  get idleSince(): number | undefined {
    return this.connection.idleSince
  }

  // ── The lobby speaks ──────────────────────────────────────────────────────────────────────────────────

  /** From its connection, with a request that has just begun, or from the lobby: there may be a client again. False: it waits. */
  seek(begun?: Exchange): boolean {
    if (begun !== undefined) return this.#seek(begun, begun.begunAt)
    const { exchange } = this.connection
    if (exchange === undefined || exchange.answered || exchange.upstream !== undefined) return true
    return this.#seek(exchange, performance.now())
  }

  dismiss(problem: Problem): void {
    this.#lobby.leave(this)
    const { exchange } = this.connection
    if (exchange === undefined) this.connection.drain()
    else exchange.refuse(problem)
  }

  cut(): void {
    if (this.#over) return
    this.connection.cut(new TunnelError('closed', { scope: 'visitor', detail: 'the visitor was cut' }))
  }

  drain(): void {
    this.connection.drain()
  }

  giveWay(): void {
    const detail = 'the visitor was idle, and there was no room for others'
    this.connection.cut(new TunnelError('idle', { scope: 'visitor', detail }))
  }

  /** A client that drains gets no further request: a stream that carries none is ended. */
  leave(stream: ServiceStream): void {
    if (this.#kept !== stream) return
    this.#kept = undefined
    stream.retire()
  }

  gone(stream: Upstream, why: 'ended' | 'reset' | 'desync'): void {
    if (why === 'desync') this.#lobby.count('desync')
    const kept = this.#kept
    if (kept !== stream) return
    this.#kept = undefined
    kept.forget()
  }

  // ── The connection speaks ─────────────────────────────────────────────────────────────────────────────

  begin(exchange: Exchange): Refusal | undefined {
    const lobby = this.#lobby
    const { head } = exchange
    this.#tried = undefined
    this.#problem = undefined
    this.#repeated = false
    this.#traffic = undefined
    this.#asked = ''
    this.#answerer = undefined
    if (this.#facts.trusted) this.#facts = { ...this.#facts, address: lobby.visitorOf(this.address, head) }
    const found = this.#routeOf(head)
    if (typeof found !== 'string') return found
    const route = found

    this.#asked = route
    const limits = lobby.limitsOf(route)
    exchange.limits = limits
    const now = exchange.begunAt
    const traffic = lobby.traffic(route)
    this.#traffic = traffic
    exchange.meter = traffic
    traffic.in += head.bytes.length
    const refused = this.#move(route) ?? lobby.admit(this, this.#facts.address, route, now)
    if (refused !== undefined) return refused
    if (head.bytes.length > limits.headBytes) return { problem: 'head_too_large' }
    if (limits.bodyBytes > 0 && head.length > limits.bodyBytes) return { problem: 'body_too_large' }
    traffic.asked(now)
    return undefined
  }

  #routeOf(head: RequestHead): Route | Refusal {
    const lobby = this.#lobby
    const host = lobby.hosts.find(head.host)
    if (host === undefined) return { problem: 'no_route' }
    this.#answerer = lobby.answererOf(head)
    if (this.#answerer !== undefined) return this.#answerer.route
    if (!host.plain && host.tls !== undefined) return lobby.toTls(head)
    const path = host.byPath ? routingPath(head.target) : '/'
    if (path === undefined) return { problem: 'bad_request', detail: AMBIGUOUS }
    return host.route(path) ?? { problem: 'no_route' }
  }

  lost(exchange: Exchange, upstream: Upstream, reason: TunnelError): void {
    const stream = upstream as ServiceStream
    const unreached = this.#unreachedOf(stream)
    const replica = this.#replica
    const now = performance.now()
    this.#endRequest()
    stream.forget()
    if (this.#answerer !== undefined) {
      exchange.refuse(unreached ?? 'lost')
      return
    }
    if (unreached !== undefined) {
      this.#problem = unreached
      if (unreached === 'draining') this.#lobby.draining(stream.client)
      else {
        this.#try(stream.client)
        if (replica !== undefined && unreached !== 'overloaded') this.#lobby.routes.failed(replica, now)
      }
      if (exchange.replayable && (this.#tried?.size ?? 0) < TRIES_PER_VISITOR) this.#seek(exchange, now)
      else exchange.refuse(unreached)
      return
    }
    // It may have run.
    this.#problem = reason.code === 'closed' ? 'no_answer' : 'lost'
    const again =
      !this.#repeated &&
      exchange.replayable &&
      isRepeatable(exchange.head, stream.offer.retry) &&
      this.#traffic?.mayRetry(now) === true
    if (!again) {
      exchange.refuse(this.#problem)
      return
    }
    this.#repeated = true
    // A stream that was used before may have died of age; one that was new died of this request, or of its client.
    if (stream.requests === 1) this.#try(stream.client)
    this.#lobby.count('retried')
    this.#seek(exchange, now)
  }

  left(_exchange: Exchange): boolean {
    // While there is only no room just now it waits on.
    return !this.#lobby.routes.usable(this.route)
  }

  done(exchange: Exchange, now: number): void {
    const lobby = this.#lobby
    if (this.waitingSince !== undefined) lobby.leave(this)
    this.waitingSince = undefined
    const replica = this.#replica
    const stream = this.#stream
    if (replica !== undefined && exchange.problem === 'response_timeout') lobby.routes.failed(replica, now)
    else if (replica !== undefined && exchange.status !== 0 && exchange.problem === undefined)
      lobby.routes.worked(replica)
    lobby.answered({
      exchange,
      traffic: this.#traffic,
      route: this.#asked,
      address: this.#facts.address,
      replica,
    })
    this.#endRequest()
    if (stream === undefined) return
    if (stream.usable && this.#answerer === undefined && stream.client.usable) {
      stream.keeper = this
      stream.idleSince = now
      this.#kept = stream
      this.#keptFor = this.#facts.address
    } else if (stream.usable) stream.retire()
    else stream.forget()
  }

  rests(): void {
    if (this.#kept?.personal !== true) this.#giveBack()
  }

  malformed(problem: Problem, requestId: string): void {
    this.#lobby.malformed(problem, requestId, this.address)
  }

  closed(error: TunnelError | undefined): void {
    if (this.#over) return
    this.#over = true
    this.#lobby.leave(this)
    this.#giveBack()
    this.#uncount()
    this.#lobby.done(this, this.bytes, error?.code)
  }

  // ── Streams ───────────────────────────────────────────────────────────────────────────────────────────

  /** Gives the request a stream, or lets it wait, or refuses it. False: it waits. */
  #seek(exchange: Exchange, now: number): boolean {
    if (this.#answerer !== undefined) return this.#seekAnswerer(exchange, this.#answerer, now)
    const { routes } = this.#lobby
    if (this.#useKept(exchange, now)) return true
    this.#giveBack(now)
    let full: Set<ConnectedClient> | undefined
    for (;;) {
      const replica = routes.pick(this.route, full ?? this.#tried, now)
      if (replica === undefined) break
      const stream = this.#streamTo(replica, exchange, now)
      if (stream !== undefined) {
        this.#send(exchange, stream, replica, now)
        return true
      }
      full ??= new Set(this.#tried)
      full.add(replica.tunnel)
    }
    // Every replica was tried; waiting for them would only repeat the question.
    if (full === undefined && this.#problem !== undefined && routes.usable(this.route)) {
      exchange.refuse(this.#problem)
      return true
    }
    if (this.#mayWait(exchange) && this.#lobby.hold(this, this.route)) return false
    exchange.refuse('absent')
    return true
  }

  /** It does not wait: whoever is to show that the host is theirs is there, or is not. */
  #seekAnswerer(exchange: Exchange, replica: Replica<ConnectedClient>, now: number): true {
    this.#giveBack(now)
    const stream = replica.tunnel.usable ? replica.tunnel.open(NOBODY) : undefined
    if (stream === undefined) exchange.refuse('absent')
    else {
      stream.write(this.#header(replica.service, false))
      this.#send(exchange, new ServiceStream(stream, replica, this, false), replica, now)
    }
    return true
  }

  /** Who sends no more may have gone: what may be done only once is not kept to be done for nobody. */
  #mayWait({ head }: Exchange): boolean {
    return !this.connection.halfClosed || isSafe(head) || this.#lobby.routes.usable(this.route)
  }

  /** Its last stream, if that leads where this request goes. */
  #useKept(exchange: Exchange, now: number): boolean {
    const kept = this.#kept
    if (kept === undefined || this.#tried?.has(kept.client) === true) return false
    // Another visitor's request gets only what the pool would give it.
    if (this.#keptFor !== this.#facts.address) return false
    const replica = this.#lobby.routes.replicaOf(this.route, kept.replica)
    if (replica === undefined || !kept.client.usable || !kept.fits(replica)) return false
    // A target closes connections that rest. What cannot be repeated does not go where it may be lost to that.
    const sure =
      kept.personal ||
      isRepeatable(exchange.head, kept.offer.retry) ||
      now - kept.idleSince < KEPT_STREAM_SURE_MS
    if (!sure) return false
    // What the last answer may owe still would be taken for the one to this request, and that for the next visitor's.
    if (now - kept.idleSince < kept.silenceMs) kept.shareable = false
    this.#kept = undefined
    this.#send(exchange, kept, replica, now)
    return true
  }

  #streamTo(replica: Replica<ConnectedClient>, exchange: Exchange, now: number): ServiceStream | undefined {
    const shareable = isPlain(exchange.head) && replica.offer.share !== false
    if (shareable && !this.#repeated) {
      const pooled = this.#lobby.pool.take(replica, now)
      if (pooled !== undefined) {
        pooled.holder = this
        return pooled
      }
    }
    const stream = replica.tunnel.open(NOBODY)
    if (stream === undefined) return undefined
    stream.write(this.#header(replica.service, shareable))
    return new ServiceStream(stream, replica, this, shareable)
  }

  #send(exchange: Exchange, stream: ServiceStream, replica: Replica<ConnectedClient>, now: number): void {
    if (this.waitingSince !== undefined) this.#lobby.leave(this)
    this.#replica = replica
    this.#stream = stream
    stream.keeper = this
    this.#lobby.routes.begin(replica)
    exchange.use(stream, this.#changes.of(exchange, replica.offer, this.#facts), now)
  }

  /** Without addresses on a stream that others may follow on: each request says whose it is. */
  #header(service: string, shareable: boolean): Buffer {
    const { remotePort, localAddress, localPort } = this.connection.socket
    const known = !shareable && this.address !== ''
    return encodeProxyHeader({
      ...(known ? { source: { address: this.address, port: remotePort ?? 0 } } : {}),
      ...(known
        ? { destination: { address: plainAddress(localAddress ?? '0.0.0.0'), port: localPort ?? 0 } }
        : {}),
      tlvs: {
        alpn: undefined,
        authority: undefined,
        uniqueId: nextVisitorId(),
        service,
      },
    })
  }

  /** The client's word that no byte reached its target; only of a stream on which none came back. */
  #unreachedOf({ client, stream }: ServiceStream): UnreachedCode | undefined {
    if (stream.bytesIn > 0) return undefined
    const never = client.tunnel.peerLeft && !stream.acknowledged
    return client.unreached.get(stream.id) ?? (never ? 'draining' : undefined)
  }

  #try(client: ConnectedClient): void {
    this.#tried ??= new Set()
    this.#tried.add(client)
  }

  #endRequest(): void {
    if (this.#replica !== undefined) this.#lobby.routes.end(this.#replica)
    this.#replica = undefined
    this.#stream = undefined
  }

  /** The stream that carries nothing goes to the pool, if it may; it is no longer this visitor's. */
  #giveBack(now = performance.now()): void {
    const kept = this.#kept
    if (kept === undefined) return
    this.#kept = undefined
    this.#lobby.pool.put(kept, now)
  }

  // ── Counting ──────────────────────────────────────────────────────────────────────────────────────────

  /** Counts the connection where its request goes. */
  #move(route: Route): Refusal | undefined {
    const counted = this.#counted
    if (counted?.route === route && counted.address === this.#facts.address) return undefined
    this.#uncount()
    this.route = route
    const taken = this.#lobby.enter(this, this.#facts.address, route)
    if ('problem' in taken) return taken
    this.#counted = { route, address: this.#facts.address, seat: taken }
    return undefined
  }

  #uncount(): void {
    this.#counted?.seat.leave()
    this.#counted = undefined
  }
}

const AMBIGUOUS = 'its path can be read in more than one way, and this host has services by path'
