/** What `npm run bench` can run. */
import type { Outcome, Skipped } from './report.ts'

export interface Settings {
  readonly rounds: number
  /** Of load in each round. */
  readonly seconds: number
  /** Whether a system was asked for (`--system NAME`; all, if none was named). */
  wants(system: string): boolean
}

export interface Measurement {
  readonly name: string
  readonly about: string
  /** Prints how it goes; gives what is shown and written into build/bench.json. */
  run(settings: Settings): Promise<Outcome | Skipped>
}
