/** HTTP/2 as single frames, for what no library would send (RFC 9113, 4.1 and 6; RFC 7541 without compression). */
import type { Duplex } from 'node:stream'
import { Moments } from '../client/moments.ts'

export const Type = {
  data: 0,
  headers: 1,
  priority: 2,
  rst: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const

export const END_STREAM = 1
export const END_HEADERS = 4

export interface Frame {
  type: number
  flags: number
  stream: number
  payload: Buffer
}

export function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array = Buffer.alloc(0),
): Buffer {
  const out = Buffer.alloc(9 + payload.length)
  out.writeUIntBE(payload.length, 0, 3)
  out[3] = type
  out[4] = flags
  out.writeUInt32BE(stream, 5)
  out.set(payload, 9)
  return out
}

export function uint32(...values: number[]): Buffer {
  const out = Buffer.alloc(4 * values.length)
  for (const [at, value] of values.entries()) out.writeUInt32BE(value, 4 * at)
  return out
}

type Field = readonly [name: string, value: string]

/** Literal fields that are not indexed, uncompressed. */
export function block(fields: readonly Field[]): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]))
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1')
  const { length } = bytes
  if (length < 127) return Buffer.concat([Buffer.from([length]), bytes])
  const size = [127]
  let rest = length - 127
  for (; rest >= 128; rest >>= 7) size.push((rest & 127) | 128)
  return Buffer.concat([Buffer.from([...size, rest]), bytes])
}

export const PLAIN: readonly Field[] = [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':path', '/'],
  [':authority', 'x'],
]

/** The fields of a plain request with some others in place of theirs, or behind them. `undefined` leaves one out. */
export function fields(
  changed: Readonly<Record<string, string | undefined>> = {},
  more: readonly Field[] = [],
): Field[] {
  const kept = PLAIN.map(([name, value]): [string, string | undefined] => [
    name,
    name in changed ? changed[name] : value,
  ])
  return [...kept.filter((field): field is [string, string] => field[1] !== undefined), ...more]
}

/** A visitor that writes frames, and sees those that come. */
export class RawVisitor {
  readonly frames = new Moments<Frame>()
  /** The connection is over. */
  readonly over: Promise<void>
  readonly socket: Duplex
  #rest: Buffer = Buffer.alloc(0)

  /** `settings`: identifiers and values. */
  constructor(socket: Duplex, settings: readonly (readonly [id: number, value: number])[] = []) {
    this.socket = socket
    this.over = new Promise((resolve) => socket.once('close', () => resolve()))
    socket.on('end', () => socket.destroy())
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
    const payload = Buffer.concat(
      settings.map(([id, value]) => Buffer.concat([Buffer.from([id >> 8, id & 255]), uint32(value)])),
    )
    socket.write(frame(Type.settings, 0, 0, payload))
  }

  write(...frames: Uint8Array[]): boolean {
    return this.socket.write(Buffer.concat(frames))
  }

  ask(stream: number, list: readonly Field[] = PLAIN, flags: number = END_STREAM): void {
    this.write(frame(Type.headers, flags | END_HEADERS, stream, block(list)))
  }

  /** What became of a stream: a status, or the code of its reset, or of the GOAWAY that ended all. */
  async fate(stream: number): Promise<string> {
    const found = await this.frames.find(
      (each) =>
        (each.stream === stream && (each.type === Type.headers || each.type === Type.rst)) ||
        (each.type === Type.goaway && each.payload.readUInt32BE(4) !== 0),
    )
    if (found.type === Type.goaway) return `goaway ${found.payload.readUInt32BE(4)}`
    if (found.type === Type.rst) return `reset ${found.payload.readUInt32BE(0)}`
    return String(statusOf(found.payload))
  }

  #read(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk])
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUIntBE(0, 3)
      if (this.#rest.length < 9 + length) return
      const [type = 0, flags = 0] = this.#rest.subarray(3, 5)
      const stream = this.#rest.readUInt32BE(5)
      const payload = this.#rest.subarray(9, 9 + length)
      this.#rest = this.#rest.subarray(9 + length)
      if (type === Type.settings && (flags & 1) === 0) this.write(frame(Type.settings, 1, 0))
      this.frames.add({ type, flags, stream, payload })
    }
  }
}

const STATIC: Readonly<Record<number, number>> = {
  8: 200,
  9: 204,
  10: 206,
  11: 304,
  12: 400,
  13: 404,
  14: 500,
}

/** The status, which is the first field of a block: indexed, or three digits in Huffman's code or none. */
function statusOf(payload: Buffer): number {
  let at = 0
  // A change of the table's size comes first.
  while (((payload[at] as number) & 0xe0) === 0x20) at++
  const first = payload[at] as number
  if (first >= 0x80) return STATIC[first & 0x7f] ?? 0
  const size = payload[at + 1] as number
  const value = payload.subarray(at + 2, at + 2 + (size & 0x7f))
  if (size < 0x80) return Number(value.toString('latin1'))
  const bits = [...value].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  let digits = ''
  for (let bit = 0; digits.length < 3; ) {
    const five = Number.parseInt(bits.slice(bit, bit + 5), 2)
    if (five < 3) {
      digits += five
      bit += 5
    } else {
      digits += Number.parseInt(bits.slice(bit, bit + 6), 2) - 22
      bit += 6
    }
  }
  return Number(digits)
}
