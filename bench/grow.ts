/** What a request costs as the gateway has more to do with: connections, routes, tunnels. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BlindgatePair, blindgate, blindgateHosts, blindgatePair, nameOfHost } from './blindgate.ts'
import type { Measurement, Settings } from './measurement.ts'
import { httpTarget } from './nginx.ts'
import { descriptors, type Program, run, start } from './process.ts'
import { atMost, format, type Goal, type Outcome, type Spread, skip, spread } from './report.ts'
import { type Cost, costOf, type Load, line, type Sent } from './requests.ts'
import type { System } from './systems.ts'
import { withoutWrk, wrk } from './wrk.ts'

const CONNECTIONS = 2_000
const ROUTES = 1_000
const TUNNELS = 1_000
/** Time for 1 000 clients to make their keys, dial and enroll. */
const MACHINES_MS = 120_000

/** The same work with little and with much. */
interface Growth {
  readonly what: string
  readonly bar: number
  readonly aim?: number
  readonly little: Loaded
  readonly much: Loaded
}

interface Loaded {
  readonly name: string
  readonly system: System
  readonly load: Load
}

export const grow: Measurement = {
  name: 'grow',
  about: `CPU per request with ${CONNECTIONS} connections, ${ROUTES} routes, ${TUNNELS} tunnels`,
  async run(settings) {
    const missing = withoutWrk() ?? (await blindgate.missing())
    if (missing !== undefined) return skip(missing)
    if (!settings.wants(blindgate.name)) return skip('not wanted')
    const needed = 2 * CONNECTIONS + 500
    if (descriptors() < needed)
      return skip(`too few open files: raise their limit first (ulimit -Hn ${needed})`)
    const outcomes: Outcome[] = []
    for (const measure of [connections, routes, idleTunnels, manyTunnels]) {
      outcomes.push(await inWorld((world) => measure(world), settings))
    }
    return {
      tables: [{ head: HEAD, rows: outcomes.flatMap(({ tables }) => tables.flatMap(({ rows }) => rows)) }],
      goals: outcomes.flatMap(({ goals }) => goals),
      figures: outcomes.map(({ figures }) => figures),
    }
  },
}

const HEAD = ['with little', 'CPU µs/req', 'with much', 'CPU µs/req', 'ratio']

async function connections(world: World): Promise<Growth> {
  const system = await world.add(blindgatePair('tcp', world.target))
  const load = (count: number) => ({
    name: `${count} connections`,
    system,
    load: wrk({ connections: count }),
  })
  return { what: `${CONNECTIONS} connections`, bar: 1.3, aim: 1, little: load(256), much: load(CONNECTIONS) }
}

async function routes(world: World): Promise<Growth> {
  const load = async (count: number): Promise<Loaded> => {
    const system = await world.add(blindgateHosts(world.target, count))
    return { name: `${count} routes`, system, load: wrk({ connections: 64, script: world.script(count) }) }
  }
  return { what: `${ROUTES} http routes`, bar: 1.1, aim: 1, little: await load(1), much: await load(ROUTES) }
}

async function idleTunnels(world: World): Promise<Growth> {
  const load = async (idle: number): Promise<Loaded> => {
    const system = await world.add(blindgatePair('tcp', world.target))
    if (idle > 0) await world.machines(system, idle)
    return { name: `${idle} idle tunnels`, system, load: wrk({ connections: 64 }) }
  }
  const [little, much] = [await load(0), await load(TUNNELS - 1)]
  return { what: `${TUNNELS - 1} idle tunnels beside`, bar: 1.1, aim: 1, little, much }
}

async function manyTunnels(world: World): Promise<Growth> {
  const load = async (count: number): Promise<Loaded> => {
    const pair = await world.add(blindgatePair('tcp', world.target))
    const { pid, ports } = await world.machines(pair, count)
    // Those of the machines are loaded, and their process is the client; the pair's own is idle.
    const system = { ...pair, client: pid }
    return { name: `1 connection on each of ${count} tunnels`, system, load: oneOnEach(ports) }
  }
  const [little, much] = [await load(1), await load(TUNNELS)]
  return { what: `load spread over ${TUNNELS} tunnels`, bar: 1.2, aim: 1, little, much }
}

function oneOnEach(ports: readonly number[]): Load {
  return async (_port, seconds) => {
    const program = join(import.meta.dirname, 'sender.js')
    return JSON.parse(await run(process.execPath, [program, `${seconds}`, ...ports.map(String)])) as Sent
  }
}

/** What one growth is measured with: its target, and all that was started. */
class World {
  readonly target: number
  readonly #stops: (() => Promise<unknown>)[] = []

  constructor(target: number) {
    this.target = target
  }

  async add<T extends System>(starting: Promise<T>): Promise<T> {
    const system = await starting
    this.#stops.push(() => system.stop())
    return system
  }

  /** Enrolls clients at a gateway, all in one process. */
  async machines(pair: BlindgatePair, count: number): Promise<{ pid: number; ports: number[] }> {
    const invite = (await pair.invite(count)).trim()
    const args = [join(import.meta.dirname, 'machines.js'), invite, `${count}`, `127.0.0.1:${this.target}`]
    const program: Program = start(process.execPath, args)
    this.#stops.push(() => program.stop())
    return { pid: program.pid, ports: JSON.parse(await program.line(MACHINES_MS)) as number[] }
  }

  /** A script for wrk: each request asks for the next host. */
  script(count: number): string {
    const folder = mkdtempSync(join(tmpdir(), 'blindgate-bench-wrk-'))
    this.#stops.push(() => Promise.resolve(rmSync(folder, { recursive: true, force: true })))
    const path = join(folder, 'hosts.lua')
    const requests = Array.from({ length: count }, (_, index) => `get("${nameOfHost(index)}"),`)
    const lines = [
      'local function get(host) return "GET / HTTP/1.1\\r\\nHost: " .. host .. "\\r\\n\\r\\n" end',
      'local all = {',
      ...requests,
      '}',
      'local next = 0',
      'request = function() next = next % #all + 1; return all[next] end',
    ]
    writeFileSync(path, `${lines.join('\n')}\n`)
    return path
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.toReversed()) await stop()
  }
}

async function inWorld(grown: (world: World) => Promise<Growth>, settings: Settings): Promise<Outcome> {
  const target = await httpTarget()
  const world = new World(target.port)
  try {
    return await measure(await grown(world), settings)
  } finally {
    await world.stop()
    await target.stop()
  }
}

async function measure(growth: Growth, { rounds, seconds }: Settings): Promise<Outcome> {
  const { what, little, much, bar, aim } = growth
  const costs: { little: Cost; much: Cost }[] = []
  const cost = ({ system, load }: Loaded) => costOf(system, load, seconds)
  for (const each of [little, much]) await cost(each)
  for (let round = 1; round <= rounds; round++) {
    const pair = { little: await cost(little), much: await cost(much) }
    costs.push(pair)
    console.log(`  round ${round}: ${little.name}: ${line(pair.little)}; ${much.name}: ${line(pair.much)}`)
  }
  const of = (pick: (pair: { little: Cost; much: Cost }) => number): Spread => spread(costs.map(pick))
  const ratio = of((pair) => pair.much.both / pair.little.both)
  const [few, many] = [of((pair) => pair.little.both), of((pair) => pair.much.both)]
  const goals: Goal[] = atMost(`CPU per request, ${what}`, ratio, '×', bar, aim)
  return {
    tables: [{ head: HEAD, rows: [[little.name, format(few), much.name, format(many), format(ratio, 2)]] }],
    goals,
    figures: { what, little: few, much: many, ratio },
  }
}
