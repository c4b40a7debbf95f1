/** A CA in this process that does as RFC 8555 says, but for what a test has it say instead. */
import { once } from 'node:events'
import https from 'node:https'
import type net from 'node:net'
import { Authority, requestOf, type Wanted } from './authority.ts'

export interface Asked {
  /** `directory`, `newOrder`, `order`, `authorization`, `challenge`, `finalize`, `certificate`, `renewalInfo`, … */
  resource: string
  path: string
  method: string
  /** The JWS's. */
  header: Record<string, unknown>
  payload: unknown
}

export interface Said {
  status?: number
  headers?: Record<string, string>
  /** JSON, unless it is text or bytes. */
  body?: unknown
}

interface FakeOrder {
  status: string
  identifiers: { type: string; value: string }[]
  csr?: string
}

/** Says something in place of the usual answer; undefined: the usual. */
export type Instead = (
  asked: Asked,
  usual: () => Promise<Said>,
) => Said | undefined | Promise<Said | undefined>

export class FakeCa {
  readonly asked: Asked[] = []
  readonly authority: Authority
  readonly orders: FakeOrder[] = []
  /** By resource. */
  instead: Record<string, Instead> = {}
  /** Of the certificates to come. */
  lifetime: Pick<Wanted, 'notBefore' | 'notAfter'> = {}
  readonly #server: https.Server
  readonly #sockets = new Set<net.Socket>()
  #nonces = 0

  static async start(): Promise<FakeCa> {
    const authority = await Authority.create()
    const ca = new FakeCa(authority, await authority.server())
    await once(ca.#server, 'listening')
    return ca
  }

  constructor(authority: Authority, credentials: { key: string; cert: string }) {
    this.authority = authority
    this.#server = https.createServer(credentials, (request, response) => {
      void this.#serve(request).then(({ status = 200, headers = {}, body = '' }) => {
        const raw = typeof body === 'string' || Buffer.isBuffer(body)
        const type = status >= 400 ? 'application/problem+json' : 'application/json'
        response.writeHead(status, { ...(raw ? {} : { 'content-type': type }), ...headers })
        response.end(raw ? body : JSON.stringify(body))
      })
    })
    this.#server.on('connection', (socket: net.Socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    this.#server.on('tlsClientError', () => undefined)
    this.#server.listen(0, '127.0.0.1')
  }

  get origin(): string {
    return `https://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`
  }

  get directory(): string {
    return `${this.origin}/directory`
  }

  /** How often a resource was asked for. */
  count(resource: string): number {
    return this.asked.filter((one) => one.resource === resource).length
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  async #serve(request: import('node:http').IncomingMessage): Promise<Said> {
    const chunks: Buffer[] = []
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
    const path = request.url ?? ''
    const resource = path.split('/')[1] ?? ''
    const asked: Asked = { resource, path, method: request.method ?? '', ...readJws(Buffer.concat(chunks)) }
    this.asked.push(asked)
    const usual = async (): Promise<Said> => {
      const said = await this.#usual(asked)
      return { ...said, headers: { 'replay-nonce': `n${this.#nonces++}`, ...said.headers } }
    }
    return (await this.instead[resource]?.(asked, usual)) ?? usual()
  }

  async #usual({ resource, path, payload }: Asked): Promise<Said> {
    const at = Number(path.split('/')[2] ?? 0)
    const order = this.orders[at]
    switch (resource) {
      case 'directory':
        return {
          body: {
            ...Object.fromEntries(
              ['newNonce', 'newAccount', 'newOrder', 'revokeCert', 'renewalInfo'].map((name) => [
                name,
                `${this.origin}/${name}`,
              ]),
            ),
            meta: { termsOfService: `${this.origin}/terms` },
          },
        }
      case 'newNonce':
      case 'revokeCert':
        return {}
      case 'newAccount':
        return { status: 201, headers: { location: `${this.origin}/account/1` }, body: { status: 'valid' } }
      case 'newOrder': {
        const { identifiers } = payload as FakeOrder
        const made = this.orders.push({ status: 'pending', identifiers }) - 1
        return { status: 201, headers: { location: `${this.origin}/order/${made}` }, body: this.order(made) }
      }
      case 'order':
        return order === undefined ? notFound : { body: this.order(at) }
      case 'authorization':
        return { body: this.authorization(at, Number(path.split('/')[3])) }
      case 'challenge':
        if (order !== undefined) order.status = 'ready'
        return { body: { type: 'tls-alpn-01', url: `${this.origin}${path}`, status: 'processing' } }
      case 'finalize':
        if (order !== undefined) Object.assign(order, { status: 'valid', csr: (payload as FakeOrder).csr })
        return { body: this.order(at) }
      case 'certificate':
        return {
          headers: { 'content-type': 'application/pem-certificate-chain' },
          body: await this.authority.sign({ ...requestOf(order?.csr ?? ''), ...this.lifetime }),
        }
      default:
        return notFound
    }
  }

  order(at: number): Record<string, unknown> {
    const { status = '', identifiers = [] } = this.orders[at] ?? {}
    return {
      status,
      identifiers,
      authorizations: identifiers.map((_one, host) => `${this.origin}/authorization/${at}/${host}`),
      finalize: `${this.origin}/finalize/${at}`,
      ...(status === 'valid' ? { certificate: `${this.origin}/certificate/${at}` } : {}),
    }
  }

  authorization(at: number, host: number): Record<string, unknown> {
    const { status, identifiers = [] } = this.orders[at] ?? {}
    return {
      status: status === 'pending' ? 'pending' : 'valid',
      identifier: identifiers[host],
      challenges: [{ type: 'tls-alpn-01', url: `${this.origin}/challenge/${at}/${host}`, token: 'tok-en_1' }],
    }
  }
}

const notFound = problem(404, 'malformed', 'nothing is there')

export function problem(
  status: number,
  type: string,
  detail: string,
  headers: Record<string, string> = {},
): Said {
  return { status, headers, body: { type: `urn:ietf:params:acme:error:${type}`, detail, status } }
}

function readJws(body: Buffer): { header: Record<string, unknown>; payload: unknown } {
  if (body.length === 0) return { header: {}, payload: undefined }
  const { protected: header, payload } = JSON.parse(body.toString()) as { protected: string; payload: string }
  const text = Buffer.from(payload, 'base64url').toString()
  return {
    header: JSON.parse(Buffer.from(header, 'base64url').toString()) as Record<string, unknown>,
    payload: text === '' ? undefined : (JSON.parse(text) as unknown),
  }
}
