import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach } from 'vitest'

const made: string[] = []

afterEach(async () => {
  for (const path of made.splice(0)) await rm(path, { recursive: true, force: true })
})

/** A new folder for one test, 0700, removed after it. */
export async function newFolder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'bg-'))
  made.push(path)
  return path
}

export const isRoot = process.geteuid?.() === 0
/** Somebody who is neither us nor root. */
export const SOMEBODY = 65_534
