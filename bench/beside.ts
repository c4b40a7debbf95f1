/** How long small requests take while large downloads go through the same tunnel. */
import { BUILDS, blindgate } from './blindgate.ts'
import type { Measurement } from './measurement.ts'
import { fileTarget, nginxTwice } from './nginx.ts'
import { PEERS } from './peers.ts'
import { atMost, skip } from './report.ts'
import { interleave } from './rounds.ts'
import { download, largeFile, withoutCurl } from './transfers.ts'
import { withoutWrk, wrkWaits } from './wrk.ts'

const DOWNLOADS = 2
/** Of small requests. */
const CONNECTIONS = 8
/** How much longer the downloads go than the requests beside them: both begin at once, none may be alone. */
const LONGER_SECONDS = 1

const KINDS = [nginxTwice, blindgate, ...BUILDS, ...PEERS]

type Sample = {
  readonly p50: number
  readonly p99: number
  readonly perSecond: number
  readonly megabytes: number
}

export const beside: Measurement = {
  name: 'beside',
  about: `small requests at ${CONNECTIONS} keep-alive connections beside ${DOWNLOADS} downloads`,
  async run(settings) {
    const missing = withoutWrk() ?? withoutCurl()
    if (missing !== undefined) return skip(missing)
    const file = largeFile()
    const waits = wrkWaits({ connections: CONNECTIONS })
    try {
      const rounds = await interleave(
        {
          kinds: KINDS,
          target: () => fileTarget(file.folder),
          async sample({ port }, seconds): Promise<Sample> {
            const [{ p50, p99, perSecond }, moved] = await Promise.all([
              waits(port, seconds),
              download(port, seconds + LONGER_SECONDS, DOWNLOADS),
            ])
            return { p50, p99, perSecond, megabytes: moved.perSecond / 1e6 }
          },
          line: ({ p50, p99 }) => `p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`,
        },
        settings,
      )
      const rows = rounds.names.map((name) =>
        rounds.row(name, [
          ['p50', 2],
          ['p99', 2],
          ['perSecond', 0],
          ['megabytes', 0],
        ]),
      )
      const head = ['system', 'p50 ms', 'p99 ms', 'req/s', 'downloads MB/s']
      const ours = rounds.ratio('p99', blindgate, nginxTwice)
      const what = `p99 of small requests beside ${DOWNLOADS} downloads`
      return rounds.outcome([{ head, rows }], atMost(what, ours, `× ${nginxTwice.name}`, 0.8, 0.4))
    } finally {
      file.remove()
    }
  },
}
