import type { Socket } from 'node:net'

/**
 * Ends `socket` so that its other side sees a reset and not an end, wherever the kernel can say so: RST on
 * TCP. A unix socket knows no reset and is destroyed, as is one that is not connected yet: Node would wait
 * for the connection in order to reset it. Does nothing to a destroyed socket.
 */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return
  if (socket.connecting) {
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
