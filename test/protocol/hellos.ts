/** ClientHellos for tests: built from parts, taken apart again, and asked of Node's own client. */
import { Duplex } from 'node:stream'
import { type ConnectionOptions, connect } from 'node:tls'

export interface Extension {
  type: number
  content: Uint8Array
}

/** What stands in a hello, without the lengths. */
export interface Parts {
  version: number
  random: Uint8Array
  sessionId: Uint8Array
  ciphers: Uint8Array
  compressions: Uint8Array
  /** Undefined: not even an empty list, as before TLS 1.3. */
  extensions: readonly Extension[] | undefined
}

export const SERVER_NAME = 0
export const ALPN = 16

const uint16 = (value: number) => Buffer.of(value >> 8, value & 0xff)

/** A vector: its length in so many bytes, and its content. */
export function vector(lengthBytes: 1 | 2 | 3, ...content: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(content)
  const length = Buffer.alloc(lengthBytes)
  length.writeUIntBE(body.length, 0, lengthBytes)
  return Buffer.concat([length, body])
}

const bytesOf = (text: string | Uint8Array) => (typeof text === 'string' ? Buffer.from(text, 'latin1') : text)

/** Entries of a server_name list: a name, or a name of another type. */
export function serverName(...names: readonly (string | { type: number; name: string })[]): Extension {
  const entries = names.map((each) =>
    typeof each === 'string'
      ? Buffer.concat([Buffer.of(0), vector(2, bytesOf(each))])
      : Buffer.concat([Buffer.of(each.type), vector(2, bytesOf(each.name))]),
  )
  return { type: SERVER_NAME, content: vector(2, ...entries) }
}

export function alpn(...protocols: readonly (string | Uint8Array)[]): Extension {
  return { type: ALPN, content: vector(2, ...protocols.map((each) => vector(1, bytesOf(each)))) }
}

export const extension = (type: number, length: number): Extension => ({
  type,
  content: Buffer.alloc(length, 0xab),
})

/** A small hello with these extensions. */
export function parts(...extensions: readonly Extension[]): Parts {
  return {
    version: 0x0303,
    random: Buffer.alloc(32, 7),
    sessionId: Buffer.alloc(32, 8),
    ciphers: Buffer.of(0x13, 0x01, 0xc0, 0x2b, 0x00, 0xff),
    compressions: Buffer.of(0),
    extensions,
  }
}

/** The handshake message; `behind` are bytes within it that nothing accounts for. */
export function message(hello: Parts, behind: Uint8Array = new Uint8Array(0)): Buffer {
  const extensions = hello.extensions?.map(({ type, content }) =>
    Buffer.concat([uint16(type), vector(2, content)]),
  )
  const body = [
    uint16(hello.version),
    hello.random,
    vector(1, hello.sessionId),
    vector(2, hello.ciphers),
    vector(1, hello.compressions),
    extensions === undefined ? Buffer.alloc(0) : vector(2, ...extensions),
    behind,
  ]
  return Buffer.concat([Buffer.of(1), vector(3, ...body)])
}

/** A message in records of these sizes, used round and round. */
export function records(content: Uint8Array, sizes: readonly number[] = [16_384]): Buffer {
  const out: Uint8Array[] = []
  for (let at = 0, turn = 0; at < content.length; turn += 1) {
    const size = Math.min(sizes[turn % sizes.length] ?? 1, 16_384)
    out.push(Buffer.of(22, 3, 1), vector(2, content.subarray(at, at + size)))
    at += size
  }
  return Buffer.concat(out)
}

export const hello = (...extensions: readonly Extension[]): Buffer => records(message(parts(...extensions)))

/** The first record's content, of a hello that is whole in it. */
export const messageIn = (record: Buffer): Buffer => record.subarray(5, 5 + record.readUInt16BE(3))

/** The parts of a message that is in order. */
export function partsOf(bytes: Buffer): Parts {
  let at = 4
  const take = (length: number) => bytes.subarray(at, (at += length))
  const vectorOf = (lengthBytes: 1 | 2) => take(take(lengthBytes).readUIntBE(0, lengthBytes))
  const head = {
    version: take(2).readUInt16BE(0),
    random: take(32),
    sessionId: vectorOf(1),
    ciphers: vectorOf(2),
    compressions: vectorOf(1),
  }
  if (at === bytes.length) return { ...head, extensions: undefined }
  const extensions: Extension[] = []
  for (at += 2; at < bytes.length; ) {
    extensions.push({ type: take(2).readUInt16BE(0), content: vectorOf(2) })
  }
  return { ...head, extensions }
}

/** Where the length fields of a single-record hello stand, and how many bytes each has. */
export function lengthFields(bytes: Buffer): { at: number; size: 1 | 2 | 3; what: string }[] {
  const fields: { at: number; size: 1 | 2 | 3; what: string }[] = []
  let at = 0
  const field = (size: 1 | 2 | 3, what: string) => {
    fields.push({ at, size, what })
    const length = bytes.readUIntBE(at, size)
    at += size
    return length
  }
  const skip = (size: 1 | 2, what: string) => {
    const length = field(size, what)
    at += length
    return at
  }
  at = 3
  field(2, 'record')
  at += 1
  field(3, 'message')
  at += 34
  skip(1, 'session id')
  skip(2, 'cipher suites')
  skip(1, 'compression methods')
  const extensions = field(2, 'extensions')
  const end = at + extensions
  while (at < end) {
    const type = bytes.readUInt16BE(at)
    at += 2
    const length = field(2, `extension ${type}`)
    const next = at + length
    if (type === SERVER_NAME) {
      field(2, 'server_name list')
      at += 1
      field(2, 'host_name')
    } else if (type === ALPN) {
      field(2, 'ALPN list')
      while (skip(1, 'ALPN protocol') < next);
    }
    at = next
  }
  return fields
}

/** What Node's TLS client sends first. */
export function fromNode(options: ConnectionOptions): Buffer {
  const sent: Buffer[] = []
  const wire = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      sent.push(chunk)
      done()
    },
  })
  const socket = connect({ ...options, socket: wire, rejectUnauthorized: false })
  socket.on('error', () => {})
  socket.destroy()
  return Buffer.concat(sent)
}
