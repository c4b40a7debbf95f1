/** Visitors of all kinds at once, each as a seed has it, and what became of them. */
import { setTimeout as passed } from 'node:timers/promises'
import { Chance } from '../http1/mutations.ts'
import { type Kind, type Place, SIDES, type Side, Told } from './visits.ts'

/** A visit that takes longer hangs: stalls are seconds, and a client that is away is back within ten. */
const PATIENCE_MS = 60_000
/** Between two visits of one visitor, at most: the machine is not to be the bound. */
const PAUSE_MS = 150

/** While a client was away; without an end while it is. */
export interface Outage {
  from: number
  to: number
}

export interface CrowdOptions {
  seed: number
  size: number
  kinds: readonly Kind[]
  places: Readonly<Record<Side, Place>>
  /** Of the client that is killed. */
  outages: readonly Outage[]
}

/** A visit that came to what it must not come to. */
export interface Lost {
  kind: string
  side: Side
  why: string
}

export class Crowd {
  readonly lost: Lost[] = []
  /** By kind and side, how often each end. */
  readonly ends = new Map<string, Map<string, number>>()
  readonly #options: CrowdOptions
  readonly #lots: readonly Kind[]
  readonly #visitors: Promise<void>
  #over = false

  constructor(options: CrowdOptions) {
    this.#options = options
    this.#lots = options.kinds.flatMap((kind) => Array<Kind>(kind.weight).fill(kind))
    const visitors = Array.from({ length: options.size }, (_, index) => this.#live(index))
    this.#visitors = Promise.all(visitors).then(() => undefined)
  }

  get visits(): number {
    return [...this.ends.values()].flatMap((ends) => [...ends.values()]).reduce((sum, n) => sum + n, 0)
  }

  /** Nobody comes any more; resolves when all have left. */
  async end(): Promise<void> {
    this.#over = true
    await this.#visitors
  }

  async #live(index: number): Promise<void> {
    const chance = new Chance(this.#options.seed + index)
    while (!this.#over) {
      await passed(chance.below(PAUSE_MS))
      await this.#visit(chance.of(this.#lots), chance.of(SIDES), new Chance(chance.below(2 ** 31)))
    }
  }

  async #visit(kind: Kind, side: Side, chance: Chance): Promise<void> {
    const from = performance.now()
    let end = 'right'
    let alarm: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      alarm = setTimeout(() => reject(new Error('hangs')), PATIENCE_MS)
    })
    try {
      await Promise.race([kind.visit(this.#options.places[side], chance), late])
    } catch (error) {
      const told = error instanceof Told
      end = told ? error.what : 'lost'
      const why = error instanceof Error ? error.message : String(error)
      if (!(told && this.#excused(kind, side, from))) this.lost.push({ kind: kind.name, side, why })
    }
    clearTimeout(alarm)
    const key = `${kind.name} (${side})`
    const ends = this.ends.get(key) ?? new Map<string, number>()
    this.ends.set(key, ends.set(end, (ends.get(end) ?? 0) + 1))
  }

  /** Whoever is not served by the client that stays alone may be told that its client is gone, while it is. */
  #excused(kind: Kind, side: Side, from: number): boolean {
    const now = performance.now()
    const away = this.#options.outages.some((outage) => outage.from <= now && from <= outage.to)
    return !kind.mannered || (side !== 'stays' && away)
  }
}
