import type { Socket } from 'node:net'

/**
 * Ends `socket` so that its other side sees a reset and not an end, wherever the kernel can say so: RST on
 * TCP. A unix socket knows no reset and is destroyed, as is one that is not connected yet: Node would wait
 * for the connection in order to reset it. So is one whose end is on its way: Node's reset fails there (EINVAL from
 * libuv), and the descriptor is never closed. Does nothing to a destroyed socket.
 */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return
  if (socket.connecting || (socket.writableEnded && !socket.writableFinished)) {
    socket.destroy()
    return
  }
  try {
    socket.resetAndDestroy()
  } catch {
    // ERR_INVALID_HANDLE_TYPE: no TCP handle of its own.
    socket.destroy()
  }
}

/**
 * Calls back when the end that `socket` has just told of is one: data and a RST that are found by the same
 * poll come out of libuv as data and an end. An empty write asks the kernel which it was. It costs one system
 * call, and a connection that was reset answers with an `error` (and calls back with it). Our side must be
 * writable still, with no write under way: once it has ended there is nothing to ask with, and half an answer
 * may pass for a whole one. A unix socket knows no reset, and would answer with EPIPE to every end whose other side has
 * closed: it is not asked.
 */
export function askWhetherReset(socket: Socket, callback: (error?: Error | null) => void): void {
  // What only a socket with an address has, and keeps when it is reset.
  if (socket.localAddress === undefined) callback()
  else socket.write(NOTHING, callback)
}

const NOTHING = new Uint8Array(0)
