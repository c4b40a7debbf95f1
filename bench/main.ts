/**
 * `npm run bench [-- NAME…] [--rounds N] [--seconds N] [--system NAME]`: measures, prints tables, and writes
 * build/bench.json. Without names all of it runs. Figures compare only within one run on one machine.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { held1000 } from './held1000.ts'
import { http1 } from './http1.ts'
import { http64 } from './http64.ts'
import { httpnew } from './httpnew.ts'
import { https64 } from './https64.ts'
import { httpsnew, httpsresumed } from './httpsnew.ts'
import { idle5000 } from './idle5000.ts'
import type { Measurement, Settings } from './measurement.ts'
import { micro } from './micro.ts'
import { pass64 } from './pass64.ts'
import { tcp64 } from './tcp64.ts'

const ALL: readonly Measurement[] = [
  micro,
  http1,
  tcp64,
  http64,
  httpnew,
  https64,
  pass64,
  httpsnew,
  httpsresumed,
  idle5000,
  held1000,
]

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '5' },
    system: { type: 'string', multiple: true },
  },
})
const settings: Settings = {
  rounds: Number(values.rounds),
  seconds: Number(values.seconds),
  wants: (name) => values.system === undefined || values.system.some((each) => name.startsWith(each)),
}
const unknown = positionals.find((name) => !ALL.some((each) => each.name === name))
if (unknown !== undefined || !(settings.rounds >= 1 && settings.seconds >= 1)) {
  const names = ALL.map((each) => `  ${each.name.padEnd(12)} ${each.about}`).join('\n')
  console.error(
    `bench: ${unknown === undefined ? 'a number is missing' : `no measurement "${unknown}"`}; there are\n${names}`,
  )
  process.exit(2)
}

const results: Record<string, unknown> = {}
for (const measurement of ALL) {
  if (positionals.length > 0 && !positionals.includes(measurement.name)) continue
  console.log(`${measurement.name}: ${measurement.about}`)
  results[measurement.name] = await measurement.run(settings)
  console.log('')
}
const machine = {
  cpus: cpus().length,
  model: cpus()[0]?.model ?? 'unknown',
  memory: totalmem(),
  kernel: release(),
  node: process.version,
}
const folder = join(import.meta.dirname, '..')
const { rounds, seconds } = settings
mkdirSync(folder, { recursive: true })
writeFileSync(
  join(folder, 'bench.json'),
  `${JSON.stringify({ date: new Date().toISOString(), machine, rounds, seconds, results }, undefined, 2)}\n`,
)
console.log('written to build/bench.json')
