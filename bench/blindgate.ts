/** What is measured of ours: the built programs, as a user has them. */
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type Launched, launch } from './launched.ts'
import { freePort, listening, type Program, run } from './process.ts'
import { direct, type Kind, type Link, type System } from './systems.ts'

const root = join(import.meta.dirname, '..', '..')

/** BENCH_PROFILE=FOLDER: each of our processes leaves a CPU profile there. It costs some percent. */
const folder = process.env['BENCH_PROFILE']
const node = folder === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir', folder]

export const blindgate: Kind = {
  name: 'blindgate',
  missing: notBuilt,
  start: (target, link) => blindgatePair('tcp', target, link),
}

/** BENCH_BUILDS=FOLDER[:FOLDER]: other checkouts, built, each called after its folder, to see what a change does in one and the same run. */
export const BUILDS: readonly Kind[] = (process.env['BENCH_BUILDS'] ?? '')
  .split(':')
  .filter((build) => build !== '')
  .map((build) => ({
    name: `blindgate of ${basename(build)}`,
    missing: notBuilt,
    start: (target, link) => blindgatePair('tcp', target, link, build),
  }))

/** The same two programs, with visitors on the gateway's http port. */
export const blindgateHttp: Kind = {
  name: 'blindgate http',
  missing: notBuilt,
  start: (target, link) => blindgatePair('http', target, link),
}

/** The same with visitors of TLS, which ends in the client. */
export const blindgateHttps: Kind = {
  name: 'blindgate https',
  missing: notBuilt,
  start: (target, link) => blindgatePair('https', target, link),
}

/** And with TLS that ends in the target. */
export const blindgatePassthrough: Kind = {
  name: 'blindgate passthrough',
  missing: notBuilt,
  start: (target, link) => blindgatePair('passthrough', target, link),
}

async function notBuilt(): Promise<string | undefined> {
  return existsSync(programOf(root)) ? undefined : 'blindgate is not built: npm run build'
}

function programOf(build: string): string {
  return join(build, 'dist', 'cli', 'main.js')
}

export interface BlindgatePair extends System {
  /** The client leaves; its visitors are held from then on. */
  stopClient(): Promise<void>
  /** An invite for so many machines more. */
  invite(uses: number): Promise<string>
}

/** What the client offers, `passthrough` being https too. */
export type Offer = 'tcp' | 'http' | 'https' | 'passthrough'

const DRAIN = ['--drain', '500ms']

/** A gateway and a client that offers one service; `more` are further arguments of the gateway. */
export function blindgatePair(
  offer: Offer,
  target: number,
  link = direct,
  build = root,
  more: readonly string[] = [],
): Promise<BlindgatePair> {
  const { type, service } = OFFERS[offer]
  const client = async (port: number) => [type, `127.0.0.1:${target}`, ...service(port), ...DRAIN]
  return pair(build, offer, link, client, more)
}

/** The same with so many workers, and a client that has a tunnel to each. */
export function blindgateWorkers(offer: 'tcp' | 'http', workers: number): Kind {
  return {
    name: `blindgate ${offer}, ${workers} ${workers === 1 ? 'worker' : 'workers'}`,
    missing: notBuilt,
    start: (target, link) => blindgatePair(offer, target, link, root, ['--workers', `${workers}`]),
  }
}

/** A gateway and a client that offers http services at so many hosts: `nameOfHost` of 0, 1, … */
export function blindgateHosts(target: number, count: number): Promise<BlindgatePair> {
  return pair(root, 'http', direct, async (_port, launched) => {
    const services = Array.from({ length: count }, (_, index) => [
      '[[service]]',
      `name = "s${index}"`,
      'type = "http"',
      `host = "${nameOfHost(index)}"`,
      `target = "127.0.0.1:${target}"`,
    ])
    return ['up', '--config', launched.file('blindgate.toml', services.flat()), ...DRAIN]
  })
}

export function nameOfHost(index: number): string {
  return `h${index}.bench.test`
}

/** `client`: the arguments of the client's command, for visitors on the port. */
function pair(
  build: string,
  offer: Offer,
  link: Link,
  client: (port: number, launched: Launched) => Promise<string[]>,
  more: readonly string[] = [],
): Promise<BlindgatePair> {
  return launch('blindgate', async (launched) => {
    const [port, tunnel] = [await freePort(), await freePort()]
    const args = (side: string, ...more: string[]) => [
      ...node,
      programOf(build),
      ...more,
      '--state',
      join(launched.folder, side),
    ]
    const invite = (uses: number, at = tunnel): Promise<string> => {
      const address = ['--address', `127.0.0.1:${at}`]
      return run(process.execPath, args('gateway', 'invite', '--uses', `${uses}`, ...address))
    }
    const gateway = await startGateway(
      launched,
      (side, ...words) => args(side, ...words, ...more),
      offer,
      port,
      tunnel,
    )
    await run(process.execPath, args('client', 'join', '-'), await invite(1, await link(tunnel)))
    const started = launched.program(process.execPath, args('client', ...(await client(port, launched))))
    await started.line()
    await listening(port)
    const stopClient = () => started.stop()
    return { port, gateway: gateway.pid, client: started.pid, stopClient, invite }
  })
}

async function startGateway(
  launched: Launched,
  args: (side: string, ...more: string[]) => string[],
  offer: Offer,
  port: number,
  tunnel: number,
): Promise<Program> {
  // Also where no visitor comes by it: the default port may be another program's.
  const http = offer === 'http' ? port : await freePort()
  const visitors = [...OFFERS[offer].visitors(port), '--http', `127.0.0.1:${http}`]
  const listen = [...visitors, '--tunnel', `127.0.0.1:${tunnel}`]
  // Time enough to look at those who are held.
  const env = { ...process.env, BLINDGATE_HOLD: '2m' }
  const gateway = launched.program(process.execPath, args('gateway', 'gateway', ...listen, ...DRAIN), env)
  await gateway.line()
  await listening(tunnel)
  return gateway
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
