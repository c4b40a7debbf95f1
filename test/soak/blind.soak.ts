/**
 * What a gateway can know of https: its whole memory, taken while visitors are served, has neither what they said nor the
 * key that their target has. The same look must find what goes through an `http` service, or it proves nothing.
 */
import { execFile, execFileSync } from 'node:child_process'
import { createPrivateKey } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { createServer as createHttpsServer, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import { createIdentity, type Identity } from '../../src/identity/index.ts'
import { Visitor } from '../e2e/visitors.ts'
import { heard, World } from '../e2e/world.ts'

const world = new World()
afterEach(() => world.close())

const run = promisify(execFile)
const missing = !installed('gcore')

function installed(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`])
    return true
  } catch {
    return false
  }
}

/** As memory may hold it: text in two encodings, base64 at three offsets, hex. */
function forms(secret: Buffer): Buffer[] {
  const text = secret.toString('latin1')
  const base64 = [0, 1, 2].map((offset) => {
    const padded = Buffer.concat([Buffer.alloc(offset), secret]).toString('base64')
    // Without the characters at the ends that depend on what stands beside it.
    return Buffer.from(padded.slice(4, -4))
  })
  return [secret, Buffer.from(text, 'utf16le'), ...base64, Buffer.from(secret.toString('hex'))]
}

async function memoryOf(pid: number): Promise<Buffer> {
  const path = world.path('core')
  await run('gcore', ['-a', '-o', path, `${pid}`], { maxBuffer: 64 * 1024 * 1024 })
  const core = readFileSync(`${path}.${pid}`)
  rmSync(`${path}.${pid}`)
  return core
}

async function listening(server: Server, host = '127.0.0.1'): Promise<number> {
  server.listen(0, host)
  await once(server, 'listening')
  world.with({ close: () => void server.close() })
  server.unref()
  return (server.address() as AddressInfo).port
}

/** Asks over and over on one connection, so that what is said is in memory if anything of it ever is. */
async function ask(port: number, marker: string, identity: Identity): Promise<void> {
  for (let round = 0; round < 20; round += 1) {
    await new Promise<void>((resolve, reject) => {
      const asked = request(
        {
          host: '127.0.0.1',
          port,
          servername: 'app.example.com',
          path: `/${marker}`,
          headers: { host: 'app.example.com', cookie: marker },
          ca: identity.certificate,
          rejectUnauthorized: false,
        },
        (response) => {
          response.resume()
          response.on('end', resolve)
        },
      )
      asked.on('error', reject)
      asked.end()
    })
  }
}

describe.skipIf(missing)('the memory of a gateway (gcore of gdb)', () => {
  it('has nothing of what https visitors say, nor their key; of http it has all', async () => {
    const gateway = world.start('gateway', ['gateway', '--http', '127.0.0.1:0', '--tls', '127.0.0.1:0'])
    const [, http, tls] = await heard(
      gateway,
      'out',
      /^visitors http:\/\/\S+:(\d+)\nvisitors https:\/\/\S+:(\d+)$/m,
    )
    const invite = await world.done('gateway', ['invite', '--address', `127.0.0.1:${tls}`])
    await world.done('home', ['join', '-'], invite)
    const identity = await createIdentity()
    const secret = 'the-secret-of-https-0123456789abcdef'
    const plain = 'the-words-of-plain-http-0123456789'
    const answer = createServer((_request, response) => response.end(plain))
    const secure = createHttpsServer(
      { key: identity.key, cert: identity.certificate },
      (_request, response) => response.end(secret),
    )
    const services = [
      ['https', `${await listening(secure)}`, '--host', 'app.example.com', '--tls', 'passthrough'],
      ['http', `${await listening(answer)}`],
    ]
    for (const service of services) await world.offer('home', service)

    await ask(Number(tls), secret, identity)
    const visitor = (await Visitor.to(Number(http), `GET /${plain} HTTP/1.1\r\nHost: x\r\n\r\n`)).read()
    await visitor.has(plain.length)

    const core = await memoryOf(gateway.child.pid ?? 0)
    expect(core.length).toBeGreaterThan(10_000_000)
    expect(core.includes(Buffer.from(plain))).toBe(true)
    const scalar = Buffer.from(createPrivateKey(identity.key).export({ format: 'jwk' }).d ?? '', 'base64url')
    expect(scalar.length).toBe(32)
    for (const form of [...forms(Buffer.from(secret)), ...forms(scalar)])
      expect(core.includes(form)).toBe(false)
    expect(core.includes(Buffer.from(identity.key.split('\n')[1] ?? ''))).toBe(false)
    visitor.socket.destroy()
  })
})
