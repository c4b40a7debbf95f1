import { afterAll, expect, it } from 'vitest'
import { ask, freePort, Relay, Target, Visitor } from './visitors.ts'
import { logged, World } from './world.ts'

const world = new World()
afterAll(() => world.close())

it('a path that swallows bytes is found within 10 s by both sides, and left at once when it is whole again', async () => {
  const gateway = await world.gateway()
  const relay = world.with(await Relay.to(gateway.clients))
  await world.join('home', gateway, ['--address', `127.0.0.1:${relay.port}`])
  const [web, echo, port] = await Promise.all([Target.web('here'), Target.echo(), freePort()])
  world.with(web)
  world.with(echo)
  const [http, tcp] = await Promise.all([
    world.offer('home', ['http', String(web.port)]),
    world.offer('home', ['tcp', String(echo.port), '--port', String(port)]),
  ])
  const visitor = (await Visitor.to(port)).read()
  await visitor.echo('before')

  const frozen = performance.now()
  relay.freeze()
  await Promise.all([
    ...[http, tcp].map(({ program }) => logged(program, /lost gateway/)),
    logged(gateway.program, /route has no client/),
    logged(gateway.program, /client gone.*silent|"silent".*client gone/),
  ])
  // Some of the 10 s have passed before: silence counts from the last byte.
  expect(performance.now() - frozen).toBeLessThan(10_500)
  expect(await visitor.closed).toBe('reset')
  await gateway.reaches('blindgate_tunnels', 0)

  const held = [ask(gateway.visitors), ask(gateway.visitors)]
  await gateway.reaches('blindgate_held_visitors', 2)
  const thawed = performance.now()
  relay.thaw()
  for (const got of await Promise.all(held)) expect(got).toEqual({ status: 200, body: 'here' })
  expect(performance.now() - thawed).toBeLessThan(6_000)
  await logged(tcp.program, /connected to/, tcp.program.err.indexOf('lost gateway'))
  await (await Visitor.to(port)).read().echo('after')
})
