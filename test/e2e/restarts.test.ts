import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ask, freePort, type Got, Target, Visitor } from './visitors.ts'
import { type Gateway, heard, killed, logged, until, World } from './world.ts'

let world: World
let gateway: Gateway
beforeEach(async () => {
  world = new World()
  gateway = await world.gateway()
  await world.join('home', gateway)
})
afterEach(() => world.close())

const ANSWER: Got = { status: 200, body: 'here' }

/** Visitors who come one after the other, some at a time, until `end`. */
class Visits {
  #got: Got[] = []
  #over = false
  readonly #all: Promise<void[]>

  constructor(port: number, together: number) {
    this.#all = Promise.all(Array.from({ length: together }, () => this.#visit(port)))
  }

  /** From now on every visitor that arrives counts; those who are under way do not. */
  reckon(): void {
    this.#got = []
  }

  async end(): Promise<Got[]> {
    this.#over = true
    await this.#all
    return this.#got
  }

  async #visit(port: number): Promise<void> {
    while (!this.#over) {
      const counted = this.#got
      counted.push(await ask(port))
    }
  }
}

describe('kill -9', () => {
  it('of the client costs no visitor that comes before it is back an error', async () => {
    const web = world.with(await Target.web('here'))
    const first = await world.offer('home', ['http', String(web.port)])
    const visits = new Visits(gateway.visitors, 4)
    await killed(first.program)
    await logged(gateway.program, /route has no client/)
    visits.reckon()
    await gateway.reaches('blindgate_held_visitors', 4)
    const crowd = Array.from({ length: 40 }, () => ask(gateway.visitors))
    await gateway.reaches('blindgate_held_visitors', 44)
    await world.offer('home', ['http', String(web.port)])
    expect(await Promise.all(crowd)).toEqual(crowd.map(() => ANSWER))
    const got = await visits.end()
    expect(got.length).toBeGreaterThanOrEqual(4)
    expect(got.filter(({ status }) => status !== 200)).toEqual([])
  })

  it('of the client keeps visitors of a tcp service waiting too, with what they have sent', async () => {
    const echo = world.with(await Target.echo())
    const port = await freePort()
    const args = ['tcp', String(echo.port), '--port', String(port)]
    const first = await world.offer('home', args)
    await killed(first.program)
    await logged(gateway.program, /route has no client/)
    const visitor = (await Visitor.to(port, 'said before')).read()
    await gateway.reaches('blindgate_held_visitors', 1)
    await world.offer('home', args)
    await visitor.has('said before'.length)
    expect(visitor.text).toBe('said before')
    await visitor.echo(' and after')
    visitor.socket.end()
    expect(await visitor.closed).toBe('end')
  })

  it('of the gateway: started again where it was, the client comes back by itself and serves', async () => {
    const web = world.with(await Target.web('here'))
    const port = await freePort()
    const { program } = await world.offer('home', ['tcp', String(web.port), '--port', String(port)])
    const visitor = (await Visitor.to(port)).read()
    await killed(gateway.program)
    // The kernel ends its connections one way or the other.
    await Promise.race([visitor.closed, visitor.ended])
    visitor.socket.destroy()
    await logged(program, /lost gateway .*dialling again in/)
    const again = await world.gateway(gateway.ports)
    // The port is open before the client is back: this visitor is held.
    const held = ask(port)
    await logged(program, /connected to/, program.err.indexOf('lost gateway'))
    expect(await held).toEqual(ANSWER)
    expect(await ask(port)).toEqual(ANSWER)
    expect(program.out.split('\n').filter((line) => line !== '')).toHaveLength(1)
    expect(await again.command(['clients'])).toContain(' yes ')
  })
})

describe('SIGTERM', () => {
  /** A target that sends the first half of its answer at once and the second when told to. */
  async function download(): Promise<{ target: Target; finish: () => void }> {
    const finishers: (() => void)[] = []
    const target = world.with(
      await Target.tcp((socket) => {
        socket.write('first half, ')
        finishers.push(() => socket.end('second half'))
      }),
    )
    return { target, finish: () => finishers.forEach((finish) => finish()) }
  }

  it('to the client lets an active download finish, admits nobody new, and ends with 0', async () => {
    const { target, finish } = await download()
    const { program, port } = await world.offer('home', ['tcp', String(target.port)])
    const visitor = (await Visitor.to(port)).read()
    await visitor.has(12)
    program.signal('SIGTERM')
    await logged(program, /SIGTERM: visitors may finish/)
    await logged(gateway.program, /client drains/)
    const late = (await Visitor.to(port)).read()
    await gateway.reaches('blindgate_held_visitors', 1)
    finish()
    await visitor.ended
    expect(visitor.text).toBe('first half, second half')
    visitor.socket.end()
    expect((await program.ended).code).toBe(0)
    expect(target.sockets).toHaveLength(1)
    late.socket.destroy()
  })

  it('to the gateway lets an active download finish, admits nobody new, and ends with 0', async () => {
    const { target, finish } = await download()
    const { program, port } = await world.offer('home', ['tcp', String(target.port)])
    const visitor = (await Visitor.to(port)).read()
    await visitor.has(12)
    gateway.program.signal('SIGTERM')
    await logged(gateway.program, /draining/)
    await until('nobody new is let in', () =>
      Visitor.to(port).then(
        ({ socket }) => {
          socket.destroy()
          return 'somebody was'
        },
        () => true,
      ),
    )
    finish()
    await visitor.ended
    expect(visitor.text).toBe('first half, second half')
    visitor.socket.end()
    expect((await gateway.program.ended).code).toBe(0)
    await logged(program, /lost gateway .*dialling again/)
    program.signal('SIGTERM')
    expect((await program.ended).code).toBe(0)
  })

  it.each(['client', 'gateway'] as const)('twice to the %s cuts visitors and ends with 1', async (side) => {
    const { target } = await download()
    const { program, port } = await world.offer('home', ['tcp', String(target.port)])
    const visitor = (await Visitor.to(port)).read()
    await visitor.has(12)
    const ending = side === 'client' ? program : gateway.program
    ending.signal('SIGINT')
    await logged(ending, /SIGINT: visitors may finish/)
    ending.signal('SIGTERM')
    const { code, err } = await ending.ended
    expect(code).toBe(1)
    expect(err.trimEnd().split('\n').at(-1)).toBe(
      'blindgate: SIGTERM came twice: visitors that were still connected have been cut',
    )
    expect(await visitor.closed).toBe('reset')
  })

  it('with nobody connected ends both sides at once', async () => {
    const { program } = await world.offer('home', ['tcp', '1'])
    program.signal('SIGINT')
    expect((await program.ended).code).toBe(0)
    gateway.program.signal('SIGINT')
    expect((await gateway.program.ended).code).toBe(0)
  })

  it('bounds the drain by --drain', async () => {
    const { target } = await download()
    const { program, port } = await world.offer('home', ['tcp', String(target.port), '--drain', '100ms'])
    const visitor = (await Visitor.to(port)).read()
    await visitor.has(12)
    program.signal('SIGTERM')
    expect((await program.ended).code).toBe(0)
    expect(await visitor.closed).toBe('reset')
  })
})

it('a client started before its gateway waits for it, and one line says so', async () => {
  const web = world.with(await Target.web('here'))
  await killed(gateway.program)
  const program = world.start('home', ['http', String(web.port)])
  await logged(program, /no tunnel to .*dialling again in/)
  const again = await world.gateway(gateway.ports)
  await heard(program, 'out', /→/)
  expect(await ask(again.visitors)).toEqual(ANSWER)
  expect(program.err.match(/no tunnel to/g)).toHaveLength(1)
})
