/** RFC 6455, as much of it as two ends need that speak to each other through the gateway. */
import { createHash, randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { askWhetherReset } from './visitors.ts'

export const Opcode = { text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

/** A message, whole: browsers send large ones in several frames. */
export interface Message {
  opcode: number
  payload: Buffer
}

/** One frame. `masked`, as what a browser sends must be. */
export function frame(opcode: number, payload: string | Uint8Array, masked: boolean): Buffer {
  const content = Buffer.from(payload)
  const { length } = content
  const bit = masked ? 0x80 : 0
  const head =
    length < 126
      ? Buffer.of(0x80 | opcode, bit | length)
      : length < 65_536
        ? Buffer.of(0x80 | opcode, bit | 126, length >> 8, length & 255)
        : Buffer.concat([Buffer.of(0x80 | opcode, bit | 127, 0, 0, 0, 0), uint32(length)])
  if (!masked) return Buffer.concat([head, content])
  const mask = randomBytes(4)
  return Buffer.concat([head, mask, xored(content, mask)])
}

/** Messages out of bytes, however they come. */
export class MessageReader {
  #waiting = Buffer.alloc(0)
  /** Of the message that goes on. */
  #begun: Message | undefined

  push(chunk: Uint8Array): Message[] {
    this.#waiting = Buffer.concat([this.#waiting, chunk])
    const messages: Message[] = []
    for (let next = this.#take(); next !== undefined; next = this.#take()) {
      // Of several frames only the first says what it is, and only the last that it is.
      const { opcode, payload } =
        next.opcode === 0 && this.#begun !== undefined
          ? { opcode: this.#begun.opcode, payload: Buffer.concat([this.#begun.payload, next.payload]) }
          : next
      if (next.last) messages.push({ opcode, payload })
      if (opcode < Opcode.close) this.#begun = next.last ? undefined : { opcode, payload }
    }
    return messages
  }

  #take(): (Message & { last: boolean }) | undefined {
    const bytes = this.#waiting
    if (bytes.length < 2) return undefined
    const [first = 0, second = 0] = bytes
    const short = second & 127
    const masked = second >= 128
    const start = 2 + (short === 126 ? 2 : short === 127 ? 8 : 0) + (masked ? 4 : 0)
    if (bytes.length < start) return undefined
    const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? bytes.readUInt32BE(6) : short
    if (bytes.length < start + length) return undefined
    const content = bytes.subarray(start, start + length)
    this.#waiting = bytes.subarray(start + length)
    return {
      last: first >= 128,
      opcode: first & 15,
      payload: masked ? xored(content, bytes.subarray(start - 4, start)) : Buffer.from(content),
    }
  }
}

/** What the other end of a handshake must answer. */
export function acceptOf(key: string): string {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
}

/** Takes the connection of an `upgrade` over: the answer and `first` leave in one write, and each message comes back. */
export function echoMessages(request: IncomingMessage, socket: Socket, first?: string): void {
  const key = request.headers['sec-websocket-key'] ?? ''
  const answer = [
    'HTTP/1.1 101 Switching Protocols',
    'Upgrade: websocket',
    'Connection: Upgrade',
    `Sec-WebSocket-Accept: ${acceptOf(key)}`,
    '',
    '',
  ].join('\r\n')
  const greeting = first === undefined ? Buffer.alloc(0) : frame(Opcode.text, first, false)
  socket.write(Buffer.concat([Buffer.from(answer), greeting]))
  const reader = new MessageReader()
  socket.on('error', () => undefined)
  socket.on('end', () => askWhetherReset(socket, () => socket.end()))
  socket.on('data', (chunk: Buffer) => {
    for (const { opcode, payload } of reader.push(chunk)) {
      if (opcode === Opcode.ping) socket.write(frame(Opcode.pong, payload, false))
      else socket.write(frame(opcode, payload, false))
      if (opcode === Opcode.close) socket.end()
    }
  })
}

function xored(content: Uint8Array, mask: Uint8Array): Buffer {
  return Buffer.from(content.map((byte, at) => byte ^ (mask[at & 3] ?? 0)))
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
