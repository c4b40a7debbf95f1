/** What is measured: ways to carry a visitor over two hops to a target, each started fresh. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { find, freePort, listening, type Program, run, start, until } from './process.ts'

export interface System {
  /** Where visitors connect, on 127.0.0.1. */
  readonly port: number
  /** The process of each side; its descendants count with it. */
  readonly gateway: number
  readonly client: number
  stop(): Promise<void>
}

export interface Kind {
  readonly name: string
  /** What must be installed first, as a sentence; undefined if all is there. */
  missing(): Promise<string | undefined>
  /** Starts both sides in front of a target on 127.0.0.1. */
  start(target: number): Promise<System>
}

const program = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'main.js')

export const blindgate: Kind = {
  name: 'blindgate',
  missing: notBuilt,
  start: (target) => blindgatePair('tcp', target),
}

/** The same two programs, with visitors on the gateway's http port. */
export const blindgateHttp: Kind = {
  name: 'blindgate http',
  missing: notBuilt,
  start: (target) => blindgatePair('http', target),
}

/** The same with visitors of TLS, which ends in the client. */
export const blindgateHttps: Kind = {
  name: 'blindgate https',
  missing: notBuilt,
  start: (target) => blindgatePair('https', target),
}

/** And with TLS that ends in the target. */
export const blindgatePassthrough: Kind = {
  name: 'blindgate passthrough',
  missing: notBuilt,
  start: (target) => blindgatePair('passthrough', target),
}

async function notBuilt(): Promise<string | undefined> {
  return existsSync(program) ? undefined : 'blindgate is not built: npm run build'
}

export interface BlindgatePair extends System {
  /** The client leaves; its visitors are held from then on. */
  stopClient(): Promise<void>
}

/** What the client offers, `passthrough` being https too. */
export type Offer = 'tcp' | 'http' | 'https' | 'passthrough'

/** A gateway and a client that offers one service. */
export async function blindgatePair(offer: Offer, target: number): Promise<BlindgatePair> {
  const folder = mkdtempSync(join(tmpdir(), 'blindgate-bench-'))
  const programs: Program[] = []
  const stop = async (): Promise<void> => {
    // The client first: a gateway that drains waits for it.
    for (const each of programs.toReversed()) await each.stop()
    rmSync(folder, { recursive: true, force: true })
  }
  const blindgateArgs = (side: string, ...args: string[]) => [program, ...args, '--state', join(folder, side)]
  try {
    const [port, tunnel] = [await freePort(), await freePort()]
    const { type, visitors, service } = OFFERS[offer]
    // Also where no visitor comes by it: the default port may be another program's.
    const http = offer === 'http' ? port : await freePort()
    const listen = [...visitors(port), '--http', `127.0.0.1:${http}`, '--tunnel', `127.0.0.1:${tunnel}`]
    const drain = ['--drain', '500ms']
    // Time enough to look at those who are held.
    const env = { ...process.env, BLINDGATE_HOLD: '2m' }
    const gateway = start(process.execPath, blindgateArgs('gateway', 'gateway', ...listen, ...drain), { env })
    programs.push(gateway)
    await gateway.line()
    await listening(tunnel)
    const invite = await run(process.execPath, blindgateArgs('gateway', 'invite'))
    await run(process.execPath, blindgateArgs('client', 'join', '-'), invite)
    const offered = [type, `127.0.0.1:${target}`, ...service(port), ...drain]
    const client = start(process.execPath, blindgateArgs('client', ...offered))
    programs.push(client)
    await client.line()
    await listening(port)
    const stopClient = () => client.stop()
    return { port, gateway: gateway.pid, client: client.pid, stop, stopClient }
  } catch (error) {
    await stop()
    throw error
  }
}

/** The command, where the gateway listens besides, and how the service is to be found there. */
const OFFERS: Record<
  Offer,
  { type: string; visitors: (port: number) => string[]; service: (port: number) => string[] }
> = {
  tcp: { type: 'tcp', visitors: () => [], service: (port) => ['--port', `${port}`] },
  http: { type: 'http', visitors: () => [], service: () => ['--host', '127.0.0.1'] },
  https: { type: 'https', visitors: tlsPort, service: () => ['--host', 'localhost', '--tls', 'self-signed'] },
  passthrough: {
    type: 'https',
    visitors: tlsPort,
    service: () => ['--host', 'localhost', '--tls', 'passthrough'],
  },
}

function tlsPort(port: number): string[] {
  return ['--tls', `127.0.0.1:${port}`]
}

/** What others do with the same visitors, on either of its ways to carry them. */
export const frpHttp: Kind = {
  name: 'frp http',
  missing: frpMissing,
  start: (target) => startFrp('http', target),
}

export const frpTcp: Kind = {
  name: 'frp tcp',
  missing: frpMissing,
  start: (target) => startFrp('tcp', target),
}

async function frpMissing(): Promise<string | undefined> {
  if (find('frps') !== undefined && find('frpc') !== undefined) return undefined
  return 'frp is not on PATH: put frps and frpc of a release (github.com/fatedier/frp) there'
}

async function startFrp(type: 'tcp' | 'http', target: number): Promise<System> {
  const folder = mkdtempSync(join(tmpdir(), 'blindgate-bench-frp-'))
  const [tcp, http, tunnel] = [await freePort(), await freePort(), await freePort()]
  const port = type === 'tcp' ? tcp : http
  const programs: Program[] = []
  const stop = async (): Promise<void> => {
    for (const each of programs.toReversed()) await each.stop()
    rmSync(folder, { recursive: true, force: true })
  }
  const launch = (name: 'frps' | 'frpc', lines: readonly string[]): Program => {
    const config = join(folder, `${name}.toml`)
    writeFileSync(config, `${['log.level = "error"', ...lines].join('\n')}\n`)
    const started = start(find(name) ?? name, ['-c', config])
    programs.push(started)
    return started
  }
  try {
    const local = '"127.0.0.1"'
    const server = launch('frps', [
      `bindAddr = ${local}`,
      `proxyBindAddr = ${local}`,
      `bindPort = ${tunnel}`,
      ...(type === 'http' ? [`vhostHTTPPort = ${http}`] : []),
    ])
    await listening(tunnel)
    const client = launch('frpc', [
      `serverAddr = ${local}`,
      `serverPort = ${tunnel}`,
      '[[proxies]]',
      'name = "bench"',
      `type = "${type}"`,
      `localIP = ${local}`,
      `localPort = ${target}`,
      type === 'http' ? `customDomains = [${local}]` : `remotePort = ${tcp}`,
    ])
    await answering(port)
    return { port, gateway: server.pid, client: client.pid, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Waits until a request is answered as the target would: frp's http port listens before it knows of any client. */
function answering(port: number): Promise<void> {
  const answered = async (): Promise<boolean> => {
    try {
      const response = await fetch(`http://127.0.0.1:${port}/`)
      return response.ok && (await response.text()) === 'ok\n'
    } catch {
      return false
    }
  }
  return until(answered, `nothing answers on port ${port}`)
}
