import type { ChildProcess } from 'node:child_process'
import { TunnelError } from '../../errors.ts'
import { WORKER_END_MS, WORKER_WORDS } from '../../limits.ts'
import type { Change } from '../change.ts'
import type { StationReport } from '../report.ts'
import { type Ears, Line } from './line.ts'
import type { Beginning, ToPrimary, ToWorker, WorkerReport } from './words.ts'

/** One worker, as its primary sees it: from its start to the end of its process, and no longer. */
export class Member {
  readonly number: number
  /** What clients know it by. */
  readonly id: string
  readonly line: Line<ToWorker, ToPrimary>
  readonly startedAt = performance.now()
  /** It serves. */
  ready = false
  /** What it has said of itself last. */
  last: StationReport | undefined
  /** Resolves with how its process ended. */
  readonly ended: Promise<string>
  readonly #child: ChildProcess
  #gone = false

  constructor(number: number, id: string, child: ChildProcess, ears: Ears<ToPrimary>) {
    this.number = number
    this.id = id
    this.#child = child
    this.line = new Line<ToWorker, ToPrimary>(child, ears)
    this.ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
      // It was never started.
      child.on('error', (error) => {
        if (child.pid === undefined) resolve(error.message)
      })
    })
    void this.ended.then(() => {
      this.#gone = true
      this.line.end()
    })
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Resolves when it serves; rejects with what kept it from it. */
  async begin(beginning: Beginning, patienceMs: number): Promise<void> {
    await within(this.line.ask('begin', beginning), patienceMs)
    this.ready = true
  }

  /** It has this change before anything that it is told or answered later. */
  change(change: Change): void {
    if (this.line.unsent > WORKER_WORDS) this.kill()
    else this.line.tell('change', change)
  }

  /** Resolves when all that it was told is done; one that does not say so in time is ended, and that is done too. */
  async settle(patienceMs: number): Promise<boolean> {
    try {
      await within(this.line.ask('settle', undefined), patienceMs)
      return true
    } catch {
      this.kill()
      await this.ended
      return false
    }
  }

  /** Undefined: nothing in time. */
  async report(patienceMs: number): Promise<WorkerReport | undefined> {
    if (!this.ready) return undefined
    const report = await within(this.line.ask('report', undefined), patienceMs).catch(() => undefined)
    if (report !== undefined) this.last = report
    return report
  }

  /** Cuts who is there, and ends it. */
  async close(): Promise<void> {
    await within(this.line.ask('close', undefined), WORKER_END_MS).catch(() => undefined)
    if (this.#gone) return
    if (this.#child.connected) this.#child.disconnect()
    const late = setTimeout(() => this.kill(), WORKER_END_MS)
    await this.ended
    clearTimeout(late)
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }
}

/** As `what`, and rejects with `timeout` after so many ms. */
export function within<T>(what: Promise<T>, ms: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => {
      reject(
        new TunnelError('timeout', { scope: 'process', detail: `a worker says nothing for ${ms / 1000} s` }),
      )
    }, ms)
    what.then(resolve, reject).finally(() => clearTimeout(late))
  })
}
