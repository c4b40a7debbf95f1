import { type IncomingMessage, request } from 'node:http'
import { isIPv6 } from 'node:net'
import { TunnelError } from '../errors.ts'
import { HEALTH_ANSWER_BYTES, HEALTH_TIMEOUT_MS } from '../limits.ts'
import type { Millis } from '../mux/index.ts'
import { encodeLocalHeader, printable } from '../protocol/index.ts'
import { dialTarget } from './dial.ts'
import type { ClientService } from './services.ts'

/**
 * Asks the target of a service once for its health path, as a visitor's request would come to it, and reads the
 * answer. Resolves with undefined if it is well, with why not otherwise, safe to print; the connection is gone by
 * then. Never rejects. An abort counts as an answer that nobody waits for.
 */
export function probe(
  service: ClientService,
  { signal, timeoutMs = HEALTH_TIMEOUT_MS }: { signal: AbortSignal; timeoutMs?: Millis | undefined },
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = dialTarget(service)
    let connected = false
    socket.once('connect', () => {
      connected = true
    })
    if (service.proxyHeader) socket.write(encodeLocalHeader())
    const asked = request({
      path: service.health ?? '/',
      headers: headersOf(service),
      setHost: false,
      createConnection: () => socket,
    })
    const finish = (why: string | undefined): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', aborted)
      asked.destroy()
      socket.destroy()
      resolve(why)
    }
    const aborted = (): void => finish('nobody waits for it')
    const timer = setTimeout(() => finish(`no answer within ${timeoutMs / 1000} s`), timeoutMs).unref()
    const broke = (error: NodeJS.ErrnoException): void => finish(failure(error, connected))
    socket.on('error', broke)
    asked.on('error', broke)
    asked.on('close', () => finish('the connection broke'))
    asked.on('response', (response) => read(response, finish))
    if (signal.aborted) aborted()
    else {
      signal.addEventListener('abort', aborted, { once: true })
      asked.end()
    }
  })
}

/** Reads an answer to its end or to the bound; a status that is good does not help if the rest never comes. */
function read(response: IncomingMessage, finish: (why: string | undefined) => void): void {
  const { statusCode = 0 } = response
  const verdict = statusCode >= 200 && statusCode < 400 ? undefined : `status ${statusCode}`
  let bytes = 0
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes >= HEALTH_ANSWER_BYTES) finish(verdict)
  })
  response.on('end', () => finish(verdict))
  response.on('error', () => finish('its answer breaks off'))
}

/** What a visitor's request has from the gateway, as far as it does not come from a visitor. */
function headersOf({ rewrite, hosts, target }: ClientService): Record<string, string> {
  const exact = hosts.find((host) => !host.includes('*'))
  const host = rewrite?.host ?? (exact === undefined ? undefined : bracketed(exact))
  return {
    ...Object.fromEntries(rewrite?.headers ?? []),
    host: host ?? (target.kind === 'tcp' ? target.text : 'localhost'),
    connection: 'close',
  }
}

function bracketed(host: string): string {
  return isIPv6(host) ? `[${host}]` : host
}

function failure(error: NodeJS.ErrnoException, connected: boolean): string {
  if (error instanceof TunnelError) return printable(error.message)
  const code = error.code ?? error.message
  if (code.startsWith('HPE_')) return 'what it says is not HTTP'
  return `${connected ? 'the connection broke' : 'no connection'}: ${code}`
}
