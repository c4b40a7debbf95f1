import { once } from 'node:events'
import { lstat, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { TunnelError, userError } from '../../src/errors.ts'
import { LOCAL_MESSAGE_BYTES, SOCKET_PATH_BYTES } from '../../src/limits.ts'
import { callLocal, type LocalServer, openState, serveLocal } from '../../src/state/index.ts'
import { newFolder } from './folders.ts'

const servers: LocalServer[] = []

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close()
})

async function serve(path: string, handler: (request: unknown) => Promise<unknown>): Promise<LocalServer> {
  const server = await serveLocal(path, handler)
  servers.push(server)
  return server
}

/** A socket file whose process is dead: bound, and moved from under its server, which removes nothing then. */
async function deadSocket(path: string): Promise<void> {
  const { execFileSync } = await import('node:child_process')
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  try {
    execFileSync(process.execPath, ['-e', script])
  } catch {
    // It was killed, as it should be.
  }
  expect((await lstat(path)).isSocket()).toBe(true)
}

/** What a connection that sends `bytes` gets until it ends. */
async function sent(path: string, bytes: Buffer | string): Promise<string> {
  const socket = connect(path)
  socket.on('error', () => {})
  socket.write(bytes)
  let text = ''
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  await once(socket, 'close')
  return text
}

describe('the local control socket', () => {
  it('carries a request and its answer, in any segmentation', async () => {
    const path = join(await newFolder(), 'a.sock')
    await serve(path, (request) => Promise.resolve({ got: request }))
    expect(await callLocal(path, { command: 'status', text: 'ü\n' })).toEqual({
      got: { command: 'status', text: 'ü\n' },
    })
    const socket = connect(path)
    for (const byte of Buffer.from('{"a":"ü"}\n')) socket.write(Buffer.of(byte))
    const [chunk] = (await once(socket, 'data')) as [Buffer]
    expect(chunk.toString()).toBe('{"answer":{"got":{"a":"ü"}}}\n')
    socket.destroy()
  })

  it('is for its owner alone', async () => {
    const path = join(await newFolder(), 'a.sock')
    await serve(path, () => Promise.resolve(1))
    expect((await lstat(path)).mode & 0o077).toBe(0)
  })

  it('carries our errors with their codes, and hides all others', async () => {
    const path = join(await newFolder(), 'a.sock')
    await serve(path, (request) => {
      throw request === 1 ? userError('not_granted', 'port 1: choose another') : new Error('key 0xsecret')
    })
    await expect(callLocal(path, 1)).rejects.toMatchObject({
      code: 'not_granted',
      scope: 'process',
      message: 'port 1: choose another',
    })
    const other = await callLocal(path, 2).catch((error: unknown) => error)
    expect(other).toBeInstanceOf(TunnelError)
    expect(other).toMatchObject({ code: 'internal' })
    expect((other as Error).message).not.toContain('secret')
  })

  it('with nobody behind it says that, whatever is left there', async () => {
    const folder = await newFolder()
    await deadSocket(join(folder, 'dead.sock'))
    await writeFile(join(folder, 'file.sock'), '')
    for (const name of ['none.sock', 'dead.sock', 'file.sock']) {
      await expect(callLocal(join(folder, name), {})).rejects.toMatchObject({ code: 'not_found' })
    }
  })

  it('whose process does not answer in time says that', async () => {
    const path = join(await newFolder(), 'a.sock')
    await serve(path, () => new Promise(() => {}))
    await expect(callLocal(path, {}, 50)).rejects.toMatchObject({
      code: 'state_locked',
      message: `${path}: no answer in 0.05 s: see what that process is doing, or stop it`,
    })
  })

  it('whose process ends in between, or talks nonsense, says that', async () => {
    const path = join(await newFolder(), 'a.sock')
    let answer = ''
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => socket.end(answer))
    })
    server.listen(path)
    await once(server, 'listening')
    for (answer of ['', '{"answer":', 'nonsense\n', '[]\n', '{}\n', '{"error":1}\n']) {
      await expect(callLocal(path, {})).rejects.toBeInstanceOf(TunnelError)
    }
    answer = '{"error":{"code":"made_up","message":"no"}}\n'
    await expect(callLocal(path, {})).rejects.toMatchObject({ code: 'internal', message: 'no' })
    server.close()
    await once(server, 'close')
  })

  it('left by a dead process is replaced', async () => {
    const path = join(await newFolder(), 'a.sock')
    await deadSocket(path)
    await serve(path, () => Promise.resolve('new'))
    expect(await callLocal(path, {})).toBe('new')
  })

  it('of a living process is not replaced, nor when several try at once', async () => {
    const path = join(await newFolder(), 'a.sock')
    await deadSocket(path)
    const tries = await Promise.allSettled(
      [1, 2, 3, 4].map((index) => serve(path, () => Promise.resolve(index))),
    )
    const refused = tries.filter((each) => each.status === 'rejected')
    expect(refused).toHaveLength(3)
    expect(refused[0]).toMatchObject({
      reason: { code: 'state_locked', message: `another process answers on ${path}: stop it first` },
    })
    expect([1, 2, 3, 4]).toContain(await callLocal(path, {}))
  })

  it('is gone after close, with whoever was asking', async () => {
    const folder = await newFolder()
    const path = join(folder, 'a.sock')
    const server = await serveLocal(path, () => new Promise(() => {}))
    const asking = callLocal(path, {})
    const idle = connect(path)
    idle.on('error', () => {})
    await once(idle, 'connect')
    await server.close()
    await expect(asking).rejects.toBeInstanceOf(TunnelError)
    await expect(lstat(path)).rejects.toThrow('ENOENT')
    idle.destroy()
  })

  it('refuses what is not JSON or has no end', async () => {
    const path = join(await newFolder(), 'a.sock')
    let asked = 0
    await serve(path, () => Promise.resolve(++asked))
    expect(await sent(path, 'GET / HTTP/1.1\r\n')).toContain('"protocol_error"')
    const answered = await sent(path, Buffer.alloc(LOCAL_MESSAGE_BYTES + 1, 0x20))
    expect(answered === '' || answered.includes('protocol_error')).toBe(true)
    expect(asked).toBe(0)
  })

  it('takes the first line of a connection and no other', async () => {
    const path = join(await newFolder(), 'a.sock')
    let asked = 0
    await serve(path, () => Promise.resolve(++asked))
    const socket = connect(path)
    socket.write('1\n2\n')
    await once(socket, 'data')
    socket.write('3\n')
    socket.resume()
    await once(socket, 'end')
    expect(asked).toBe(1)
    socket.destroy()
  })

  it('is never listened or called on a path that the kernel would cut', async () => {
    const path = join(await newFolder(), 'a'.repeat(SOCKET_PATH_BYTES))
    await expect(serveLocal(path, () => Promise.resolve(1))).rejects.toMatchObject({ code: 'state_invalid' })
    await expect(callLocal(path, {})).rejects.toMatchObject({ code: 'state_invalid' })
  })

  it('works in a state folder of any depth', async () => {
    const state = await openState(join(await newFolder(), 'long'.repeat(30), 'längst'.repeat(20)))
    const path = state.socketPath('gateway')
    await serve(path, (request) => Promise.resolve(request))
    expect(await callLocal(path, 7)).toBe(7)
    expect(state.sockets('gateway')).toEqual([path])
  })
})
