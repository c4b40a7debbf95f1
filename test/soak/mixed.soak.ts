/**
 * Visitors of every kind for ten minutes, well-mannered and not, with one of two replicas killed again and again. Nobody is
 * lost without a word, and when all have left gateway and client are as small as after the first of them.
 * `SOAK_SECONDS` makes it shorter or longer, `SOAK_SEED` has the visitors of an earlier run come again.
 */
import { randomInt } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { setTimeout as passed } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Running } from '../cli/binary.ts'
import { type Gateway, heard, killed, until, World } from '../e2e/world.ts'
import { Chance } from '../http1/mutations.ts'
import { Crowd, type Outage } from './crowd.ts'
import { type Footprint, Watched } from './footprint.ts'
import { HTTP } from './http-visits.ts'
import { INSPECTED, Inspector } from './inspector.ts'
import { type SoakTargets, soakTargets } from './soak-targets.ts'
import { TCP } from './tcp-visits.ts'
import { STRANGERS, TLS } from './tls-visits.ts'
import { type Hosts, type Place, SIDES, type Side } from './visits.ts'

const LOAD_MS = Number(process.env['SOAK_SECONDS'] ?? 600) * 1_000
/** Code is compiled, and tables and pools are filled, by the first visitors. */
const WARM_MS = Math.min(60_000, LOAD_MS)
/** From the last visitor's end to a measurement: pools let go, the program collects, and the system has its memory back. */
const REST_MS = 20_000
/** Between two kills. */
const PAUSE_MS = 10_000
const SIZE = 48
const SEED = Number(process.env['SOAK_SEED'] ?? randomInt(2 ** 31))

const world = new World()
afterAll(() => world.close())
let gateway: Gateway
let places: Record<Side, Place>
let targets: SoakTargets
let staying: Running
let leaving: Running
let watched: Watched[]

function hostsOf(side: Side): Hosts {
  const of = (what: string): string => `${what}-${side}.example.com`
  return { http: of('http'), secure: of('secure'), passthrough: of('passthrough') }
}

/** Writes what a client offers: services of its own, and those that both have. */
function configure(own: Side): string {
  const services = [own, 'both' as const].flatMap((side) => {
    const hosts = hostsOf(side)
    const service = (name: string, ...lines: string[]): string[] => [
      '[[service]]',
      `name = "${name}-${side}"`,
      ...lines,
    ]
    return [
      ...service('tcp', 'type = "tcp"', `target = "${targets.tcp}"`),
      ...service('http', 'type = "http"', `host = "${hosts.http}"`, `target = "${targets.http}"`),
      ...service(
        'secure',
        'type = "https"',
        `host = "${hosts.secure}"`,
        'tls = "self-signed"',
        `target = "${targets.http}"`,
      ),
      ...service(
        'passthrough',
        'type = "https"',
        `host = "${hosts.passthrough}"`,
        'tls = "passthrough"',
        `target = "${targets.https}"`,
      ),
    ]
  })
  const file = world.path(`${own}.toml`)
  writeFileSync(file, `${services.join('\n')}\n`, { mode: 0o600 })
  return file
}

/** Starts a client; resolves with the ports of its tcp services, when all eight are served. */
async function offer(
  own: Side,
  env: Record<string, string> = {},
): Promise<{ program: Running; ports: number[] }> {
  const program = world.start(own, ['up', '-c', world.path(`${own}.toml`)], { env })
  await heard(program, 'out', /(?:^\S+ → \S+$\n?){8}/m)
  const ports = [...program.out.matchAll(/^tcp:\/\/\S+:(\d+) → /gm)].map(([, port]) => Number(port))
  return { program, ports }
}

beforeAll(async () => {
  targets = await soakTargets(world)
  gateway = await world.gateway(['--tls', '127.0.0.1:0'], { env: INSPECTED })
  const invite = await gateway.command(['invite', '--uses', '2'])
  for (const side of ['stays', 'leaves'] as const) {
    await world.done(side, ['join', '-'], invite)
    configure(side)
  }
  const stays = await offer('stays', INSPECTED)
  const leaves = await offer('leaves')
  staying = stays.program
  leaving = leaves.program
  const both = stays.ports.find((port) => leaves.ports.includes(port)) ?? 0
  const own = (ports: readonly number[]): number => ports.find((port) => port !== both) ?? 0
  const tcp = { stays: own(stays.ports), leaves: own(leaves.ports), both }
  const { visitors: http, tls, clients: tunnel } = gateway
  const at = (side: Side): Place => ({ http, tls, tunnel, tcp: tcp[side], hosts: hostsOf(side) })
  places = { stays: at('stays'), leaves: at('leaves'), both: at('both') }
  watched = await Promise.all(
    Object.entries({ gateway: gateway.program, client: staying }).map(
      async ([name, program]) => new Watched(name, program, world.with(await Inspector.of(program))),
    ),
  )
})

/** Visitors for so long, and kills; resolves when all have left. */
async function load(ms: number, seed: number): Promise<{ crowd: Crowd; kills: number }> {
  const outages: Outage[] = []
  const kinds = [...TCP, ...HTTP, ...TLS, ...STRANGERS]
  const crowd = new Crowd({ seed, size: SIZE, kinds, places, outages })
  const looking = setInterval(() => {
    for (const each of watched) each.look()
  }, 500)
  const chance = new Chance(seed)
  const end = performance.now() + ms
  for (;;) {
    const pause = PAUSE_MS * (0.5 + chance.below(1_000) / 1_000)
    await passed(Math.min(pause, end - performance.now()))
    if (performance.now() >= end) break
    const outage: Outage = { from: performance.now(), to: Infinity }
    outages.push(outage)
    await killed(leaving)
    await passed(chance.below(2_000))
    leaving = (await offer('leaves')).program
    outage.to = performance.now()
  }
  await crowd.end()
  clearInterval(looking)
  return { crowd, kills: outages.length }
}

const COUNTS = [
  'visitors',
  'held_visitors',
  'unread_bytes',
  'unsent_bytes',
  'unauthenticated',
  'idle_streams',
]

/** Resolves when nobody is there any more and nothing waits; then all rest. */
async function rested(): Promise<Footprint[]> {
  for (const count of COUNTS) await gateway.reaches(`blindgate_${count}`, 0)
  for (const state of [gateway.state, 'stays', 'leaves']) {
    await until(`no streams of ${state}`, async () => {
      const { streams } = JSON.parse(await world.done(state, ['status', '--json'])) as { streams: number }
      return streams === 0 ? true : `there are ${streams}`
    })
  }
  await passed(REST_MS)
  return Promise.all(watched.map((each) => each.measure()))
}

function report(text: string): void {
  process.stdout.write(`${text}\n`)
}

it(
  `${LOAD_MS / 1_000} s of every kind of visitor lose nobody without a word, and leave nothing behind`,
  async () => {
    report(`seed ${SEED}`)
    const warm = await load(WARM_MS, SEED)
    const before = await rested()
    const { crowd, kills } = await load(LOAD_MS, SEED + SIZE)
    const after = await rested()

    const ends = [...crowd.ends].toSorted(([a], [b]) => (a < b ? -1 : 1))
    for (const [kind, counts] of ends) {
      report(`${kind}: ${[...counts].map(([what, count]) => `${count} ${what}`).join(', ')}`)
    }
    report(`${crowd.visits} visits, ${kills} kills, seed ${SEED}`)
    for (const [index, { name, peak }] of watched.entries()) {
      report(`${name}, peak ${peak} MB resident`)
      report(`  before ${JSON.stringify(before[index])}`)
      report(`  after  ${JSON.stringify(after[index])}`)
    }
    expect([...warm.crowd.lost, ...crowd.lost]).toEqual([])
    // All kinds came, to all sides.
    expect(crowd.ends.size).toBe(SIDES.length * (TCP.length + HTTP.length + TLS.length + STRANGERS.length))
    for (const [index, { name }] of watched.entries()) {
      const [first, last] = [before[index], after[index]]
      if (first === undefined || last === undefined) throw new Error('not measured')
      expect(last.trimmed, `${name}: resident`).toBeLessThan(first.trimmed * 1.1)
      expect(last.heap, `${name}: heap`).toBeLessThan(first.heap * 1.1)
      expect(last.descriptors, `${name}: descriptors`).toBeLessThanOrEqual(first.descriptors)
      expect(last.resources, name).toEqual(first.resources)
    }
  },
  LOAD_MS * 2 + 300_000,
)
