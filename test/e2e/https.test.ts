/** https services whose target speaks TLS itself: found by the host that visitors ask for, seen by nobody on the way. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
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
  const { key, certificate: cert } = await createIdentity()
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
