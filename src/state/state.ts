import { constants } from 'node:fs'
import { type FileHandle, open, readdir, rename, unlink } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { z } from 'zod'
import { userError } from '../errors.ts'
import { STATE_FILE_BYTES } from '../limits.ts'
import { unreadable, unwritable } from './file-errors.ts'
import { checkFolder, notPrivate } from './folder.ts'
import { type Lock, lock, tryLock } from './lock.ts'
import { socketPathIn, socketsIn } from './socket-path.ts'
import { removeLeftovers, temporaryName } from './temporary.ts'

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants

/**
 * Opens a state folder, and makes it first unless `create` is false. Takes no lock and keeps nothing open.
 * Throws `not_found`, `state_invalid` or `state_unwritable`, each with what to do.
 */
export async function openState(path: string, { create = true }: { create?: boolean } = {}): Promise<State> {
  const folder = resolve(path)
  await checkFolder(folder, create)
  await removeLeftovers(folder).catch((error: unknown) => {
    throw unwritable(folder, error)
  })
  return new State(folder)
}

/** Bytes to be, or `undefined` for no file. */
type Contents = Uint8Array | string | undefined

/** Writes of one name: one under way, and what is to follow it. */
interface Writer {
  running: Promise<void>
  next: { contents: Contents; done: Promise<void> } | undefined
}

/**
 * A folder of small files that are whole or not there: 0600, written to a temporary file, synced, renamed.
 * Whoever changes a file after reading it holds `lock` in between; the class itself only keeps its own writes in order.
 */
export class State {
  /** Absolute. */
  readonly path: string
  readonly #writers = new Map<string, Writer>()

  /** `openState` makes these. */
  constructor(path: string) {
    this.path = path
  }

  /** What is on the disk, undefined when there is no such file. Throws `state_invalid` for a file that is not ours alone. */
  async read(name: string): Promise<Buffer | undefined> {
    const path = this.#pathOf(name)
    let file: FileHandle
    try {
      // O_NONBLOCK: a named pipe would wait for its writer.
      file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw unreadable(path, error)
    }
    try {
      const stats = await file.stat()
      const why = notPrivate(path, stats, 'file')
      if (why !== undefined) throw userError('state_invalid', why)
      if (stats.size > STATE_FILE_BYTES) {
        throw userError('state_invalid', `${path} is too big to be ours: restore it from a backup`)
      }
      return await file.readFile()
    } catch (error) {
      throw unreadable(path, error)
    } finally {
      await file.close()
    }
  }

  /**
   * Replaces a file as a whole; resolves when it would survive a power cut. Writes of one name happen in the order of the calls; of
   * several that wait, only the last reaches the disk, and then all resolve. `data` must not change until then.
   * Throws `state_unwritable`: the old file is as it was.
   */
  write(name: string, data: Uint8Array | string): Promise<void> {
    return this.#enqueue(name, data)
  }

  /** Removes a file, in order with writes of it; that there is none is no error. */
  remove(name: string): Promise<void> {
    return this.#enqueue(name, undefined)
  }

  /** Throws `state_invalid` for a file that `schema` does not accept; it is left as it is. */
  async readJson<T>(name: string, schema: z.ZodType<T>): Promise<T | undefined> {
    const bytes = await this.read(name)
    if (bytes === undefined) return undefined
    const damaged = (why: string) =>
      userError(
        'state_invalid',
        `${this.#pathOf(name)} is damaged (${why}): restore it from a backup, or move it away to begin anew`,
      )
    let value: unknown
    try {
      value = JSON.parse(bytes.toString())
    } catch {
      // Without its cause, which quotes what may be a secret.
      throw damaged('not JSON')
    }
    const parsed = schema.safeParse(value)
    if (parsed.success) return parsed.data
    const [issue] = parsed.error.issues
    throw damaged(`"${issue?.path.map(String).join('.') ?? ''}" is not what it should be`)
  }

  /** `value` is written as it is at the time of the call. */
  writeJson(name: string, value: unknown): Promise<void> {
    return this.write(name, `${JSON.stringify(value, null, 2)}\n`)
  }

  /** Names of the files that begin and end so. Throws `state_invalid`. */
  async names(prefix: string, suffix: string): Promise<string[]> {
    try {
      const all = await readdir(this.path)
      return all.filter((name) => name.startsWith(prefix) && name.endsWith(suffix)).toSorted()
    } catch (error) {
      throw unreadable(this.path, error)
    }
  }

  /** Waits up to `patienceMs` (5 s) for whoever holds it. Throws `state_locked`. Never twice in one process either. */
  lock(name: string, patienceMs?: number): Promise<Lock> {
    return lock(this.#pathOf(`${name}.lock`), patienceMs)
  }

  /** The lock, or undefined at once when somebody alive holds it. */
  tryLock(name: string): Promise<Lock | undefined> {
    return tryLock(this.#pathOf(`${name}.lock`))
  }

  /** The path for a local control socket, short enough to listen on; makes the folder that takes over from a path too long. */
  socketPath(name: string): string {
    return socketPathIn(this.path, name, true)
  }

  /** Paths of the sockets whose names begin with `prefix`. Somebody may be there or not. */
  sockets(prefix: string): string[] {
    return socketsIn(this.path, prefix)
  }

  #pathOf(name: string): string {
    // Names come from the code; this is for the day when one does not.
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/.test(name) || name.endsWith('.tmp')) {
      throw userError('state_invalid', `${JSON.stringify(name)} cannot be the name of a state file`)
    }
    return join(this.path, name)
  }

  async #enqueue(name: string, contents: Contents): Promise<void> {
    const path = this.#pathOf(name)
    const writer = this.#writers.get(name)
    if (writer === undefined) {
      const running = this.#apply(path, contents)
      this.#writers.set(name, { running, next: undefined })
      return this.#finish(name, running)
    }
    if (writer.next !== undefined) {
      writer.next.contents = contents
      return writer.next.done
    }
    const next = { contents, done: Promise.resolve() }
    next.done = (async () => {
      await writer.running.catch(() => undefined)
      const running = this.#apply(path, next.contents)
      writer.running = running
      writer.next = undefined
      await this.#finish(name, running)
    })()
    writer.next = next
    return next.done
  }

  async #finish(name: string, running: Promise<void>): Promise<void> {
    try {
      await running
    } finally {
      const writer = this.#writers.get(name)
      if (writer?.running === running && writer.next === undefined) this.#writers.delete(name)
    }
  }

  async #apply(path: string, contents: Contents): Promise<void> {
    try {
      if (contents === undefined) await removeFile(path)
      else await replaceFile(this.path, path, contents)
      await syncFolder(this.path)
    } catch (error) {
      throw unwritable(path, error)
    }
  }
}

async function replaceFile(folder: string, path: string, contents: Uint8Array | string): Promise<void> {
  const temporary = join(folder, temporaryName(path.slice(folder.length + 1)))
  const file = await open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
  try {
    try {
      await file.writeFile(contents)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => undefined)
    throw error
  }
}

async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

/** Without it a power cut may bring the old name back. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, O_RDONLY | O_DIRECTORY)
  try {
    await handle.sync()
  } catch (error) {
    // Some network file systems cannot sync a folder; they do it by themselves, or nobody can.
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error
  } finally {
    await handle.close()
  }
}
