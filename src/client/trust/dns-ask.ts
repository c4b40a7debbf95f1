import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { connect, isIPv6 } from 'node:net'
import { TunnelError } from '../../errors.ts'
import { DNS_ANSWER_MS, DNS_UDP_BYTES } from '../../limits.ts'
import { answerIn, type DnsAnswer, type Question, questionMessage } from './dns-message.ts'

/** Where a name server listens; the host is an IP address. */
export interface NameServer {
  host: string
  port: number
}

/**
 * Asks one server once: over UDP, and over TCP where the answer is longer than that carries. The socket is connected, so
 * that nobody else's packets reach it; id and port are drawn by lot, and what does not answer the question is not an
 * answer. Rejects with `timeout` or `unreachable`.
 */
export async function ask(
  server: NameServer,
  question: Question,
  { recursive, signal }: { recursive: boolean; signal?: AbortSignal | undefined },
): Promise<DnsAnswer> {
  const id = randomInt(0x1_0000)
  const message = questionMessage(id, question, recursive)
  const over = (transport: Transport): Promise<DnsAnswer> =>
    new Promise((resolve, reject) => {
      const done = (settle: () => void): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', aborted)
        close()
        settle()
      }
      const failed = (error: TunnelError): void => done(() => reject(error))
      const aborted = (): void => failed(unanswered(server, 'timeout', 'the check took too long'))
      const timer = setTimeout(
        () => failed(unanswered(server, 'timeout', `no answer within ${DNS_ANSWER_MS / 1000} s`)),
        DNS_ANSWER_MS,
      )
      const close = transport(server, message, {
        message(bytes) {
          const answer = answerIn(bytes, id, question)
          if (answer !== undefined) done(() => resolve(answer))
        },
        failed: (why) => failed(unanswered(server, 'unreachable', why)),
      })
      if (signal?.aborted === true) aborted()
      else signal?.addEventListener('abort', aborted, { once: true })
    })
  const answer = await over(overUdp)
  return answer.truncated ? over(overTcp) : answer
}

/** Sends a message and hands on what comes; gives what closes it. Never calls back before it has returned. */
type Transport = (
  server: NameServer,
  message: Buffer,
  heard: { message(bytes: Buffer): void; failed(why: string): void },
) => () => void

const overUdp: Transport = ({ host, port }, message, heard) => {
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4')
  let open = true
  const close = (): void => {
    if (open) socket.close()
    open = false
  }
  const failed = (error: NodeJS.ErrnoException): void => {
    if (open) heard.failed(error.code ?? error.message)
  }
  socket.on('error', failed)
  // Longer than we said we take: 64 KiB of names that point at names take 0.2 s to read, and hundreds may come.
  socket.on('message', (bytes) => {
    if (open && bytes.length <= DNS_UDP_BYTES) heard.message(bytes)
  })
  socket.connect(port, host, () => {
    if (open) socket.send(message, (error) => (error === null ? undefined : failed(error)))
  })
  return close
}

/** Each message behind its length of two bytes (RFC 1035, 4.2.2), so 64 KiB is all that is kept. */
const overTcp: Transport = ({ host, port }, message, heard) => {
  const socket = connect({ host, port })
  let received = Buffer.alloc(0)
  socket.on('error', (error: NodeJS.ErrnoException) => heard.failed(error.code ?? error.message))
  socket.on('end', () => heard.failed('it closed the connection'))
  socket.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk])
    if (received.length < 2) return
    const length = received.readUInt16BE(0)
    if (received.length < 2 + length) return
    heard.message(received.subarray(2, 2 + length))
    // One answer is all there is to come.
    heard.failed('what it says answers nothing')
  })
  const size = Buffer.alloc(2)
  size.writeUInt16BE(message.length)
  socket.write(Buffer.concat([size, message]))
  return () => socket.destroy()
}

function unanswered({ host, port }: NameServer, code: 'timeout' | 'unreachable', why: string): TunnelError {
  const at = port === 53 ? host : `${isIPv6(host) ? `[${host}]` : host}:${port}`
  return new TunnelError(code, {
    scope: 'process',
    remote: true,
    detail: `name server ${at} does not answer (${why})`,
  })
}
