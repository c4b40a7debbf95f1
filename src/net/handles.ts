import { lookup } from 'node:dns/promises'
import * as net from 'node:net'
import { getSystemErrorName } from 'node:util'
import { LISTEN_BACKLOG } from '../limits.ts'
import { plainAddress } from './address.ts'
import { type ListenAddress, listenError, listening } from './listen.ts'

/**
 * A socket as the system has it, without the stream around it: what one process hands to another by IPC. Whoever has
 * it closes it; what lies in the kernel stays there for whoever reads next.
 *
 * Node gives no public way to bind a port without accepting from it, nor to stop reading at a byte. Its own `cluster` does
 * both by what is used here, and its key of a port (the number of times a process has tried it) goes wrong when two
 * workers have tried a port a different number of times; so the few lines are here. `test/net/handles.test.ts` holds them
 * on every line of Node that is tested.
 */
export interface Handle {
  close(): void
  readonly fd: number
}

/** A handle as Node has it inside. */
interface Raw extends Handle {
  getsockname(into: { address?: string; port?: number }): number
  readStop(): void
  reading: boolean
}

type Bind = (address: string, port: number, family: 4 | 6, fd: undefined, flags: number) => Raw | number

/**
 * Binds a port and does not listen: the first process that listens on the handle opens it, and it is open until all that
 * have it have closed theirs. Rejects as `listenOn`.
 */
export async function bindPort(
  address: ListenAddress,
): Promise<{ handle: Handle; host: string; port: number }> {
  const { host, port } = address
  if (host !== undefined && host !== '') return bound(await ipOf(host, address), port, address)
  try {
    return bound('::', port, address)
  } catch (error) {
    // A machine without IPv6 has no `::`.
    const code = ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code
    if (code !== 'EAFNOSUPPORT' && code !== 'EADDRNOTAVAIL') throw error
    return bound('0.0.0.0', port, address)
  }
}

function bound(
  ip: string,
  port: number,
  address: ListenAddress,
): { handle: Handle; host: string; port: number } {
  const bind = Reflect.get(net, '_createServerHandle') as Bind
  const handle = bind(ip, port, net.isIPv6(ip) ? 6 : 4, undefined, 0)
  if (typeof handle === 'number') throw listenError(getSystemErrorName(handle), address)
  const at: { address?: string; port?: number } = {}
  // A port that is taken may show only now; listening all the same would open any other one.
  const failed = handle.getsockname(at)
  if (failed !== 0 || (port !== 0 && at.port !== port)) {
    handle.close()
    throw listenError(failed === 0 ? 'EADDRINUSE' : getSystemErrorName(failed), address)
  }
  return { handle, host: plainAddress(at.address ?? ip), port: at.port ?? port }
}

async function ipOf(host: string, address: ListenAddress): Promise<string> {
  if (net.isIP(host) !== 0) return host
  try {
    return (await lookup(host)).address
  } catch (error) {
    throw listenError((error as NodeJS.ErrnoException).code, address, error)
  }
}

/** Makes `server` listen on what another process has bound. Rejects as `listenOn`; the handle is closed then. */
export function listenOnHandle(server: net.Server, handle: Handle, address: ListenAddress): Promise<void> {
  return listening(server, () => server.listen(handle, LISTEN_BACKLOG), address)
}

/**
 * Takes its handle from a socket, which is at its end then: nothing is read here any more, and what comes lies in the kernel
 * for whoever gets it. Undefined: it was gone already.
 */
export function detachHandle(socket: net.Socket): Handle | undefined {
  const handle = Reflect.get(socket, '_handle') as Raw | null | undefined
  if (handle === null || handle === undefined) return undefined
  handle.reading = false
  handle.readStop()
  // Paused or not, a socket goes on reading ahead while it has its handle.
  Reflect.set(socket, '_handle', null)
  socket.destroy()
  return handle
}

/** A socket of a handle that came from another process; owns it. Begins to read. */
export function socketOf(handle: Handle): net.Socket {
  return new net.Socket({ handle, readable: true, writable: true } as net.SocketConstructorOpts)
}
