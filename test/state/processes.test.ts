import { chown, mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openState } from '../../src/state/index.ts'
import { isRoot, newFolder, SOMEBODY } from './folders.ts'
import { Processes } from './processes.ts'

let processes: Processes

beforeAll(async () => {
  processes = await Processes.compiled()
})
afterAll(() => processes.end())

/** Waits for the word, takes the lock as fast as it can, looks whether it is alone, and dies with the lock in its hands. */
const FIGHTER = `
import { appendFileSync, rmSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { tryLock } from './state/lock.js'
const [folder] = process.argv.slice(2)
process.stdout.write('ready')
await once(process.stdin, 'data')
while ((await tryLock(folder + '/gateway.lock')) === undefined);
try {
  writeFileSync(folder + '/inside', '', { flag: 'wx' })
} catch {
  appendFileSync(folder + '/log', 'two at once\\n')
}
// Long enough that whoever believes to have it as well gets here.
for (const end = performance.now() + 15; performance.now() < end; );
appendFileSync(folder + '/log', 'had it\\n')
rmSync(folder + '/inside', { force: true })
process.kill(process.pid, 'SIGKILL')
`

const HOLDER = `
import { tryLock } from './state/lock.js'
await tryLock(process.argv[2] + '/gateway.lock')
process.stdout.write('has it')
setInterval(() => {}, 1000)
`

/** Writes a file, and dies where the next one would be renamed. */
const CRASHER = `
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { openState } from './state/state.js'
const state = await openState(process.argv[2])
await state.write('a.json', '"old"')
fs.promises.rename = () => process.kill(process.pid, 'SIGKILL')
syncBuiltinESMExports()
await state.write('a.json', '"new"')
`

const VISITOR = `
import { openState } from './state/state.js'
try {
  const state = await openState(process.argv[2])
  await state.write('a', 'written')
  const lock = await state.lock('gateway')
  await lock.release()
  process.stdout.write(String(await state.read('a')))
} catch (error) {
  process.stdout.write(error.code + ' ' + error.message)
}
`

describe('real processes', () => {
  it('that fight for the lock of a dead one have it one after the other, each dying with it', async () => {
    const folder = await newFolder()
    const fighters = await Promise.all(
      Array.from({ length: 8 }, () => processes.start('fighter', FIGHTER, [folder])),
    )
    const holder = await processes.start('holder', HOLDER, [folder])
    await Promise.all([holder.says('has it'), ...fighters.map((fighter) => fighter.says('ready'))])
    holder.child.kill('SIGKILL')
    await holder.ended
    for (const fighter of fighters) fighter.tell('go')
    const ends = await Promise.all(fighters.map((fighter) => fighter.ended))
    expect(ends.map(({ signal }) => signal)).toEqual(fighters.map(() => 'SIGKILL'))
    expect(await readFile(join(folder, 'log'), 'utf8')).toBe('had it\n'.repeat(8))
    // The last one's lock is stale again, and half-made ones are swept.
    const state = await openState(folder)
    expect(await state.tryLock('gateway')).toBeDefined()
    expect((await readdir(folder)).sort()).toEqual(['gateway.lock', 'log'])
  })

  it('keep a lock for as long as they live', async () => {
    const folder = await newFolder()
    const state = await openState(folder)
    const holder = await processes.start('holder', HOLDER, [folder])
    await holder.says('has it')
    expect(await state.tryLock('gateway')).toBeUndefined()
    await expect(state.lock('gateway', 0)).rejects.toThrow(`is in use by process ${holder.child.pid}`)
    holder.child.kill('SIGKILL')
    await holder.ended
    expect(await state.tryLock('gateway')).toBeDefined()
  })

  it('that die before the rename leave the old file, and their half-written one is swept', async () => {
    const folder = await newFolder()
    const crasher = await processes.start('crasher', CRASHER, [folder])
    expect((await crasher.ended).signal).toBe('SIGKILL')
    expect(await readdir(folder)).toHaveLength(2)
    const state = await openState(folder)
    expect(String(await state.read('a.json'))).toBe('"old"')
    expect(await readdir(folder)).toEqual(['a.json'])
  })

  it('of an ordinary user use a folder of theirs, and get a word for one that they may not write', async () => {
    const base = await newFolder()
    const ids = isRoot ? { uid: SOMEBODY, gid: SOMEBODY } : {}
    if (isRoot) await chown(base, SOMEBODY, SOMEBODY)
    const theirs = await processes.start('visitor', VISITOR, [join(base, 'state')], ids)
    expect((await theirs.ended).output).toBe('written')
    const closed = await processes.start('visitor', VISITOR, ['/usr/blindgate'], ids)
    expect((await closed.ended).output).toBe(
      'state_unwritable cannot write /usr/blindgate: permission denied: run as its owner, or choose another folder with --state',
    )
    await mkdir(join(base, 'read-only'), 0o500)
    if (isRoot) await chown(join(base, 'read-only'), SOMEBODY, SOMEBODY)
    const readOnly = await processes.start('visitor', VISITOR, [join(base, 'read-only')], ids)
    expect((await readOnly.ended).output).toContain('state_unwritable')
  })
})
