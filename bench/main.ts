/**
 * `npm run bench [-- NAME…] [--rounds N] [--seconds N] [--system NAME]`: measures, prints tables, and writes
 * build/bench.json. Without names all of it runs. Figures compare only within one run on one machine.
 *
 * `--list` says what there is to measure; `--document` measures nothing, and writes the figures of build/bench.json into
 * docs/PERFORMANCE.md.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { beside } from './beside.ts'
import { bulk } from './bulk.ts'
import { type Run, withFigures } from './document.ts'
import { grow } from './grow.ts'
import { held1000 } from './held1000.ts'
import { http1 } from './http1.ts'
import { https64 } from './https64.ts'
import { httpsnew, httpsresumed } from './httpsnew.ts'
import { idle5000 } from './idle5000.ts'
import type { Measurement, Settings } from './measurement.ts'
import { micro } from './micro.ts'
import { httpnew, tcpnew } from './newcomers.ts'
import { pass64 } from './pass64.ts'
import { show } from './report.ts'
import { rss } from './rss.ts'
import { rtt50 } from './rtt50.ts'
import { http64, tcp1, tcp64, tcp256 } from './tcp.ts'
import { workers } from './workers.ts'

const ALL: readonly Measurement[] = [
  micro,
  http1,
  tcp1,
  tcp64,
  tcp256,
  http64,
  tcpnew,
  httpnew,
  https64,
  pass64,
  httpsnew,
  httpsresumed,
  bulk,
  beside,
  rtt50,
  idle5000,
  held1000,
  workers,
  rss,
  grow,
]

const BUILD = join(import.meta.dirname, '..')
const FIGURES = join(BUILD, 'bench.json')
const DOCUMENT = join(BUILD, '..', 'docs/PERFORMANCE.md')

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '5' },
    system: { type: 'string', multiple: true },
    list: { type: 'boolean', default: false },
    document: { type: 'boolean', default: false },
  },
})
const settings: Settings = {
  rounds: Number(values.rounds),
  seconds: Number(values.seconds),
  wants: (name) => values.system === undefined || values.system.some((each) => name.startsWith(each)),
}
const names = ALL.map((each) => `  ${each.name.padEnd(12)} ${each.about}`).join('\n')
const unknown = positionals.find((name) => !ALL.some((each) => each.name === name))
if (unknown !== undefined || !(settings.rounds >= 1 && settings.seconds >= 1)) {
  const problem = unknown === undefined ? 'a number is missing' : `no measurement "${unknown}"`
  console.error(`bench: ${problem}; there are\n${names}`)
  process.exitCode = 2
} else if (values.list) console.log(names)
else if (values.document) document()
else await measure()

async function measure(): Promise<void> {
  const { rounds, seconds } = settings
  const machine = {
    cpus: cpus().length,
    model: cpus()[0]?.model ?? 'unknown',
    memory: totalmem(),
    kernel: release(),
    node: process.version,
  }
  const run: Run = { date: new Date().toISOString(), machine, rounds, seconds, results: {} }
  mkdirSync(BUILD, { recursive: true })
  for (const measurement of ALL) {
    const { name, about } = measurement
    if (positionals.length > 0 && !positionals.includes(name)) continue
    console.log(`${name}: ${about}`)
    try {
      const outcome = await measurement.run(settings)
      console.log(`${show(outcome)}\n`)
      run.results[name] = { about, ...outcome }
    } catch (error) {
      // The others are worth their hour all the same.
      console.error(`bench: ${name} failed:`, error, '\n')
      process.exitCode = 1
      run.results[name] = {
        about,
        skipped: `failed: ${error instanceof Error ? error.message : String(error)}`,
      }
    }
    // After each: a run that is broken off was not for nothing.
    writeFileSync(FIGURES, `${JSON.stringify(run, undefined, 2)}\n`)
  }
  console.log('written to build/bench.json')
}

function document(): void {
  const run = JSON.parse(readFileSync(FIGURES, 'utf8')) as Run
  writeFileSync(DOCUMENT, withFigures(readFileSync(DOCUMENT, 'utf8'), run))
  console.log('written into docs/PERFORMANCE.md')
}
