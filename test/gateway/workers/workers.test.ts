import type { ChildProcess } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { GatewaySettings } from '../../../src/config/index.ts'
import { Authority } from '../../../src/gateway/authority.ts'
import type { Store } from '../../../src/gateway/store.ts'
import { Workers } from '../../../src/gateway/workers/workers.ts'
import { WORKER_ANSWER_MS, WORKER_PAUSE_MS } from '../../../src/limits.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

interface Frame {
  word: string
  ask?: number
}

/** A process that answers what it is asked, but for the words that it keeps to itself. */
class Child extends EventEmitter {
  readonly pid: number
  readonly connected = true
  readonly heard: string[] = []
  readonly #silent: Set<string>
  served = 0

  constructor(pid: number, silent: readonly string[] = []) {
    super()
    this.pid = pid
    this.#silent = new Set(silent)
  }

  send({ word, ask }: Frame, _handle: unknown, _options: unknown, sent: (error: null) => void): boolean {
    this.heard.push(word)
    sent(null)
    if (ask === undefined || this.#silent.has(word)) return true
    const about = word === 'report' ? this.#report() : undefined
    setImmediate(() => this.emit('message', { to: ask, about }))
    return true
  }

  #report(): unknown {
    const gauges = [{ name: 'served', type: 'counter', help: '', values: [{ value: this.served }] }]
    const nothing = { tunnels: [], routes: [], streams: 0, errors: new Map() }
    return { ...nothing, bytes: { in: this.served, out: 0 }, gauges, residentBytes: 0, cpuSeconds: 0 }
  }

  hang(word: string): void {
    this.#silent.add(word)
  }

  kill(): boolean {
    setImmediate(() => this.emit('exit', null, 'SIGKILL'))
    return true
  }

  disconnect(): void {
    this.kill()
  }
}

/** `make` is asked for each process; it may throw. */
function workersOf(count: number, make: (pid: number) => Child): { workers: Workers; children: Child[] } {
  const children: Child[] = []
  let pid = 0
  const workers = new Workers({
    settings: { workers: count, memoryBytes: 1_000, listen: { http: { port: 0 } } } as GatewaySettings,
    identity: { pin: 'sha256:gateway' } as never,
    version: '0',
    store: {
      authority: new Authority(undefined, undefined),
      host: undefined,
      saveSoon: vi.fn(),
    } as unknown as Store,
    fork() {
      pid += 1
      const child = make(pid)
      children.push(child)
      return child as unknown as ChildProcess
    },
    log: pino({ level: 'silent' }),
  })
  return { workers, children }
}

async function begun(workers: Workers): Promise<void> {
  const begins = workers.begin()
  await vi.advanceTimersByTimeAsync(1)
  await begins
}

async function closed(workers: Workers): Promise<void> {
  const closes = workers.close()
  await vi.advanceTimersByTimeAsync(1)
  await closes
}

async function rowsOf(workers: Workers): Promise<{ worker: number; pid: number }[]> {
  const report = workers.report()
  await vi.advanceTimersByTimeAsync(1)
  return (await report).workers.map(({ worker, pid }) => ({ worker, pid }))
}

describe('a worker', () => {
  it('that ends while it is asked how it is counts once, and so do all others', async () => {
    const { workers, children } = workersOf(2, (pid) => new Child(pid))
    await begun(workers)
    for (const child of children) child.served = 10
    await rowsOf(workers)
    children[0]?.hang('report')
    const report = workers.report()
    await vi.advanceTimersByTimeAsync(WORKER_ANSWER_MS / 2)
    for (const child of children) child.emit('exit', 1, null)
    await vi.advanceTimersByTimeAsync(WORKER_ANSWER_MS)
    const { sum } = await report
    expect(sum.bytes.in).toBe(20)
    expect(sum.gauges).toMatchObject([{ name: 'served', values: [{ value: 20 }] }])
    await closed(workers)
  })

  it('that ends while others have yet to begin is replaced when they have', async () => {
    const { workers, children } = workersOf(2, (pid) => new Child(pid, pid === 2 ? ['begin'] : []))
    const begins = workers.begin()
    await vi.advanceTimersByTimeAsync(1)
    children[0]?.emit('exit', 1, null)
    await vi.advanceTimersByTimeAsync(1)
    children[1]?.emit('message', { to: 1 })
    await vi.advanceTimersByTimeAsync(1)
    await begins
    expect(await rowsOf(workers)).toEqual([{ worker: 2, pid: 2 }])
    await vi.advanceTimersByTimeAsync(WORKER_PAUSE_MS + 1)
    expect(await rowsOf(workers)).toEqual([
      { worker: 1, pid: 3 },
      { worker: 2, pid: 2 },
    ])
    await closed(workers)
  })

  it('for which the system has no memory is tried again', async () => {
    const { workers, children } = workersOf(1, (pid) => {
      if (pid === 2) throw new Error('spawn ENOMEM')
      return new Child(pid)
    })
    await begun(workers)
    children[0]?.emit('exit', null, 'SIGKILL')
    await vi.advanceTimersByTimeAsync(WORKER_PAUSE_MS + 1)
    expect(await rowsOf(workers)).toEqual([])
    const { gauges } = await workers.report()
    const up = gauges.find(({ name }) => name === 'blindgate_worker_up')
    expect(up?.values).toEqual([{ labels: { worker: '1' }, value: 0 }])
    await vi.advanceTimersByTimeAsync(2 * WORKER_PAUSE_MS + 1)
    expect(await rowsOf(workers)).toEqual([{ worker: 1, pid: 3 }])
    await closed(workers)
  })
})
