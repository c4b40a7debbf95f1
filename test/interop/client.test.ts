import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { gatewayForTest, type TestGateway } from '../sdk/gateway.ts'

/** A client that was written from docs/PROTOCOL.md in Go (see client/main.go), against a real gateway. */

const run = promisify(execFile)
const MiB = 1024 * 1024
const GO_MISSING = await run('go', ['version']).then(
  () => false,
  () => true,
)
let folder = ''
let program = ''
let at: TestGateway
let target: net.Server
const children: ChildProcess[] = []

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blindgate-interop-'))
  program = join(folder, 'client')
  if (!GO_MISSING) await run('go', ['build', '-o', program, './client'], { cwd: import.meta.dirname })
}, 120_000)

afterAll(() => rm(folder, { recursive: true, force: true }))

beforeEach(async () => {
  at = await gatewayForTest()
  target = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {})
    targets.push(socket)
    target.emit('visitor', socket)
  })
  target.listen(0, '127.0.0.1')
  await once(target, 'listening')
})

const targets: net.Socket[] = []

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }
  for (const socket of targets.splice(0)) socket.destroy()
  if (target.listening) await new Promise((resolve) => target.close(resolve))
  await at.close()
})

interface Running {
  child: ChildProcess
  said: () => string
  /** Where visitors connect. */
  port: number
}

/** Starts the client with a new invite; resolves when it has said where it is reached. */
async function start(): Promise<Running> {
  const { port } = target.address() as net.AddressInfo
  const child = spawn(program, ['-name', 'echo', '-', `127.0.0.1:${port}`])
  children.push(child)
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  child.stdin.end(`${await at.invite()}\n`)
  child.stdout.setEncoding('utf8')
  const [line] = (await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(() => {
      throw new Error(`the client left: ${errors}`)
    }),
  ])) as [string]
  const { name, urls } = JSON.parse(line) as { name: string; urls: string[] }
  expect(name).toBe('echo')
  expect(urls).toHaveLength(1)
  const url = new URL(urls[0] ?? '')
  expect(url.protocol).toBe('tcp:')
  expect(url.hostname).toBe('127.0.0.1')
  return { child, said: () => errors, port: Number(url.port) }
}

async function connected(): Promise<boolean[]> {
  const { clients } = (await at.gateway.command({ command: 'clients' })) as {
    clients: { connected: boolean }[]
  }
  return clients.map((client) => client.connected)
}

const visit = (port: number) => net.connect({ host: '127.0.0.1', port, allowHalfOpen: true })

const ended = async (child: ChildProcess): Promise<unknown> => {
  if (child.exitCode === null) await once(child, 'exit')
  return child.exitCode
}

/** What comes until the other side's end. To iterate would destroy the socket, whose other half may live on. */
async function all(socket: net.Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk) => chunks.push(chunk))
  await once(socket, 'end')
  return Buffer.concat(chunks)
}

const sum = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

describe('a client written from the protocol document', () => {
  it('enrolls, carries megabytes both ways with half-close, and leaves in order', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const { child, port, said } = await start()
    expect(await connected()).toEqual([true])

    // The target answers only after the visitor's end has come through, so the tunnel is open one way alone.
    const [question, answer] = [randomBytes(6 * MiB), randomBytes(5 * MiB)]
    const asked = once(target, 'visitor').then(async ([socket]: net.Socket[]) => {
      const got = await all(socket as net.Socket)
      ;(socket as net.Socket).end(answer)
      return got
    })
    const visitor = visit(port)
    visitor.end(question)
    const got = await all(visitor)
    expect(sum(await asked)).toBe(sum(question))
    expect(sum(got)).toBe(sum(answer))

    child.kill('SIGTERM')
    expect(await ended(child)).toBe(0)
    expect(said()).toBe('')
    await expect.poll(connected).toEqual([false])
  })

  it('lets a target end first, and a visitor go on', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const { port } = await start()
    const late = randomBytes(3 * MiB)
    const asked = once(target, 'visitor').then(([socket]: net.Socket[]) => {
      ;(socket as net.Socket).end('said')
      return all(socket as net.Socket)
    })
    const visitor = visit(port)
    expect((await all(visitor)).toString()).toBe('said')
    visitor.end(late)
    expect(sum(await asked)).toBe(sum(late))
  })

  it('has visitors of an unreached target reset, and goes on', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const { port } = await start()
    await new Promise((resolve) => target.close(resolve))
    for (let i = 0; i < 3; i++) {
      const [error] = (await once(visit(port), 'error')) as [NodeJS.ErrnoException]
      expect(error.code).toBe('ECONNRESET')
    }
    expect(await connected()).toEqual([true])
  })

  it('carries a reset both ways', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const { port } = await start()
    for (const first of ['visitor', 'target'] as const) {
      const arrived = once(target, 'visitor')
      const visitor = visit(port)
      visitor.write('hello')
      const [there] = (await arrived) as [net.Socket]
      await once(there, 'data')
      const [from, to] = first === 'visitor' ? [visitor, there] : [there, visitor]
      const reset = once(to, 'error')
      from.resetAndDestroy()
      expect(((await reset)[0] as NodeJS.ErrnoException).code).toBe('ECONNRESET')
    }
  })

  it('lets its visitors finish when it is told to stop', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const { child, port } = await start()
    const arrived = once(target, 'visitor')
    const visitor = visit(port)
    visitor.write('hello')
    const [there] = (await arrived) as [net.Socket]
    child.kill('SIGTERM')
    await expect.poll(async () => (await at.gateway.status()).routes[0]?.replicas).toBe(0)
    there.end('goodbye')
    expect((await all(visitor)).toString()).toBe('goodbye')
    visitor.end()
    expect(await ended(child)).toBe(0)
  })

  it('lets its visitors finish when the gateway drains, and looks for another meanwhile', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const { child, port, said } = await start()
    const arrived = once(target, 'visitor')
    const visitor = visit(port)
    visitor.write('hello')
    const [there] = (await arrived) as [net.Socket]
    const drained = at.gateway.drain(20_000)
    while (!said().includes('"draining"')) await once(child.stderr as NodeJS.ReadableStream, 'data')
    there.end('goodbye')
    expect((await all(visitor)).toString()).toBe('goodbye')
    visitor.end()
    await drained
    expect(child.exitCode).toBeNull()
    child.kill('SIGTERM')
    expect(await ended(child)).toBe(0)
  })

  it('stops for good when it is revoked', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const { child, said } = await start()
    await at.gateway.command({ command: 'revoke', target: 'home' })
    expect(await ended(child)).toBe(1)
    expect(said()).toContain('"revoked"')
  })
})
