/** frp as it comes: TLS and multiplexing on. */
import { answering, launch, without } from './launched.ts'
import { freePort, listening } from './process.ts'
import { direct, type Kind, type Link, type System } from './systems.ts'

export const frpHttp: Kind = {
  name: 'frp http',
  peer: true,
  missing,
  start: (target, link) => startFrp('http', target, link),
}

export const frpTcp: Kind = {
  name: 'frp tcp',
  peer: true,
  missing,
  start: (target, link) => startFrp('tcp', target, link),
}

function missing(): Promise<string | undefined> {
  return without(['frps', 'frpc'], 'put those of a release (github.com/fatedier/frp) there')
}

function startFrp(type: 'tcp' | 'http', target: number, link: Link = direct): Promise<System> {
  return launch('frp', async (launched) => {
    const [port, tunnel] = [await freePort(), await freePort()]
    const local = '"127.0.0.1"'
    const begin = (name: 'frps' | 'frpc', lines: readonly string[]) =>
      launched.program(name, ['-c', launched.file(`${name}.toml`, ['log.level = "error"', ...lines])])
    const server = begin('frps', [
      `bindAddr = ${local}`,
      `proxyBindAddr = ${local}`,
      `bindPort = ${tunnel}`,
      ...(type === 'http' ? [`vhostHTTPPort = ${port}`] : []),
    ])
    await listening(tunnel)
    const client = begin('frpc', [
      `serverAddr = ${local}`,
      `serverPort = ${await link(tunnel)}`,
      '[[proxies]]',
      'name = "bench"',
      `type = "${type}"`,
      `localIP = ${local}`,
      `localPort = ${target}`,
      type === 'http' ? `customDomains = [${local}]` : `remotePort = ${port}`,
    ])
    await (type === 'http' ? answering(port) : listening(port))
    return { port, gateway: server.pid, client: client.pid }
  })
}
