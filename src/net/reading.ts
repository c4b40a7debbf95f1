import { type NetConnectOpts, Socket } from 'node:net'
import { READ_BYTES, READ_PIECE_BYTES } from '../limits.ts'

type OnRead = NonNullable<NetConnectOpts['onread']>

/** Full only within one call. */
const shared = Buffer.allocUnsafeSlow(READ_BYTES)
/** Where short chunks lie, one after the other. */
let piece = Buffer.allocUnsafeSlow(READ_PIECE_BYTES)
let used = 0

/** Called by Node as a method of the socket that was read. */
function take(this: Socket, bytes: number): boolean {
  const chunk = copied(bytes)
  // In flow there is nothing to keep.
  if (this.readableFlowing !== true || this.readableLength > 0) return this.push(chunk)
  this.emit('data', chunk)
  return true
}

function copied(bytes: number): Buffer {
  if (bytes > READ_PIECE_BYTES / 2) {
    const own = Buffer.allocUnsafeSlow(bytes)
    shared.copy(own, 0, 0, bytes)
    return own
  }
  if (used + bytes > READ_PIECE_BYTES) {
    piece = Buffer.allocUnsafeSlow(READ_PIECE_BYTES)
    used = 0
  }
  shared.copy(piece, used, 0, bytes)
  const chunk = piece.subarray(used, used + bytes)
  used += bytes
  return chunk
}

/** As `readShared`, for a socket that is about to be made. */
export const SHARED_READ: OnRead = { buffer: shared, callback: take }

/** Where Node keeps the two for a socket: it has an option for those that are dialled, and none for those that come. */
const [BUFFER, CALLBACK] = keys()

function keys(): (symbol | undefined)[] {
  const socket = new Socket({ onread: SHARED_READ } as object)
  const found = [shared, take].map((value) =>
    Object.getOwnPropertySymbols(socket).find((key) => Reflect.get(socket, key) === value),
  )
  socket.destroy()
  return found
}

/**
 * Has a socket of TCP or TLS read by a buffer that all such sockets share, each chunk a copy of its own, as long as what
 * came. Node would take 64 KiB from the allocator for each read, give back the rest, and plan a tick to read ahead: a
 * gateway of 64 visitors needs a tenth less CPU so. In all else it is the socket that it was, but that a paused one reads
 * nothing ahead. Where Node has no place for this any more it reads as it always does.
 */
export function readShared<Of extends Socket>(socket: Of): Of {
  const handle = Reflect.get(socket, '_handle') as { useUserBuffer?(buffer: Uint8Array): void } | null
  if (BUFFER === undefined || CALLBACK === undefined || handle?.useUserBuffer === undefined) return socket
  Reflect.set(socket, BUFFER, shared)
  Reflect.set(socket, CALLBACK, take)
  handle.useUserBuffer(shared)
  return socket
}
