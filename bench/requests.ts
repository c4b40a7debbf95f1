/** Requests through several systems in turn, and what each of them cost. */
import type { Settings } from './measurement.ts'
import type { Target } from './nginx.ts'
import { format, type Table } from './report.ts'
import { cpuWhile, interleave, type Rounds } from './rounds.ts'
import type { Kind, System } from './systems.ts'

/** Sends requests to a port for so many seconds; throws if one is not answered as it must be. */
export type Load = (port: number, seconds: number) => Promise<Sent>

export interface Sent {
  readonly requests: number
  readonly perSecond: number
}

export type Cost = {
  readonly perSecond: number
  /** Microseconds of CPU per request. */
  readonly gateway: number
  readonly client: number
  readonly both: number
}

/** Measures the kinds that are wanted and there. */
export function requests(
  kinds: readonly Kind[],
  load: Load,
  settings: Settings,
  target?: () => Promise<Target>,
): Promise<Rounds<Cost>> {
  const plan = { kinds, sample: (system: System, seconds: number) => costOf(system, load, seconds), line }
  return interleave(target === undefined ? plan : { ...plan, target }, settings)
}

/** `reference` is what the last column compares with. */
export function requestsTable(rounds: Rounds<Cost>, kinds: readonly Kind[], reference: Kind): Table {
  const rows = rounds.names.map((name) => {
    const kind = kinds.find((each) => each.name === name) ?? reference
    const compared = rounds.ratio('both', kind, reference)
    return [
      ...rounds.row(name, [
        ['perSecond', 0],
        ['both', 1],
        ['gateway', 1],
        ['client', 1],
      ]),
      compared === undefined ? '' : format(compared, 2),
    ]
  })
  return { head: ['system', 'req/s', 'CPU µs/req', 'gateway', 'client', `× ${reference.name}`], rows }
}

/** One load; CPU is what both sides used from its start to its end. */
export async function costOf(system: System, load: Load, seconds: number): Promise<Cost> {
  const { result, ...cpu } = await cpuWhile(system, () => load(system.port, seconds))
  const each = (used: number) => (used / result.requests) * 1e6
  return {
    perSecond: result.perSecond,
    gateway: each(cpu.gateway),
    client: each(cpu.client),
    both: each(cpu.both),
  }
}

export function line({ perSecond, both }: Cost): string {
  return `${perSecond.toFixed(0)} req/s, ${both.toFixed(1)} µs/req`
}
