/**
 * The yamux wire format, version 0 (hashicorp/yamux `spec.md`): a header of 12 bytes, big-endian, then
 * for DATA `length` bytes of payload.
 *
 * ```
 * 0        1        2                 4                                   8
 * version  type     flags             stream id                           length
 * u8 = 0   u8       u16               u32, 0 for the session's own        u32
 * ```
 */

export const VERSION = 0
export const HEADER_BYTES = 12

/** `length` is the number of payload bytes that follow. */
export const DATA = 0
/** `length` is added to what the receiver of this frame may send. */
export const WINDOW_UPDATE = 1
/** `length` is an opaque value; SYN asks, ACK answers with the same value. */
export const PING = 2
/** `length` is one of the `GO_AWAY_` codes. */
export const GO_AWAY = 3

/** Opens a stream. */
export const SYN = 0x1
/** Accepts a stream, or answers a ping. */
export const ACK = 0x2
/** The sender writes no more on this stream. */
export const FIN = 0x4
/** The stream is over, now, both ways. */
export const RST = 0x8
export const KNOWN_FLAGS = SYN | ACK | FIN | RST

export const GO_AWAY_NORMAL = 0
export const GO_AWAY_PROTOCOL_ERROR = 1
export const GO_AWAY_INTERNAL_ERROR = 2
export type GoAwayCode = typeof GO_AWAY_NORMAL | typeof GO_AWAY_PROTOCOL_ERROR | typeof GO_AWAY_INTERNAL_ERROR

/** Deltas and windows are u32 on the wire. */
export const U32_MAX = 0xffff_ffff

/** Writes one header at `at`. Byte by byte: `DataView` and `writeUInt32BE` check what is known here. */
export function writeHeader(
  out: Uint8Array,
  at: number,
  type: number,
  flags: number,
  id: number,
  length: number,
): void {
  out[at] = VERSION
  out[at + 1] = type
  out[at + 2] = 0
  out[at + 3] = flags
  out[at + 4] = id >>> 24
  out[at + 5] = id >>> 16
  out[at + 6] = id >>> 8
  out[at + 7] = id
  out[at + 8] = length >>> 24
  out[at + 9] = length >>> 16
  out[at + 10] = length >>> 8
  out[at + 11] = length
}

/** Reads a big-endian u32. The caller has checked that the four bytes are there. */
export function readU32(from: Uint8Array, at: number): number {
  return (
    (((from[at] as number) << 24) |
      ((from[at + 1] as number) << 16) |
      ((from[at + 2] as number) << 8) |
      (from[at + 3] as number)) >>>
    0
  )
}
