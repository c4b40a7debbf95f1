import type { Socket } from 'node:net'
import { APOLOGY_LINGER_MS } from '../limits.ts'

/**
 * The last word to a visitor: `text` leaves, then an end. What it still sends is read and dropped for a moment, since closing
 * over unread bytes would reset the word away. Owns the socket from now on.
 */
export function farewell(socket: Socket, text: Uint8Array | string): void {
  socket.on('error', () => {})
  socket.on('end', () => socket.destroySoon())
  socket.end(text)
  socket.resume()
  const timer = setTimeout(() => socket.destroy(), APOLOGY_LINGER_MS)
  timer.unref()
  socket.on('close', () => clearTimeout(timer))
}
