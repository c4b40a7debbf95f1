import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'

/** The private server: answers `/ping` with `pong`, on a port of this machine that nobody else is told. */
export interface Target {
  readonly port: number
  close(): Promise<void>
}

export async function startTarget(): Promise<Target> {
  const server = createServer((request, response) => {
    const known = request.url === '/ping'
    response.writeHead(known ? 200 : 404, { 'content-type': 'text/plain; charset=utf-8' })
    response.end(known ? 'pong\n' : 'ask for /ping\n')
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  return { port: (server.address() as AddressInfo).port, close: () => closed(server) }
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
