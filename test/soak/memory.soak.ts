import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { setTimeout as passed } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Running } from '../cli/binary.ts'
import { Target, Visitor } from '../e2e/visitors.ts'
import { type Gateway, World } from '../e2e/world.ts'

const KiB = 1024
const MiB = 1024 * KiB

let world: World
let gateway: Gateway
beforeEach(async () => {
  world = new World()
  gateway = await world.gateway()
  await world.join('home', gateway)
})
afterEach(() => world.close())

/** Resident memory of a process, bytes. */
function resident({ child }: Running): number {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * KiB
}

/** Writes until so many bytes have gone, as fast as they are taken, and ends. */
function send(socket: Socket, bytes: number): void {
  const chunk = Buffer.alloc(64 * KiB)
  let left = bytes
  const more = (): void => {
    while (left > 0) {
      left -= chunk.length
      if (!socket.write(chunk)) {
        socket.once('drain', more)
        return
      }
    }
    socket.end()
  }
  more()
}

/**
 * What the two processes grow by, at most, while nobody reads for 5 s. The first transfer of a process grows its heap
 * by some MB that the collector has not looked at yet, whoever reads: so another one, that is read, goes before.
 */
async function growth(programs: readonly Running[], stall: () => Promise<unknown>): Promise<number> {
  const sum = (): number => programs.reduce((bytes, program) => bytes + resident(program), 0)
  const before = sum()
  await stall()
  let most = 0
  for (let look = 0; look < 10; look++) {
    await passed(500)
    most = Math.max(most, sum())
  }
  return (most - before) / MiB
}

describe('512 MB that nobody reads for 5 s', () => {
  const size = 512 * MiB
  const first = 32 * MiB

  it('on their way to a visitor grow gateway and client by less than 8 MB together, and then all arrive', async () => {
    let visits = 0
    const target = world.with(await Target.tcp((socket) => send(socket, visits++ === 0 ? first : size)))
    const { program, port } = await world.offer('home', ['tcp', String(target.port)])
    const warm = (await Visitor.to(port)).read()
    await warm.ended
    warm.socket.end()
    await warm.closed
    let visitor: Visitor | undefined
    const grown = await growth([gateway.program, program], async () => {
      visitor = await Visitor.to(port)
    })
    expect(grown).toBeLessThan(8)
    await visitor?.read().ended
    expect(visitor?.received).toBe(size)
  })

  it('on their way to a target do no more', async () => {
    const target = world.with(await Target.tcp(() => undefined))
    const { program, port } = await world.offer('home', ['tcp', String(target.port)])
    const warm = (await Visitor.to(port)).read()
    send(warm.socket, first)
    const one = new Visitor(await target.socket(0)).read()
    await one.ended
    one.socket.end()
    await warm.closed
    const grown = await growth([gateway.program, program], async () => {
      send((await Visitor.to(port)).socket, size)
    })
    expect(grown).toBeLessThan(8)
    const reading = new Visitor(await target.socket(1)).read()
    await reading.ended
    expect(reading.received).toBe(size)
  })
})

describe('5 000 idle visitors on one tunnel', () => {
  it('cost at most 16 KiB each on each side, and are all still served after a while', async () => {
    const count = 5_000
    const target = world.with(await Target.echo())
    const { program, port } = await world.offer('home', ['tcp', String(target.port)])
    // Code is compiled and the heap is grown by the first of them, whoever they are.
    const first = (await Visitor.to(port)).read()
    await first.echo('first')
    const before = [gateway.program, program].map(resident)
    const visitors: Visitor[] = []
    while (visitors.length < count) {
      const some = await Promise.all(Array.from({ length: 250 }, () => Visitor.to(port)))
      await Promise.all(some.map((visitor, index) => visitor.read().echo(`visitor ${index}`)))
      visitors.push(...some)
    }
    await gateway.reaches('blindgate_visitors', count + 1)
    await passed(12_000)
    const after = [gateway.program, program].map(resident)
    const each = after.map((bytes, side) => (bytes - (before[side] ?? 0)) / count / KiB)
    for (const kibibytes of each) expect(kibibytes).toBeLessThan(16)
    for (let from = 0; from < count; from += 250) {
      await Promise.all(visitors.slice(from, from + 250).map((visitor) => visitor.echo('still here')))
    }
    for (const { socket } of [first, ...visitors]) socket.destroy()
    await gateway.reaches('blindgate_visitors', 0)
  })
})
