import { afterEach, beforeEach, expect, it } from 'vitest'
import { ask, type Got, Target } from '../e2e/visitors.ts'
import { type Gateway, killed, logged, type Offered, World } from '../e2e/world.ts'

let world: World
let gateway: Gateway
beforeEach(async () => {
  world = new World()
  gateway = await world.gateway()
  await world.join('home', gateway)
})
afterEach(() => world.close())

const ROUNDS = 10

it('ten times kill -9 of the client and 3 s without it cost no visitor that comes meanwhile an error', async () => {
  const web = world.with(await Target.web('here'))
  const offer = (): Promise<Offered> => world.offer('home', ['http', String(web.port)])
  let client = await offer()
  let failed: Got[] = []
  let visits = 0
  for (let round = 0; round < ROUNDS; round++) {
    const told = gateway.program.err.length
    await killed(client.program)
    await logged(gateway.program, /route has no client/, told)
    const waiting: Promise<Got>[] = []
    const until = performance.now() + 3_000
    while (performance.now() < until) {
      waiting.push(ask(gateway.visitors))
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    client = await offer()
    const got = await Promise.all(waiting)
    visits += got.length
    failed = [...failed, ...got.filter(({ status }) => status !== 200)]
  }
  expect(visits).toBeGreaterThan(ROUNDS * 30)
  expect(failed).toEqual([])
})

it('ten times kill -9 of the gateway: the client is back within the time for which visitors are held', async () => {
  const web = world.with(await Target.web('here'))
  const { program } = await world.offer('home', ['http', String(web.port)])
  for (let round = 0; round < ROUNDS; round++) {
    await killed(gateway.program)
    gateway = await world.gateway(gateway.ports)
    expect(await ask(gateway.visitors)).toEqual({ status: 200, body: 'here' })
  }
  expect(program.child.exitCode).toBe(null)
})
