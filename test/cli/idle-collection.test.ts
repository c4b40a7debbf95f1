import { setTimeout as passed } from 'node:timers/promises'
import { runInNewContext } from 'node:vm'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { collectWhenIdle } from '../../src/cli/idle-collection.ts'
import { COLLECT_AGAIN, COLLECT_BUSY, COLLECT_CHECK_MS, COLLECT_GARBAGE_BYTES } from '../../src/limits.ts'

vi.mock(import('node:vm'), async (original) => {
  const vm = await original()
  return { ...vm, runInNewContext: vi.fn(vm.runInNewContext) }
})

const MiB = 1024 * 1024

it('an idle process frees the buffers that it no longer uses, though V8 is in no hurry', async () => {
  const outside = (): number => process.memoryUsage().arrayBuffers
  const before = outside()
  collectWhenIdle()
  for (let n = 0; n < 128; n++) Buffer.alloc(64 * 1024, n)
  expect(outside() - before).toBeGreaterThan(4 * MiB)
  // Nobody tells when a collection is over; without one this goes on until the test's own limit.
  while (outside() - before > 2 * MiB) await passed(50)
})

describe('collections', () => {
  const collect = vi.fn<() => void>()

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout'] })
    vi.mocked(runInNewContext).mockClear().mockReturnValueOnce(collect)
    collect.mockReset()
  })

  afterEach(() => {
    vi.restoreAllMocks()
    vi.useRealTimers()
  })

  function lives(utilization: number, heapUsed: () => number): void {
    vi.spyOn(performance, 'eventLoopUtilization').mockReturnValue({ idle: 0, active: 0, utilization })
    vi.spyOn(process, 'memoryUsage').mockImplementation(
      () => ({ heapUsed: heapUsed(), external: 0 }) as NodeJS.MemoryUsage,
    )
    collectWhenIdle()
  }

  it('free what the start has left, as soon as nothing happens, and then there are none', () => {
    lives(0, () => 10 * MiB)
    vi.advanceTimersByTime(60 * COLLECT_CHECK_MS)
    expect(collect).toHaveBeenCalledTimes(COLLECT_AGAIN)
  })

  it('come for garbage that is worth it, and as often again', () => {
    let used = 10 * MiB
    collect.mockImplementation(() => {
      used = 10 * MiB
    })
    lives(0, () => used)
    vi.advanceTimersByTime(60 * COLLECT_CHECK_MS)
    used += COLLECT_GARBAGE_BYTES
    vi.advanceTimersByTime(60 * COLLECT_CHECK_MS)
    expect(collect).toHaveBeenCalledTimes(COLLECT_AGAIN + 1 + COLLECT_AGAIN)
  })

  it('wait while there is work', () => {
    lives(COLLECT_BUSY + 0.01, () => 10 * MiB)
    vi.advanceTimersByTime(60 * COLLECT_CHECK_MS)
    expect(collect).not.toHaveBeenCalled()
    expect(runInNewContext).not.toHaveBeenCalled()
  })
})
