/** Web servers that read requests wrongly, each in a way that real ones have. They tell who asks what they took for a request. */
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import {
  type AddressInfo,
  connect,
  createServer as createTcpServer,
  type Server,
  type Socket,
} from 'node:net'
import { text } from 'node:stream/consumers'
import type { Closable } from './world.ts'

/** How a server frames requests and answers. */
export interface Habits {
  /** Bytes of content that follow a head, and what of the rest was framing; undefined while they are not whole. */
  body: (head: Head, rest: string) => { content: string; end: number } | undefined
  /** Whom it takes the connection for from this request on; nobody by default. */
  user?: (head: Head, before: string) => string
  /** What it writes instead of a proper answer. */
  answer?: (head: Head, proper: string) => string
}

export interface Head {
  method: string
  target: string
  headers: ReadonlyMap<string, string>
}

/** A request as a target took it: `METHOD target body`. */
export type Seen = string

const byLength: Habits['body'] = (head, rest) => {
  const length = Number.parseInt(head.headers.get('content-length') ?? '0', 10) || 0
  return rest.length < length ? undefined : { content: rest.slice(0, length), end: length }
}

const byChunks: Habits['body'] = (head, rest) => {
  if (!/chunked/i.test(head.headers.get('transfer-encoding') ?? '')) return NO_BODY
  let at = 0
  let content = ''
  for (;;) {
    const line = /^([0-9a-f]*)[^\n]*\n/i.exec(rest.slice(at))
    if (line === null) return undefined
    const size = Number.parseInt(line[1] ?? '', 16) || 0
    at += line[0].length
    if (size === 0) {
      const end = rest.indexOf('\r\n', at)
      return end < 0 ? undefined : { content, end: end + 2 }
    }
    if (rest.length < at + size + 2) return undefined
    content += rest.slice(at, at + size)
    at += size + 2
  }
}

const NO_BODY = { content: '', end: 0 }

const either: Habits['body'] = (head, rest) =>
  head.headers.has('transfer-encoding') ? byChunks(head, rest) : byLength(head, rest)

/** An answer of somebody else's: what a visitor gets who has to take what an earlier one left. */
const STRAY = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray'

export const NAIVE = {
  /** Knows no chunks: takes them for requests. */
  length: { body: byLength },
  /** Knows no lengths: takes a body for a request. */
  chunks: { body: byChunks },
  /** Takes the body of a GET, and of what else mostly has none, for a request. */
  bodiless: {
    body: (head, rest) => (/^(?:GET|HEAD|OPTIONS|DELETE)$/.test(head.method) ? NO_BODY : either(head, rest)),
  },
  /** Sends a body with the answer to HEAD, and behind a 204. */
  talkative: {
    body: either,
    answer: ({ method, target }, proper) => {
      if (target.endsWith('/nothing')) return `HTTP/1.1 204 No Content\r\n\r\n${STRAY}`
      return method === 'HEAD' ? `${proper}${STRAY}` : proper
    },
  },
  /** Logs in a connection, and not a request. */
  negotiate: {
    body: either,
    user: ({ headers }, before) => /^Negotiate (.+)$/.exec(headers.get('authorization') ?? '')?.[1] ?? before,
  },
} satisfies Record<string, Habits>

/** A server behind NAT, and every byte that reached it. */
export class Echo implements Closable {
  /** As it took them, in order. */
  seen: Seen[] = []
  /** What came on each connection, one character per byte, since the last `forget`. */
  received = new Map<Socket, string>()
  connections = 0
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  static naive(habits: Habits): Promise<Echo> {
    const server = createTcpServer({ allowHalfOpen: true })
    const echo = new Echo(server)
    server.on('connection', (socket: Socket) => echo.#serve(socket, habits))
    return echo.#listening()
  }

  /** Node's own server. */
  static node(): Promise<Echo> {
    const server = createServer((request, response) => {
      void heardBy(request).then((seen) => {
        if (seen === undefined) return
        echo.seen.push(seen)
        const [method = '', target = ''] = seen.split(' ')
        response.end(told({ method, target, headers: headersOf(request) }, 'nobody'))
      })
    })
    const echo = new Echo(server)
    return echo.#listening()
  }

  private constructor(server: Server) {
    this.#server = server
    server.on('connection', (socket: Socket) => {
      this.connections++
      this.#sockets.add(socket)
      this.received.set(socket, '')
      socket.on('error', () => undefined)
      socket.on('close', () => this.#sockets.delete(socket))
      socket.on('data', (chunk: Buffer) => {
        this.received.set(socket, (this.received.get(socket) ?? '') + chunk.toString('latin1'))
      })
    })
  }

  async #listening(): Promise<Echo> {
    this.#server.listen({ host: '127.0.0.1', port: 0 })
    await once(this.#server, 'listening')
    return this
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  forget(): void {
    this.seen = []
    this.received = new Map()
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #serve(socket: Socket, habits: Habits): void {
    let waiting = ''
    let user = 'nobody'
    socket.on('data', (chunk: Buffer) => {
      waiting += chunk.toString('latin1')
      for (;;) {
        const end = /\r?\n\r?\n/.exec(waiting)
        if (end === null) return
        const head = readHead(waiting.slice(0, end.index))
        const start = end.index + end[0].length
        const body = habits.body(head, waiting.slice(start))
        if (body === undefined) return
        waiting = waiting.slice(start + body.end)
        this.seen.push(`${head.method} ${head.target} ${body.content}`)
        user = habits.user?.(head, user) ?? user
        const content = told(head, user)
        const lines = `HTTP/1.1 200 OK\r\nContent-Length: ${content.length}\r\n\r\n`
        const proper = head.method === 'HEAD' ? lines : `${lines}${content}`
        socket.write(habits.answer?.(head, proper) ?? proper, 'latin1')
      }
    })
    socket.on('end', () => socket.end())
  }
}

/** What an answer says: whom it is for. */
export function told({ method, target, headers }: Head, user: string): string {
  return `${method} ${target} for ${headers.get('x-token') ?? 'none'} as ${user}`
}

/** What Node's parser takes these bytes for; a request that did not end is none. */
export async function asNodeSees(bytes: string): Promise<Seen[]> {
  const seen: Promise<Seen | undefined>[] = []
  const server = createServer((request, response) => {
    seen.push(heardBy(request))
    request.on('end', () => response.end())
  })
  // What follows the last byte is an end, and no reason to give up what came before it.
  Object.assign(server, { httpAllowHalfOpen: true })
  // What asks to switch is a request like the others.
  server.on('upgrade', (request: IncomingMessage, socket: Socket) => {
    seen.push(Promise.resolve(`${request.method} ${request.url} `))
    socket.end()
  })
  server.on('connect', (_request, socket: Socket) => socket.destroy())
  server.listen({ host: '127.0.0.1', port: 0 })
  await once(server, 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  socket.on('error', () => undefined).resume()
  socket.end(Buffer.from(bytes, 'latin1'))
  await once(socket, 'close')
  await new Promise((resolve) => server.close(resolve))
  return (await Promise.all(seen)).filter((each) => each !== undefined)
}

/** Undefined for one that did not end. */
async function heardBy(request: IncomingMessage): Promise<Seen | undefined> {
  request.setEncoding('latin1')
  return text(request).then(
    (content) => `${request.method} ${request.url} ${content}`,
    () => undefined,
  )
}

function headersOf(request: IncomingMessage): Map<string, string> {
  return new Map(Object.entries(request.headers).map(([name, value]) => [name, String(value)]))
}

function readHead(head: string): Head {
  const [first = '', ...lines] = head.split(/\r?\n/)
  const [method = '', target = ''] = first.split(' ')
  const headers = lines.map((line): [string, string] => {
    const colon = line.indexOf(':')
    return [line.slice(0, Math.max(0, colon)).trim().toLowerCase(), line.slice(colon + 1).trim()]
  })
  return { method, target, headers: new Map(headers) }
}
