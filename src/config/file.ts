import { isUtf8 } from 'node:buffer'
import { constants, type Stats } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import type { z } from 'zod'
import { type TunnelError, userError } from '../errors.ts'
import { CONFIG_BYTES } from '../limits.ts'
import { causes, explain } from './schema.ts'
import type { KeyPath, Problem } from './toml.ts'

/** Notes a mistake at a key. */
export type Complain = (path: KeyPath, detail: string) => void

/** What a schema alone cannot say: called with the typed value, complains about the key at a path. */
export type Check<T> = (value: T, complain: Complain) => void | Promise<void>

/**
 * Reads a configuration file: real TOML, nothing in it that `schema` does not know, nobody else able to write
 * it. Throws `not_found` when there is none and `config_invalid` for the first mistake in
 * it, one line each: `file:line: what: what to do`.
 */
export async function loadFile<T>(path: string, schema: z.ZodType<T>, check: Check<T>): Promise<T> {
  // The parser stays in memory for good: it is not loaded by who has no file.
  const { readToml } = await import('./toml.ts')
  const document = readToml(textOf(path, await contents(path)))
  if ('detail' in document) throw mistake(path, document)
  const problems: Problem[] = []
  const complain: Complain = (at, detail) => {
    problems.push({ line: document.lineOf(at), detail })
  }
  const parsed = schema.safeParse(document.value)
  if (parsed.success) await check(parsed.data, complain)
  else {
    for (const issue of causes(document.value, parsed.error.issues))
      explain(schema, document.value, issue, complain)
  }
  // One at a time, from the top: the rest may be its consequence.
  const [first] = problems.sort((a, b) => a.line - b.line)
  if (first !== undefined) throw mistake(path, first)
  if (!parsed.success) throw parsed.error
  return parsed.data
}

/** The bytes of a file that only root and we can have written. */
async function contents(path: string): Promise<Buffer> {
  let file: FileHandle
  try {
    // Without O_NONBLOCK the opening of a named pipe would wait for a writer.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    throw unreadable(path, error as NodeJS.ErrnoException)
  }
  try {
    const stats = await file.stat()
    const why = untrusted(path, stats)
    if (why !== undefined) throw userError('config_invalid', `${path}: ${why}`)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(CONFIG_BYTES + 1), 0, CONFIG_BYTES + 1, 0)
    if (bytesRead > CONFIG_BYTES) {
      throw userError(
        'config_invalid',
        `${path}: is over ${CONFIG_BYTES / 2 ** 20} MiB: this is not a configuration file`,
      )
    }
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

function untrusted(path: string, { mode, uid }: Stats): string | undefined {
  if ((mode & constants.S_IFMT) !== constants.S_IFREG) return 'is not a file: give the path of a TOML file'
  if ((mode & 0o022) !== 0) return `others can write it, and so choose what runs: chmod go-w ${path}`
  const us = process.geteuid?.()
  if (us !== undefined && uid !== 0 && uid !== us) {
    return `belongs to user ${uid}, who can change it: chown ${us} ${path}`
  }
  return undefined
}

function textOf(path: string, bytes: Buffer): string {
  if (isUtf8(bytes)) return new TextDecoder().decode(bytes)
  let line = 1
  for (let start = 0; start < bytes.length; line++) {
    const found = bytes.indexOf(0x0a, start)
    const end = found === -1 ? bytes.length : found
    if (!isUtf8(bytes.subarray(start, end))) break
    start = end + 1
  }
  throw mistake(path, { line, detail: 'is not UTF-8 text: save the file as UTF-8' })
}

function mistake(path: string, { line, detail }: Problem): TunnelError {
  return userError('config_invalid', `${path}:${line}: ${detail}`)
}

function unreadable(path: string, error: NodeJS.ErrnoException): TunnelError {
  const { code = 'unknown error' } = error
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return userError('not_found', `${path}: there is no such file: write it, or give another path with -c`)
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return userError('config_invalid', `${path}: may not be read: give this user the right to read it`)
  }
  return userError('config_invalid', `${path}: cannot be read (${code}): check the path`)
}
