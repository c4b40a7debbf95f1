/** Requests by wrk. */
import { find, run } from './process.ts'
import type { Load, Sent } from './requests.ts'

/** Why wrk can send no requests; undefined if it can. */
export function withoutWrk(): string | undefined {
  return find('wrk') === undefined ? 'wrk is not on PATH: apt install wrk' : undefined
}

export interface WrkOptions {
  readonly connections: number
  /** A new connection for each request. */
  readonly once?: boolean
  /** By TLS, asking for `localhost`. */
  readonly tls?: boolean
  /** Asks for this host, which nobody has: each answer is the gateway's own page. */
  readonly nobodys?: string
  /** A Lua script that makes the requests. */
  readonly script?: string
}

export function wrk(options: WrkOptions): Load {
  return async (port, seconds) => sentOf(await wrkOutput(port, seconds, options), options)
}

export interface Waited extends Sent {
  /** Milliseconds from a request to its answer: half of them, and 99 of 100, took no longer. */
  readonly p50: number
  readonly p99: number
}

/** The same, and how long the answers took. */
export function wrkWaits(options: WrkOptions): (port: number, seconds: number) => Promise<Waited> {
  return async (port, seconds) => {
    const output = await wrkOutput(port, seconds, options, '--latency')
    const percentile = (which: number) => {
      const [, figure, unit] = new RegExp(`^\\s+${which}%\\s+([\\d.]+)(us|ms|s|m)$`, 'm').exec(output) ?? []
      return Number(figure) * (MILLISECONDS[unit ?? ''] ?? Number.NaN)
    }
    return { ...sentOf(output, options), p50: percentile(50), p99: percentile(99) }
  }
}

const MILLISECONDS: Record<string, number> = { us: 0.001, ms: 1, s: 1000, m: 60_000 }

function wrkOutput(port: number, seconds: number, options: WrkOptions, ...more: string[]): Promise<string> {
  const { connections, once, tls, script, nobodys } = options
  const url = tls === true ? `https://localhost:${port}/` : `http://127.0.0.1:${port}/`
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, ...more]
  if (once === true) args.push('-H', 'Connection: close')
  if (nobodys !== undefined) args.push('-H', `Host: ${nobodys}`)
  if (script !== undefined) args.push('-s', script)
  return run(find('wrk') ?? 'wrk', [...args, url])
}

function sentOf(output: string, { nobodys }: WrkOptions): Sent {
  const requests = Number(/(\d+) requests in/.exec(output)?.[1])
  const refused = Number(/Non-2xx or 3xx responses: (\d+)/.exec(output)?.[1] ?? 0)
  const wanted = nobodys === undefined ? 0 : requests
  if (!(requests > 0) || /Socket errors/.test(output) || refused !== wanted)
    throw new Error(`wrk did not get what it asked for:\n${output}`)
  return { requests, perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(output)?.[1]) }
}
