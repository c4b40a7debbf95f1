import { setTimeout as passed } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { collectWhenIdle } from '../../src/cli/idle-collection.ts'

const MiB = 1024 * 1024

it('an idle process frees the buffers that it no longer uses, though V8 is in no hurry', async () => {
  const dead = (): number => process.memoryUsage().arrayBuffers
  const before = dead()
  collectWhenIdle()
  for (let n = 0; n < 128; n++) Buffer.alloc(64 * 1024, n)
  expect(dead() - before).toBeGreaterThan(4 * MiB)
  // Nobody tells when a collection is over; without one this goes on until the test's own limit.
  while (dead() - before > 2 * MiB) await passed(50)
})
