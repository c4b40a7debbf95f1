/** What visitors cost the gateway who wait for a client that is away, each having sent a browser's request. */
import { connect, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { blindgateHttp, blindgatePair } from './blindgate.ts'
import type { Measurement } from './measurement.ts'
import { settledBytes } from './memory.ts'
import { httpTarget } from './nginx.ts'
import { atMost, format, skip, spread } from './report.ts'
import type { System } from './systems.ts'

const VISITORS = 1_000
const BAR_MIB = 32
const AT_ONCE = 100
const ROUNDS = 3
/** Longer than anything on this machine is on its way. */
const ARRIVED_MS = 500

const MiB = 1024 * 1024

export const held1000: Measurement = {
  name: 'held1000',
  about: `memory of the gateway with ${VISITORS} held visitors`,
  async run(settings) {
    const missing = settings.wants(blindgateHttp.name) ? await blindgateHttp.missing() : 'not wanted'
    if (missing !== undefined) return skip(missing)
    const grown: number[] = []
    for (let round = 1; round <= Math.min(ROUNDS, settings.rounds); round++) {
      grown.push(await measure())
      console.log(`  round ${round}: ${((grown.at(-1) ?? 0) / MiB).toFixed(1)} MiB`)
    }
    const all = spread(grown.map((bytes) => bytes / MiB))
    const each = spread(grown.map((bytes) => bytes / VISITORS))
    const row = [blindgateHttp.name, format(all), format(each, 0)]
    return {
      tables: [{ head: ['system', 'gateway MiB', 'bytes/visitor'], rows: [row] }],
      goals: atMost(`memory of ${VISITORS} held visitors`, all, 'MiB', BAR_MIB),
      figures: { visitors: VISITORS, mebibytes: all, bytesPerVisitor: each },
    }
  },
}

async function measure(): Promise<number> {
  const target = await httpTarget()
  const system = await blindgatePair('http', target.port)
  const visitors: Socket[] = []
  try {
    await system.stopClient()
    // A few come and go first: code compiled at the first visitor is no visitor's memory.
    for (const each of await hold(system, AT_ONCE)) each.destroy()
    const [before = Number.NaN] = await settledBytes(system.gateway)
    visitors.push(...(await hold(system, VISITORS)))
    const [after = Number.NaN] = await settledBytes(system.gateway)
    const gone = visitors.filter((visitor) => visitor.bytesRead > 0 || visitor.destroyed).length
    if (gone > 0) throw new Error(`${gone} of ${VISITORS} visitors were not held`)
    return after - before
  } finally {
    for (const each of visitors) each.destroy()
    await system.stop()
    await target.stop()
  }
}

/** Visitors who have asked, a few at once, and got nothing yet. */
async function hold(system: System, count: number): Promise<Socket[]> {
  const sockets: Socket[] = []
  while (sockets.length < count) {
    const some = Array.from({ length: Math.min(AT_ONCE, count - sockets.length) }, () => ask(system.port))
    sockets.push(...(await Promise.all(some)))
  }
  await pause(ARRIVED_MS)
  return sockets
}

function ask(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
      // Closed by us at the end of the round, or by the system when it ends: no news either way.
      socket.on('error', () => undefined)
      socket.resume()
      socket.write(browserHead(port), () => resolve(socket))
    })
  })
}

/** Some 800 bytes, as browsers send them. */
function browserHead(port: number): string {
  const lines = [
    'GET /shop/articles/42?utm_source=newsletter&utm_medium=email HTTP/1.1',
    `Host: 127.0.0.1:${port}`,
    'Connection: keep-alive',
    'sec-ch-ua: "Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"',
    'sec-ch-ua-mobile: ?0',
    'sec-ch-ua-platform: "Linux"',
    'Upgrade-Insecure-Requests: 1',
    'User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36',
    'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8',
    'Sec-Fetch-Site: same-origin',
    'Sec-Fetch-Mode: navigate',
    'Sec-Fetch-User: ?1',
    'Sec-Fetch-Dest: document',
    `Referer: http://127.0.0.1:${port}/shop/`,
    'Accept-Encoding: gzip, deflate, br, zstd',
    'Accept-Language: en-GB,en;q=0.9,de;q=0.8',
    'Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark',
  ]
  return `${lines.join('\r\n')}\r\n\r\n`
}
