/** What `npm run bench` can run. */

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
  /** Prints as it goes; gives what goes into build/bench.json. */
  run(settings: Settings): Promise<unknown>
}
