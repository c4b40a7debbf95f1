import { isIPv4, type Socket } from 'node:net'
import type { ProbeProxy } from '../../config/index.ts'
import { PROXY_ANSWER_BYTES } from '../../limits.ts'

/**
 * Has a proxy connect to an address: by CONNECT (RFC 9110, 9.3.6) or SOCKS 5 without authentication (RFC 1928). Resolves
 * when the socket's next byte is the address's own. Rejects with what the proxy said, and the socket is the caller's.
 */
export async function throughProxy(
  socket: Socket,
  { kind }: ProbeProxy,
  to: { address: string; port: number },
): Promise<void> {
  if (kind === 'http') return connectBy(socket, to)
  return socksBy(socket, to)
}

async function connectBy(
  socket: Socket,
  { address, port }: { address: string; port: number },
): Promise<void> {
  const authority = isIPv4(address) ? `${address}:${port}` : `[${address}]:${port}`
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`)
  let head = ''
  while (!head.endsWith('\r\n\r\n')) {
    if (head.length >= PROXY_ANSWER_BYTES) throw new Error('the proxy says too much')
    // Byte by byte: what follows the head is not the proxy's.
    head += (await take(socket, 1)).toString('latin1')
  }
  const [, status = '?'] = /^HTTP\/1\.[01] ([0-9]{3})[ \r]/.exec(head) ?? []
  if (!status.startsWith('2')) throw new Error(`the proxy refuses (${status})`)
}

async function socksBy(socket: Socket, { address, port }: { address: string; port: number }): Promise<void> {
  // Version 5, one method: none.
  socket.write(Buffer.of(5, 1, 0))
  const chosen = await take(socket, 2)
  if (chosen[0] !== 5 || chosen[1] !== 0)
    throw new Error('the proxy wants a password, or is no SOCKS 5 proxy')
  const packed = isIPv4(address)
    ? Buffer.of(1, ...address.split('.').map(Number))
    : Buffer.concat([Buffer.of(4), packedV6(address)])
  socket.write(Buffer.concat([Buffer.of(5, 1, 0), packed, Buffer.of(port >> 8, port & 255)]))
  const [version, reply = 255, , family = 0] = await take(socket, 4)
  if (version !== 5 || reply !== 0) throw new Error(`the proxy refuses (${reply})`)
  // Where it is bound is of no interest.
  const length = family === 1 ? 4 : family === 4 ? 16 : ((await take(socket, 1))[0] ?? 0)
  await take(socket, length + 2)
}

function packedV6(address: string): Buffer {
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::')
  const groups = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16))
  const [front, back] = [groups(head), groups(tail ?? '')]
  const all = [...front, ...Array.from({ length: 8 - front.length - back.length }, () => 0), ...back]
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 255]))
}

/** Exactly so many bytes. */
function take(socket: Socket, bytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      const chunk = socket.read(bytes) as Buffer | null
      if (chunk !== null && chunk.length === bytes) done(() => resolve(chunk))
    }
    const gone = (): void => done(() => reject(new Error('the proxy closed the connection')))
    const done = (settle: () => void): void => {
      socket.off('readable', look).off('end', gone).off('close', gone)
      settle()
    }
    socket.on('readable', look).on('end', gone).on('close', gone)
    look()
  })
}
