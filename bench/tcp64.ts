/** CPU per request of both sides, at 64 keep-alive connections of small requests, beside two nginx hops. */

import type { Measurement, Settings } from './measurement.ts'
import { cpuSeconds, find, run } from './process.ts'
import { bar, format, spread, table } from './report.ts'
import { blindgate, httpTarget, type Kind, nginxTwice, type System } from './systems.ts'

const CONNECTIONS = 64
/** Of the reference's CPU per request. */
const BAR = 1.3
const WARM_UP_SECONDS = 2

interface Round {
  requestsPerSecond: number
  /** Microseconds of CPU per request. */
  gateway: number
  client: number
  both: number
}

export const tcp64: Measurement = {
  name: 'tcp64',
  about: `CPU per request at ${CONNECTIONS} keep-alive connections`,
  async run(settings) {
    if (find('wrk') === undefined) return skip('wrk is not on PATH: apt install wrk')
    const kinds: Kind[] = []
    for (const kind of [nginxTwice, blindgate]) {
      if (!settings.wants(kind.name)) continue
      const missing = await kind.missing()
      if (missing === undefined) kinds.push(kind)
      else console.log(`  without ${kind.name}: ${missing}`)
    }
    return measure(kinds, settings)
  },
}

async function measure(kinds: readonly Kind[], settings: Settings): Promise<Record<string, unknown>> {
  const target = await httpTarget()
  const systems = new Map<string, System>()
  const rounds = new Map<string, Round[]>()
  try {
    for (const kind of kinds) {
      const system = await kind.start(target.port)
      systems.set(kind.name, system)
      rounds.set(kind.name, [])
      await load(system, WARM_UP_SECONDS)
    }
    // Interleaved, so that a machine that slows down slows all alike.
    for (let round = 1; round <= settings.rounds; round++) {
      for (const [name, system] of systems) {
        const result = await load(system, settings.seconds)
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
  return report(rounds)
}

function report(rounds: ReadonlyMap<string, readonly Round[]>): Record<string, unknown> {
  const reference = rounds.get(nginxTwice.name)
  const base = spread(reference?.map((each) => each.both) ?? []).median
  const results = [...rounds].map(([name, each]) => ({
    name,
    requestsPerSecond: spread(each.map((round) => round.requestsPerSecond)),
    gateway: spread(each.map((round) => round.gateway)),
    client: spread(each.map((round) => round.client)),
    both: spread(each.map((round) => round.both)),
    // Of each round to the reference's of that round.
    ratio: spread(each.map((round, index) => round.both / (reference?.[index]?.both ?? Number.NaN))),
  }))
  const rows = results.map((each) => [
    each.name,
    format(each.requestsPerSecond, 0),
    format(each.both),
    each.gateway.median.toFixed(1),
    each.client.median.toFixed(1),
    Number.isNaN(base) ? '' : format(each.ratio, 2),
  ])
  console.log(`\n${table(['system', 'req/s', 'CPU µs/req', 'gateway', 'client', '× nginx'], rows)}`)
  const ours = results.find((each) => each.name === blindgate.name)
  if (ours !== undefined && !Number.isNaN(base))
    console.log(bar('CPU per request', ours.ratio.median, BAR, '× nginx'))
  return { connections: CONNECTIONS, bar: BAR, results }
}

/** One load by wrk; CPU is what both sides used from its start to its end. */
async function load(system: System, seconds: number): Promise<Round> {
  const before = [cpuSeconds(system.gateway), cpuSeconds(system.client)] as const
  const args = ['-t1', `-c${CONNECTIONS}`, `-d${seconds}s`, `http://127.0.0.1:${system.port}/`]
  const output = await run(find('wrk') ?? 'wrk', args)
  const after = [cpuSeconds(system.gateway), cpuSeconds(system.client)] as const
  const requests = Number(/(\d+) requests in/.exec(output)?.[1])
  if (!(requests > 0) || /Socket errors|Non-2xx/.test(output))
    throw new Error(`wrk did not get what it asked for:\n${output}`)
  const [gateway, client] = [after[0] - before[0], after[1] - before[1]].map(
    (each) => (each / requests) * 1e6,
  )
  return {
    requestsPerSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(output)?.[1]),
    gateway: gateway ?? Number.NaN,
    client: client ?? Number.NaN,
    both: (gateway ?? Number.NaN) + (client ?? Number.NaN),
  }
}

function skip(reason: string): Record<string, unknown> {
  console.log(`  not measured: ${reason}`)
  return { skipped: reason }
}
