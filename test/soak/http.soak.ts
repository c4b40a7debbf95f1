import { setTimeout as passed } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Load, Machine } from '../e2e/load.ts'
import { ask } from '../e2e/visitors.ts'
import { type Gateway, until, World } from '../e2e/world.ts'

let world: World
let gateway: Gateway
let machines: [Machine, Machine]
beforeEach(async () => {
  world = new World()
  gateway = await world.gateway()
  const invite = await gateway.command(['invite', '--uses', '2'])
  await Promise.all(['first', 'second'].map((state) => world.done(state, ['join', '-'], invite)))
  machines = await Promise.all([Machine.start(world, 'first'), Machine.start(world, 'second')])
})
afterEach(() => world.close())

const MINUTE = 60_000
/** Between two kills. */
const PAUSE = 5_000

it('a minute under load, with a client or a target of two replicas killed each 5 s: no GET fails, no POST runs twice', async () => {
  const gets = new Load({ port: gateway.visitors, connections: 32 })
  const posts = new Load({ port: gateway.visitors, connections: 8, method: 'POST' })
  const until = performance.now() + MINUTE
  let kills = 0
  for (; performance.now() < until; kills++) {
    const machine = machines[kills % 2] ?? machines[0]
    await passed(PAUSE)
    if (kills % 4 < 2) {
      await machine.kill()
      await machine.offer()
    } else {
      await machine.target.kill()
      await machine.target.start()
    }
  }
  await Promise.all([gets.end(), posts.end()])
  expect(kills).toBeGreaterThan(8)
  expect(gets.outcomes.length).toBeGreaterThan(10_000)
  expect(gets.failed).toEqual([])

  const reached = machines.flatMap(({ target }) => target.reached)
  expect(reached).toHaveLength(new Set(reached).size)
  const others = posts.outcomes.filter(({ what }) => what !== 200)
  expect(others.filter(({ what }) => what !== 502)).toEqual([])
  expect(others.length).toBeLessThanOrEqual(kills * 8)
}, 180_000)

it('a minute with one client that is killed each 5 s and away for 3 s: nobody gets an error', async () => {
  const [machine, other] = machines
  await other.kill()
  await until('all go to the one that is left', async () => {
    const { body } = await ask(gateway.visitors)
    return body.startsWith('first') ? true : body
  })
  const load = new Load({ port: gateway.visitors, connections: 32 })
  for (const until = performance.now() + MINUTE; performance.now() < until; ) {
    await passed(PAUSE)
    await machine.kill()
    await passed(3_000)
    await machine.offer()
  }
  await load.end()
  expect(load.failed).toEqual([])
}, 180_000)
