/** Servers behind NAT that do what their visitors ask for, and keep nothing of those who have left. */
import { once } from 'node:events'
import { createServer as createWebServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { createIdentity } from '../../src/identity/index.ts'
import { echoMessages } from '../e2e/websocket.ts'
import type { World } from '../e2e/world.ts'
import { isAt, pour } from './pattern.ts'

export interface SoakTargets {
  tcp: number
  http: number
  /** Speaks TLS itself. */
  https: number
}

export async function soakTargets(world: World): Promise<SoakTargets> {
  const web = createWebServer(answer).on('upgrade', (request, socket) =>
    echoMessages(request, socket as Socket),
  )
  const { key, certificate: cert } = createIdentity()
  const [tcp, http, https] = await Promise.all([
    listening(world, createServer({ allowHalfOpen: true }, serve)),
    listening(world, web),
    listening(world, createSecureServer({ key, cert }, answer)),
  ])
  return { tcp, http, https }
}

async function listening(world: World, server: Server): Promise<number> {
  server.on('connection', (socket: Socket) => socket.on('error', () => undefined))
  server.listen({ host: '127.0.0.1', port: 0 })
  await once(server, 'listening')
  world.with({ close: () => void server.close() })
  server.unref()
  return (server.address() as AddressInfo).port
}

/** The first line says what a visitor by tcp wants. */
function serve(socket: Socket): void {
  let line = ''
  const onData = (chunk: Buffer): void => {
    const end = chunk.indexOf('\n')
    line += chunk.toString('latin1', 0, end < 0 ? chunk.length : end)
    if (end < 0) return
    socket.off('data', onData)
    socket.pause()
    if (end + 1 < chunk.length) socket.unshift(chunk.subarray(end + 1))
    const [order = '', ...numbers] = line.split(' ')
    ORDERS[order]?.(socket, ...numbers.map(Number))
  }
  socket.on('data', onData)
  // Who leaves without an order gets the same.
  socket.on('end', () => {
    if (!line.includes(' ')) socket.end()
  })
}

const ORDERS: Record<string, (socket: Socket, at?: number, length?: number) => void> = {
  echo: (socket) => void socket.pipe(socket),
  /** Sends so many bytes, and ends. */
  send: (socket, at = 0, length = 0) => {
    socket.resume()
    void pour(socket, at, length).then(() => socket.end())
  },
  /** Reads to the end; only what is right is answered, with as many bytes. */
  take: (socket, at = 0, length = 0) => {
    let received = 0
    let right = true
    socket.on('data', (chunk: Buffer) => {
      right &&= isAt(at + received, chunk)
      received += chunk.length
    })
    socket.on('end', () => {
      if (right && received === length) void pour(socket, at, length).then(() => socket.end())
      else socket.resetAndDestroy()
    })
    socket.resume()
  },
  /** Sends so many bytes, and breaks the connection when they have left. */
  break: (socket, at = 0, length = 0) => {
    socket.resume()
    void pour(socket, at, length).then(() => socket.resetAndDestroy())
  },
}

/** `/bytes/AT/LENGTH`, `/chunked/AT/LENGTH`, and `/take/AT/LENGTH` for a body, which is answered if it is right. */
function answer(request: IncomingMessage, response: ServerResponse): void {
  const [, what, first, second] = request.url?.split('/') ?? []
  const [at, length] = [Number(first), Number(second)]
  request.on('error', () => undefined)
  response.on('error', () => undefined)
  if (what !== 'take') {
    request.resume()
    if (what === 'bytes') response.setHeader('content-length', length)
    void pour(response, at, length).then(() => response.end())
    return
  }
  let received = 0
  let right = true
  request.on('data', (chunk: Buffer) => {
    right &&= isAt(at + received, chunk)
    received += chunk.length
  })
  request.on('end', () => {
    right &&= received === length
    response.writeHead(right ? 200 : 500)
    void pour(response, at, right ? length : 0).then(() => response.end())
  })
}
