/** The port 80 and 443 of a host as its CA sees them, with nothing there but proofs. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import tls from 'node:tls'
import { Extension } from '@peculiar/x509'
import type { ChallengeBroker } from '../../src/client/acme/proofs.ts'
import { Authority } from './authority.ts'

type Challenge = Parameters<ChallengeBroker['offer']>[0]

/** RFC 8737, 3. */
const ACME_IDENTIFIER = '1.3.6.1.5.5.7.1.31'

/** A broker that needs no gateway. */
export class Proving implements ChallengeBroker {
  /** All that was offered, in order. */
  readonly offered: Challenge[] = []
  /** Those that are to be seen now. */
  readonly there = new Set<Challenge>()
  /** Throws instead of offering. */
  refuses: Error | undefined
  readonly #http: http.Server
  readonly #tls: net.Server
  readonly #sockets = new Set<net.Socket>()

  static async start(): Promise<Proving> {
    const proving = new Proving(await Authority.create())
    await Promise.all([once(proving.#http, 'listening'), once(proving.#tls, 'listening')])
    return proving
  }

  constructor(authority: Authority) {
    this.#http = http.createServer((request, response) => {
      const prefix = '/.well-known/acme-challenge/'
      const found = [...this.there].find(
        ({ kind, token, host }) =>
          kind === 'http-01' &&
          request.url === `${prefix}${token}` &&
          request.headers.host?.split(':')[0] === host,
      )
      response.statusCode = found === undefined ? 404 : 200
      response.end(found?.keyAuthorization)
    })
    this.#tls = tls.createServer(
      {
        ALPNProtocols: ['acme-tls/1'],
        SNICallback: (name, done) => {
          const found = [...this.there].find(({ kind, host }) => kind === 'tls-alpn-01' && host === name)
          if (found === undefined) done(new Error('no challenge'))
          else void answer(authority, found, done)
        },
      },
      (socket) => socket.end(),
    )
    for (const server of [this.#http, this.#tls]) {
      server.on('connection', (socket: net.Socket) => {
        this.#sockets.add(socket)
        socket.on('close', () => this.#sockets.delete(socket))
      })
      server.listen(0, '127.0.0.1')
    }
    this.#tls.on('tlsClientError', () => undefined)
  }

  get httpPort(): number {
    return (this.#http.address() as net.AddressInfo).port
  }

  get tlsPort(): number {
    return (this.#tls.address() as net.AddressInfo).port
  }

  offer(challenge: Challenge): Promise<() => void> {
    if (this.refuses !== undefined) return Promise.reject(this.refuses)
    this.offered.push(challenge)
    this.there.add(challenge)
    return Promise.resolve(() => {
      this.there.delete(challenge)
    })
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await Promise.all(
      [this.#http, this.#tls].map((server) => new Promise((resolve) => server.close(resolve))),
    )
  }
}

async function answer(
  authority: Authority,
  challenge: Challenge,
  done: (error: Error | null, context?: tls.SecureContext) => void,
): Promise<void> {
  done(null, await proofOf(authority, challenge))
}

async function proofOf(
  authority: Authority,
  { host, keyAuthorization }: Challenge,
): Promise<tls.SecureContext> {
  const hash = createHash('sha256').update(keyAuthorization).digest()
  // An OCTET STRING of 32 bytes.
  const value = Uint8Array.from([4, 32, ...hash])
  const extension = new Extension(ACME_IDENTIFIER, true, value)
  return tls.createSecureContext(await authority.server([{ type: 'dns', value: host }], [extension]))
}
