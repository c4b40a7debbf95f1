import { connect, type IpcNetConnectOpts, type Socket, type TcpNetConnectOpts } from 'node:net'
import { READ_BYTES } from '../limits.ts'

/**
 * Connects a socket that behaves as any other, but for one thing: what comes before anybody listens is lost, so whoever
 * gets it listens in the same turn. It reads by a buffer that all of them share, and each chunk that it tells is a copy of
 * its own, as long as what came. Node would take 64 KiB from the allocator for each read, and give back the rest.
 *
 * 8.4 → 7.6 µs for a short request written and its answer read, on 32 such sockets with nothing else; 34 → 32 µs of the
 * client's CPU per request of `https` at 64 connections.
 */
export function connectSocket(options: TcpNetConnectOpts | IpcNetConnectOpts): Socket {
  const onread = {
    buffer,
    callback: (bytes: number): boolean => {
      const chunk = Buffer.allocUnsafe(bytes)
      buffer.copy(chunk, 0, 0, bytes)
      socket.emit('data', chunk)
      return true
    },
  }
  const socket = connect({ ...options, onread })
  return socket
}

/** Full only within one call. */
const buffer = Buffer.allocUnsafeSlow(READ_BYTES)
