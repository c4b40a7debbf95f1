/** One large transfer: how fast, and at what CPU per gigabyte, each way. */
import { BUILDS, blindgate } from './blindgate.ts'
import { frpTcp } from './frp.ts'
import type { Measurement, Settings } from './measurement.ts'
import { fileTarget, nginxTwice, type Target } from './nginx.ts'
import { PEERS } from './peers.ts'
import { atLeast, atMost, type Goal, skip, type Table } from './report.ts'
import { cpuWhile, interleave, type Rounds } from './rounds.ts'
import { download, largeFile, type Moved, sinkTarget, upload, withoutCurl } from './transfers.ts'

const KINDS = [nginxTwice, blindgate, ...BUILDS, ...PEERS]

type Sample = {
  /** Megabytes (10^6) per second. */
  readonly megabytes: number
  /** Milliseconds of CPU of both sides per gigabyte (10^9). */
  readonly gateway: number
  readonly client: number
  readonly cpu: number
}

export const bulk: Measurement = {
  name: 'bulk',
  about: 'one download, and one upload',
  async run(settings) {
    const missing = withoutCurl()
    if (missing !== undefined) return skip(missing)
    const file = largeFile()
    try {
      const down = await measure('download', download, () => fileTarget(file.folder), settings)
      const send = (port: number, seconds: number) => upload(port, seconds, file.path)
      const up = await measure('upload', send, sinkTarget, settings)
      return {
        tables: [table('download', down), table('upload', up)],
        goals: [...goals('download', down), ...goals('upload', up)],
        without: down.without,
        figures: { download: down.outcome([], []).figures, upload: up.outcome([], []).figures },
      }
    } finally {
      file.remove()
    }
  },
}

function measure(
  way: string,
  move: (port: number, seconds: number) => Promise<Moved>,
  target: () => Promise<Target>,
  settings: Settings,
): Promise<Rounds<Sample>> {
  const line = ({ megabytes, cpu }: Sample) => `${way}: ${megabytes.toFixed(0)} MB/s, ${cpu.toFixed(0)} ms/GB`
  return interleave(
    {
      kinds: KINDS,
      target,
      line,
      async sample(system, seconds): Promise<Sample> {
        const { result, ...cpu } = await cpuWhile(system, () => move(system.port, seconds))
        const each = (used: number) => (used * 1000) / (result.bytes / 1e9)
        const megabytes = result.perSecond / 1e6
        return { megabytes, gateway: each(cpu.gateway), client: each(cpu.client), cpu: each(cpu.both) }
      },
    },
    settings,
  )
}

function table(way: string, rounds: Rounds<Sample>): Table {
  const rows = rounds.names.map((name) =>
    rounds.row(name, [
      ['megabytes', 0],
      ['cpu', 0],
      ['gateway', 0],
      ['client', 0],
    ]),
  )
  return { head: [way, 'MB/s', 'CPU ms/GB', 'gateway', 'client'], rows }
}

function goals(way: string, rounds: Rounds<Sample>): Goal[] {
  const [nginx, frp] = [`× ${nginxTwice.name}`, `× ${frpTcp.name}`]
  return [
    ...atLeast(`${way}, MB/s`, rounds.ratio('megabytes', blindgate, nginxTwice), nginx, 0.5, 0.7),
    ...atLeast(`${way}, MB/s`, rounds.ratio('megabytes', blindgate, frpTcp), frp, 1.05),
    ...atMost(`${way}, CPU/GB`, rounds.ratio('cpu', blindgate, frpTcp), frp, 0.9, 0.7),
  ]
}
