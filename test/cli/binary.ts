/** The real program, compiled from the sources as they are, and run as people run it. */
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..', '..')

/**
 * A folder with package.json and dist/ of the sources as they are. Built once per state of the sources, inside the
 * project, for what is built finds its packages there; never an old build, whoever started the tests.
 */
export function built(): string {
  return (ready ??= build())
}

/** Of this test file. */
let ready: string | undefined
/** A build that no test has asked for in so long is of sources that are gone. */
const OLD_MS = 3_600_000

function build(): string {
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .toSorted()
  const hash = createHash('sha256')
  for (const name of sources) hash.update(`${name}\0`).update(readFileSync(join(root, 'src', name)))
  const folder = join(root, 'build', 'test', hash.digest('hex').slice(0, 16))
  if (existsSync(folder)) return folder
  const builds = join(root, 'build', 'test')
  mkdirSync(builds, { recursive: true })
  for (const name of readdirSync(builds)) {
    const age = Date.now() - (statSync(join(builds, name), { throwIfNoEntry: false })?.mtimeMs ?? 0)
    if (age > OLD_MS) rmSync(join(builds, name), { recursive: true, force: true })
  }
  const fresh = mkdtempSync(`${folder}-`)
  copyFileSync(join(root, 'package.json'), join(fresh, 'package.json'))
  const tsc = join(root, 'node_modules', '.bin', 'tsc')
  execFileSync(tsc, ['-p', 'tsconfig.build.json', '--outDir', join(fresh, 'dist')], { cwd: root })
  try {
    renameSync(fresh, folder)
  } catch (error) {
    // Another test file was faster with the same sources.
    if (!existsSync(folder)) throw error
    rmSync(fresh, { recursive: true })
  }
  return folder
}

/** What one run came to. */
export interface Ended {
  code: number | null
  out: string
  err: string
}

/** A program that runs. */
export class Running {
  out = ''
  err = ''
  readonly child: ChildProcessWithoutNullStreams
  readonly ended: Promise<Ended>
  readonly #watchers = new Set<() => void>()

  constructor(child: ChildProcessWithoutNullStreams) {
    this.child = child
    child.stdout.setEncoding('utf8').on('data', (text: string) => this.#said({ out: text }))
    child.stderr.setEncoding('utf8').on('data', (text: string) => this.#said({ err: text }))
    // One that reads no stdin may be gone before all is written.
    child.stdin.on('error', () => undefined)
    this.ended = once(child, 'close').then(([code]: unknown[]) => {
      this.#said({})
      return { code: code as number | null, out: this.out, err: this.err }
    })
  }

  /** Resolves with the match, as soon as what was said has it; rejects if the program ends without. */
  async says(where: 'out' | 'err', pattern: RegExp): Promise<RegExpExecArray> {
    const { promise, resolve } = withResolvers<RegExpExecArray>()
    const look = (): void => {
      const match = pattern.exec(this[where])
      if (match !== null) resolve(match)
    }
    this.#watchers.add(look)
    look()
    const gone = this.ended.then(({ code, out, err }): never => {
      throw new Error(`ended with ${code} and never said ${pattern}\nstdout: ${out}\nstderr: ${err}`)
    })
    try {
      return await Promise.race([promise, gone])
    } finally {
      this.#watchers.delete(look)
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal)
  }

  #said({ out = '', err = '' }: { out?: string; err?: string }): void {
    this.out += out
    this.err += err
    for (const look of this.#watchers) look()
  }
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void
  const promise = new Promise<T>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

/** Programs and folders of one test file; `close` ends and removes all of them. */
export class Workshop {
  readonly folder = mkdtempSync(join(tmpdir(), 'blindgate-test-'))
  readonly #programs: Running[] = []

  path(...parts: string[]): string {
    return join(this.folder, ...parts)
  }

  /** Starts the program with an environment that says nothing about it. */
  start(
    args: readonly string[],
    { env = {}, input }: { env?: Record<string, string>; input?: string } = {},
  ): Running {
    const said = { PATH: process.env['PATH'], HOME: this.folder, BLINDGATE_STATE: this.path('unset'), ...env }
    return this.startScript(join(built(), 'dist', 'cli', 'main.js'), args, { env: said, input })
  }

  /** Starts any script under this Node. */
  startScript(
    script: string,
    args: readonly string[],
    { env, input }: { env?: NodeJS.ProcessEnv; input?: string | undefined } = {},
  ): Running {
    const child = spawn(process.execPath, [script, ...args], {
      cwd: this.folder,
      ...(env === undefined ? {} : { env }),
    })
    const running = new Running(child)
    this.#programs.push(running)
    child.stdin.end(input ?? '')
    return running
  }

  /** Runs a command to its end. */
  run(
    args: readonly string[],
    options: { env?: Record<string, string>; input?: string } = {},
  ): Promise<Ended> {
    return this.start(args, options).ended
  }

  async close(): Promise<void> {
    for (const { child } of this.#programs) if (child.exitCode === null) child.kill('SIGKILL')
    await Promise.all(this.#programs.map(({ ended }) => ended))
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** The last line of a text. */
export function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? ''
}
