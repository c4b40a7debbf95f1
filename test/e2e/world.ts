/** Real processes on this machine: gateways, clients, and what they say. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { join } from 'node:path'
import { expect } from 'vitest'
import { built, type Ended, lastLine, Running, Workshop } from '../cli/binary.ts'

/** Longest wait for what must come; past it the test says what it waited for. */
const PATIENCE_MS = 20_000
/** Between two looks at what gives no event. */
const LOOK_MS = 20

/** A program or a folder of the test ends with it. */
export interface Closable {
  close(): Promise<void> | void
}

/** The processes, folders and sockets of one test; `close` ends and removes all. */
export class World {
  readonly workshop = new Workshop()
  readonly #closables: Closable[] = []

  /** Where the processes run. */
  get folder(): string {
    return this.workshop.folder
  }

  /** A path in the folder of this test. State folders are named by their last part. */
  path(...parts: string[]): string {
    return this.workshop.path(...parts)
  }

  /** Hands over what `close` shall close. */
  with<T extends Closable>(thing: T): T {
    this.#closables.push(thing)
    return thing
  }

  /** Runs a command to its end, on the state folder of that name. */
  run(state: string, args: readonly string[], input?: string): Promise<Ended> {
    return this.workshop.run([...args, '--state', this.path(state)], input === undefined ? {} : { input })
  }

  /** Runs a command that must succeed; gives its stdout without the last line break. */
  async done(state: string, args: readonly string[], input?: string): Promise<string> {
    const ended = await this.run(state, args, input)
    if (ended.code !== 0) throw new Error(`${args.join(' ')} ended with ${ended.code}: ${ended.err}`)
    return ended.out.trimEnd()
  }

  start(state: string, args: readonly string[], { env = {}, descriptors }: StartOptions = {}): Running {
    const words = [...args, '--state', this.path(state)]
    if (descriptors === undefined) return this.workshop.start(words, { env })
    const limited = `ulimit -n ${descriptors} && exec "$0" "$@"`
    return this.spawned(spawn('sh', ['-c', limited, process.execPath, main(), ...words]))
  }

  /** Takes over a process that the test started by itself. */
  spawned(child: ChildProcessWithoutNullStreams): Running {
    const running = new Running(child)
    this.with({
      async close() {
        if (child.exitCode === null) child.kill('SIGKILL')
        await running.ended
      },
    })
    return running
  }

  /** A gateway on free loopback ports, or on those that `args` name; it has the admin port too. */
  async gateway(
    args: readonly string[] = [],
    options: StartOptions & { state?: string } = {},
  ): Promise<Gateway> {
    const { state = 'gateway', ...rest } = options
    const gateway = new Gateway(this, state, this.start(state, ['gateway', ...defaults(args), ...args], rest))
    await gateway.ready()
    return gateway
  }

  /** Enrolls the state folder of that name by a new invite. */
  async join(state: string, gateway: Gateway, invite: readonly string[] = []): Promise<void> {
    const made = await gateway.command(['invite', ...invite])
    await this.done(state, ['join', '-'], made)
  }

  /** Offers services until the test ends: a quick command or `up`. Resolves when it printed its first URL. */
  async offer(state: string, args: readonly string[], options: StartOptions = {}): Promise<Offered> {
    const program = this.start(state, args, options)
    const [, url = '', target = ''] = await heard(program, 'out', /^(\S+) → (\S+)$/m)
    return { program, url, target, port: Number(new URL(url).port) }
  }

  async close(): Promise<void> {
    await this.workshop.close()
    await Promise.all(this.#closables.map(async (thing) => thing.close()))
  }
}

export interface StartOptions {
  env?: Record<string, string>
  /** Descriptors that the process may have. */
  descriptors?: number
}

export interface Offered {
  program: Running
  url: string
  target: string
  /** Where visitors find it. */
  port: number
}

/** A gateway that runs. */
export class Gateway {
  readonly state: string
  readonly program: Running
  /** Ports on 127.0.0.1. */
  visitors = 0
  /** 0 without `--tls`. */
  tls = 0
  clients = 0
  admin = 0
  readonly #world: World

  constructor(world: World, state: string, program: Running) {
    this.#world = world
    this.state = state
    this.program = program
  }

  async ready(): Promise<void> {
    const [, visitors, tls, clients, admin] = await heard(
      this.program,
      'out',
      /^visitors http:\/\/\S+:(\d+)\n(?:visitors https:\/\/\S+:(\d+)\n)?clients \S+:(\d+)\nadmin http:\/\/\S+:(\d+)$/m,
    )
    this.visitors = Number(visitors)
    this.tls = Number(tls ?? 0)
    this.clients = Number(clients)
    this.admin = Number(admin)
  }

  /** Flags that start it again where it was. */
  get ports(): string[] {
    const here = (port: number): string => `127.0.0.1:${port}`
    return ['--http', here(this.visitors), '--tunnel', here(this.clients), '--admin', here(this.admin)]
  }

  /** A command on its state, that must succeed. */
  command(args: readonly string[]): Promise<string> {
    return this.#world.done(this.state, args)
  }

  /** One of its metrics, summed over labels; 0 while there is none of that name. */
  async gauge(name: string): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${this.admin}/metrics`)
    const values = [...(await response.text()).matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))]
    return values.reduce((sum, [, value]) => sum + Number(value), 0)
  }

  /** Resolves when a metric has a value; looks at it until then, for a gateway counts without a word. */
  async reaches(name: string, wanted: number): Promise<void> {
    await until(`${name} is ${wanted}`, async () => {
      const value = await this.gauge(name)
      return value === wanted ? true : `it is ${value}`
    })
  }
}

/** The program, compiled from the sources as they are. */
export function main(): string {
  return join(built(), 'dist', 'cli', 'main.js')
}

/** Looks again and again until `look` gives true; what else it gives is said when it took too long. */
export async function until(what: string, look: () => Promise<true | string> | true | string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS
  for (;;) {
    const seen = await look()
    if (seen === true) return
    if (performance.now() > deadline) throw new Error(`waited for nothing: ${what}; ${seen}`)
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
}

/** Resolves with the first match in what was said, from character `from`; rejects when the program ends without. */
export async function heard(
  program: Running,
  where: 'out' | 'err',
  pattern: RegExp,
  from = 0,
): Promise<RegExpExecArray> {
  const stream = where === 'out' ? program.child.stdout : program.child.stderr
  let look = (): void => undefined
  let alarm: NodeJS.Timeout | undefined
  const said = (): string => `\nstdout: ${program.out}\nstderr: ${program.err}`
  try {
    return await new Promise<RegExpExecArray>((resolve, reject) => {
      look = () => {
        const match = pattern.exec(program[where].slice(from))
        if (match !== null) resolve(match)
      }
      stream.on('data', look)
      alarm = setTimeout(() => reject(new Error(`it never said ${pattern}${said()}`)), PATIENCE_MS)
      program.ended.then(({ code }) => {
        look()
        reject(new Error(`it ended with ${code} and never said ${pattern}${said()}`))
      }, reject)
      look()
    })
  } finally {
    clearTimeout(alarm)
    stream.off('data', look)
  }
}

/** Waits for a line of the log; gives its fields. */
export async function logged(program: Running, pattern: RegExp, from = 0): Promise<Record<string, unknown>> {
  const line = new RegExp(`^.*(?:${pattern.source}).*$`, `m${pattern.flags.replace('m', '')}`)
  const [text] = await heard(program, 'err', line, from)
  return JSON.parse(text) as Record<string, unknown>
}

/** Ends a program as `kill -9` does; resolves when it is gone. */
export async function killed(program: Running): Promise<void> {
  program.signal('SIGKILL')
  await program.ended
}

/** Holds a failure to its form: the exit code, `blindgate: what: what to do` as the last line, and no stack trace. */
export function expectFailure({ code, err }: Ended, wanted: { code?: number; says: RegExp }): void {
  const last = lastLine(err)
  expect(last).toMatch(wanted.says)
  expect(last).toMatch(/^blindgate: \S.*: \S/)
  expect(err).not.toMatch(/^\s+at /m)
  expect(code).toBe(wanted.code ?? 1)
}

function defaults(args: readonly string[]): string[] {
  return ['--http', '--tunnel', '--admin'].flatMap((flag) =>
    args.includes(flag) ? [] : [flag, '127.0.0.1:0'],
  )
}
