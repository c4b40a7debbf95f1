/** Visitors by TLS who come for one request each, from a program in Go: see visitors/main.go. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { find, run } from './process.ts'
import type { Load } from './requests.ts'

export type Handshake = 'full' | 'resumed'

/** The source, as this file is run from build/bench. */
const source = join(import.meta.dirname, '..', '..', 'bench', 'visitors')

/** What the program says when it is done. */
interface Said {
  full: number
  resumed: number
  seconds: number
  errors: number
  error: string
}

/** Why there can be no such visitors; undefined if there can. */
export async function withoutVisitors(): Promise<string | undefined> {
  return find('go') === undefined ? 'go is not on PATH, and the visitors are written in it' : undefined
}

/** Builds the program; `remove` takes it away again. */
export async function visitors(options: {
  readonly atOnce: number
  readonly handshake: Handshake
}): Promise<{ load: Load; remove: () => void }> {
  const { atOnce, handshake } = options
  const folder = mkdtempSync(join(tmpdir(), 'blindgate-bench-visitors-'))
  const program = join(folder, 'visitors')
  const remove = (): void => rmSync(folder, { recursive: true, force: true })
  try {
    await run(find('go') ?? 'go', ['build', '-C', source, '-o', program, '.'])
  } catch (error) {
    remove()
    throw error
  }
  const load: Load = async (port, seconds) => {
    const args = ['-at-once', `${atOnce}`, '-seconds', `${seconds}`, '-handshake', handshake]
    const output = await run(program, [...args, `127.0.0.1:${port}`])
    const said = JSON.parse(output) as Said
    const [wanted, other] = handshake === 'full' ? [said.full, said.resumed] : [said.resumed, said.full]
    // A figure of other handshakes than the row names would mislead.
    if (!(wanted > 0) || other > 0 || said.errors > 0)
      throw new Error(`the visitors did not get ${handshake} handshakes only: ${output.trim()}`)
    return { requests: wanted, perSecond: wanted / said.seconds }
  }
  return { load, remove }
}
