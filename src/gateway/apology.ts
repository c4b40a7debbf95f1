import type { Socket } from 'node:net'
import type { UnreachedCode } from '../errors.ts'
import { APOLOGY_LINGER_MS } from '../limits.ts'

/** Why a visitor gets no answer from a target: the client's word, or `absent` (nobody serves the route now). */
export type Apology = UnreachedCode | 'absent' | 'busy'

/** By code, and never a peer's words: a page must not tell what lies behind NAT. */
const PAGES: Readonly<Record<Apology, { status: string; text: string }>> = {
  absent: { status: '503 Service Unavailable', text: 'the server behind this address is not connected' },
  busy: { status: '503 Service Unavailable', text: 'the gateway has too many visitors' },
  draining: { status: '503 Service Unavailable', text: 'the server behind this address is restarting' },
  overloaded: {
    status: '503 Service Unavailable',
    text: 'the server behind this address has too many visitors',
  },
  refused: { status: '502 Bad Gateway', text: 'the server behind this address refused the connection' },
  unreachable: { status: '502 Bad Gateway', text: 'the server behind this address cannot be reached' },
  unknown_service: { status: '502 Bad Gateway', text: 'the server behind this address does not offer this' },
  timeout: { status: '504 Gateway Timeout', text: 'the server behind this address did not answer' },
}

/**
 * Answers an HTTP visitor that got no byte yet, and closes. Owns the socket from now on: what still comes is
 * read and dropped for a moment, since closing over unread bytes would reset the answer away.
 */
export function apologize(socket: Socket, apology: Apology): void {
  const { status, text } = PAGES[apology]
  const body = `${text}\n`
  const retry = status.startsWith('503') ? 'Retry-After: 5\r\n' : ''
  socket.on('error', () => {})
  socket.on('end', () => socket.destroySoon())
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${body.length}\r\n` +
      `${retry}Cache-Control: no-store\r\nConnection: close\r\n\r\n${body}`,
  )
  socket.resume()
  const timer = setTimeout(() => socket.destroy(), APOLOGY_LINGER_MS)
  timer.unref()
  socket.on('close', () => clearTimeout(timer))
}
