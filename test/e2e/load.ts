/** Visitors who go on asking over connections that they keep, and targets that can be killed. */
import { readFileSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import type { Running } from '../cli/binary.ts'
import { killed, type Offered, type World } from './world.ts'

export interface LoadOptions {
  port: number
  /** Connections, each with one request at a time. */
  connections: number
  method?: 'GET' | 'POST'
}

let turns = 0

/** What a request came to. */
export interface Outcome {
  id: string
  /** The status, or why there was none. */
  what: number | string
  body: string
}

/** Asks until it is ended. */
export class Load {
  readonly outcomes: Outcome[] = []
  readonly #options: Required<LoadOptions>
  readonly #workers: Promise<void>
  readonly #watchers = new Set<() => void>()
  /** No two loads ask for the same. */
  readonly #turn = turns++
  #over = false

  constructor(options: LoadOptions) {
    this.#options = { method: 'GET', ...options }
    const workers = Array.from({ length: options.connections }, (_, index) => this.#work(index))
    this.#workers = Promise.all(workers).then(() => undefined)
  }

  /** Those that did not get what they asked for. */
  get failed(): Outcome[] {
    return this.outcomes.filter(({ what, id, body }) => what !== 200 || !body.endsWith(` ${id}`))
  }

  /** Resolves when so many more requests are over than now. */
  async more(count: number): Promise<void> {
    const wanted = this.outcomes.length + count
    while (this.outcomes.length < wanted) {
      await new Promise<void>((resolve) => {
        const look = (): void => {
          this.#watchers.delete(look)
          resolve()
        }
        this.#watchers.add(look)
      })
    }
  }

  /** Asks nothing more; resolves when all has been answered. */
  async end(): Promise<Outcome[]> {
    this.#over = true
    await this.#workers
    return this.outcomes
  }

  async #work(index: number): Promise<void> {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    for (let round = 0; !this.#over; round++) {
      const id = `${this.#options.method}-${this.#turn}-${index}-${round}`
      this.outcomes.push(await ask(this.#options, agent, id))
      for (const look of this.#watchers) look()
    }
    agent.destroy()
  }
}

function ask({ port, method }: Required<LoadOptions>, agent: Agent, id: string): Promise<Outcome> {
  return new Promise((resolve) => {
    const failed = (error: NodeJS.ErrnoException): void =>
      resolve({ id, what: error.code ?? error.message, body: '' })
    const body = method === 'POST' ? id : undefined
    const headers = body === undefined ? {} : { 'content-length': body.length }
    const asked = request({ host: '127.0.0.1', port, path: `/${id}`, method, headers, agent }, (answer) => {
      let text = ''
      answer.setEncoding('latin1')
      answer.on('data', (chunk: string) => (text += chunk))
      answer.on('error', failed)
      answer.on('end', () => resolve({ id, what: answer.statusCode ?? 0, body: text }))
    })
    asked.on('error', failed)
    asked.end(body)
  })
}

/** Answers `NAME ID`, a moment later; what is not GET is noted in a file before. */
const SCRIPT = `
import { appendFileSync } from 'node:fs'
import { createServer } from 'node:http'
const [name, port, file] = process.argv.slice(2)
const server = createServer((request, response) => {
  const id = request.url.slice(1)
  if (request.method !== 'GET') appendFileSync(file, id + '\\n')
  request.resume().on('end', () => setTimeout(() => response.end(name + ' ' + id), 3))
})
server.keepAliveTimeout = 60_000
server.listen({ host: '127.0.0.1', port: Number(port) }, () => console.log('listens on ' + server.address().port))
`

/** A web server in a process of its own. */
export class TargetProcess {
  port = 0
  readonly name: string
  readonly #world: World
  readonly #script: string
  readonly #file: string
  #program: Running | undefined

  static async start(world: World, name: string): Promise<TargetProcess> {
    const target = new TargetProcess(world, name)
    await target.start()
    return target
  }

  private constructor(world: World, name: string) {
    this.name = name
    this.#world = world
    this.#script = world.path(`${name}.mjs`)
    this.#file = world.path(`${name}.log`)
    writeFileSync(this.#script, SCRIPT)
    writeFileSync(this.#file, '')
  }

  /** Where it was before, if it was. */
  async start(): Promise<void> {
    const args = [this.name, String(this.port), this.#file]
    this.#program = this.#world.workshop.startScript(this.#script, args)
    const [, port] = await this.#program.says('out', /^listens on (\d+)$/m)
    this.port = Number(port)
  }

  async kill(): Promise<void> {
    if (this.#program !== undefined) await killed(this.#program)
  }

  /** Of the requests but GETs that reached it, whatever became of them. */
  get reached(): string[] {
    return readFileSync(this.#file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
  }
}

/** A machine that has joined, with its target and its client. Machines are replicas of each other. */
export class Machine {
  readonly target: TargetProcess
  readonly #world: World
  /** The name of its state folder. */
  readonly #state: string
  #offered: Offered | undefined

  static async start(world: World, state: string): Promise<Machine> {
    const machine = new Machine(world, state, await TargetProcess.start(world, state))
    await machine.offer()
    return machine
  }

  private constructor(world: World, state: string, target: TargetProcess) {
    this.#world = world
    this.#state = state
    this.target = target
  }

  async offer(): Promise<void> {
    this.#offered = await this.#world.offer(this.#state, ['http', String(this.target.port), '--name', 'web'])
  }

  async kill(): Promise<void> {
    if (this.#offered !== undefined) await killed(this.#offered.program)
  }
}

/** Who answered how often. */
export function shares(outcomes: readonly Outcome[]): Record<string, number> {
  const answers: Record<string, number> = {}
  for (const { body } of outcomes) {
    const [name = ''] = body.split(' ')
    answers[name] = (answers[name] ?? 0) + 1
  }
  return answers
}
