import { execFileSync } from 'node:child_process'
import { chmod, chown, lstat, mkdir, open, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { z } from 'zod'
import { STATE_FILE_BYTES } from '../../src/limits.ts'
import { openState } from '../../src/state/index.ts'
import { temporaryName } from '../../src/state/temporary.ts'
import { isRoot, newFolder, SOMEBODY } from './folders.ts'

/** What node:fs/promises gives for an open file; its methods are replaced to play a bad disk. */
const handles = await (async () => {
  const file = await open('/dev/null')
  const prototype = Object.getPrototypeOf(file) as { writeFile(): Promise<void>; sync(): Promise<void> }
  await file.close()
  return prototype
})()

afterEach(() => vi.restoreAllMocks())

async function modeOf(path: string): Promise<string> {
  return ((await lstat(path)).mode & 0o777).toString(8)
}

it('names its files by how they begin and end', async () => {
  const state = await openState(await newFolder())
  for (const name of ['b-1.json', 'a-2.json', 'a-1.json', 'a-1.pem']) await state.write(name, '')
  expect(await state.names('a-', '.json')).toEqual(['a-1.json', 'a-2.json'])
  expect(await state.names('c', '')).toEqual([])
})

describe('a state folder', () => {
  it('is made with its parents, for us alone', async () => {
    const path = join(await newFolder(), 'a', 'b')
    const state = await openState(path)
    expect(state.path).toBe(path)
    expect(await modeOf(path)).toBe('700')
    expect(await modeOf(join(path, '..'))).toBe('700')
  })

  it('is not made by a command that only looks', async () => {
    const path = join(await newFolder(), 'none')
    await expect(openState(path, { create: false })).rejects.toMatchObject({
      code: 'not_found',
      message: `there is no state in ${path}: give the folder with --state, or begin with "gateway" or "join"`,
    })
    await expect(lstat(path)).rejects.toThrow('ENOENT')
  })

  it.each([0o755, 0o770, 0o701, 0o710])(
    'that is open to others (%o) is refused with what to type, and not mended',
    async (mode) => {
      const path = await newFolder()
      await chmod(path, mode)
      await expect(openState(path)).rejects.toMatchObject({
        code: 'state_invalid',
        message: `${path} is open to others (mode ${mode.toString(8)}), who may have read it: chmod 700 ${path}`,
      })
      expect(await modeOf(path)).toBe(mode.toString(8))
    },
  )

  it('that is a symbolic link is refused, and the real one named', async () => {
    const folder = await newFolder()
    await mkdir(join(folder, 'real'), 0o700)
    await symlink('real', join(folder, 'link'))
    await expect(openState(join(folder, 'link'))).rejects.toMatchObject({
      code: 'state_invalid',
      message: expect.stringContaining(`use --state ${join(folder, 'real')}`) as string,
    })
    await symlink('nowhere', join(folder, 'dangling'))
    await expect(openState(join(folder, 'dangling'))).rejects.toMatchObject({ code: 'state_invalid' })
    await expect(openState(join(folder, 'dangling', 'below'))).rejects.toMatchObject({
      code: 'state_unwritable',
    })
  })

  it('that belongs to somebody else is refused', async () => {
    // Without root nobody can give a folder away; the system's own belongs to root then.
    const path = isRoot ? await newFolder() : '/usr'
    if (isRoot) await chown(path, SOMEBODY, SOMEBODY)
    const owner = isRoot ? SOMEBODY : 0
    await expect(openState(path)).rejects.toMatchObject({
      code: 'state_invalid',
      message: `${path} belongs to user ${owner}, and this is user ${process.geteuid?.()}: run as user ${owner}, or choose another folder with --state`,
    })
  })

  it('that is a file, or below one, is refused', async () => {
    const path = join(await newFolder(), 'file')
    await writeFile(path, '', { mode: 0o600 })
    await expect(openState(path)).rejects.toMatchObject({
      code: 'state_invalid',
      message: `${path} is not a folder: move it away`,
    })
    await expect(openState(join(path, 'below'))).rejects.toMatchObject({ code: 'state_unwritable' })
  })

  it('that cannot be made says so', async () => {
    // Nobody makes folders in /proc, root neither.
    await expect(openState('/proc/blindgate')).rejects.toMatchObject({
      code: 'state_unwritable',
      message: expect.stringMatching(/^cannot write \/proc\/blindgate: /) as string,
    })
  })

  it('loses what dead processes left half-made, and keeps what living ones are making', async () => {
    const path = await newFolder()
    const ours = temporaryName('a.json')
    const theirs = temporaryName('a.json').replace(/\.\d+-\d+-/, '.999999999-5-')
    const theirLock = temporaryName('a.lock').replace(/\.\d+-\d+-/, '.999999999-5-')
    const otherBoot = temporaryName('a.json').replace(/-[0-9a-f]+-(\d+)\./, '-00ff-$1.')
    await mkdir(join(path, theirLock))
    for (const name of [ours, theirs, otherBoot, join(theirLock, 'x'), '.notes.tmp', 'a.json']) {
      await writeFile(join(path, name), 'half', { mode: 0o600 })
    }
    await openState(path)
    expect((await readdir(path)).sort()).toEqual([ours, '.notes.tmp', 'a.json'].sort())
  })
})

describe('a state file', () => {
  it('is what was written last, 0600 under any umask', async () => {
    const path = await newFolder()
    const state = await openState(path)
    const before = process.umask(0)
    try {
      await state.write('a.json', 'one')
      await state.write('a.json', Buffer.from('two'))
    } finally {
      process.umask(before)
    }
    expect(String(await state.read('a.json'))).toBe('two')
    expect(await modeOf(join(path, 'a.json'))).toBe('600')
    expect(await readdir(path)).toEqual(['a.json'])
  })

  it('that is not there is undefined', async () => {
    const state = await openState(await newFolder())
    expect(await state.read('a.json')).toBeUndefined()
    expect(await state.readJson('a.json', z.string())).toBeUndefined()
    await state.remove('a.json')
  })

  it('removed is gone, in order with writes', async () => {
    const state = await openState(await newFolder())
    const writes = [
      state.write('a', '1'),
      state.remove('a'),
      state.write('b', '1'),
      state.remove('b'),
      state.write('b', '2'),
    ]
    await Promise.all(writes)
    expect(await state.read('a')).toBeUndefined()
    expect(String(await state.read('b'))).toBe('2')
  })

  it('written many times at once is written few times, each promise after its data or newer is on the disk', async () => {
    const path = await newFolder()
    const state = await openState(path)
    const syncs = vi.spyOn(handles, 'sync')
    const writes = Array.from({ length: 50 }, async (_, index) => {
      await state.write('a', String(index))
      expect(Number(await readFile(join(path, 'a'), 'utf8'))).toBeGreaterThanOrEqual(index)
    })
    await Promise.all(writes)
    expect(String(await state.read('a'))).toBe('49')
    // Two writes, each of a file and its folder.
    expect(syncs).toHaveBeenCalledTimes(4)
  })

  it('keeps its old contents when the disk is full, says so, and can be written again later', async () => {
    const path = await newFolder()
    const state = await openState(path)
    await state.write('a', 'old')
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
    const write = Reflect.get(handles, 'writeFile')
    vi.spyOn(handles, 'writeFile').mockImplementationOnce(async function (this: unknown) {
      await Reflect.apply(write, this, ['ne'])
      throw full
    })
    await expect(state.write('a', 'new')).rejects.toMatchObject({
      code: 'state_unwritable',
      message: `cannot write ${join(path, 'a')}: the disk is full: free some space; nothing was changed`,
    })
    expect(String(await state.read('a'))).toBe('old')
    expect(await readdir(path)).toEqual(['a'])
    await state.write('a', 'new')
    expect(String(await state.read('a'))).toBe('new')
  })

  it('whose write fails does not fail the write after it', async () => {
    const state = await openState(await newFolder())
    const broken = Object.assign(new Error('EIO'), { code: 'EIO' })
    vi.spyOn(handles, 'sync').mockRejectedValueOnce(broken)
    const [first, second] = await Promise.allSettled([state.write('a', '1'), state.write('a', '2')])
    expect(first).toMatchObject({ status: 'rejected', reason: { code: 'state_unwritable' } })
    expect(second.status).toBe('fulfilled')
    expect(String(await state.read('a'))).toBe('2')
  })

  it.each([0o644, 0o640, 0o604, 0o620])(
    'that others can use (%o) is refused with what to type',
    async (mode) => {
      const path = await newFolder()
      const state = await openState(path)
      await state.write('client.key', 'secret')
      await chmod(join(path, 'client.key'), mode)
      await expect(state.read('client.key')).rejects.toMatchObject({
        code: 'state_invalid',
        message: `${path}/client.key is open to others (mode ${mode.toString(8)}), who may have read it: chmod 600 ${path}/client.key`,
      })
    },
  )

  it('that is a symbolic link, a folder or a named pipe is refused at once, and a link is replaced, not followed', async () => {
    const path = await newFolder()
    const elsewhere = await newFolder()
    const state = await openState(path)
    await writeFile(join(elsewhere, 'target'), 'not ours', { mode: 0o600 })
    await symlink(join(elsewhere, 'target'), join(path, 'link'))
    await mkdir(join(path, 'folder'), 0o700)
    execFileSync('mkfifo', ['-m', '600', join(path, 'pipe')])
    await expect(state.read('link')).rejects.toMatchObject({
      code: 'state_invalid',
      message: expect.stringContaining('is a symbolic link') as string,
    })
    await expect(state.read('folder')).rejects.toMatchObject({ code: 'state_invalid' })
    await expect(state.read('pipe')).rejects.toMatchObject({
      code: 'state_invalid',
      message: `${path}/pipe is not a file: move it away`,
    })
    await state.write('link', 'ours')
    expect(await readFile(join(elsewhere, 'target'), 'utf8')).toBe('not ours')
    expect(String(await state.read('link'))).toBe('ours')
  })

  it('that belongs to somebody else is refused', async () => {
    const path = await newFolder()
    const state = await openState(path)
    await state.write('a', '1')
    if (isRoot) await chown(join(path, 'a'), SOMEBODY, SOMEBODY)
    const reading = state.read('a')
    if (isRoot)
      await expect(reading).rejects.toMatchObject({
        code: 'state_invalid',
        message: expect.stringContaining(`belongs to user ${SOMEBODY}`) as string,
      })
    else expect(String(await reading)).toBe('1')
  })

  it('that is absurdly big is refused unread', async () => {
    const path = await newFolder()
    const state = await openState(path)
    const file = await open(join(path, 'a'), 'wx', 0o600)
    await file.truncate(STATE_FILE_BYTES + 1)
    await file.close()
    await expect(state.read('a')).rejects.toMatchObject({ code: 'state_invalid' })
  })

  it('has a name that stays in its folder', async () => {
    const state = await openState(await newFolder())
    for (const name of ['', '.', '..', '../a', 'a/b', '.a', 'a\0', 'a.tmp', 'ä', 'a'.repeat(300)]) {
      await expect(state.write(name, '')).rejects.toMatchObject({ code: 'state_invalid' })
      await expect(state.read(name)).rejects.toMatchObject({ code: 'state_invalid' })
    }
  })

  it('whose folder is gone says so', async () => {
    const path = join(await newFolder(), 'a')
    const state = await openState(path)
    execFileSync('rmdir', [path])
    await expect(state.write('a', '1')).rejects.toMatchObject({
      code: 'state_unwritable',
      message: expect.stringContaining('the folder is gone') as string,
    })
  })
})

describe('JSON in a state file', () => {
  const schema = z.object({ name: z.string(), uses: z.int() })

  it('comes back as it was at the time of the call', async () => {
    const state = await openState(await newFolder())
    const value = { name: 'home', uses: 2 }
    const writing = state.writeJson('a.json', value)
    value.uses = 3
    await writing
    expect(await state.readJson('a.json', schema)).toEqual({ name: 'home', uses: 2 })
  })

  it.each(['', '{"name": "ho', 'null', '[]', '{"name":"home","uses":"2"}', '\0\0\0\0'])(
    'that is damaged (%j) is refused without quoting it, and left as it is',
    async (text) => {
      const path = await newFolder()
      const state = await openState(path)
      await state.write('a.json', text)
      await expect(state.readJson('a.json', schema)).rejects.toMatchObject({
        code: 'state_invalid',
        message: expect.stringMatching(
          /a\.json is damaged \(.*\): restore it from a backup, or move it away to begin anew$/,
        ) as string,
      })
      expect(await readFile(join(path, 'a.json'), 'utf8')).toBe(text)
    },
  )

  it('cut at any place, as by a crash of another program, is refused or what it was', async () => {
    const state = await openState(await newFolder())
    const text = JSON.stringify({ name: 'home', uses: 2 })
    await fc.assert(
      fc.asyncProperty(fc.nat(text.length - 1), async (length) => {
        await state.write('a.json', text.slice(0, length))
        await expect(state.readJson('a.json', schema)).rejects.toMatchObject({ code: 'state_invalid' })
      }),
      { numRuns: 20 },
    )
  })
})
