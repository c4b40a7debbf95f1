import { createHash, randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Target, Visitor } from './visitors.ts'
import { type Gateway, World } from './world.ts'

const MiB = 1024 * 1024
const world = new World()
afterAll(() => world.close())
let gateway: Gateway
beforeAll(async () => {
  gateway = await world.gateway()
  await world.join('home', gateway)
})

/** Offers what `serve` does with each connection; gives the port and the target. */
async function offered(serve: (socket: Socket) => void): Promise<{ port: number; target: Target }> {
  const target = world.with(await Target.tcp(serve))
  const { port } = await world.offer('home', ['tcp', String(target.port)])
  return { port, target }
}

/** SHA-256 of all that comes until the end. */
async function digestOf(socket: Socket): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

describe('a connection through the whole chain', () => {
  const sent = randomBytes(4 * MiB)
  const digest = createHash('sha256').update(sent).digest('hex')

  it('carries the end of one direction: who sends 4 MB and shuts that side then gets the whole answer', async () => {
    const { port } = await offered((socket) => {
      // The answer begins when all has come.
      void digestOf(socket).then((seen) => {
        socket.write(seen)
        socket.end(sent)
      })
    })
    const visitor = await Visitor.to(port)
    visitor.socket.end(sent)
    const chunks: Buffer[] = []
    for await (const chunk of visitor.socket.iterator({ destroyOnReturn: false }))
      chunks.push(chunk as Buffer)
    const answer = Buffer.concat(chunks)
    expect(answer.subarray(0, 64).toString()).toBe(digest)
    expect(answer.subarray(64).equals(sent)).toBe(true)
    expect(await visitor.closed).toBe('end')
  })

  it('carries it the other way too: a target that ends first still gets all that the visitor sends', async () => {
    const digests: Promise<string>[] = []
    const { port } = await offered((socket) => {
      socket.end('go on')
      digests.push(digestOf(socket))
    })
    const visitor = (await Visitor.to(port)).read()
    await visitor.ended
    expect(visitor.text).toBe('go on')
    visitor.socket.end(sent)
    await visitor.closed
    expect(await digests[0]).toBe(digest)
  })

  it('carries a reset as a reset, in both directions', async () => {
    const { port, target } = await offered((socket) => socket.write('hello'))
    const first = (await Visitor.to(port)).read()
    await first.has(5)
    const [reset] = target.sockets
    reset?.resetAndDestroy()
    expect(await first.closed).toBe('reset')

    const second = (await Visitor.to(port)).read()
    await second.has(5)
    const theirs = new Visitor(await target.socket(1)).read()
    second.socket.resetAndDestroy()
    expect(await theirs.closed).toBe('reset')
  })

  it('stays when it is silent in between, and keeps the order of what 50 visitors say at once', async () => {
    const { port } = await offered((socket) => socket.pipe(socket))
    const visitors = await Promise.all(
      Array.from({ length: 50 }, async () => (await Visitor.to(port)).read()),
    )
    for (let round = 0; round < 3; round++) {
      await Promise.all(
        visitors.map((visitor, index) => visitor.echo(`${index}:${round} ${'x'.repeat(index * 40)}`)),
      )
    }
    for (const { socket } of visitors) socket.end()
    expect(await Promise.all(visitors.map(({ closed }) => closed))).toEqual(visitors.map(() => 'end'))
  })

  it('stalls when its visitor does not read, without delaying others', async () => {
    let produced = 0
    const { port } = await offered((socket) => {
      const chunk = Buffer.alloc(64 * 1024)
      const more = (): void => {
        while (!socket.destroyed) {
          produced += chunk.length
          if (!socket.write(chunk)) return
        }
      }
      socket.on('drain', more)
      more()
    })
    const echo = await offered((socket) => socket.pipe(socket))
    const stalled = await Visitor.to(port)
    stalled.socket.pause()
    const quick = (await Visitor.to(echo.port)).read()
    // What it holds back is bounded: the target stops being read.
    let before = -1
    for (let round = 0; produced !== before && round < 2_000; round++) {
      before = produced
      for (let each = 0; each < 20; each++) await quick.echo(`round ${round}/${each} `)
    }
    expect(produced).toBe(before)
    expect(produced).toBeLessThan(32 * MiB)
    stalled.socket.destroy()
  })
})
