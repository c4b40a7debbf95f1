import { chmod, lstat, mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { SOCKET_PATH_BYTES } from '../../src/limits.ts'
import { openState, socketPathIn } from '../../src/state/index.ts'
import { newFolder } from './folders.ts'

/** A folder in which `name.sock` has a path of `bytes` bytes. */
function folderFor(base: string, bytes: number, name: string): string {
  return join(base, 'x'.repeat(bytes - Buffer.byteLength(join(base, 'y', `${name}.sock`)) + 1))
}

let runtime: string

beforeEach(async () => {
  runtime = await newFolder()
  vi.stubEnv('XDG_RUNTIME_DIR', runtime)
})

afterEach(() => vi.unstubAllEnvs())

describe('the path of a socket', () => {
  it('lies in the state folder up to 107 bytes, and past that in a folder of ours, 0700', async () => {
    const base = await newFolder()
    const fitting = await openState(folderFor(base, SOCKET_PATH_BYTES, 'gateway'))
    expect(fitting.socketPath('gateway')).toBe(join(fitting.path, 'gateway.sock'))
    expect(Buffer.byteLength(fitting.socketPath('gateway'))).toBe(107)

    const long = await openState(folderFor(base, SOCKET_PATH_BYTES + 1, 'gateway'))
    const path = long.socketPath('gateway')
    expect(path).toMatch(new RegExp(`^${runtime}/blindgate/[0-9a-f]{16}/gateway\\.sock$`))
    for (const folder of [dirname(path), dirname(dirname(path))]) {
      expect((await lstat(folder)).mode & 0o777).toBe(0o700)
    }
    expect(long.socketPath('gateway')).toBe(path)
  })

  it('counts bytes, not characters', async () => {
    const state = await openState(join(await newFolder(), 'ü'.repeat(50)))
    expect(state.socketPath('gateway').startsWith(runtime)).toBe(true)
  })

  it('differs between state folders', async () => {
    const base = await newFolder()
    const [a, b] = await Promise.all(['a', 'b'].map((name) => openState(join(base, name.repeat(120)))))
    expect(a?.socketPath('gateway')).not.toBe(b?.socketPath('gateway'))
  })

  it('is under the temp folder where there is no runtime folder, or one too long', async () => {
    const state = await openState(join(await newFolder(), 'x'.repeat(120)))
    const temporary = join(tmpdir(), `blindgate-${process.geteuid?.()}`)
    for (const value of ['', `/${'y'.repeat(120)}`, 'relative']) {
      vi.stubEnv('XDG_RUNTIME_DIR', value)
      const path = state.socketPath('gateway')
      expect(path.startsWith(temporary)).toBe(true)
      await rm(dirname(path), { recursive: true })
    }
  })

  it('is found by a command that sees another environment than the gateway did', async () => {
    const state = await openState(join(await newFolder(), 'x'.repeat(120)))
    vi.stubEnv('XDG_RUNTIME_DIR', '')
    const path = state.socketPath('gateway')
    await writeFile(path, '')
    vi.stubEnv('XDG_RUNTIME_DIR', runtime)
    expect(socketPathIn(state.path, 'gateway')).toBe(path)
    expect(state.sockets('gateway')).toEqual([path])
    await rm(dirname(path), { recursive: true })
  })

  it('never lies in a folder that somebody prepared', async () => {
    const state = await openState(join(await newFolder(), 'x'.repeat(120)))
    await mkdir(join(runtime, 'blindgate'), 0o700)
    await chmod(join(runtime, 'blindgate'), 0o777)
    expect(() => state.socketPath('gateway')).toThrow(`chmod 700 ${runtime}/blindgate`)
    await rm(join(runtime, 'blindgate'), { recursive: true })
    await symlink(await newFolder(), join(runtime, 'blindgate'))
    expect(() => state.socketPath('gateway')).toThrow('is not a folder')
    expect(state.sockets('')).toEqual([])
  })

  it('is listed by prefix', async () => {
    const state = await openState(await newFolder())
    for (const name of ['client-1.sock', 'client-22.sock', 'gateway.sock', 'client.json']) {
      await writeFile(join(state.path, name), '')
    }
    expect(state.sockets('client-').sort()).toEqual(
      ['client-1', 'client-22'].map((name) => state.socketPath(name)),
    )
    expect(state.sockets('none')).toEqual([])
  })
})
