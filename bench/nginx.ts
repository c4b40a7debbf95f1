/** What nginx does with the same visitors, and the targets that all have: each with one worker. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { selfSigned } from '../src/client/tls/self-signed.ts'
import { descriptors, find, freePort, listening, type Program, run, start } from './process.ts'
import { direct, type Kind, type Link, type System } from './systems.ts'

/** The reference: what two hops cost in C, without encryption. */
export const nginxTwice: Kind = {
  name: 'nginx stream ×2',
  missing: streamMissing,
  start: (target, link) => pair(hop, (port) => hop(port, target), link),
}

/** The reference where visitors speak TLS: a hop that looks for their host and one where it ends, as each comes from its box. */
export const nginxTls: Kind = {
  name: 'nginx preread+tls',
  missing: streamMissing,
  async start(target, link) {
    const files = await certificateFiles()
    const upstream = `upstream target { server 127.0.0.1:${target}; keepalive 256; keepalive_requests 1000000000; }`
    const location = 'proxy_pass http://target; proxy_http_version 1.1; proxy_set_header Connection "";'
    const client = (port: number) => http(`${upstream} ${tlsServer(port, files.folder, location)}`)
    try {
      return await pair(sniHop, client, link)
    } finally {
      // It has read them.
      files.remove()
    }
  },
}

async function streamMissing(): Promise<string | undefined> {
  const nginx = find('nginx')
  if (nginx === undefined) return 'nginx is not on PATH: apt install nginx libnginx-mod-stream'
  return (await streamModule(nginx)) === 'missing'
    ? 'nginx has no stream module: apt install libnginx-mod-stream (or NGINX_MODULES=folder of ngx_stream_module.so)'
    : undefined
}

/** Two of them, one in front of the other. No tunnel: it is the gateway that dials over what lies between. */
async function pair(
  gatewayBlock: (port: number, middle: number) => string,
  clientBlock: (port: number) => string,
  link: Link = direct,
): Promise<System> {
  const [port, middle] = [await freePort(), await freePort()]
  const client = await startNginx(clientBlock(middle), middle)
  try {
    const gateway = await startNginx(gatewayBlock(port, await link(middle)), port)
    const stop = async (): Promise<void> => {
      await gateway.stop()
      await client.stop()
    }
    return { port, gateway: gateway.pid, client: client.pid, stop }
  } catch (error) {
    await client.stop()
    throw error
  }
}

function hop(from: number, to: number): string {
  return `stream { server { listen 127.0.0.1:${from}; proxy_pass 127.0.0.1:${to}; } }`
}

function sniHop(from: number, to: number): string {
  return `stream {
    map $ssl_preread_server_name $target { localhost 127.0.0.1:${to}; }
    server { listen 127.0.0.1:${from}; ssl_preread on; proxy_pass $target; }
  }`
}

function http(inside: string): string {
  return `http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    ${inside}
  }`
}

function tlsServer(port: number, folder: string, location: string): string {
  return `server {
    listen 127.0.0.1:${port} ssl;
    server_name localhost;
    ssl_certificate ${join(folder, 'chain.pem')};
    ssl_certificate_key ${join(folder, 'key.pem')};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / { ${location} }
  }`
}

export interface Target {
  readonly port: number
  stop(): Promise<void>
}

const ANSWER = 'return 200 "ok\\n";'

/** The target of the request measurements: nginx that answers three bytes. */
export async function httpTarget(): Promise<Target> {
  const port = await freePort()
  const nginx = await startNginx(http(`server { listen 127.0.0.1:${port}; location / { ${ANSWER} } }`), port)
  return { ...nginx, port }
}

/** The same, with what is in a folder besides. */
export async function fileTarget(folder: string): Promise<Target> {
  const port = await freePort()
  const files = `sendfile on; location /big { root ${folder}; }`
  const block = `server { listen 127.0.0.1:${port}; ${files} location = / { ${ANSWER} } }`
  const nginx = await startNginx(http(block), port)
  return { ...nginx, port }
}

/** The same where visitors' TLS ends in it. */
export async function tlsTarget(): Promise<Target> {
  const port = await freePort()
  const files = await certificateFiles()
  try {
    const nginx = await startNginx(http(tlsServer(port, files.folder, ANSWER)), port)
    return { ...nginx, port }
  } finally {
    // It has read them.
    files.remove()
  }
}

/** Of the kind that we give ourselves: ECDSA P-256. */
async function certificateFiles(): Promise<{ folder: string; remove: () => void }> {
  const folder = mkdtempSync(join(tmpdir(), 'blindgate-bench-tls-'))
  const { key, chain } = await selfSigned(['localhost'], Date.now())
  writeFileSync(join(folder, 'key.pem'), key, { mode: 0o600 })
  writeFileSync(join(folder, 'chain.pem'), chain)
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) }
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
