/** Systems measured in turn, so that a machine that slows down slows all alike. */
import type { Settings } from './measurement.ts'
import { httpTarget, type Target } from './nginx.ts'
import { cpuSeconds } from './process.ts'
import { format, type Goal, type Outcome, type Spread, spread, type Table } from './report.ts'
import { direct, type Kind, type Link, type System } from './systems.ts'

/** Enough for V8 to compile what is hot, which takes 100 000 requests of http: a server runs longer than that. */
const WARM_UP_SECONDS = 8

/** Figures of one system in one round. */
export type Sample = Readonly<Record<string, number>>

export interface Plan<T extends Sample> {
  readonly kinds: readonly Kind[]
  /** Measures once, for about so many seconds. */
  readonly sample: (system: System, seconds: number) => Promise<T>
  /** Before any round; by default a sample. */
  readonly warmUp?: (system: System, seconds: number) => Promise<unknown>
  /** The line that is printed of a sample. */
  readonly line: (sample: T) => string
  readonly target?: () => Promise<Target>
  /** Of one system, which takes away what it gave in `unlink`. */
  readonly link?: () => { link: Link; unlink: () => Promise<void> }
}

export class Rounds<T extends Sample> {
  /** Each system's samples, one a round. */
  readonly samples: ReadonlyMap<string, readonly T[]>
  /** Systems that are not in it, and why. */
  readonly without: readonly string[]

  constructor(samples: ReadonlyMap<string, readonly T[]>, without: readonly string[]) {
    this.samples = samples
    this.without = without
  }

  get names(): string[] {
    return [...this.samples.keys()]
  }

  /** Undefined: it was not measured. */
  of(name: string, key: keyof T): Spread | undefined {
    const samples = this.samples.get(name)
    return samples === undefined ? undefined : spread(samples.map((sample) => valueOf(sample, key)))
  }

  /**
   * How a system compares with another one: each round's figure to the other's of that round, so that what slows the
   * machine is in both. Undefined unless both were measured.
   */
  ratio(key: keyof T, of: Kind, to: Kind): Spread | undefined {
    const [ours, theirs] = [this.samples.get(of.name), this.samples.get(to.name)]
    if (ours === undefined || theirs === undefined) return undefined
    return spread(ours.map((sample, index) => valueOf(sample, key) / valueOf(theirs[index], key)))
  }

  /** A row of a table: the system and each figure with its spread. */
  row(name: string, figures: readonly (readonly [key: keyof T, digits: number])[]): string[] {
    const cells = figures.map(([key, digits]) => {
      const all = this.of(name, key)
      return all === undefined ? '' : format(all, digits)
    })
    return [name, ...cells]
  }

  outcome(tables: readonly Table[], goals: readonly Goal[]): Outcome {
    return { tables, goals, without: this.without, figures: this.#figures }
  }

  get #figures(): Record<string, Record<string, Spread>> {
    const all = [...this.samples].map(([name, samples]) => {
      const keys = Object.keys(samples[0] ?? {})
      return [name, Object.fromEntries(keys.map((key) => [key, this.of(name, key) as Spread]))] as const
    })
    return Object.fromEntries(all)
  }
}

function valueOf<T extends Sample>(sample: T | undefined, key: keyof T): number {
  return sample?.[key] ?? Number.NaN
}

/** Starts all that are wanted and there in front of one target, and measures them in turn. */
export async function interleave<T extends Sample>(plan: Plan<T>, settings: Settings): Promise<Rounds<T>> {
  const target = await (plan.target ?? httpTarget)()
  const running = new Map<Kind, System>()
  const samples = new Map<string, T[]>()
  const without: string[] = []
  const unlinks: (() => Promise<void>)[] = []
  /** False, and the system is out of it: it is not ours, and failed. */
  const tried = async (kind: Kind, what: () => Promise<unknown>): Promise<boolean> => {
    try {
      await what()
      return true
    } catch (error) {
      if (kind.peer !== true) throw error
      leaveOut(without, kind, error instanceof Error ? error.message : String(error))
      samples.delete(kind.name)
      const system = running.get(kind)
      running.delete(kind)
      await system?.stop()
      return false
    }
  }
  try {
    for (const kind of await present(plan.kinds, settings, without)) {
      const { link, unlink } = plan.link?.() ?? { link: direct, unlink: () => Promise.resolve() }
      unlinks.push(unlink)
      await tried(kind, async () => {
        const system = await kind.start(target.port, link)
        running.set(kind, system)
        await (plan.warmUp ?? plan.sample)(system, Math.min(WARM_UP_SECONDS, 2 * settings.seconds))
        samples.set(kind.name, [])
      })
    }
    for (let round = 1; round <= settings.rounds; round++) {
      for (const [kind, system] of running) {
        await tried(kind, async () => {
          const sample = await plan.sample(system, settings.seconds)
          samples.get(kind.name)?.push(sample)
          console.log(`  round ${round}: ${kind.name}: ${plan.line(sample)}`)
        })
      }
    }
  } finally {
    for (const system of running.values()) await system.stop()
    for (const unlink of unlinks) await unlink()
    await target.stop()
  }
  return new Rounds(samples, without)
}

async function present(kinds: readonly Kind[], settings: Settings, without: string[]): Promise<Kind[]> {
  const there: Kind[] = []
  for (const kind of kinds) {
    if (!settings.wants(kind.name)) continue
    const missing = await kind.missing()
    if (missing === undefined) there.push(kind)
    else leaveOut(without, kind, missing)
  }
  return there
}

function leaveOut(without: string[], { name }: Kind, why: string): void {
  without.push(`${name}: ${why}`)
  console.log(`  without ${name}: ${why}`)
}

/** Of each side and of both, in seconds, while something runs. */
export async function cpuWhile<T>(
  system: System,
  what: () => Promise<T>,
): Promise<{ result: T; gateway: number; client: number; both: number }> {
  const before = [cpuSeconds(system.gateway), cpuSeconds(system.client)] as const
  const result = await what()
  const gateway = cpuSeconds(system.gateway) - before[0]
  const client = cpuSeconds(system.client) - before[1]
  return { result, gateway, client, both: gateway + client }
}
