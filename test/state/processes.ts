import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = fileURLToPath(new URL('../../', import.meta.url))

/**
 * The state room as JavaScript, in a folder that every user can read, since Node 20 runs no TypeScript: real
 * processes are what a lock is for.
 */
export class Processes {
  readonly #folder: string
  readonly #running = new Set<ChildProcess>()

  private constructor(folder: string) {
    this.#folder = folder
  }

  static async compiled(): Promise<Processes> {
    const folder = await mkdtemp(join(tmpdir(), 'bg-js-'))
    await chmod(folder, 0o755)
    await writeFile(join(folder, 'package.json'), '{"type":"module"}')
    const config = {
      extends: join(root, 'tsconfig.json'),
      compilerOptions: {
        noEmit: false,
        noCheck: true,
        rootDir: join(root, 'src'),
        outDir: folder,
        types: [],
      },
      files: [join(root, 'src/state/state.ts')],
      include: [],
    }
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config))
    await promisify(execFile)(join(root, 'node_modules/.bin/tsc'), ['-p', folder])
    return new Processes(folder)
  }

  /** Starts `code`, a module that sees the room's files under `./state/`. */
  async start(
    name: string,
    code: string,
    args: string[],
    options: { uid?: number; gid?: number } = {},
  ): Promise<Running> {
    const path = join(this.#folder, `${name}.js`)
    await writeFile(path, code)
    const child = spawn(process.execPath, [path, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
      cwd: '/',
      ...options,
    })
    this.#running.add(child)
    child.on('close', () => this.#running.delete(child))
    return new Running(child)
  }

  async end(): Promise<void> {
    for (const child of this.#running) child.kill('SIGKILL')
    await rm(this.#folder, { recursive: true, force: true })
  }
}

export class Running {
  readonly child: ChildProcess
  readonly ended: Promise<{ signal: string | null; output: string }>
  #output = ''

  constructor(child: ChildProcess) {
    this.child = child
    child.stdin?.on('error', () => {})
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text
    })
    this.ended = new Promise((resolve) => {
      child.on('close', (_code, signal) => resolve({ signal, output: this.#output }))
    })
  }

  /** Resolves once the process has printed `text`. */
  async says(text: string): Promise<void> {
    while (!this.#output.includes(text)) {
      await new Promise<void>((resolve, reject) => {
        this.child.stdout?.once('data', () => resolve())
        this.child.once('close', () => reject(new Error(`ended without saying ${text}: ${this.#output}`)))
      })
    }
  }

  tell(text: string): void {
    this.child.stdin?.write(text)
  }
}
