/**
 * How a visitor is answered that comes from a certificate authority, or says so: by this process alone, for a challenge
 * that it has offered. Nothing here reaches a target.
 */
import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls'
import { HeadReader, HttpFault, RequestHead } from '../http1/index.ts'
import { CHALLENGE_HEAD_BYTES, HANDSHAKE_MS } from '../limits.ts'
import type { Stream, StreamSink } from '../mux/index.ts'
import { duplexOf } from '../net/index.ts'
import { ACME_ALPN } from '../protocol/index.ts'
import type { ChallengeCertificate } from './challenge-certificate.ts'
import { DEAF } from './hello-gate.ts'

/** One of each certificate: it goes with it. */
const servers = new WeakMap<ChallengeCertificate, Server>()

/**
 * Shakes hands with the challenge's certificate, and ends (RFC 8737, 3). `first` is all that came, the hello whole, and is
 * not consumed. `over` is called once, when the stream has its end or was reset. Returns what resets it.
 */
export function answerTls(
  stream: Stream,
  first: readonly Uint8Array[],
  certificate: ChallengeCertificate,
  over: () => void,
): () => void {
  const [only] = first
  const duplex = duplexOf(stream, { first: first.length === 1 ? only : Buffer.concat(first) })
  duplex.once('close', over)
  duplex.on('error', () => {})
  // A handshake that has ended half-way would be waited for.
  duplex.once('end', () => duplex.destroy())
  let server = servers.get(certificate)
  if (server === undefined) servers.set(certificate, (server = serverOf(certificate)))
  server.emit('connection', duplex)
  return () => duplex.resetAndDestroy()
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

/**
 * Reads one request of http-01 (RFC 8555, 8.3), and answers it: with what `find` has for exactly that host and token, else
 * with 404. `first` came before, and is not consumed. `over` is called once, when the answer is written, or there can be none.
 */
export function answerHttp(stream: Stream, first: Uint8Array, find: Find, over: () => void): void {
  const visit = new HttpVisit(find, over)
  stream.sink = visit
  visit.data(stream, first)
}

class HttpVisit implements StreamSink {
  readonly #find: Find
  readonly #over: () => void
  readonly #reader = new HeadReader()

  constructor(find: Find, over: () => void) {
    this.#find = find
    this.#over = over
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
    this.#over()
  }

  /** The head was not whole. */
  end(stream: Stream): void {
    stream.reset()
    this.#over()
  }

  reset(): void {
    this.#over()
  }

  drain(): void {}

  #answer({ method, target, host }: RequestHead): string {
    const asked = method === 'GET' && target.startsWith(WELL_KNOWN)
    const found = asked ? this.#find(host, target.slice(WELL_KNOWN.length)) : undefined
    return found === undefined ? say('404 Not Found', '') : say('200 OK', found)
  }
}

function say(status: string, body: string): string {
  return (
    `HTTP/1.1 ${status}\r\nContent-Type: application/octet-stream\r\nContent-Length: ${body.length}\r\n` +
    `Cache-Control: no-store\r\nConnection: close\r\n\r\n${body}`
  )
}
