/** https services: found by the host that visitors ask for, seen by nobody on the way, whoever ends TLS. */
import { execFile } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer as createPlainServer } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { connect, type TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import { selfSigned } from '../../src/client/tls/self-signed.ts'
import { createIdentity } from '../../src/identity/index.ts'
import { heard, World } from './world.ts'

const run = promisify(execFile)
let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

/** A web server of the world behind NAT, which alone has its key. */
async function webServer(name: string): Promise<number> {
  const { key, certificate: cert } = createIdentity()
  const server = createServer({ key, cert }, (request, response) => {
    response.end(`${name} ${request.headers.host} ${request.url}`)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  world.with({ close: () => void server.close() })
  server.unref()
  return (server.address() as AddressInfo).port
}

/** As a browser-like visitor, who believes any certificate. */
async function curl(url: string, port: number, ...more: string[]): Promise<string> {
  const { host } = new URL(url)
  const name = host.replace(/:\d+$/, '')
  const believing = ['--silent', '--show-error', '--insecure', '--max-time', '20']
  const { stdout } = await run('curl', [...believing, '--resolve', `${name}:${port}:127.0.0.1`, ...more, url])
  return stdout
}

/** A gateway with ports for plain http and TLS, and a machine that is enrolled as `home`. */
async function joined(): Promise<{ http: number; tls: number }> {
  const gateway = world.start('gateway', ['gateway', '--http', '127.0.0.1:0', '--tls', '127.0.0.1:0'])
  const [, http, tls] = await heard(
    gateway,
    'out',
    /^visitors http:\/\/\S+:(\d+)\nvisitors https:\/\/\S+:(\d+)$/m,
  )
  const invite = await world.done('gateway', ['invite', '--address', `127.0.0.1:${tls}`])
  await world.done('home', ['join', '-'], invite)
  return { http: Number(http), tls: Number(tls) }
}

describe('a client that ends TLS', () => {
  it('serves a plain web server by https with a certificate of its own, and says that nobody can verify it', async () => {
    const { http, tls } = await joined()
    const port = await plainServer()
    const offered = await world.offer('home', [
      'https',
      `${port}`,
      '--host',
      'app.example.com',
      '--tls',
      'self-signed',
    ])
    expect(offered.url).toBe(`https://app.example.com:${tls}`)
    expect(await curl(`https://app.example.com:${tls}/path?q`, tls)).toBe(
      'plain https app.example.com /path?q',
    )
    expect(await curl(`https://app.example.com:${tls}/`, tls, '-H', 'Host: other.example.com')).toContain(
      '421',
    )
    // Whoever believes nobody is not served.
    const strict = run('curl', [
      '-s',
      '--resolve',
      `app.example.com:${tls}:127.0.0.1`,
      `https://app.example.com:${tls}/`,
    ])
    await expect(strict).rejects.toMatchObject({ code: 60 })
    // Plain HTTP on the port is told so.
    const lost = await run('curl', ['-s', `http://127.0.0.1:${tls}/`])
    expect(lost.stdout).toContain('use https://')
    expect(await curl(`http://app.example.com:${http}/x`, http, '--head')).toContain(
      `Location: https://app.example.com:${tls}/x`,
    )
    expect(await world.done('home', ['status'])).toContain('(self-signed: unverified by visitors)')
    const { routes } = JSON.parse(await world.done('home', ['status', '--json'])) as {
      routes: { tls: object }[]
    }
    expect(routes[0]?.tls).toEqual({ mode: 'self-signed', expires: expect.any(String) as string })
  })

  it('takes certificates of files, and renewed ones without dropping anybody', async () => {
    const { tls } = await joined()
    const port = await plainServer()
    const [cert, key, config] = ['app.pem', 'app.key', 'blindgate.toml'].map((name) => world.path(name))
    if (cert === undefined || key === undefined || config === undefined) throw new Error('no paths')
    const put = async (): Promise<string> => {
      const made = await selfSigned(['app.example.com'], Date.now())
      writeFileSync(key, made.key)
      writeFileSync(cert, made.chain)
      return new X509Certificate(made.chain).fingerprint256
    }
    const first = await put()
    const lines = [
      '[[service]]',
      'name = "web"',
      'type = "https"',
      'host = "app.example.com"',
      `target = "${port}"`,
    ]
    writeFileSync(config, [...lines, 'cert = "app.pem"', 'key = "app.key"', ''].join('\n'), { mode: 0o600 })
    const { program } = await world.offer('home', ['up', '-c', config])
    const staying = await visitor(tls)
    expect(staying.getPeerX509Certificate()?.fingerprint256).toBe(first)
    const second = await put()
    program.child.kill('SIGHUP')
    await heard(program, 'err', /is in force/)
    await expect
      .poll(async () => (await visitor(tls)).getPeerX509Certificate()?.fingerprint256, { timeout: 20_000 })
      .toBe(second)
    writeFileSync(cert, 'half of a certif')
    program.child.kill('SIGHUP')
    await heard(program, 'err', /holds no certificate in PEM.*the one before stays/)
    expect((await visitor(tls)).getPeerX509Certificate()?.fingerprint256).toBe(second)
    staying.write('GET /still HTTP/1.1\r\nHost: app.example.com\r\n\r\n')
    const [answer] = (await once(staying, 'data')) as [Buffer]
    expect(answer.toString()).toContain('200 OK')
    expect(await world.done('home', ['status'])).toContain('holds no certificate in PEM')
  })
})

/** A web server that speaks no TLS, and says how it was asked. */
async function plainServer(): Promise<number> {
  const server = createPlainServer((request, response) => {
    const { headers, url } = request
    response.end(`plain ${String(headers['x-forwarded-proto'])} ${headers.host?.replace(/:\d+$/, '')} ${url}`)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  world.with({ close: () => void server.close() })
  server.unref()
  return (server.address() as AddressInfo).port
}

async function visitor(port: number): Promise<TLSSocket> {
  const socket = connect({
    host: '127.0.0.1',
    port,
    servername: 'app.example.com',
    rejectUnauthorized: false,
  })
  world.with({ close: () => void socket.destroy() })
  await once(socket, 'secureConnect')
  return socket
}

describe('a gateway with one port for TLS', () => {
  it('takes clients there, and leads visitors to the target of the host they ask for', async () => {
    const gateway = world.start('gateway', ['gateway', '--http', '127.0.0.1:0', '--tls', '127.0.0.1:0'])
    const [, http, tls, clients] = await heard(
      gateway,
      'out',
      /^visitors http:\/\/\S+:(\d+)\nvisitors https:\/\/\S+:(\d+)\nclients \S+:(\d+)$/m,
    )
    expect(clients).toBe(tls)
    const invite = await world.done('gateway', ['invite', '--address', `127.0.0.1:${tls}`])
    await world.done('home', ['join', '-'], invite)
    const port = await webServer('private')
    const service = ['https', `${port}`, '--host', 'app.example.com', '--tls', 'passthrough']
    const offered = await world.offer('home', service)
    expect(offered.url).toBe(`https://app.example.com:${tls}`)

    const answer = await curl(`https://app.example.com:${tls}/path?q`, Number(tls))
    expect(answer).toBe(`private app.example.com:${tls} /path?q`)
    // Whoever has no service there is told so, before anything of theirs is asked for.
    const stranger = curl(`https://stranger.example.com:${tls}/`, Number(tls))
    await expect(stranger).rejects.toMatchObject({
      stderr: expect.stringMatching(/unrecognized.?name|alert/i),
    })
    // Plain http is sent there.
    const headers = await curl(`http://app.example.com:${http}/x`, Number(http), '--head')
    expect(headers).toMatch(/^HTTP\/1\.1 308 /)
    expect(headers).toContain(`Location: https://app.example.com:${tls}/x`)
    expect(await world.done('gateway', ['status'])).toContain('https:app.example.com')
  })
})
