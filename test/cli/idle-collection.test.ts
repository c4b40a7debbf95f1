import { setTimeout as passed } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { collectWhenIdle } from '../../src/cli/idle-collection.ts'

const MiB = 1024 * 1024

function dead(): WeakRef<object> {
  return new WeakRef({})
}

it('a process that has just started frees what its start has left, however little', async () => {
  const left = outside()
  collectWhenIdle()
  while (left.deref() !== undefined) await passed(50)
})

it('an idle process frees the buffers that it no longer uses, though V8 is in no hurry', async () => {
  const outside = (): number => process.memoryUsage().arrayBuffers
  const before = outside()
  collectWhenIdle()
  for (let n = 0; n < 128; n++) Buffer.alloc(64 * 1024, n)
  expect(outside() - before).toBeGreaterThan(4 * MiB)
  // Nobody tells when a collection is over; without one this goes on until the test's own limit.
  while (outside() - before > 2 * MiB) await passed(50)
})
