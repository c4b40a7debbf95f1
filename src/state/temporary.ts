import { randomBytes } from 'node:crypto'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isRunning, ourProcessId } from './process-id.ts'

const TEMPORARY = /^\..+\.([^.]+)\.[0-9a-f]{24}\.tmp$/

/** A name nobody can guess, for what becomes `name` when it is whole. It says whose it is, so that leftovers are known. */
export function temporaryName(name: string): string {
  return `.${name}.${ourProcessId()}.${randomBytes(12).toString('hex')}.tmp`
}

/** Removes what processes left half-made that are no more; what a living one is making stays. */
export async function removeLeftovers(folder: string): Promise<void> {
  for (const entry of await readdir(folder)) {
    const owner = TEMPORARY.exec(entry)?.[1]
    if (owner === undefined || isRunning(owner) !== false) continue
    await rm(join(folder, entry), { recursive: true, force: true })
  }
}
