/** Programs under measurement: starting and ending them, and what /proc says of them. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

/** Ticks per second of utime and stime; 100 on every Linux that Node runs on. */
const TICKS = 100
const START_MS = 10_000
const STOP_MS = 10_000

/** A program that was started here and is ended here. */
export interface Program {
  readonly pid: number
  /** The first line on stdout; throws with what the program said if it ends before. */
  line(patienceMs?: number): Promise<string>
  /** How it ended by itself, with its last words on stderr; undefined while it runs. */
  ended(): string | undefined
  /** Ends it: SIGTERM, and SIGKILL if that is not enough. */
  stop(): Promise<void>
}

/** Starts a program. Its stderr is kept for the error that reports its early end. */
export function start(command: string, args: readonly string[], options: SpawnOptions = {}): Program {
  const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  let said = ''
  let ended: string | undefined
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (out += text))
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-4096)))
  child.on('error', (error) => (ended = error.message))
  child.on('exit', (code, signal) => (ended = `ended with ${code ?? signal}`))
  return {
    pid: child.pid ?? 0,
    async line(patienceMs) {
      const spoken = () => out.includes('\n') || ended !== undefined
      await until(spoken, `${command}: no line on stdout`, patienceMs)
      if (!out.includes('\n')) throw new Error(`${command} ${ended}: ${said.trim()}`)
      return out.slice(0, out.indexOf('\n'))
    },
    ended: () => (ended === undefined ? undefined : `${command} ${ended}: ${said.trim()}`),
    stop: () => stop(child),
  }
}

async function stop(child: ChildProcess): Promise<void> {
  const gone = () => child.exitCode !== null || child.signalCode !== null || child.pid === undefined
  if (gone()) return
  child.kill('SIGTERM')
  const alarm = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
  await new Promise((resolve) => child.once('exit', resolve))
  clearTimeout(alarm)
}

/** Runs a program to its end with `input` on stdin; gives stdout, throws with stderr if it fails. */
export function run(command: string, args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    let out = ''
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
    child.on('error', reject)
    child.on('close', (code) => {
      if (code === 0) resolve(out)
      else reject(new Error(`${command} ${args.join(' ')} failed: ${(said || out).trim()}`))
    })
    // One that reads no stdin may be gone before all is written.
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
  })
}

/** The path of a program on PATH or in the folders of system programs. */
export function find(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/usr/local/sbin']
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}

export async function until(
  done: () => boolean | Promise<boolean>,
  otherwise: string,
  patienceMs = START_MS,
): Promise<void> {
  const end = performance.now() + patienceMs
  while (!(await done())) {
    if (performance.now() > end) throw new Error(`${otherwise} within ${patienceMs / 1000} s`)
    await pause(20)
  }
}

/** Waits for something to accept connections on a port of this machine. */
export function listening(port: number): Promise<void> {
  const answers = () =>
    new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1')
      socket.on('connect', () => {
        socket.destroy()
        resolve(true)
      })
      socket.on('error', () => resolve(false))
    })
  return until(answers, `nothing listens on port ${port}`)
}

/** A port that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => {
        if (address !== null && typeof address === 'object') resolve(address.port)
        else reject(new Error('no port'))
      })
    })
  })
}

interface Stat {
  parent: number
  cpuSeconds: number
}

function statOf(pid: number): Stat | undefined {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return undefined
  }
  // The name may hold spaces and parentheses; fields are counted after its end. See proc(5): 4 ppid, 14 utime, 15 stime.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return { parent: Number(fields[1]), cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS }
}

/** A process and all that descend from it. */
function family(root: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    const stat = /^\d+$/.test(name) ? statOf(Number(name)) : undefined
    if (stat !== undefined) parents.set(Number(name), stat.parent)
  }
  const found = [root]
  for (const pid of found) for (const [child, parent] of parents) if (parent === pid) found.push(child)
  return found
}

/** User and system time of a process and its descendants, in seconds. */
export function cpuSeconds(pid: number): number {
  return family(pid).reduce((sum, each) => sum + (statOf(each)?.cpuSeconds ?? 0), 0)
}

/** Resident memory of a process and its descendants. */
export function residentBytes(pid: number): number {
  return family(pid).reduce((sum, each) => {
    const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${each}/status`, 'latin1'))
    return sum + Number(match?.[1] ?? 0) * 1024
  }, 0)
}

/** How many files this process, and those it starts, may have open. */
export function descriptors(): number {
  const match = /^Max open files\s+\S+\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))
  return Number(match?.[1] ?? Number.POSITIVE_INFINITY)
}
