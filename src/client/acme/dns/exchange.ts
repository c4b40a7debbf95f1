import { connect } from 'node:net'
import { ACME_DNS_MS } from '../../../limits.ts'
import type { Millis } from '../../../mux/index.ts'

export interface DnsServer {
  host: string
  port: number
}

/**
 * Asks a name server over TCP and gives its answer, unread. Rejects with the system's error, or one without a code when
 * it closes early, is slow, or `signal` is aborted. Nothing is left open.
 */
export function exchange(
  { host, port }: DnsServer,
  message: Buffer,
  signal: AbortSignal,
  timeoutMs: Millis = ACME_DNS_MS,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port })
    const timer = setTimeout(() => socket.destroy(new Error('no answer')), timeoutMs)
    const abort = (): void => {
      socket.destroy(new Error('aborted'))
    }
    signal.addEventListener('abort', abort, { once: true })
    if (signal.aborted) abort()
    let received = Buffer.alloc(0)
    socket.on('connect', () => {
      const length = Buffer.alloc(2)
      length.writeUInt16BE(message.length)
      socket.write(Buffer.concat([length, message]))
    })
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
      const length = received.length < 2 ? Infinity : received.readUInt16BE()
      if (received.length < 2 + length) return
      resolve(received.subarray(2, 2 + length))
      socket.destroy()
    })
    socket.on('error', reject)
    socket.on('close', () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', abort)
      reject(new Error('closed'))
    })
  })
}
