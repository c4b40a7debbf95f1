import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openState } from '../../src/state/index.ts'
import { isRunning, ourProcessId } from '../../src/state/process-id.ts'
import { newFolder } from './folders.ts'

describe('a lock', () => {
  it('is had by one at a time, in one process too, and leaves nothing', async () => {
    const state = await openState(await newFolder())
    const other = await openState(state.path)
    const lock = await state.tryLock('gateway')
    expect(lock).toBeDefined()
    expect(await other.tryLock('gateway')).toBeUndefined()
    expect(await state.tryLock('other')).toBeDefined()
    await lock?.release()
    const next = await other.tryLock('gateway')
    // The first release was the only one: a second must not take what is another's now.
    await lock?.release()
    expect(await state.tryLock('gateway')).toBeUndefined()
    await next?.release()
    expect(await readdir(state.path)).toEqual(['other.lock'])
  })

  it('is waited for', async () => {
    const state = await openState(await newFolder())
    let inside = 0
    const turns = Array.from({ length: 5 }, async () => {
      const lock = await state.lock('gateway', 4_000)
      expect(++inside).toBe(1)
      await state.write('a', '1')
      inside--
      await lock.release()
    })
    await Promise.all(turns)
  })

  it('that somebody keeps is given up, and the holder named', async () => {
    const state = await openState(await newFolder())
    await state.lock('gateway')
    await expect(state.lock('gateway', 0)).rejects.toMatchObject({
      code: 'state_locked',
      message: `${state.path} is in use by process ${process.pid}: wait until it is done, or stop it`,
    })
  })

  it.each([
    ['a process that is no more', (id: string) => id.replace(/^\d+/, '999999999')],
    ['a process whose pid came round again', (id: string) => id.replace(/-\d+-/, '-1-')],
    ['a process of before a power cut', (id: string) => id.replace(/-[0-9a-f]+-(\d+)$/, '-00ff-$1')],
    ['a process of a container that was started again', (id: string) => id.replace(/\d+$/, '1')],
  ])('of %s is taken over', async (_name, change) => {
    const state = await openState(await newFolder())
    const dead = change(ourProcessId())
    expect(dead).not.toBe(ourProcessId())
    await mkdir(join(state.path, 'gateway.lock'))
    await writeFile(join(state.path, 'gateway.lock', `${dead}.00`), '')
    expect(await state.tryLock('gateway')).toBeDefined()
    expect(await readdir(join(state.path, 'gateway.lock'))).toEqual([
      expect.stringContaining(ourProcessId()) as string,
    ])
  })

  it('that is nothing of ours is not touched', async () => {
    const state = await openState(await newFolder())
    await mkdir(join(state.path, 'gateway.lock'))
    await writeFile(join(state.path, 'gateway.lock', 'notes'), '')
    await expect(state.lock('gateway', 0)).rejects.toMatchObject({
      code: 'state_locked',
      message: `${state.path}/gateway.lock holds "notes", which is no lock of this program: remove it if nothing else runs`,
    })
    await writeFile(join(state.path, 'file.lock'), '')
    await expect(state.tryLock('file')).rejects.toMatchObject({ code: 'state_unwritable' })
  })
})

describe('a process', () => {
  it('runs while it runs', () => {
    expect(isRunning(ourProcessId())).toBe(true)
    expect(isRunning(ourProcessId().replace(/^\d+/, String(process.ppid)).replace(/-\d+-/, '-1-'))).toBe(
      false,
    )
    expect(isRunning('notes')).toBeUndefined()
    expect(isRunning('')).toBeUndefined()
    expect(isRunning('0-0-0-0')).toBeUndefined()
  })
})
