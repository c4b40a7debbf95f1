/** What 5 000 visitors that sit still cost in memory, on each side of one tunnel. */
import { connect, createServer, type Server, type Socket } from 'node:net'
import { blindgate } from './blindgate.ts'
import type { Measurement, Settings } from './measurement.ts'
import { settledBytes } from './memory.ts'
import { nginxTwice } from './nginx.ts'
import { descriptors } from './process.ts'
import { atMost, format, type Outcome, spread } from './report.ts'
import type { Kind, System } from './systems.ts'

const VISITORS = 5_000
/** Memory per visitor on each side. */
const BAR_KIB = 14
const AIM_KIB = 10
/** Visitors per source address: a gateway bounds them, and loopback has addresses enough. */
const PER_ADDRESS = 500
const AT_ONCE = 100
const ROUNDS = 3

interface Round {
  /** KiB per visitor. */
  gateway: number
  client: number
}

export const idle5000: Measurement = {
  name: 'idle5000',
  about: `memory per visitor with ${VISITORS} idle ones through one tunnel`,
  async run(settings) {
    // This process holds both ends: the visitors and what the target accepted.
    const room = Math.floor((descriptors() - 500) / 2)
    const visitors = Math.min(VISITORS, room)
    if (visitors < VISITORS) {
      console.log(
        `  only ${visitors} visitors: raise the limit of open files first (ulimit -Hn ${2 * VISITORS + 500})`,
      )
    }
    const results: Record<string, Round[]> = {}
    for (const kind of [nginxTwice, blindgate]) {
      if (!settings.wants(kind.name)) continue
      const missing = await kind.missing()
      if (missing !== undefined) console.log(`  without ${kind.name}: ${missing}`)
      else results[kind.name] = await rounds(kind, visitors, settings)
    }
    return report(results, visitors)
  },
}

async function rounds(kind: Kind, visitors: number, settings: Settings): Promise<Round[]> {
  const found: Round[] = []
  for (let round = 1; round <= Math.min(ROUNDS, settings.rounds); round++) {
    const target = await echoTarget()
    const system = await kind.start(target.port)
    try {
      found.push(await measure(system, visitors))
      console.log(
        `  round ${round}: ${kind.name}: gateway ${found.at(-1)?.gateway.toFixed(1)}, client ${found.at(-1)?.client.toFixed(1)} KiB per visitor`,
      )
    } finally {
      await system.stop()
      target.server.close()
    }
  }
  return found
}

function report(results: Record<string, Round[]>, visitors: number): Outcome {
  const found = Object.entries(results).map(([name, each]) => ({
    name,
    gateway: spread(each.map((round) => round.gateway)),
    client: spread(each.map((round) => round.client)),
  }))
  const rows = found.map((each) => [each.name, format(each.gateway), format(each.client)])
  const ours = found.find((each) => each.name === blindgate.name)
  return {
    tables: [{ head: ['system', 'gateway KiB/visitor', 'client KiB/visitor'], rows }],
    goals: [
      ...atMost('memory per idle visitor, gateway', ours?.gateway, 'KiB', BAR_KIB, AIM_KIB),
      ...atMost('memory per idle visitor, client', ours?.client, 'KiB', BAR_KIB, AIM_KIB),
    ],
    figures: { visitors, results: found },
  }
}

async function measure(system: System, visitors: number): Promise<Round> {
  // A few come and go first: code compiled at the first visitor is no visitor's memory.
  for (const each of await open(system.port, AT_ONCE)) each.destroy()
  const before = await memory(system)
  const sockets = await open(system.port, visitors)
  const after = await memory(system)
  for (const each of sockets) each.destroy()
  return {
    gateway: (after.gateway - before.gateway) / visitors / 1024,
    client: (after.client - before.client) / visitors / 1024,
  }
}

/** Opens visitors, a few at once; each has had one byte echoed from the target. */
async function open(port: number, count: number): Promise<Socket[]> {
  const sockets: Socket[] = []
  let next = 0
  const opener = async (): Promise<void> => {
    for (let mine = next++; mine < count; mine = next++) {
      const localAddress = `127.0.0.${2 + Math.floor(mine / PER_ADDRESS)}`
      sockets.push(await visitor(port, localAddress))
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, opener))
  return sockets
}

function visitor(port: number, localAddress: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', localAddress })
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('a visitor was closed before its byte came back')))
    socket.once('data', () => {
      socket.removeAllListeners()
      // Closed by us at the end of the round, or by the system when it ends: no news either way.
      socket.on('error', () => undefined)
      resolve(socket)
    })
    socket.write('.')
  })
}

async function echoTarget(): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => socket.write(chunk))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 4096, resolve))
  const address = server.address()
  if (address === null || typeof address !== 'object') throw new Error('no address')
  return { server, port: address.port }
}

async function memory(system: System): Promise<{ gateway: number; client: number }> {
  const [gateway = Number.NaN, client = Number.NaN] = await settledBytes(system.gateway, system.client)
  return { gateway, client }
}
