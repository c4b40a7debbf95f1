/** The programs of one system, and the folder of their files. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { find, type Program, start, until } from './process.ts'

export class Launched {
  readonly folder: string
  readonly #programs: Program[] = []

  constructor(name: string) {
    this.folder = mkdtempSync(join(tmpdir(), `blindgate-bench-${name}-`))
  }

  /** Starts one more, which ends with the others. */
  program(name: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Program {
    const started = start(find(name) ?? name, args, { env })
    this.#programs.push(started)
    return started
  }

  /** Writes a file; gives its path. */
  file(name: string, lines: readonly string[]): string {
    const path = join(this.folder, name)
    writeFileSync(path, `${lines.join('\n')}\n`, { mode: 0o600 })
    return path
  }

  /** Of those that have ended by themselves; mostly one, and why the others wait. */
  get ended(): string[] {
    return this.#programs.flatMap((each) => each.ended() ?? [])
  }

  /** Ends them, what began last first: a gateway that drains waits for its client. */
  async stop(): Promise<void> {
    for (const each of this.#programs.toReversed()) await each.stop()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** Starts a system; what has begun of one that fails to is ended. */
export async function launch<T extends object>(
  name: string,
  begin: (launched: Launched) => Promise<T>,
): Promise<T & { stop(): Promise<void> }> {
  const launched = new Launched(name)
  const stop = () => launched.stop()
  try {
    return { ...(await begin(launched)), stop }
  } catch (cause) {
    const { ended } = launched
    await stop()
    throw ended.length === 0 ? cause : new Error(ended.join('; '), { cause })
  }
}

/** Waits until a request is answered as the target would: some http ports listen before they know of any client. */
export function answering(port: number): Promise<void> {
  const answered = async (): Promise<boolean> => {
    try {
      const response = await fetch(`http://127.0.0.1:${port}/`)
      return response.ok && (await response.text()) === 'ok\n'
    } catch {
      return false
    }
  }
  return until(answered, `nothing answers on port ${port}`)
}

/** Why programs cannot be started; undefined if all are on PATH. */
export function without(names: readonly string[], advice: string): Promise<string | undefined> {
  const missing = names.filter((name) => find(name) === undefined)
  const are = missing.length > 1 ? 'are' : 'is'
  return Promise.resolve(
    missing.length === 0 ? undefined : `${missing.join(' and ')} ${are} not on PATH: ${advice}`,
  )
}
