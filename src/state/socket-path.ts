import { createHash } from 'node:crypto'
import { lstatSync, mkdirSync, readdirSync, realpathSync, type Stats } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { userError } from '../errors.ts'
import { SOCKET_PATH_BYTES } from '../limits.ts'
import { unwritable } from './file-errors.ts'
import { notPrivate } from './folder.ts'

const SUFFIX = '.sock'

/**
 * The path of the local control socket `name` of the state folder `folder`. The kernel takes 107 bytes, and
 * Node 20 cuts longer paths without a word, so a long one moves to a folder of ours under
 * `$XDG_RUNTIME_DIR`, else the temp folder. A command may see other variables than the process it looks for:
 * where a socket stands already, that one is meant. With `create` the folder is made. Throws `state_invalid`,
 * `state_unwritable`.
 */
export function socketPathIn(folder: string, name: string, create = false): string {
  const direct = join(resolve(folder), `${name}${SUFFIX}`)
  if (fits(direct)) return direct
  const fallbacks = fallbackFolders(folder).filter((fallback) => fits(join(fallback, `${name}${SUFFIX}`)))
  const there = fallbacks.find((fallback) => isOurs(fallback) && exists(join(fallback, `${name}${SUFFIX}`)))
  const chosen = there ?? fallbacks[0]
  if (chosen === undefined) {
    throw userError(
      'state_invalid',
      `${direct} is over the ${SOCKET_PATH_BYTES} bytes of a socket path: choose a shorter folder with --state`,
    )
  }
  if (create) makeOurs(chosen)
  return join(chosen, `${name}${SUFFIX}`)
}

/** All sockets of a state folder whose names begin with `prefix`. */
export function socketsIn(folder: string, prefix: string): string[] {
  const real = resolve(folder)
  return [real, ...fallbackFolders(folder).filter(isOurs)].flatMap((each) =>
    namesIn(each)
      .filter((name) => name.startsWith(prefix) && name.endsWith(SUFFIX))
      .map((name) => join(each, name))
      .filter(fits),
  )
}

/** Refuses what the kernel would cut. Throws `state_invalid`. */
export function checkSocketPath(path: string): void {
  if (fits(path)) return
  throw userError(
    'state_invalid',
    `${path} is over the ${SOCKET_PATH_BYTES} bytes of a socket path: choose a shorter one`,
  )
}

function fits(path: string): boolean {
  return Buffer.byteLength(path) <= SOCKET_PATH_BYTES
}

/** In the order of preference. */
function fallbackFolders(folder: string): string[] {
  const hash = createHash('sha256').update(realPathOf(folder)).digest('hex').slice(0, 16)
  const uid = process.geteuid?.() ?? 0
  const runtime = process.env['XDG_RUNTIME_DIR']
  const all = [`/run/user/${uid}/blindgate`, join(tmpdir(), `blindgate-${uid}`), `/tmp/blindgate-${uid}`]
    // A service has no session, so no /run/user of its own: it is only looked into.
    .filter((parent, index) => index > 0 || exists(parent))
  if (runtime !== undefined && runtime.startsWith('/')) all.unshift(join(runtime, 'blindgate'))
  return [...new Set(all)].map((parent) => join(parent, hash))
}

/** Both levels real, ours and 0700: under the temp folder anybody may have made them before us. */
function isOurs(fallback: string): boolean {
  return [dirname(fallback), fallback].every((path) => {
    const stats = statsOf(path)
    return stats !== undefined && notPrivate(path, stats, 'folder') === undefined
  })
}

function makeOurs(fallback: string): void {
  for (const path of [dirname(fallback), fallback]) {
    try {
      mkdirSync(path, 0o700)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw unwritable(path, error)
    }
    const stats = statsOf(path)
    const why = stats === undefined ? `${path} is gone: make it again` : notPrivate(path, stats, 'folder')
    if (why !== undefined) throw userError('state_invalid', why)
  }
}

function statsOf(path: string): Stats | undefined {
  try {
    return lstatSync(path)
  } catch {
    return undefined
  }
}

function exists(path: string): boolean {
  return statsOf(path) !== undefined
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

export function realPathOf(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return resolve(path)
  }
}
