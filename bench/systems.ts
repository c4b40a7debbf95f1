/** What is measured: ways to carry a visitor over two hops to a target, each started fresh. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { descriptors, find, freePort, listening, type Program, run, start, until } from './process.ts'

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

async function notBuilt(): Promise<string | undefined> {
  return existsSync(program) ? undefined : 'blindgate is not built: npm run build'
}

export interface BlindgatePair extends System {
  /** The client leaves; its visitors are held from then on. */
  stopClient(): Promise<void>
}

/** A gateway and a client that offers one service. */
export async function blindgatePair(type: 'tcp' | 'http', target: number): Promise<BlindgatePair> {
  const folder = mkdtempSync(join(tmpdir(), 'blindgate-bench-'))
  const programs: Program[] = []
  const stop = async (): Promise<void> => {
    // The client first: a gateway that drains waits for it.
    for (const each of programs.toReversed()) await each.stop()
    rmSync(folder, { recursive: true, force: true })
  }
  const blindgateArgs = (side: string, ...args: string[]) => [program, ...args, '--state', join(folder, side)]
  try {
    const [tcp, http, tunnel] = [await freePort(), await freePort(), await freePort()]
    const port = type === 'tcp' ? tcp : http
    const listen = ['--http', `127.0.0.1:${http}`, '--tunnel', `127.0.0.1:${tunnel}`]
    const drain = ['--drain', '500ms']
    // Time enough to look at those who are held.
    const env = { ...process.env, BLINDGATE_HOLD: '2m' }
    const gateway = start(process.execPath, blindgateArgs('gateway', 'gateway', ...listen, ...drain), { env })
    programs.push(gateway)
    await gateway.line()
    await listening(tunnel)
    const invite = await run(process.execPath, blindgateArgs('gateway', 'invite'))
    await run(process.execPath, blindgateArgs('client', 'join', '-'), invite)
    const where = type === 'tcp' ? ['--port', `${tcp}`] : ['--host', '127.0.0.1']
    const service = [type, `127.0.0.1:${target}`, ...where, ...drain]
    const client = start(process.execPath, blindgateArgs('client', ...service))
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

/** The reference: what two hops cost in C, without encryption. */
export const nginxTwice: Kind = {
  name: 'nginx stream ×2',
  async missing() {
    const nginx = find('nginx')
    if (nginx === undefined) return 'nginx is not on PATH: apt install nginx libnginx-mod-stream'
    return (await streamModule(nginx)) === 'missing'
      ? 'nginx has no stream module: apt install libnginx-mod-stream (or NGINX_MODULES=folder of ngx_stream_module.so)'
      : undefined
  },
  async start(target) {
    const [port, middle] = [await freePort(), await freePort()]
    const client = await startNginx(hop(middle, target), middle)
    try {
      const gateway = await startNginx(hop(port, middle), port)
      return {
        port,
        gateway: gateway.pid,
        client: client.pid,
        stop: async () => {
          await gateway.stop()
          await client.stop()
        },
      }
    } catch (error) {
      await client.stop()
      throw error
    }
  },
}

function hop(from: number, to: number): string {
  return `stream { server { listen 127.0.0.1:${from}; proxy_pass 127.0.0.1:${to}; } }`
}

/** The target of the request measurements: nginx that answers three bytes. */
export async function httpTarget(): Promise<Program & { port: number }> {
  const port = await freePort()
  const nginx = await startNginx(
    `http {
      access_log off;
      keepalive_requests 1000000000;
      client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
      uwsgi_temp_path uwsgi; scgi_temp_path scgi;
      server { listen 127.0.0.1:${port}; location / { return 200 "ok\\n"; } }
    }`,
    port,
  )
  return { ...nginx, port }
}

/** `builtin`, the path of the module to load, or `missing`. */
async function streamModule(nginx: string): Promise<string> {
  // The build options are all that tells; nginx prints them on stderr.
  const options = await run('/bin/sh', ['-c', '"$0" -V 2>&1', nginx])
  if (/--with-stream(?=\s|$)/.test(options)) return 'builtin'
  const folders = [
    process.env['NGINX_MODULES'],
    /--modules-path=(\S+)/.exec(options)?.[1],
    '/usr/lib/nginx/modules',
  ]
  const paths = folders.flatMap((folder) =>
    folder === undefined ? [] : [join(folder, 'ngx_stream_module.so')],
  )
  return paths.find((path) => existsSync(path)) ?? 'missing'
}

/** Starts one nginx with one worker, its files in a folder of its own. */
async function startNginx(block: string, port: number): Promise<Program> {
  const nginx = find('nginx')
  if (nginx === undefined) throw new Error('nginx is not on PATH: apt install nginx')
  const folder = mkdtempSync(join(tmpdir(), 'blindgate-bench-nginx-'))
  const module = block.startsWith('stream') ? await streamModule(nginx) : 'builtin'
  const lines = [
    ...(module === 'builtin' ? [] : [`load_module ${module};`]),
    ...(process.getuid?.() === 0 ? ['user root;'] : []),
    'daemon off;',
    'worker_processes 1;',
    `worker_rlimit_nofile ${Math.min(descriptors(), 65_536)};`,
    `pid ${join(folder, 'pid')};`,
    'error_log stderr crit;',
    'events { worker_connections 16384; }',
    block,
  ]
  writeFileSync(join(folder, 'nginx.conf'), `${lines.join('\n')}\n`)
  const started = start(nginx, ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr'])
  const stop = async (): Promise<void> => {
    await started.stop()
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await listening(port)
  } catch (error) {
    await stop()
    throw error
  }
  return { ...started, stop }
}
