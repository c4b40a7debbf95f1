import { setTimeout as passed } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Load, Machine, shares } from './load.ts'
import { ask } from './visitors.ts'
import { type Gateway, logged, until, World } from './world.ts'

const world = new World()
afterAll(() => world.close())
let gateway: Gateway
let first: Machine
let second: Machine
beforeAll(async () => {
  gateway = await world.gateway()
  const invite = await gateway.command(['invite', '--uses', '2'])
  await Promise.all(['first', 'second'].map((state) => world.done(state, ['join', '-'], invite)))
  ;[first, second] = await Promise.all([Machine.start(world, 'first'), Machine.start(world, 'second')])
})

const CONNECTIONS = 8
/** Requests between two events. */
const SOME = 200

describe('two replicas under load', () => {
  it('of whose clients one is killed, started again, and then the other: no GET fails', async () => {
    const load = new Load({ port: gateway.visitors, connections: CONNECTIONS })
    for (const machine of [first, second]) {
      await load.more(SOME)
      const since = load.outcomes.length
      await machine.kill()
      await load.more(SOME)
      // Only the other one answers now.
      expect(shares(load.outcomes.slice(since + 2 * CONNECTIONS))).not.toHaveProperty(machine.target.name)
      await machine.offer()
      await load.more(SOME)
    }
    await load.end()
    expect(load.failed).toEqual([])
    expect(Object.keys(shares(load.outcomes)).toSorted()).toEqual(['first', 'second'])
    expect(await gateway.gauge('blindgate_errors_total\\{code="retried"\\}')).toBeGreaterThan(0)
  })

  it('of whose targets one is killed, started again, and then the other: no GET fails', async () => {
    const load = new Load({ port: gateway.visitors, connections: CONNECTIONS })
    for (const machine of [first, second]) {
      await load.more(SOME)
      await machine.target.kill()
      await load.more(SOME)
      await machine.target.start()
      // It is tried again a second later. Whoever is served elsewhere stays there, so somebody else has to come.
      await until(`${machine.target.name} answers`, async () => {
        const { status, body } = await ask(gateway.visitors)
        expect(status).toBe(200)
        return body.startsWith(machine.target.name) ? true : body
      })
    }
    await load.end()
    expect(load.failed).toEqual([])
  })

  it('share it, each by what it has', async () => {
    const load = new Load({ port: gateway.visitors, connections: CONNECTIONS })
    await load.more(SOME)
    await load.end()
    expect(load.failed).toEqual([])
    const { first: one = 0, second: other = 0 } = shares(load.outcomes)
    expect(Math.min(one, other) / load.outcomes.length).toBeGreaterThan(0.25)
  })

  it('have no POST twice, whoever is killed, and what was answered is what was asked', async () => {
    const load = new Load({ port: gateway.visitors, connections: CONNECTIONS, method: 'POST' })
    const machines = [first, second]
    for (const machine of machines) {
      await load.more(SOME)
      await machine.kill()
      await load.more(SOME)
      await machine.offer()
      await load.more(SOME)
      await machine.target.kill()
      await load.more(SOME)
      await machine.target.start()
    }
    await load.end()
    const reached = machines.flatMap(({ target }) => target.reached)
    expect(reached).toHaveLength(new Set(reached).size)
    const answered = load.outcomes.filter(({ what }) => what === 200)
    expect(answered.every(({ id, body }) => body.endsWith(` ${id}`))).toBe(true)
    // One that was answered ran, and one that may have run says so.
    expect(answered.map(({ id }) => id).filter((id) => !reached.includes(id))).toEqual([])
    const others = load.outcomes.filter(({ what }) => what !== 200)
    expect(others.filter(({ what }) => what !== 502)).toEqual([])
    // Of each killing no more than were under way.
    expect(others.length).toBeLessThanOrEqual(4 * CONNECTIONS)
  })
})

it('the only client killed under load and started again 3 s later: nobody who asks gets an error', async () => {
  await second.kill()
  const machine = first
  const before = new Set(machine.target.reached)
  const load = new Load({ port: gateway.visitors, connections: CONNECTIONS })
  await load.more(SOME)
  const since = gateway.program.err.length
  await machine.kill()
  await logged(gateway.program, /route has no client/, since)
  await gateway.reaches('blindgate_held_visitors', CONNECTIONS)
  const late = new Load({ port: gateway.visitors, connections: CONNECTIONS, method: 'POST' })
  await gateway.reaches('blindgate_held_visitors', 2 * CONNECTIONS)
  await passed(3_000)
  await machine.offer()
  await Promise.all([load.more(SOME), late.more(SOME)])
  await Promise.all([load.end(), late.end()])
  expect(load.failed).toEqual([])
  // Those that came while nobody was there are no different: not one byte of them had been sent.
  expect(late.failed).toEqual([])
  const reached = machine.target.reached.filter((id) => !before.has(id))
  expect(reached.toSorted()).toEqual(late.outcomes.map(({ id }) => id).toSorted())
})
