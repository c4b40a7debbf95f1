import { setTimeout as pause } from 'node:timers/promises'
import { residentBytes } from './process.ts'
import { spread } from './report.ts'

/** Resident memory of each process once all of it stands still: three looks within 1 %, for at most 15 s. */
export async function settledBytes(...pids: readonly number[]): Promise<number[]> {
  const looks: number[] = []
  for (let look = 0; look < 30; look++) {
    await pause(500)
    looks.push(pids.reduce((sum, pid) => sum + residentBytes(pid), 0))
    const { min, max } = spread(looks.slice(-3))
    if (looks.length >= 3 && max - min < max / 100) break
  }
  return pids.map(residentBytes)
}
