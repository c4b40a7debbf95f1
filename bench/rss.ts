/** Memory of each side: when it has started, and when it has been busy and is idle again. */
import { setTimeout as pause } from 'node:timers/promises'
import { BUILDS, blindgate, blindgateHttp } from './blindgate.ts'
import type { Measurement } from './measurement.ts'
import { settledBytes } from './memory.ts'
import { fileTarget, nginxTwice } from './nginx.ts'
import { PEERS } from './peers.ts'
import { atMost, type Goal, skip } from './report.ts'
import { interleave, type Rounds } from './rounds.ts'
import type { Kind, System } from './systems.ts'
import { download, largeFile, withoutCurl } from './transfers.ts'
import { withoutWrk, wrk } from './wrk.ts'

const IDLE_MS = 30_000
const ROUNDS = 3
const MB = 1e6

const KINDS = [nginxTwice, blindgate, ...BUILDS, blindgateHttp, ...PEERS]

type Sample = {
  /** Megabytes of each side. */
  readonly gatewayStart: number
  readonly clientStart: number
  readonly gatewayAfter: number
  readonly clientAfter: number
}

export const rss: Measurement = {
  name: 'rss',
  about: `memory at the start, and ${IDLE_MS / 1000} s after 256 connections, new connections and a download`,
  async run(settings) {
    const missing = withoutWrk() ?? withoutCurl()
    if (missing !== undefined) return skip(missing)
    const file = largeFile()
    try {
      const rounds = await interleave(
        {
          kinds: KINDS.map(startedFresh),
          target: () => fileTarget(file.folder),
          warmUp: () => Promise.resolve(),
          sample,
          line: ({ gatewayStart, clientStart, gatewayAfter, clientAfter }) =>
            `${gatewayStart.toFixed(0)} + ${clientStart.toFixed(0)} MB, then ${gatewayAfter.toFixed(0)} + ${clientAfter.toFixed(0)} MB`,
        },
        { ...settings, rounds: Math.min(ROUNDS, settings.rounds) },
      )
      const rows = rounds.names.map((name) =>
        rounds.row(name, [
          ['gatewayStart', 0],
          ['clientStart', 0],
          ['gatewayAfter', 0],
          ['clientAfter', 0],
        ]),
      )
      const head = [
        'system, MB',
        'gateway at start',
        'client at start',
        'gateway after load',
        'client after load',
      ]
      return rounds.outcome([{ head, rows }], goals(rounds))
    } finally {
      file.remove()
    }
  },
}

/** A system that is started for each sample, which ends it. */
interface Restarted extends System {
  again(): Promise<System>
}

/** Stands for a system that does not run yet. */
function startedFresh(kind: Kind): Kind {
  return {
    ...kind,
    start(target): Promise<Restarted> {
      const again = () => kind.start(target)
      return Promise.resolve({ port: 0, gateway: 0, client: 0, again, stop: () => Promise.resolve() })
    },
  }
}

async function sample(restarted: System, seconds: number): Promise<Sample> {
  const system = await (restarted as Restarted).again()
  try {
    const start = await megabytes(system)
    await wrk({ connections: 256 })(system.port, seconds)
    await wrk({ connections: 16, once: true })(system.port, seconds)
    await download(system.port, seconds)
    await pause(IDLE_MS)
    const after = await megabytes(system)
    return {
      gatewayStart: start.gateway,
      clientStart: start.client,
      gatewayAfter: after.gateway,
      clientAfter: after.client,
    }
  } finally {
    await system.stop()
  }
}

async function megabytes({ gateway, client }: System): Promise<{ gateway: number; client: number }> {
  const [ours = Number.NaN, theirs = Number.NaN] = await settledBytes(gateway, client)
  return { gateway: ours / MB, client: theirs / MB }
}

function goals(rounds: Rounds<Sample>): Goal[] {
  return [blindgate.name, blindgateHttp.name].flatMap((name) => [
    ...atMost(`${name}: gateway at start`, rounds.of(name, 'gatewayStart'), 'MB', 75, 62),
    ...atMost(`${name}: client at start`, rounds.of(name, 'clientStart'), 'MB', 75, 62),
    ...atMost(`${name}: gateway after load`, rounds.of(name, 'gatewayAfter'), 'MB', 115, 85),
    ...atMost(`${name}: client after load`, rounds.of(name, 'clientAfter'), 'MB', 115, 85),
  ])
}
