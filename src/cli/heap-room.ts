import { setFlagsFromString } from 'node:v8'
import { HEAP_GROWTH_MAX_PERCENT, HEAP_ROOM_BYTES } from '../limits.ts'

/**
 * How much garbage V8 may let the heap grow by before it marks all of it, in percent of what is in use; 0 leaves that to V8.
 *
 * V8 goes by the size of the heap, and counts what lies outside it, too. In a process with a small heap that moves hundreds
 * of megabytes each second the buffers of sockets alone pass that limit, though all of them die young: it marked its 17 MB
 * twelve times a second, a tenth of its time, and whoever waited for a small answer meanwhile waited 20 ms.
 * Beside two downloads p99 was 19–28 ms in seven runs of ten without room, and 6–8 ms in all four with it; 285–381 MB/s became 495–528.
 */
export function growthPercent(inUse: number): number {
  if (inUse >= HEAP_ROOM_BYTES) return 0
  return Math.min(HEAP_GROWTH_MAX_PERCENT, Math.ceil((100 * HEAP_ROOM_BYTES) / inUse))
}

let told = 0

/** Tells V8, which goes by it from the next time that it has marked all. `inUse`: bytes of the heap. */
export function leaveHeapRoom(inUse: number): void {
  const percent = growthPercent(inUse)
  // What is near enough is left: a flag is read by whatever collects just now.
  if (Math.abs(percent - told) * 4 <= told) return
  told = percent
  setFlagsFromString(`--heap-growing-percent=${percent}`)
}
