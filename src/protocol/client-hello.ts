/**
 * The first message of a TLS visitor (RFC 8446, 4.1.2; the same since TLS 1.0): whom it asks for, and which
 * protocols it offers. All that a gateway without keys ever reads of a connection.
 */
import { TunnelError } from '../errors.ts'
import { CLIENT_HELLO_ALPN_BYTES, CLIENT_HELLO_BYTES, CLIENT_HELLO_RECORDS } from '../limits.ts'

export interface ClientHello {
  /**
   * The host that is asked for (server_name, RFC 6066, 3), in lower case: letters, digits, hyphens, underscores
   * and dots between them, never an address. Undefined: none is named. Where the true name is encrypted (ECH),
   * it is the one that stands outside.
   */
  serverName: string | undefined
  /** What is offered by ALPN (RFC 7301, 3.1), in the visitor's order, one character per byte. */
  alpn: readonly string[]
  /** The content of the ALPN extension as it came, list length included: what ProxyFields.alpn takes. */
  alpnBytes: string | undefined
}

/** Alone in a hello it says that an authority comes to see a tls-alpn-01 challenge answered (RFC 8737, 6.2), and nothing else. */
export const ACME_ALPN = 'acme-tls/1'

/** Whether exactly this one protocol is offered: beside others it is a wish, alone it is a purpose. */
export function isOnlyAlpn(hello: ClientHello, protocol: string): boolean {
  return hello.alpn.length === 1 && hello.alpn[0] === protocol
}

/** Whether a connection that begins so can be TLS: plain HTTP, which begins with a letter, deserves an answer. */
export function looksLikeTls(firstByte: number | undefined): boolean {
  return firstByte === HANDSHAKE
}

/** ContentType and HandshakeType (RFC 8446, B.1 and B.3). */
const HANDSHAKE = 22
const CLIENT_HELLO = 1
const RECORD_HEADER_BYTES = 5
const RECORD_BYTES = 16_384
/** Type, and three bytes of length. */
const MESSAGE_HEADER_BYTES = 4
/** legacy_version and random. */
const FIXED_BYTES = 2 + 32
const SESSION_ID_BYTES = 32
/** ExtensionType (RFC 8446, 4.2), and NameType (RFC 6066, 3). */
const SERVER_NAME = 0
const ALPN = 16
const HOST_NAME = 0
const HOST_NAME_BYTES = 253
const LABEL_BYTES = 63
/** What is held of a hello that comes in pieces takes this at first, and twice as much whenever it is full. */
const FIRST_HELD_BYTES = 512

// ── Records (RFC 8446, 5.1) ─────────────────────────────────────────────────────────────────────────────

/**
 * Reads one ClientHello at any segmentation; one reader per connection. It consumes nothing: whoever feeds it
 * keeps the chunks and passes them on. A hello that is whole in the first chunk and record, as nearly all are,
 * is read where it lies; otherwise it is held, in CLIENT_HELLO_BYTES at most and about twice what has come.
 */
export class ClientHelloReader {
  #held: Buffer | undefined
  #filled = 0
  #records = 0
  /** Bytes of the record's header that are there; all of them: its content is being read. */
  #headerBytes = 0
  /** What the record's content still lacks. */
  #lacking = 0

  /**
   * The hello, or undefined while it is not whole. Call it no more after that: what follows is not looked at, in
   * this chunk neither. Throws `bad_message` (remote, scope visitor) at the first byte that cannot be right in
   * a record's or the message's header, and when the message is whole for what is wrong in it.
   */
  push(chunk: Uint8Array): ClientHello | undefined {
    for (let at = 0; at < chunk.length; ) {
      if (this.#headerBytes < RECORD_HEADER_BYTES) {
        this.#header(chunk[at] ?? 0)
        at += 1
        continue
      }
      const end = Math.min(at + this.#lacking, chunk.length)
      const hello = this.#fragment(chunk, at, end)
      if (hello !== undefined) return hello
      this.#lacking -= end - at
      if (this.#lacking === 0) this.#headerBytes = 0
      at = end
    }
    return undefined
  }

  /** One byte of a record's header. The minor version tells nothing: 1 in most first hellos, 3 in some. */
  #header(byte: number): void {
    const index = this.#headerBytes
    this.#headerBytes += 1
    if (index === 0) {
      if (byte !== HANDSHAKE) throw broken('is not in a handshake record')
      this.#records += 1
      if (this.#records > CLIENT_HELLO_RECORDS)
        throw broken(`takes more than ${CLIENT_HELLO_RECORDS} records`)
    } else if (index === 1) {
      if (byte !== 3) throw broken('is not in a TLS record')
    } else if (index === 3) this.#lacking = byte << 8
    else if (index === 4) {
      this.#lacking |= byte
      if (this.#lacking === 0) throw broken('has an empty record')
      if (this.#lacking > RECORD_BYTES) throw broken(`has a record over ${RECORD_BYTES} bytes`)
    }
  }

  /** Part of the message: `chunk` from `at` to `end`. */
  #fragment(chunk: Uint8Array, at: number, end: number): ClientHello | undefined {
    if (this.#filled === 0) {
      const last = at + messageBytes(chunk, at, end - at)
      if (last <= end) return readHello(chunk, at + MESSAGE_HEADER_BYTES, last)
    }
    const held = this.#hold(chunk.subarray(at, end))
    const total = messageBytes(held, 0, this.#filled)
    return this.#filled < total ? undefined : readHello(held, MESSAGE_HEADER_BYTES, total)
  }

  #hold(fragment: Uint8Array): Buffer {
    // What lies past the longest message is not part of it.
    const filled = Math.min(this.#filled + fragment.length, CLIENT_HELLO_BYTES)
    let held = this.#held
    if (held === undefined || filled > held.length) {
      const doubled = Math.max(FIRST_HELD_BYTES, 2 * (held?.length ?? 0), filled)
      const grown = Buffer.allocUnsafe(Math.min(doubled, CLIENT_HELLO_BYTES))
      held?.copy(grown, 0, 0, this.#filled)
      held = grown
      this.#held = held
    }
    held.set(fragment.subarray(0, filled - this.#filled), this.#filled)
    this.#filled = filled
    return held
  }
}

/**
 * How long the message is that begins at `at`, as far as `filled` bytes of it tell: its header's length, until
 * that is whole (RFC 8446, 4). Throws for another message, and for one that says it is too long.
 */
function messageBytes(bytes: Uint8Array, at: number, filled: number): number {
  if (filled > 0 && bytes[at] !== CLIENT_HELLO) throw broken('is another handshake message')
  if (filled < MESSAGE_HEADER_BYTES) return MESSAGE_HEADER_BYTES
  const total = MESSAGE_HEADER_BYTES + ((bytes[at + 1] ?? 0) << 16) + uint16(bytes, at + 2)
  if (total > CLIENT_HELLO_BYTES) throw broken(`of ${total} bytes is over ${CLIENT_HELLO_BYTES}`)
  return total
}

// ── The message (RFC 8446, 4.1.2 and 4.2) ───────────────────────────────────────────────────────────────

function readHello(bytes: Uint8Array, from: number, end: number): ClientHello {
  const hello: ClientHello = { serverName: undefined, alpn: [], alpnBytes: undefined }
  const sessionId = from + FIXED_BYTES
  const ciphers = vectorEnd(bytes, sessionId, end, 1, 0)
  if (ciphers - sessionId > 1 + SESSION_ID_BYTES) throw broken('has a session id that is too long')
  const compressions = vectorEnd(bytes, ciphers, end, 2, 2)
  if ((compressions - ciphers) % 2 !== 0) throw broken('ends within a cipher suite')
  const extensions = vectorEnd(bytes, compressions, end, 1, 1)
  // TLS 1.2 and before: a hello may end here (RFC 5246, 7.4.1.2).
  if (extensions === end) return hello
  if (vectorEnd(bytes, extensions, end, 2, 0) !== end) throw broken('goes on behind its extensions')
  const seen = new Set<number>()
  for (let at = extensions + 2; at < end; ) {
    const content = at + 4
    const next = vectorEnd(bytes, at + 2, end, 2, 0)
    const type = uint16(bytes, at)
    // One of two would be believed here and the other there. GREASE values do not repeat either (RFC 8701, 3.1).
    if (seen.has(type)) throw broken('has an extension twice')
    seen.add(type)
    if (type === SERVER_NAME) hello.serverName = readServerName(bytes, content, next)
    else if (type === ALPN) readAlpn(bytes, content, next, hello)
    at = next
  }
  return hello
}

/**
 * Where the vector ends that begins at `at` (RFC 8446, 3.4): `prefix` bytes of length, then at least `least`
 * bytes. Throws if it would end behind what it lies in.
 */
function vectorEnd(bytes: Uint8Array, at: number, end: number, prefix: 1 | 2, least: number): number {
  const first = at + prefix
  if (first > end) throw broken('ends within a length')
  const length = prefix === 1 ? (bytes[at] ?? 0) : uint16(bytes, at)
  if (length < least) throw broken('has a list that is too short')
  if (first + length > end) throw broken('has a length that is too long')
  return first + length
}

const uint16 = (bytes: Uint8Array, at: number) => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)

/**
 * The one name of a server_name extension. There are no other types than host_name and never will be: servers
 * refuse them (OpenSSL), or read on behind them (Go), so that a list with another one could name two hosts.
 */
function readServerName(bytes: Uint8Array, at: number, end: number): string {
  if (vectorEnd(bytes, at, end, 2, 1) !== end) throw broken('has a server_name that goes on behind its list')
  if (bytes[at + 2] !== HOST_NAME) throw broken('has a server_name of an unknown type')
  const name = at + 5
  if (vectorEnd(bytes, at + 3, end, 2, 1) !== end) throw broken('has more than one server_name')
  if (!isHostName(bytes, name, end)) throw broken('has a server_name that is no host name')
  return latin1(bytes, name, end).toLowerCase()
}

/**
 * Labels of letters, digits, hyphens and underscores, 1 to 63 of them, no dot at the end (RFC 6066, 3: also no
 * addresses). A last label that is a number makes it an address, or a trick with one: 127.1, 0x7f.1. These are
 * the names that a Host field may have, so that both mean one service.
 */
function isHostName(bytes: Uint8Array, at: number, end: number): boolean {
  if (end - at > HOST_NAME_BYTES) return false
  let label = at
  for (let index = at; index < end; index += 1) {
    const code = bytes[index] ?? 0
    if (code === DOT) {
      if (index === label || index - label > LABEL_BYTES) return false
      label = index + 1
    } else if (!isNameByte(code)) return false
  }
  if (label === end || end - label > LABEL_BYTES) return false
  // Cheap for nearly all: only a label that begins with a digit can be a number.
  return (bytes[label] ?? 0) > NINE || !NUMBER.test(latin1(bytes, label, end))
}

const HYPHEN = 0x2d
const DOT = 0x2e
const ZERO = 0x30
const NINE = 0x39
const UNDERSCORE = 0x5f
const NUMBER = /^(?:[0-9]+|0x[0-9a-f]*)$/i

function isNameByte(code: number): boolean {
  const lower = code | 0x20
  return (
    (lower >= 0x61 && lower <= 0x7a) ||
    (code >= ZERO && code <= NINE) ||
    code === HYPHEN ||
    code === UNDERSCORE
  )
}

function readAlpn(bytes: Uint8Array, at: number, end: number, hello: ClientHello): void {
  if (end - at > CLIENT_HELLO_ALPN_BYTES)
    throw broken(`offers more than ${CLIENT_HELLO_ALPN_BYTES} bytes by ALPN`)
  if (vectorEnd(bytes, at, end, 2, 2) !== end)
    throw broken('has an ALPN extension that goes on behind its list')
  const alpn: string[] = []
  for (let name = at + 2; name < end; ) {
    const next = vectorEnd(bytes, name, end, 1, 1)
    alpn.push(latin1(bytes, name + 1, next))
    name = next
  }
  hello.alpn = alpn
  hello.alpnBytes = latin1(bytes, at, end)
}

function latin1(bytes: Uint8Array, at: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, end - at).toString('latin1')
}

function broken(fact: string): TunnelError {
  return new TunnelError('bad_message', {
    scope: 'visitor',
    remote: true,
    detail: `a ClientHello ${fact}`,
  })
}
