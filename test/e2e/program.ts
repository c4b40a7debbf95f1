import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The program as it is installed. `make test` builds it; the tests' global setup does where it is older than src. */
export const BINARY = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

/** One process of the program under test, with all it said. */
export class Program {
  readonly child: ChildProcess
  stdout = ''
  stderr = ''
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  readonly #changed = new Set<() => void>()
  #over = false

  constructor(args: readonly string[], options: { env?: Record<string, string>; stdin?: string } = {}) {
    this.child = spawn(process.execPath, [BINARY, ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH ?? '', HOME: '/nonexistent', ...options.env },
    })
    this.child.stdin?.end(options.stdin ?? '')
    this.child.stdin?.on('error', () => {})
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#said('stdout', text))
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => this.#said('stderr', text))
    this.exited = new Promise((resolve) => {
      this.child.on('close', (code, signal) => {
        this.#over = true
        running.delete(this)
        for (const changed of this.#changed) changed()
        resolve({ code, signal })
      })
    })
    running.add(this)
  }

  /** Resolves with the first match in what the stream said so far or says from now on; rejects if the process ends without it. */
  async says(pattern: RegExp, stream: 'stdout' | 'stderr' = 'stdout', from = 0): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this[stream].slice(from))
      if (found !== null) return found
      if (this.#over) {
        throw new Error(
          `the program ended without saying ${pattern}; stdout:\n${this.stdout}\nstderr:\n${this.stderr}`,
        )
      }
      await new Promise<void>((resolve) => {
        const changed = (): void => {
          this.#changed.delete(changed)
          resolve()
        }
        this.#changed.add(changed)
      })
    }
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.child.kill(signal)
    await this.exited
  }

  #said(stream: 'stdout' | 'stderr', text: string): void {
    this[stream] += text
    for (const changed of this.#changed) changed()
  }
}

const running = new Set<Program>()

/** For `afterEach`: no process stays behind. */
export async function endAll(): Promise<void> {
  await Promise.all([...running].map((program) => program.kill()))
}

/** Runs a command to its end. */
export async function run(
  args: readonly string[],
  options: { env?: Record<string, string>; stdin?: string } = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const program = new Program(args, options)
  const { code } = await program.exited
  return { code, stdout: program.stdout, stderr: program.stderr }
}

/** A state folder of one's own; `remove` is for the end. */
export function folder(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'blindgate-test-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}
