import { constants, type Stats } from 'node:fs'
import { access, lstat, mkdir, realpath } from 'node:fs/promises'
import { dirname } from 'node:path'
import { userError } from '../errors.ts'
import { unwritable } from './file-errors.ts'

/**
 * Makes sure that `path` is a folder that only we can look into: real, ours, 0700. Makes it, and its parents,
 * when `create`. Does not mend an open one: whoever could look in has perhaps taken the key already, and that
 * is for people to know. Throws `not_found` (only without `create`), `state_invalid`, `state_unwritable`.
 */
export async function checkFolder(path: string, create: boolean): Promise<void> {
  if (create) await makeFolder(path)
  let stats: Stats
  try {
    stats = await lstat(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw unwritable(path, error)
    throw userError(
      'not_found',
      `there is no state in ${path}: give the folder with --state, or begin with "gateway" or "join"`,
    )
  }
  if (stats.isSymbolicLink()) {
    const real = await realpath(path).catch(() => 'the real folder')
    throw userError(
      'state_invalid',
      `${path} is a symbolic link, which could lead anywhere: use --state ${real}`,
    )
  }
  const why = notPrivate(path, stats, 'folder')
  if (why !== undefined) throw userError('state_invalid', why)
  try {
    await access(path, constants.W_OK | constants.X_OK)
  } catch (error) {
    throw unwritable(path, error)
  }
}

/**
 * Step by step: `mkdir` with `recursive` never returns (Node 20 and 26) where the kernel says ENOENT below a
 * folder that is there, as in /proc. What stands at `path` already, of any kind, is looked at by the caller.
 */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, 0o700)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return
    const parent = dirname(path)
    if (code !== 'ENOENT' || (await isThere(parent))) throw unwritable(path, error)
    await makeFolder(parent)
    await makeFolder(path)
  }
}

async function isThere(path: string): Promise<boolean> {
  // A link that leads nowhere is there as well, and nothing can be made below it.
  return await lstat(path).then(
    () => true,
    () => false,
  )
}

/** Why `path` is not ours alone, with what to type; undefined when it is. */
export function notPrivate(path: string, stats: Stats, kind: 'folder' | 'file'): string | undefined {
  if (kind === 'folder' ? !stats.isDirectory() : !stats.isFile())
    return `${path} is not a ${kind}: move it away`
  const us = process.geteuid?.()
  if (us !== undefined && stats.uid !== us) {
    return `${path} belongs to user ${stats.uid}, and this is user ${us}: run as user ${stats.uid}, or choose another folder with --state`
  }
  if ((stats.mode & 0o077) !== 0) {
    const mode = (stats.mode & 0o777).toString(8)
    return `${path} is open to others (mode ${mode}), who may have read it: chmod ${kind === 'folder' ? 700 : 600} ${path}`
  }
  return undefined
}
