/**
 * PROXY protocol, version 2 (haproxy's proxy-protocol.txt, section 2.2): the header at the head of every
 * visitor stream, and of a target's connection where the client's owner wants one.
 */
import { TunnelError } from '../errors.ts'
import { PROXY_HEADER_BYTES } from '../limits.ts'
import { formatIpv4, formatIpv6, ipv4Start, writeIpv4, writeIpv6 } from './ip.ts'

export interface Endpoint {
  /** IPv4 or IPv6 literal. */
  address: string
  port: number
}

export interface ProxyFields {
  /** Type 0x01: what the visitor asked for by ALPN, one character per byte. */
  alpn?: string
  /** Type 0x02: the host that the visitor named (SNI). */
  authority?: string
  /** Type 0x05: at most 128 bytes, opaque. */
  uniqueId?: Uint8Array
  /** Type 0xE0, ours: the service's name as registered. */
  service?: string
}
export type ProxyTlvs = { [Field in keyof ProxyFields]: ProxyFields[Field] | undefined }

export interface ProxyHeader extends ProxyFields {
  /** LOCAL: the sender speaks for itself; nothing else in the header counts, and nothing else is given here. */
  command: 'PROXY' | 'LOCAL'
  /** Both or neither; neither when the sender does not know or does not say. */
  source?: Endpoint
  destination?: Endpoint
}

const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')
const PREFIX_BYTES = 16
const TLV_PREFIX_BYTES = 3
const VERSION_2 = 0x20
const LOCAL = 0
const PROXY = 1
/** Bytes of both addresses and ports by address family: UNSPEC, INET, INET6, UNIX. */
const ADDRESS_BYTES = [0, 12, 36, 216] as const
const INET = 1
const INET6 = 2
const STREAM = 1
const DGRAM = 2
const ALPN = 0x01
const AUTHORITY = 0x02
const UNIQUE_ID = 0x05
const SERVICE = 0xe0
const UNIQUE_ID_BYTES = 128

// ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────

/**
 * A header with command PROXY over TCP. Without `source`, or with `unknown`, it carries no addresses (family
 * UNSPEC); without `destination` that one is all zeros. `::ffff:a.b.c.d` is sent as IPv4; an IPv4 address next
 * to an IPv6 one is sent mapped. Throws `protocol_error` (ours) for an address that is none, or a header over
 * PROXY_HEADER_BYTES.
 */
export function encodeProxyHeader(header: {
  source?: Endpoint | undefined
  destination?: Endpoint | undefined
  unknown?: boolean | undefined
  tlvs?: ProxyTlvs | undefined
}): Buffer {
  // Once per visitor: one Buffer, sized first, then filled from left to right.
  const { source, destination, tlvs } = header
  const family = source === undefined || header.unknown === true ? 0 : familyOf(source, destination)
  const addressBytes = ADDRESS_BYTES[family]
  const alpnBytes = tlvs?.alpn?.length ?? -1
  const authorityBytes = tlvs?.authority === undefined ? -1 : Buffer.byteLength(tlvs.authority)
  const uniqueIdBytes = tlvs?.uniqueId?.length ?? -1
  const serviceBytes = tlvs?.service === undefined ? -1 : Buffer.byteLength(tlvs.service)
  const total =
    PREFIX_BYTES +
    addressBytes +
    tlvBytes(alpnBytes) +
    tlvBytes(authorityBytes) +
    tlvBytes(uniqueIdBytes) +
    tlvBytes(serviceBytes)
  if (total > PROXY_HEADER_BYTES || uniqueIdBytes > UNIQUE_ID_BYTES) {
    throw ours(
      `a PROXY header of ${total} bytes is over ${PROXY_HEADER_BYTES}, or its unique id over ${UNIQUE_ID_BYTES}`,
    )
  }

  const out = Buffer.allocUnsafe(total)
  SIGNATURE.copy(out, 0)
  out[12] = VERSION_2 | PROXY
  out[13] = family === 0 ? 0 : (family << 4) | STREAM
  out.writeUInt16BE(total - PREFIX_BYTES, 14)
  let at = PREFIX_BYTES
  if (family !== 0 && source !== undefined) {
    const ipBytes = family === INET ? 4 : 16
    writeIp(source.address, family, out, at)
    if (destination === undefined) out.fill(0, at + ipBytes, at + 2 * ipBytes)
    else writeIp(destination.address, family, out, at + ipBytes)
    out.writeUInt16BE(source.port, at + 2 * ipBytes)
    out.writeUInt16BE(destination?.port ?? 0, at + 2 * ipBytes + 2)
    at += addressBytes
  }
  if (alpnBytes >= 0) {
    at = writeTlvPrefix(out, at, ALPN, alpnBytes)
    at += out.write(tlvs?.alpn ?? '', at, 'latin1')
  }
  if (authorityBytes >= 0) {
    at = writeTlvPrefix(out, at, AUTHORITY, authorityBytes)
    at += out.write(tlvs?.authority ?? '', at)
  }
  if (tlvs?.uniqueId !== undefined) {
    at = writeTlvPrefix(out, at, UNIQUE_ID, uniqueIdBytes)
    out.set(tlvs.uniqueId, at)
    at += uniqueIdBytes
  }
  if (serviceBytes >= 0) {
    at = writeTlvPrefix(out, at, SERVICE, serviceBytes)
    out.write(tlvs?.service ?? '', at)
  }
  return out
}

/** A header with command LOCAL: who connects does so for itself, as to ask for health, and is no visitor. */
export function encodeLocalHeader(): Buffer {
  const out = Buffer.alloc(PREFIX_BYTES)
  SIGNATURE.copy(out)
  out[12] = VERSION_2 | LOCAL
  return out
}

const tlvBytes = (length: number) => (length < 0 ? 0 : TLV_PREFIX_BYTES + length)

function writeTlvPrefix(out: Buffer, at: number, type: number, length: number): number {
  out[at] = type
  out.writeUInt16BE(length, at + 1)
  return at + TLV_PREFIX_BYTES
}

function familyOf(source: Endpoint, destination: Endpoint | undefined): typeof INET | typeof INET6 {
  if (ipv4Start(source.address) < 0) return INET6
  return destination !== undefined && ipv4Start(destination.address) < 0 ? INET6 : INET
}

function writeIp(address: string, family: typeof INET | typeof INET6, out: Buffer, at: number): void {
  const dotted = ipv4Start(address)
  let valid: boolean
  if (dotted < 0) valid = writeIpv6(address, out, at)
  else if (family === INET) valid = writeIpv4(address, dotted, out, at)
  else {
    out.fill(0, at, at + 10).fill(0xff, at + 10, at + 12)
    valid = writeIpv4(address, dotted, out, at + 12)
  }
  if (!valid) throw ours(`${JSON.stringify(address)} is not an IP address`)
}

function ours(detail: string): TunnelError {
  return new TunnelError('protocol_error', { scope: 'stream', detail })
}

// ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Reads one header at any segmentation; one reader per stream. A header that is whole in the first chunk is
 * read where it lies; otherwise at most PROXY_HEADER_BYTES are held.
 */
export class ProxyReader {
  #held: Buffer | undefined
  #filled = 0

  /**
   * The header and what follows it in `chunk` (a view of it, maybe empty), or undefined while it is not whole.
   * Call it no more after that. Throws `protocol_error` (remote, scope stream) at the first byte that cannot
   * be right.
   */
  push(chunk: Uint8Array): { header: ProxyHeader; rest: Uint8Array } | undefined {
    let used = 0
    let bytes = chunk
    let length = chunk.length
    if (this.#held !== undefined || headerBytes(chunk, chunk.length) > chunk.length) {
      used = this.#hold(chunk)
      bytes = this.#held ?? chunk
      length = this.#filled
    }
    const end = headerBytes(bytes, length)
    if (length < end) return undefined
    return { header: readHeader(bytes, end), rest: chunk.subarray(used || end) }
  }

  /** Copies what the header still lacks out of `chunk`; gives how many bytes that were. */
  #hold(chunk: Uint8Array): number {
    this.#held ??= Buffer.allocUnsafe(PREFIX_BYTES)
    let used = 0
    // Twice at most: what completes the prefix tells how much more there is to come.
    while (used < chunk.length) {
      const end = headerBytes(this.#held, this.#filled)
      if (this.#filled === end) break
      if (end > this.#held.length) {
        const grown = Buffer.allocUnsafe(end)
        this.#held.copy(grown, 0, 0, this.#filled)
        this.#held = grown
      }
      const take = Math.min(chunk.length - used, end - this.#filled)
      this.#held.set(chunk.subarray(used, used + take), this.#filled)
      this.#filled += take
      used += take
    }
    return used
  }
}

/** The header's length as far as `filled` bytes of it tell: the prefix's, until that is whole. Throws at nonsense. */
function headerBytes(bytes: Uint8Array, filled: number): number {
  const known = Math.min(filled, SIGNATURE.length)
  for (let index = 0; index < known; index += 1) {
    if (bytes[index] !== SIGNATURE[index]) throw broken('does not begin with its signature')
  }
  if (filled < PREFIX_BYTES) return PREFIX_BYTES
  const total = PREFIX_BYTES + uint16(bytes, 14)
  if (total > PROXY_HEADER_BYTES) throw broken(`of ${total} bytes is over ${PROXY_HEADER_BYTES}`)
  return total
}

const uint16 = (bytes: Uint8Array, at: number) => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)

function readHeader(bytes: Uint8Array, end: number): ProxyHeader {
  const versionAndCommand = bytes[12] ?? 0
  const command = versionAndCommand & 0x0f
  if ((versionAndCommand & 0xf0) !== VERSION_2 || command > PROXY)
    throw broken('has another version or command')
  // All else in it is to be discarded, the family included.
  if (command === LOCAL) return { command: 'LOCAL' }
  const family = (bytes[13] ?? 0) >> 4
  const transport = (bytes[13] ?? 0) & 0x0f
  const addressBytes = ADDRESS_BYTES[family]
  if (addressBytes === undefined || transport > DGRAM) throw broken('has an unknown address family')
  const tlvs = PREFIX_BYTES + addressBytes
  if (tlvs > end) throw broken('is too short for its addresses')
  const header: ProxyHeader = { command: 'PROXY' }
  // Transport UNSPEC: addresses are there to be skipped.
  if ((family === INET || family === INET6) && transport !== 0) {
    const ipBytes = addressBytes / 2 - 2
    const format = family === INET ? formatIpv4 : formatIpv6
    const ports = PREFIX_BYTES + 2 * ipBytes
    header.source = { address: format(bytes, PREFIX_BYTES), port: uint16(bytes, ports) }
    header.destination = { address: format(bytes, PREFIX_BYTES + ipBytes), port: uint16(bytes, ports + 2) }
  }
  readTlvs(bytes, tlvs, end, header)
  return header
}

function readTlvs(bytes: Uint8Array, from: number, end: number, header: ProxyHeader): void {
  for (let at = from; at < end; ) {
    const value = at + TLV_PREFIX_BYTES
    const next = value + uint16(bytes, at + 1)
    if (value > end || next > end) throw broken('holds a TLV longer than itself')
    const field = FIELDS.get(bytes[at] ?? 0)
    if (field !== undefined) {
      // Two of a kind could mean one to us and another to whoever reads after us.
      if (header[field] !== undefined) throw broken('names one thing twice')
      READ[field](header, bytes.subarray(value, next))
    }
    at = next
  }
}

const FIELDS: ReadonlyMap<number, keyof ProxyFields> = new Map([
  [ALPN, 'alpn'],
  [AUTHORITY, 'authority'],
  [UNIQUE_ID, 'uniqueId'],
  [SERVICE, 'service'],
])

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function readUtf8(value: Uint8Array): string {
  try {
    return utf8.decode(value)
  } catch {
    throw broken('holds text that is not UTF-8')
  }
}

const READ: Record<keyof ProxyFields, (header: ProxyHeader, value: Uint8Array) => void> = {
  alpn(header, value) {
    header.alpn = Buffer.from(value.buffer, value.byteOffset, value.length).toString('latin1')
  },
  authority(header, value) {
    header.authority = readUtf8(value)
  },
  uniqueId(header, value) {
    if (value.length > UNIQUE_ID_BYTES) throw broken(`has a unique id over ${UNIQUE_ID_BYTES} bytes`)
    // Copied: it outlives the chunk, which would stay in memory whole for its sake.
    header.uniqueId = Uint8Array.from(value)
  },
  service(header, value) {
    header.service = readUtf8(value)
  },
}

function broken(fact: string): TunnelError {
  return new TunnelError('protocol_error', {
    scope: 'stream',
    remote: true,
    detail: `a PROXY header ${fact}`,
  })
}
