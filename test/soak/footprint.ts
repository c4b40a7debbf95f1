/** What a process holds: its memory, its descriptors, and what keeps its loop alive. */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import type { Running } from '../cli/binary.ts'
import type { Inspector } from './inspector.ts'

export interface Footprint {
  /** Resident, MB: with what the C library keeps free for the next burst. */
  rss: number
  /**
   * Resident without that, MB. It is a half of the other one in glibc, and how much depends on which small pieces happen
   * to lie behind the large ones; no leak can be seen behind it. The other one again where there is no gdb.
   */
  trimmed: number
  /** Of V8, after a collection. MB */
  heap: number
  /** Buffers and what else lies outside V8's heap, MB. */
  external: number
  descriptors: number
  /** By kind, as Node names them. */
  resources: Record<string, number>
}

export class Watched {
  readonly name: string
  /** The most since it was started, MB. */
  peak = 0
  readonly #program: Running
  readonly #inspector: Inspector

  constructor(name: string, program: Running, inspector: Inspector) {
    this.name = name
    this.#program = program
    this.#inspector = inspector
  }

  /** Counts into the peak. */
  look(): void {
    this.peak = Math.max(this.peak, resident(this.#program))
  }

  async measure(): Promise<Footprint> {
    const inspector = this.#inspector
    // What one collection finds dead is freed behind the next.
    for (let times = 3; times > 0; times--) await inspector.collect()
    const memory = await inspector.evaluate<{ heapUsed: number; external: number }>('process.memoryUsage()')
    const all = await inspector.evaluate<string[]>('process.getActiveResourcesInfo()')
    const resources: Record<string, number> = {}
    for (const kind of all.toSorted()) resources[kind] = (resources[kind] ?? 0) + 1
    const rss = resident(this.#program)
    await trim(this.#program)
    return {
      rss,
      trimmed: resident(this.#program),
      heap: megabytes(memory.heapUsed),
      external: megabytes(memory.external),
      descriptors: readdirSync(`/proc/${this.#program.child.pid}/fd`).length,
      resources,
    }
  }
}

/** Has the C library give back what it keeps free, where gdb is there and may. */
async function trim({ child }: Running): Promise<void> {
  const call = ['-batch', '-ex', 'call (int) malloc_trim(0)', '-p', `${child.pid}`]
  await promisify(execFile)('gdb', call).catch(() => undefined)
}

/** Resident memory, MB. */
function resident({ child }: Running): number {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
  return megabytes(Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024)
}

function megabytes(bytes: number): number {
  return Math.round(bytes / 10_000) / 100
}
