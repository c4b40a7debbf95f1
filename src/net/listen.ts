import type { AddressInfo, ListenOptions, Server } from 'node:net'
import { type TunnelError, userError } from '../errors.ts'
import { LISTEN_BACKLOG } from '../limits.ts'
import { plainAddress } from './address.ts'

export interface ListenAddress {
  /** Nothing: every address, IPv6 and IPv4. */
  host?: string | undefined
  /** 0: a free one. */
  port: number
}

/**
 * Makes `server` listen; resolves to where. Rejects with `address_in_use` in a sentence that says what to
 * do; the server can then be used for another try.
 */
export async function listenOn(
  server: Server,
  address: ListenAddress,
): Promise<{ host: string; port: number }> {
  const { host, port } = address
  if (host !== undefined && host !== '') {
    await attempt(server, { host, port }, address)
  } else {
    try {
      await attempt(server, { host: '::', port, ipv6Only: false }, address)
    } catch (error) {
      // A machine without IPv6 has no `::`.
      const code = ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code
      if (code !== 'EAFNOSUPPORT' && code !== 'EADDRNOTAVAIL') throw error
      await attempt(server, { host: '0.0.0.0', port }, address)
    }
  }
  const bound = server.address() as AddressInfo
  return { host: plainAddress(bound.address), port: bound.port }
}

/** Stops listening and waits until the server is closed, which its connections put off: end them first. Fine on one that never listened. */
export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    // The one error of `close` is that it does not listen.
    server.close(() => resolve())
  })
}

function attempt(server: Server, options: ListenOptions, address: ListenAddress): Promise<void> {
  return listening(server, () => server.listen({ ...options, backlog: LISTEN_BACKLOG }), address)
}

/** Resolves when `server` listens, as `begin` has it do. Rejects as `listenOn`. */
export function listening(server: Server, begin: () => void, address: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (cause: NodeJS.ErrnoException): void => {
      server.off('listening', onListening)
      reject(listenError(cause.code, address, cause))
    }
    const onListening = (): void => {
      server.off('error', onError)
      resolve()
    }
    server.once('error', onError)
    server.once('listening', onListening)
    begin()
  })
}

/** By the kernel's or the resolver's code: what the matter is, and the way out. */
const REASONS: Readonly<Record<string, (host: string, port: number) => string>> = {
  EADDRINUSE: (_host, port) =>
    `another program listens there: stop it (\`ss -ltnp 'sport = :${port}'\` names it), or choose another port`,
  EACCES: (_host, port) =>
    port > 0 && port < 1024
      ? 'ports below 1024 need a right: under systemd AmbientCapabilities=CAP_NET_BIND_SERVICE, ' +
        'by hand `sudo setcap cap_net_bind_service=+ep "$(readlink -f "$(command -v node)")"`, or choose a higher port'
      : 'this machine does not allow it: choose another port',
  EADDRNOTAVAIL: (host) =>
    `${host} is no address of this machine: leave the host out to listen on all of them`,
  ENOTFOUND: (host) =>
    `${host} has no address: write an IP address, or leave the host out to listen on all of them`,
  EMFILE: () => 'too many files are open: raise the limit (LimitNOFILE= under systemd, else `ulimit -n`)',
}

/** `code` is the kernel's or the resolver's; it is also that of the `cause`, whatever process met it. */
export function listenError(
  code: string | undefined,
  { host = '', port }: ListenAddress,
  cause: unknown = { code },
): TunnelError {
  const where = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
  const said = code ?? (cause instanceof Error ? cause.message : 'nobody says why')
  const reason = REASONS[code ?? '']?.(host, port) ?? said
  return userError('address_in_use', `cannot listen on ${where}: ${reason}`, cause)
}
