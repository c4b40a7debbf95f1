/** A client that is far away: what a round trip between the two sides costs visitors. */
import { connect } from 'node:net'
import { join } from 'node:path'
import { BUILDS, blindgate } from './blindgate.ts'
import { frpTcp } from './frp.ts'
import type { Measurement } from './measurement.ts'
import { fileTarget, nginxTwice } from './nginx.ts'
import { ENCRYPTING } from './peers.ts'
import { type Program, start } from './process.ts'
import { atLeast, atMost, type Goal, skip, spread, type Table } from './report.ts'
import { interleave, type Rounds } from './rounds.ts'
import type { Link } from './systems.ts'
import { download, largeFile, withoutCurl } from './transfers.ts'

const ROUND_TRIP_MS = 50
/** One round trip and 10 %. */
const WAIT_MS = 55
/** One after the other in each round; the median counts. */
const VISITORS = 20
const TOGETHER = 8

/** bore cannot be told where its server is. */
const KINDS = [nginxTwice, blindgate, ...BUILDS, ...ENCRYPTING]

type Sample = {
  /** Milliseconds from a visitor's first packet to the first byte of its answer. */
  readonly wait: number
  /** Megabytes per second of one download, and of those together. */
  readonly one: number
  readonly together: number
}

export const rtt50: Measurement = {
  name: 'rtt50',
  about: `${ROUND_TRIP_MS} ms of round trip between the sides: a new visitor, one download, ${TOGETHER} together`,
  async run(settings) {
    const missing = withoutCurl()
    if (missing !== undefined) return skip(missing)
    const file = largeFile()
    try {
      const rounds = await interleave(
        {
          kinds: KINDS,
          target: () => fileTarget(file.folder),
          link: delayed,
          async sample({ port }, seconds): Promise<Sample> {
            const waits: number[] = []
            for (let visitor = 0; visitor < VISITORS; visitor++) waits.push(await visit(port))
            const one = await download(port, seconds)
            const together = await download(port, seconds, TOGETHER)
            return {
              wait: spread(waits).median,
              one: one.perSecond / 1e6,
              together: together.perSecond / 1e6,
            }
          },
          line: ({ wait, one, together }) =>
            `${wait.toFixed(1)} ms, ${one.toFixed(0)} MB/s, together ${together.toFixed(0)} MB/s`,
        },
        settings,
      )
      return rounds.outcome([table(rounds)], goals(rounds))
    } finally {
      file.remove()
    }
  },
}

/** A relay of its own for each system. */
function delayed(): { link: Link; unlink: () => Promise<void> } {
  const relays: Program[] = []
  const link: Link = async (port) => {
    const args = [join(import.meta.dirname, 'delay.js'), `${port}`, `${ROUND_TRIP_MS / 2}`]
    const relay = start(process.execPath, args)
    relays.push(relay)
    return Number(await relay.line())
  }
  const unlink = async (): Promise<void> => {
    for (const each of relays) await each.stop()
  }
  return { link, unlink }
}

function visit(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const began = performance.now()
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    socket.on('error', reject)
    socket.on('close', () => reject(new Error('a visitor was closed before its answer')))
    socket.once('data', () => {
      resolve(performance.now() - began)
      socket.destroy()
    })
    socket.write(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`)
  })
}

function table(rounds: Rounds<Sample>): Table {
  const rows = rounds.names.map((name) =>
    rounds.row(name, [
      ['wait', 1],
      ['one', 0],
      ['together', 0],
    ]),
  )
  return { head: ['system', 'new visitor ms', 'one download MB/s', `${TOGETHER} together MB/s`], rows }
}

function goals(rounds: Rounds<Sample>): Goal[] {
  const wait = rounds.of(blindgate.name, 'wait')
  const frp = (key: 'one' | 'together') => rounds.ratio(key, blindgate, frpTcp)
  return [
    ...atMost('a new visitor', wait, 'ms', WAIT_MS),
    ...atLeast('one download', frp('one'), `× ${frpTcp.name}`, 3),
    ...atLeast(`${TOGETHER} downloads together`, frp('together'), `× ${frpTcp.name}`, 1.5),
  ]
}
