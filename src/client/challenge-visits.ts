/**
 * How a visitor is answered that comes from a certificate authority, or says so: by this process alone, for a challenge
 * that it has offered. Nothing here reaches a target.
 */
import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls'
import type { Logger } from 'pino'
import type { ErrorCode } from '../errors.ts'
import { HeadReader, HttpFault, RequestHead } from '../http1/index.ts'
import { CHALLENGE_HEAD_BYTES, CHALLENGE_VISITORS, HANDSHAKE_MS } from '../limits.ts'
import type { Stream, StreamSink } from '../mux/index.ts'
import { duplexOf } from '../net/index.ts'
import { ACME_ALPN } from '../protocol/index.ts'
import type { ChallengeCertificate } from './challenge-certificate.ts'
import type { PendingChallenges } from './challenges.ts'
import { DEAF, isAmong, turnAway } from './hello-gate.ts'
import type { ClientService } from './services.ts'

/** A visitor's stream, nothing of which is consumed. */
export interface ChallengeVisit {
  readonly stream: Stream
  readonly service: ClientService
  /** Of the gateway, for the log. */
  readonly gateway: string
  /** Called once: it was answered, if only with a no, or is gone. The stream is the callee's to see to its end. */
  readonly over: () => void
}

export interface ChallengeVisitsOptions {
  pending: PendingChallenges
  log: Logger
  count(code: ErrorCode): void
  /** Something that happens again and again. */
  warn(key: string, text: string): void
}

/**
 * The visitors of challenges while they are answered: so many at once, the oldest making room for the newest. Whoever calls
 * keeps the time; the function that each call returns resets the visitor.
 */
export class ChallengeVisits {
  readonly #options: ChallengeVisitsOptions
  readonly #visits = new Set<() => void>()
  /** One of each certificate: it goes with it. */
  readonly #servers = new WeakMap<ChallengeCertificate, Server>()

  constructor(options: ChallengeVisitsOptions) {
    this.#options = options
  }

  /**
   * Shakes hands with the certificate of the pending challenge for `host`, and ends (RFC 8737, 3); says that nobody here
   * speaks the protocol where none is. `first` is all that came, the hello whole.
   */
  tls(visit: ChallengeVisit, host: string, first: readonly Uint8Array[]): () => void {
    const { stream, service } = visit
    const certificate = this.#options.pending.tlsAlpn(service.name, host)
    if (certificate === undefined) {
      this.#unasked(visit)
      turnAway(stream, 'no_application_protocol')
      visit.over()
      return () => stream.reset()
    }
    const [only] = first
    const duplex = duplexOf(stream, { first: first.length === 1 ? only : Buffer.concat(first) })
    const cut = this.#enter(visit, () => duplex.resetAndDestroy())
    duplex.once('close', () => this.#leave(visit, cut))
    duplex.on('error', () => {})
    // A handshake that has ended half-way would be waited for.
    duplex.once('end', () => duplex.destroy())
    this.#serverOf(certificate).emit('connection', duplex)
    return cut
  }

  /**
   * Reads one request of http-01 (RFC 8555, 8.3), and answers it: with the key authorization for exactly the host and token
   * of a pending challenge, else with 404. `first` is what came.
   */
  http(visit: ChallengeVisit, first: Uint8Array): () => void {
    const { stream, service } = visit
    const cut = this.#enter(visit, () => {
      stream.reset()
      this.#leave(visit, cut)
    })
    const request = new HttpRequest({
      find: (host, token) => {
        const found = isAmong(host, service.hosts)
          ? this.#options.pending.http(service.name, host, token)
          : undefined
        if (found === undefined) this.#unasked(visit)
        return found
      },
      over: () => this.#leave(visit, cut),
    })
    stream.sink = request
    request.data(stream, first)
    return cut
  }

  #enter({ service: { name } }: ChallengeVisit, cut: () => void): () => void {
    const [oldest] = this.#visits
    if (oldest !== undefined && this.#visits.size >= CHALLENGE_VISITORS) {
      this.#options.count('overloaded')
      this.#options.warn(
        `challenges of ${name}`,
        `service "${name}" has too many visitors that come for a challenge: those that are slow are sent away`,
      )
      oldest()
    }
    this.#visits.add(cut)
    return cut
  }

  #leave({ over }: ChallengeVisit, cut: () => void): void {
    if (this.#visits.delete(cut)) over()
  }

  #unasked({ service, gateway }: ChallengeVisit): void {
    this.#options.count('unknown_service')
    this.#options.log.debug({ gateway, service: service.name }, 'asked for a challenge that is not ours')
  }

  #serverOf(certificate: ChallengeCertificate): Server {
    const known = this.#servers.get(certificate)
    if (known !== undefined) return known
    const server = serverOf(certificate)
    this.#servers.set(certificate, server)
    return server
  }
}

/** Never listens. Nothing is resumed in it: each certificate has one of its own. */
function serverOf({ key, cert }: ChallengeCertificate): Server {
  const options: TlsOptions = {
    key,
    cert,
    ALPNProtocols: [ACME_ALPN],
    minVersion: 'TLSv1.2',
    handshakeTimeout: HANDSHAKE_MS,
  }
  return createServer(options, (socket) => {
    socket.on('error', () => {})
    socket.resume()
    socket.destroySoon()
  }).on('tlsClientError', (_error: Error, socket: TLSSocket) => socket.destroy())
}

/** RFC 8555, 8.3; what follows is the token and nothing else. */
const WELL_KNOWN = '/.well-known/acme-challenge/'

/** The key authorization of a pending challenge. */
type Find = (host: string, token: string) => string | undefined

interface RequestEvents {
  find: Find
  /** Once: the answer is written, or there can be none. */
  over: () => void
}

class HttpRequest implements StreamSink {
  readonly #events: RequestEvents
  readonly #reader = new HeadReader()

  constructor(events: RequestEvents) {
    this.#events = events
  }

  data(stream: Stream, chunk: Uint8Array): void {
    stream.consume(chunk.length)
    let answer: string
    try {
      const bytes = this.#reader.push(chunk, 0, CHALLENGE_HEAD_BYTES)
      if (bytes === undefined) return
      answer = this.#answer(new RequestHead(bytes, this.#reader.scanner))
    } catch (error) {
      if (!(error instanceof HttpFault)) throw error
      answer = say('400 Bad Request', '')
    }
    stream.sink = DEAF
    stream.write(Buffer.from(answer, 'latin1'))
    stream.end()
    this.#events.over()
  }

  /** The head was not whole. */
  end(stream: Stream): void {
    stream.reset()
    this.#events.over()
  }

  reset(): void {
    this.#events.over()
  }

  drain(): void {}

  #answer({ method, target, host }: RequestHead): string {
    const asked = method === 'GET' && target.startsWith(WELL_KNOWN)
    const found = asked ? this.#events.find(host, target.slice(WELL_KNOWN.length)) : undefined
    return found === undefined ? say('404 Not Found', '') : say('200 OK', found)
  }
}

function say(status: string, body: string): string {
  return (
    `HTTP/1.1 ${status}\r\nContent-Type: application/octet-stream\r\nContent-Length: ${body.length}\r\n` +
    `Cache-Control: no-store\r\nConnection: close\r\n\r\n${body}`
  )
}
