/**
 * A real CA for tests: Pebble, with pebble-challtestsrv as its DNS, both built from the modules that pebble/go.mod pins,
 * once per state of that file. It checks hosts at 127.0.0.1, on the ports that the test says.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Authority } from './authority.ts'

const run = promisify(execFile)
const root = join(import.meta.dirname, '..', '..')
const modules = join(import.meta.dirname, 'pebble')

/** True where Pebble cannot be built: tests that need it are skipped, and say `skipped: no go`. */
export const GO_MISSING = await run('go', ['version']).then(
  () => false,
  () => true,
)

export interface PebbleOptions {
  /** Where Pebble looks for http-01 and tls-alpn-01. */
  httpPort?: number
  tlsPort?: number
  /** `host:port` of another DNS for it than pebble-challtestsrv. */
  dns?: string
  /** Key ids and base64url keys; with any, accounts need one. */
  eab?: Record<string, string>
  /** Seconds that a certificate of a profile lives; `default` lives 90 days. */
  profiles?: Record<string, number>
  /** PEBBLE_WFE_NONCEREJECT and the like; authorizations are not reused unless this says so. */
  env?: Record<string, string>
}

export interface Pebble {
  /** Its URL. */
  directory: string
  /** The root of its own TLS, as a file and as PEM. */
  caFile: string
  ca: string
  /** `host:port` of its DNS, where every name is 127.0.0.1. */
  dns: string
  /** The root of what it issues, PEM; another after each start. */
  root(): Promise<string>
  /** Asks pebble-challtestsrv: `set-txt`, `clear-txt`, `set-servfail`, … */
  dnsCommand(command: string, body: unknown): Promise<void>
  /** URL of those commands, for hooks. */
  dnsManagement: string
  /** Says what the CA will answer to who asks when to renew. */
  setRenewal(certificatePem: string, window: { start: Date; end: Date }): Promise<void>
  /** Serial of a certificate → `Valid` or `Revoked`. */
  statusOf(serial: string): Promise<string>
  /** What it has said. */
  log(): string
  /** Ends the CA alone; it forgets all. */
  stop(): Promise<void>
  /** Begins it again, at the same place. */
  start(env?: Record<string, string>): Promise<void>
  close(): Promise<void>
}

/** Needs `GO_MISSING` to be false. Everything listens on 127.0.0.1. */
export async function startPebble(options: PebbleOptions = {}): Promise<Pebble> {
  const programs = await built()
  const folder = await mkdtemp(join(tmpdir(), 'blindgate-pebble-'))
  const authority = await Authority.create()
  const { key, cert } = await authority.server()
  const [acme, management, dns, dnsManagement] = await freePorts(4)
  const files = { key: join(folder, 'key.pem'), cert: join(folder, 'cert.pem'), ca: join(folder, 'ca.pem') }
  writeFileSync(files.key, key)
  writeFileSync(files.cert, cert)
  writeFileSync(files.ca, authority.root)
  const config = join(folder, 'pebble.json')
  const { httpPort = 1, tlsPort = 1, eab = {}, profiles = {} } = options
  writeFileSync(
    config,
    JSON.stringify({
      pebble: {
        listenAddress: `127.0.0.1:${acme}`,
        managementListenAddress: `127.0.0.1:${management}`,
        certificate: files.cert,
        privateKey: files.key,
        httpPort,
        tlsPort,
        ocspResponderURL: '',
        externalAccountBindingRequired: Object.keys(eab).length > 0,
        externalAccountMACKeys: eab,
        retryAfter: { authz: 1, order: 1 },
        keyAlgorithm: 'ecdsa',
        profiles: Object.fromEntries(
          Object.entries({ default: 7_776_000, ...profiles }).map(([name, validityPeriod]) => [
            name,
            { description: name, validityPeriod },
          ]),
        ),
      },
    }),
  )
  const children = new Set<ChildProcess>()
  let said = ''
  const begin = (program: string, args: string[], env: Record<string, string>): ChildProcess => {
    const child = spawn(join(programs, program), args, {
      cwd: folder,
      env: { PATH: process.env['PATH'], HOME: folder, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    children.add(child)
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        said += text
      })
    return child
  }
  const end = async (child: ChildProcess): Promise<void> => {
    children.delete(child)
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }
  const answering = async (port: number | undefined, child: ChildProcess): Promise<void> => {
    while (!(await canConnect(port ?? 0))) {
      if (child.exitCode !== null) throw new Error(`it ended: ${said}`)
      await pause(10)
    }
  }

  const names = begin(
    'pebble-challtestsrv',
    Object.entries({
      dnsserver: `127.0.0.1:${dns}`,
      management: `127.0.0.1:${dnsManagement}`,
      defaultIPv4: '127.0.0.1',
      defaultIPv6: '',
      http01: '',
      https01: '',
      tlsalpn01: '',
      doh: '',
    }).flatMap(([flag, value]) => [`-${flag}`, value]),
    {},
  )
  let ca: ChildProcess | undefined
  const start = async (env: Record<string, string> = {}): Promise<void> => {
    ca = begin('pebble', ['-strict', '-config', config, '-dnsserver', options.dns ?? `127.0.0.1:${dns}`], {
      PEBBLE_VA_NOSLEEP: '1',
      PEBBLE_AUTHZREUSE: '0',
      PEBBLE_WFE_NONCEREJECT: '0',
      ...options.env,
      ...env,
    })
    await answering(acme, ca)
    await answering(management, ca)
  }
  await answering(dnsManagement, names)
  await start()
  const manage = (path: string, body?: unknown): Promise<string> =>
    send(`https://127.0.0.1:${management}${path}`, authority.root, body)
  return {
    directory: `https://127.0.0.1:${acme}/dir`,
    caFile: files.ca,
    ca: authority.root,
    dns: `127.0.0.1:${dns}`,
    dnsManagement: `http://127.0.0.1:${dnsManagement}`,
    root: () => manage('/roots/0'),
    async dnsCommand(command, body) {
      await send(`http://127.0.0.1:${dnsManagement}/${command}`, undefined, body)
    },
    async setRenewal(certificate, { start, end }) {
      const suggestedWindow = { start: start.toISOString(), end: end.toISOString() }
      await manage('/set-renewal-info/', {
        certificate,
        ariResponse: JSON.stringify({ suggestedWindow }),
      })
    },
    async statusOf(serial) {
      const answer = JSON.parse(await manage(`/cert-status-by-serial/${serial}`)) as { Status: string }
      return answer.Status
    },
    log: () => said,
    async stop() {
      if (ca !== undefined) await end(ca)
    },
    start,
    async close() {
      await Promise.all([...children].map(end))
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** The folder of the two programs. */
async function built(): Promise<string> {
  const hash = createHash('sha256')
  for (const name of ['go.mod', 'go.sum']) hash.update(readFileSync(join(modules, name)))
  const folder = join(root, 'build', 'pebble', hash.digest('hex').slice(0, 16))
  if (existsSync(folder)) return folder
  mkdirSync(join(root, 'build', 'pebble'), { recursive: true })
  const fresh = mkdtempSync(`${folder}-`)
  const commands = ['pebble', 'pebble-challtestsrv'].map(
    (name) => `github.com/letsencrypt/pebble/v2/cmd/${name}`,
  )
  await run('go', ['build', '-o', `${fresh}/`, ...commands], { cwd: modules })
  try {
    renameSync(fresh, folder)
  } catch (error) {
    // Another test file was faster.
    if (!existsSync(folder)) throw error
    rmSync(fresh, { recursive: true })
  }
  return folder
}

/** Ports that were free a moment ago: Pebble cannot say which one it was given. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => net.createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => (server.address() as net.AddressInfo).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

async function canConnect(port: number): Promise<boolean> {
  const socket = net.connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

async function send(url: string, ca: string | undefined, body: unknown): Promise<string> {
  const options = {
    method: body === undefined ? 'GET' : 'POST',
    agent: false,
    headers: { 'user-agent': 'test' },
  }
  const request =
    ca === undefined
      ? httpRequest(url, options)
      : httpsRequest(url, { ...options, ca, rejectUnauthorized: true })
  request.end(body === undefined ? undefined : JSON.stringify(body))
  const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage]
  const chunks: Buffer[] = []
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk)
  const text = Buffer.concat(chunks).toString()
  if (response.statusCode !== 200) throw new Error(`${url}: ${response.statusCode} ${text}`)
  return text
}
