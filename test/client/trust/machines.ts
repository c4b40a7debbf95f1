/** Terminators, gateways of every kind, and proxies, on loopback addresses. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, isIPv4, type Server, type Socket } from 'node:net'
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { ProbeAnswerer } from '../../../src/client/trust/probe-answer.ts'
import { ProbeNonces } from '../../../src/client/trust/probe-nonces.ts'
import type { Identity } from '../../../src/identity/index.ts'
import type { Issued } from './authorities.ts'

/** Something with a port that a test closes. */
export interface Listening {
  port: number
  close(): Promise<void>
}

/** A client's end of TLS: answers probes, and `home` to everything else. */
export async function terminator(
  identity: Identity,
  { key, cert }: Issued,
  rest: { maxVersion?: 'TLSv1.2' } = {},
): Promise<Listening & { nonces: ProbeNonces }> {
  const nonces = new ProbeNonces()
  const probes = new ProbeAnswerer(identity, nonces)
  const server = createTlsServer({ key, cert, ALPNProtocols: ['http/1.1'], ...rest }, (socket) => {
    serveHttp(
      socket,
      (head) => probes.answer(head, socket) ?? { status: 200, type: 'text/plain', body: 'home' },
    )
  })
  return { nonces, ...(await listening(server)) }
}

/** Passes every connection on. */
export async function honestGateway(to: number, address = '127.0.0.1'): Promise<Listening> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => passOn(socket, to, sockets))
  return listening(server, address, sockets)
}

/**
 * Ends TLS itself, with a certificate of its own. `relays`: asks the terminator over another TLS session and passes
 * requests and answers on, as one that wants to read without being noticed. `spares`: the address whose connections it does
 * not touch. `once`: it touches one. `says`: what it answers, and ends.
 */
export async function hostileGateway(
  to: number,
  { key, cert }: Issued,
  {
    relays = false,
    once = false,
    says,
    spares,
    host = '',
    at = { port: 0, address: '127.0.0.1' },
  }: {
    relays?: boolean
    once?: boolean
    says?: string
    spares?: string
    host?: string
    at?: { port: number; address: string }
  } = {},
): Promise<Listening & { intercepted: string[] }> {
  const intercepted: string[] = []
  const sockets = new Set<Socket>()
  const inside = createTlsServer({ key, cert, ALPNProtocols: ['http/1.1'] }, (socket) => {
    if (relays) {
      const on = connectTls({
        port: to,
        host: '127.0.0.1',
        servername: host,
        rejectUnauthorized: false,
        ALPNProtocols: ['http/1.1'],
      })
      joined(socket, on, sockets)
    } else if (says !== undefined) {
      socket.on('error', () => undefined)
      socket.once('data', () => socket.end(says))
    } else serveHttp(socket, () => ({ status: 404, type: 'text/plain', body: 'not here' }))
  })
  inside.on('tlsClientError', () => undefined)
  const server = createServer((socket) => {
    if (socket.remoteAddress === spares || (once && intercepted.length > 0)) passOn(socket, to, sockets)
    else {
      intercepted.push(socket.remoteAddress ?? '')
      sockets.add(socket)
      socket.on('error', () => undefined)
      inside.emit('connection', socket)
    }
  })
  return { intercepted, ...(await listening(server, at.address, sockets, at.port)) }
}

/** Dials from another address than whoever asks it. */
export async function httpProxy(
  localAddress: string,
  status = 200,
): Promise<Listening & { asked: string[] }> {
  const asked: string[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', (chunk: Buffer) => {
      const [, host = '', port = ''] =
        /^CONNECT (\S+):(\d+) HTTP\/1\.1\r\n/.exec(chunk.toString('latin1')) ?? []
      asked.push(`${host}:${port}`)
      socket.write(`HTTP/1.1 ${status} So\r\nVia: test\r\n\r\n`)
      if (status === 200) joined(socket, connect({ host, port: Number(port), localAddress }), sockets)
    })
  })
  return { asked, ...(await listening(server, '127.0.0.1', sockets)) }
}

export async function socksProxy(localAddress: string, method = 0): Promise<Listening & { asked: string[] }> {
  const asked: string[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', () => {
      socket.write(Buffer.of(5, method))
      socket.once('data', (request: Buffer) => {
        const host = [...request.subarray(4, 8)].join('.')
        const port = request.readUInt16BE(8)
        asked.push(`${host}:${port}`)
        if (!isIPv4(host)) return
        socket.write(Buffer.of(5, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        joined(socket, connect({ host, port, localAddress }), sockets)
      })
    })
  })
  return { asked, ...(await listening(server, '127.0.0.1', sockets)) }
}

export async function listening(
  server: Server,
  address = '127.0.0.1',
  sockets: Set<Socket> = new Set(),
  port = 0,
): Promise<Listening> {
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
  })
  server.listen(port, address)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function passOn(socket: Socket, to: number, sockets: Set<Socket>): void {
  joined(socket, connect({ host: '127.0.0.1', port: to }), sockets)
}

function joined(a: Socket, b: Socket, sockets: Set<Socket>): void {
  for (const socket of [a, b]) {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => {
      a.destroy()
      b.destroy()
    })
  }
  a.pipe(b)
  b.pipe(a)
}

/** One request, of which only the head is read. */
function serveHttp(
  socket: TLSSocket,
  answer: (head: Parameters<ProbeAnswerer['answer']>[0]) => { status: number; type: string; body: string },
): void {
  let text = ''
  socket.on('error', () => undefined)
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1')
    if (!text.includes('\r\n\r\n')) return
    const [method = '', target = ''] = text.split(' ')
    const host = /\r\nhost: ([^\r:]+)/i.exec(text)?.[1] ?? ''
    const bytes = Buffer.from(text, 'latin1')
    const targetStart = method.length + 1
    const { status, type, body } = answer({
      method,
      host,
      bytes,
      targetStart,
      targetEnd: targetStart + target.length,
    })
    socket.end(
      `HTTP/1.1 ${status} So\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
  })
}
