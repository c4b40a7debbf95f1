import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rename, rm, rmdir, unlink, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { userError } from '../errors.ts'
import { LOCAL_CALL_MS, LOCK_POLL_MS } from '../limits.ts'
import { unwritable } from './file-errors.ts'
import { isRunning, ourProcessId } from './process-id.ts'
import { temporaryName } from './temporary.ts'

export interface Lock {
  /** Lets others have it. A second call does nothing. */
  release(): Promise<void>
}

/**
 * Takes the lock at `path`, in this process or any other of this machine; undefined while somebody has it.
 * Throws `state_unwritable`.
 *
 * A lock is a folder with one file in it, whose name says who holds it and is never used twice. The folder is
 * made ready elsewhere and renamed to `path`, which the kernel does only if nothing, or an empty folder, is
 * there. So there is nobody without a name, and a dead holder is removed **by its name**: whoever is late with
 * that removes a file that is gone already, never the lock of the one who was faster. (Unlinking a lock file by
 * its one fixed name has that race, and so has renaming it away.)
 */
export async function tryLock(path: string): Promise<Lock | undefined> {
  for (const holder of await holdersOf(path)) {
    if (isRunning(processOf(holder)) !== false) return undefined
    await ignoring(['ENOENT'], unlink(join(path, holder)))
  }
  const holder = `${ourProcessId()}.${randomBytes(12).toString('hex')}`
  const ready = join(dirname(path), temporaryName(basename(path)))
  try {
    await mkdir(ready, 0o700)
    await writeFile(join(ready, holder), '', { flag: 'wx', mode: 0o600 })
    await rename(ready, path)
  } catch (error) {
    await rm(ready, { recursive: true, force: true })
    if (isOneOf(error, ['ENOTEMPTY', 'EEXIST'])) return undefined
    throw unwritable(path, error)
  }
  let released: Promise<void> | undefined
  return { release: () => (released ??= release(path, holder)) }
}

/** `tryLock`, with `patienceMs` for a command that is about to finish. Throws `state_locked`, `state_unwritable`. */
export async function lock(path: string, patienceMs: number = LOCAL_CALL_MS): Promise<Lock> {
  const deadline = performance.now() + patienceMs
  for (;;) {
    const taken = await tryLock(path)
    if (taken !== undefined) return taken
    if (performance.now() >= deadline) throw userError('state_locked', await lockedDetail(path))
    // Unevenly, so that those who wait do not meet again and again.
    await pause(LOCK_POLL_MS * (0.5 + Math.random()))
  }
}

async function release(path: string, holder: string): Promise<void> {
  await ignoring(['ENOENT'], unlink(join(path, holder)))
  // The next one may be in it by now.
  await ignoring(['ENOENT', 'ENOTEMPTY', 'EEXIST'], rmdir(path))
}

async function holdersOf(path: string): Promise<string[]> {
  try {
    return await readdir(path)
  } catch (error) {
    if (isOneOf(error, ['ENOENT'])) return []
    throw unwritable(path, error)
  }
}

async function lockedDetail(path: string): Promise<string> {
  const [holder = ''] = await holdersOf(path)
  const pid = isRunning(processOf(holder)) === undefined ? undefined : holder.split('-')[0]
  if (pid === undefined && holder !== '') {
    return `${path} holds "${holder}", which is no lock of this program: remove it if nothing else runs`
  }
  return `${dirname(path)} is in use by process ${pid ?? 'unknown'}: wait until it is done, or stop it`
}

function processOf(holder: string): string {
  return holder.split('.')[0] ?? ''
}

async function ignoring(codes: readonly string[], promise: Promise<void>): Promise<void> {
  try {
    await promise
  } catch (error) {
    if (!isOneOf(error, codes)) throw error
  }
}

function isOneOf(error: unknown, codes: readonly string[]): boolean {
  return codes.includes((error as NodeJS.ErrnoException).code ?? '')
}
