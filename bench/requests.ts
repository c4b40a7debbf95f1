/** Requests through several systems in turn, and what each of them cost. */
import type { Settings } from './measurement.ts'
import { httpTarget, type Target } from './nginx.ts'
import { cpuSeconds, find, run } from './process.ts'
import { format, type Spread, spread, table } from './report.ts'
import type { Kind, System } from './systems.ts'

/** Enough for V8 to compile what is hot, which takes 100 000 requests of http: a server runs longer than that. */
const WARM_UP_SECONDS = 8

/** Sends requests to a port for so many seconds; throws if one is not answered as it must be. */
export type Load = (port: number, seconds: number) => Promise<Sent>

export interface Sent {
  readonly requests: number
  readonly perSecond: number
}

interface Round {
  requestsPerSecond: number
  /** Microseconds of CPU per request. */
  gateway: number
  client: number
  both: number
}

export interface Result {
  readonly name: string
  readonly requestsPerSecond: Spread
  readonly gateway: Spread
  readonly client: Spread
  readonly both: Spread
}

export interface Requests {
  readonly results: readonly Result[]
  /**
   * How a system compares with another one: each round's figure to the other's of that round, so that what slows the
   * machine is in both. Undefined unless both were measured.
   */
  readonly ratio: (what: 'both' | 'requestsPerSecond', of: Kind, to: Kind) => Spread | undefined
}

/** Measures the kinds that are wanted and there, interleaved, and prints a table; `reference` is what its last column compares with. */
export async function requests(
  kinds: readonly Kind[],
  reference: Kind,
  load: Load,
  settings: Settings,
  startTarget: () => Promise<Target> = httpTarget,
): Promise<Requests> {
  const rounds = await measure(await present(kinds, settings), load, settings, startTarget)
  const results = [...rounds].map(([name, each]) => ({
    name,
    requestsPerSecond: spread(each.map((round) => round.requestsPerSecond)),
    gateway: spread(each.map((round) => round.gateway)),
    client: spread(each.map((round) => round.client)),
    both: spread(each.map((round) => round.both)),
  }))
  const ratio: Requests['ratio'] = (what, of, to) => {
    const [ours, theirs] = [rounds.get(of.name), rounds.get(to.name)]
    if (ours === undefined || theirs === undefined) return undefined
    return spread(ours.map((round, index) => round[what] / (theirs[index]?.[what] ?? Number.NaN)))
  }
  const rows = results.map((each) => {
    const kind = kinds.find(({ name }) => name === each.name) ?? reference
    const compared = ratio('both', kind, reference)
    return [
      each.name,
      format(each.requestsPerSecond, 0),
      format(each.both),
      each.gateway.median.toFixed(1),
      each.client.median.toFixed(1),
      compared === undefined ? '' : format(compared, 2),
    ]
  })
  console.log(
    `\n${table(['system', 'req/s', 'CPU µs/req', 'gateway', 'client', `× ${reference.name}`], rows)}`,
  )
  return { results, ratio }
}

/** Why wrk can send no requests; undefined if it can. */
export function withoutWrk(): string | undefined {
  return find('wrk') === undefined ? 'wrk is not on PATH: apt install wrk' : undefined
}

async function present(kinds: readonly Kind[], settings: Settings): Promise<Kind[]> {
  const there: Kind[] = []
  for (const kind of kinds) {
    if (!settings.wants(kind.name)) continue
    const missing = await kind.missing()
    if (missing === undefined) there.push(kind)
    else console.log(`  without ${kind.name}: ${missing}`)
  }
  return there
}

async function measure(
  kinds: readonly Kind[],
  load: Load,
  settings: Settings,
  startTarget: () => Promise<Target>,
): Promise<ReadonlyMap<string, readonly Round[]>> {
  const target = await startTarget()
  const systems = new Map<string, System>()
  const rounds = new Map<string, Round[]>()
  try {
    for (const kind of kinds) {
      const system = await kind.start(target.port)
      systems.set(kind.name, system)
      rounds.set(kind.name, [])
      await once(system, load, WARM_UP_SECONDS)
    }
    // Interleaved, so that a machine that slows down slows all alike.
    for (let round = 1; round <= settings.rounds; round++) {
      for (const [name, system] of systems) {
        const result = await once(system, load, settings.seconds)
        rounds.get(name)?.push(result)
        console.log(
          `  round ${round}: ${name}: ${result.requestsPerSecond.toFixed(0)} req/s, ${result.both.toFixed(1)} µs/req`,
        )
      }
    }
  } finally {
    for (const system of systems.values()) await system.stop()
    await target.stop()
  }
  return rounds
}

/** One load; CPU is what both sides used from its start to its end. */
async function once(system: System, load: Load, seconds: number): Promise<Round> {
  const before = [cpuSeconds(system.gateway), cpuSeconds(system.client)] as const
  const { requests, perSecond } = await load(system.port, seconds)
  const after = [cpuSeconds(system.gateway), cpuSeconds(system.client)] as const
  const gateway = ((after[0] - before[0]) / requests) * 1e6
  const client = ((after[1] - before[1]) / requests) * 1e6
  return { requestsPerSecond: perSecond, gateway, client, both: gateway + client }
}

export interface WrkOptions {
  readonly connections: number
  /** A new connection for each request. */
  readonly once?: boolean
  /** By TLS, asking for `localhost`. */
  readonly tls?: boolean
}

export function wrk({ connections, once, tls }: WrkOptions): Load {
  return async (port, seconds) => {
    const url = tls === true ? `https://localhost:${port}/` : `http://127.0.0.1:${port}/`
    const args = ['-t1', `-c${connections}`, `-d${seconds}s`, url]
    if (once === true) args.unshift('-H', 'Connection: close')
    const output = await run(find('wrk') ?? 'wrk', args)
    const requests = Number(/(\d+) requests in/.exec(output)?.[1])
    if (!(requests > 0) || /Socket errors|Non-2xx/.test(output))
      throw new Error(`wrk did not get what it asked for:\n${output}`)
    return { requests, perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(output)?.[1]) }
  }
}
