import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import {
  COLLECT_AGAIN,
  COLLECT_BUSY,
  COLLECT_CHECK_MS,
  COLLECT_GARBAGE_BYTES,
  COLLECT_START_MS,
} from '../limits.ts'
import { leaveHeapRoom } from './heap-room.ts'

/**
 * Collects garbage while there is nothing else to do, and lets V8 leave it alone while there is. What sockets read lies
 * outside V8's heap, where V8 sees no reason to hurry: a program that falls idle after a burst would keep all of it. A
 * download that its visitor stalls after the kernel took 5 MB of it cost 10 MB on both sides together, none of it in use;
 * five seconds later it is 3.5 or less.
 *
 * Only for a process of our own: a library does not do this to its host. Its timers keep nothing alive.
 */
export function collectWhenIdle(): void {
  let collect: (() => void) | undefined
  let kept = memoryInUse()
  leaveHeapRoom(process.memoryUsage().heapUsed)
  let before = performance.eventLoopUtilization()
  /** Collections to come: what one finds dead is freed behind the next, and given back to the system behind a third. */
  let again = 0
  // What the start has left, a tenth of all that is resident, is always worth it.
  setTimeout(() => {
    again = COLLECT_AGAIN
  }, COLLECT_START_MS).unref()
  const timer = setInterval(() => {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, before)
    before = now
    leaveHeapRoom(process.memoryUsage().heapUsed)
    if (utilization > COLLECT_BUSY) return
    const used = memoryInUse()
    kept = Math.min(kept, used)
    const worthIt = used - kept >= COLLECT_GARBAGE_BYTES
    if (!worthIt && again === 0) return
    collect ??= collector()
    collect()
    kept = memoryInUse()
    again = worthIt ? COLLECT_AGAIN : again - 1
  }, COLLECT_CHECK_MS)
  timer.unref()
}

/** V8's own. A context of its own is made for it, a megabyte. */
function collector(): () => void {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
}

function memoryInUse(): number {
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
