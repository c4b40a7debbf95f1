import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { growthPercent } from '../../src/cli/heap-room.ts'
import { HEAP_GROWTH_MAX_PERCENT, HEAP_ROOM_BYTES } from '../../src/limits.ts'

const MiB = 1024 * 1024

describe('the garbage that V8 may let lie', () => {
  it('is room for what sockets leave behind, however small the heap is', () => {
    for (const inUse of [12 * MiB, 16 * MiB, 40 * MiB, 95 * MiB]) {
      const room = (inUse * growthPercent(inUse)) / 100
      expect(room).toBeGreaterThanOrEqual(HEAP_ROOM_BYTES)
      expect(room).toBeLessThan(HEAP_ROOM_BYTES + inUse / 50)
    }
    expect(growthPercent(1 * MiB)).toBe(HEAP_GROWTH_MAX_PERCENT)
  })

  it('is what V8 says where the heap is large', () => {
    expect(growthPercent(HEAP_ROOM_BYTES)).toBe(0)
    expect(growthPercent(1024 * MiB)).toBe(0)
  })

  it('is told by a flag that this V8 knows', () => {
    const known = execFileSync(process.execPath, ['--v8-options'], { encoding: 'utf8' })
    expect(known).toContain('--heap-growing-percent ')
  })
})
