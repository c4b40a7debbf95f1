/**
 * What a gateway can know of https: its whole memory, taken while visitors are served, has neither what they said nor the
 * key that the other side of their TLS has; nor have its wires. The same look must find what goes through an `http` service, or it proves nothing.
 */
import { execFile, execFileSync } from 'node:child_process'
import { createPrivateKey } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { createServer as createHttpsServer, request } from 'node:https'
import {
  type AddressInfo,
  connect,
  createServer as createTcpServer,
  type Server as TcpServer,
} from 'node:net'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import { createIdentity } from '../../src/identity/index.ts'
import { Visitor } from '../e2e/visitors.ts'
import { heard, World } from '../e2e/world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

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

async function listening(server: Server | TcpServer, host = '127.0.0.1'): Promise<number> {
  server.listen(0, host)
  await once(server, 'listening')
  world.with({ close: () => void server.close() })
  server.unref()
  return (server.address() as AddressInfo).port
}

/** Asks over and over on one connection, so that what is said is in memory if anything of it ever is. */
async function ask(port: number, marker: string): Promise<void> {
  for (let round = 0; round < 20; round += 1) {
    await new Promise<void>((resolve, reject) => {
      const asked = request(
        {
          host: '127.0.0.1',
          port,
          servername: 'app.example.com',
          path: `/${marker}`,
          headers: { host: 'app.example.com', cookie: marker },
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

/** Carries connections to a port, and keeps all bytes of both directions: what somebody on the wire sees. */
async function capture(port: number): Promise<{ port: number; seen: () => Buffer }> {
  const chunks: Buffer[] = []
  const server = createTcpServer((near) => {
    const far = connect(port, '127.0.0.1')
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('data', (chunk: Buffer) => {
        chunks.push(chunk)
        to.write(chunk)
      })
      from.on('end', () => to.end())
      from.on('error', () => to.destroy())
      from.on('close', () => to.destroy())
    }
  })
  return { port: await listening(server), seen: () => Buffer.concat(chunks) }
}

const SECRET = 'the-secret-of-https-0123456789abcdef'
const PLAIN = 'the-words-of-plain-http-0123456789'

/** A service of https whose answers hold the secret; gives its key, PEM, once it is served. */
const KINDS: Record<string, () => Promise<{ args: string[]; key: () => string }>> = {
  async 'a target that speaks TLS itself'() {
    const { key, certificate: cert } = createIdentity()
    const secure = createHttpsServer({ key, cert }, (_request, response) => response.end(SECRET))
    return { args: [`${await listening(secure)}`, '--tls', 'passthrough'], key: () => key }
  },
  async 'a client that ends TLS'() {
    const target = createServer((_request, response) => response.end(SECRET))
    const file = world.path('home', 'self-signed-web.json')
    return {
      args: [`${await listening(target)}`, '--tls', 'self-signed', '--name', 'web'],
      key: () => (JSON.parse(readFileSync(file, 'utf8')) as { key: string }).key,
    }
  },
}

describe.skipIf(missing)('the memory of a gateway (gcore of gdb), and both its wires', () => {
  it.each(Object.keys(KINDS))(
    'before %s: nothing of what visitors say, nor the key; of http all',
    async (kind) => {
      const gateway = world.start('gateway', ['gateway', '--http', '127.0.0.1:0', '--tls', '127.0.0.1:0'])
      const [, http, tls] = await heard(
        gateway,
        'out',
        /^visitors http:\/\/\S+:(\d+)\nvisitors https:\/\/\S+:(\d+)$/m,
      )
      const [clients, visitors, readers] = await Promise.all(
        [tls, tls, http].map((port) => capture(Number(port))),
      )
      if (clients === undefined || visitors === undefined || readers === undefined)
        throw new Error('no capture')
      const invite = await world.done('gateway', ['invite', '--address', `127.0.0.1:${clients.port}`])
      await world.done('home', ['join', '-'], invite)
      const { args, key } = await (KINDS[kind] as () => Promise<{ args: string[]; key: () => string }>)()
      const answer = createServer((_request, response) => response.end(PLAIN))
      await world.offer('home', ['https', ...args, '--host', 'app.example.com'])
      await world.offer('home', ['http', `${await listening(answer)}`])

      await ask(visitors.port, SECRET)
      const visitor = (await Visitor.to(readers.port, `GET /${PLAIN} HTTP/1.1\r\nHost: x\r\n\r\n`)).read()
      await visitor.has(PLAIN.length)

      const core = await memoryOf(gateway.child.pid ?? 0)
      expect(core.length).toBeGreaterThan(10_000_000)
      expect(core.includes(Buffer.from(PLAIN))).toBe(true)
      expect(readers.seen().includes(Buffer.from(PLAIN))).toBe(true)
      const pem = key()
      const scalar = Buffer.from(createPrivateKey(pem).export({ format: 'jwk' }).d ?? '', 'base64url')
      expect(scalar.length).toBe(32)
      const told = [
        ...forms(Buffer.from(SECRET)),
        ...forms(scalar),
        Buffer.from(pem.split('\n')[1] ?? ''),
        createPrivateKey(pem).export({ format: 'der', type: 'pkcs8' }),
      ]
      for (const where of [core, visitors.seen(), clients.seen()]) {
        expect(where.length).toBeGreaterThan(5_000)
        for (const form of told) expect(where.includes(form)).toBe(false)
      }
      visitor.socket.destroy()
    },
  )
})
