import { writeFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { ask, freePort, Target, Visitor } from './visitors.ts'
import { expectFailure, type Gateway, killed, World } from './world.ts'

let world: World
let gateway: Gateway
beforeEach(async () => {
  world = new World()
  gateway = await world.gateway()
})
afterEach(() => world.close())

it('one invite for two machines makes replicas, which share visitors; a third machine finds it used up', async () => {
  const invite = await gateway.command(['invite', '--uses', '2'])
  await Promise.all(['first', 'second'].map((state) => world.done(state, ['join', '-'], invite)))
  expectFailure(await world.run('third', ['join', '-'], invite), {
    says: /invite was used up.*`blindgate clients`.*`blindgate revoke KEY`/,
  })

  const port = await freePort()
  const targets = await Promise.all([Target.echo(), Target.echo()])
  const offers = await Promise.all(
    targets.map((target, index) => {
      world.with(target)
      const state = index === 0 ? 'first' : 'second'
      return world.offer(state, ['tcp', String(target.port), '--name', 'echo', '--port', String(port)])
    }),
  )
  const visitors: Visitor[] = []
  for (const name of ['a', 'b', 'c', 'd']) {
    const visitor = (await Visitor.to(port)).read()
    await visitor.echo(name)
    visitors.push(visitor)
  }
  // Fewest active streams first.
  expect(targets.map(({ sockets }) => sockets.length)).toEqual([2, 2])

  const [dying, living] = offers
  if (dying === undefined || living === undefined) throw new Error('two clients offer it')
  await killed(dying.program)
  const gone = await Promise.race(visitors.map((visitor, index) => visitor.closed.then(() => index)))
  expect([0, 1, 2, 3]).toContain(gone)
  await gateway.reaches('blindgate_visitors', 2)
  const left = visitors.filter(({ socket }) => !socket.destroyed)
  expect(left).toHaveLength(2)
  for (const visitor of left) await visitor.echo('still here')
  const late = (await Visitor.to(port)).read()
  await late.echo('to the other one')
  expect(targets[1]?.sockets).toHaveLength(3)
})

it('a name cannot take what another owns, and is told what to do; when it is released it can', async () => {
  const file = world.path('gateway.toml')
  const grant = (name: string, hosts: string): string =>
    `[grant.${name}]\ntypes = ["http", "tcp"]\nhosts = [${hosts}]\nports = ["1024-65535"]\n`
  writeFileSync(file, grant('home', '"*"') + grant('office', ''), { mode: 0o600 })
  const shared = await world.gateway(['-c', file], { state: 'shared' })
  await world.join('home', shared, ['--name', 'home'])
  await world.join('office', shared, ['--name', 'office'])
  const web = world.with(await Target.web('here'))
  const port = await freePort()
  const tcp = ['tcp', String(web.port), '--port', String(port)]
  const { program } = await world.offer('home', tcp)

  const refused = await world.run('office', tcp)
  expectFailure(refused, { says: /belongs to another name.*`blindgate release tcp:\d+`.*\(route_taken\)$/ })
  expect(refused.out).toBe('')
  expectFailure(await world.run('office', ['http', String(web.port)]), {
    says: /outside the grant of "office": add .*.*\(not_granted\)$/,
  })
  // It stays its owner's while that is away.
  await killed(program)
  expectFailure(await world.run('office', tcp), { says: /\(route_taken\)$/ })

  expect(await shared.command(['release', `tcp:${port}`])).toBe(`released tcp:${port}, which was of "home"`)
  expect((await world.offer('office', tcp)).port).toBe(port)
  expect(await ask(port)).toEqual({ status: 200, body: 'here' })
  expectFailure(await world.run('home', tcp), { says: /\(route_taken\)$/ })
})

it('another service on a live route is a conflict, within one name too', async () => {
  await world.join('home', gateway)
  const web = world.with(await Target.web('here'))
  await world.offer('home', ['http', String(web.port)])
  expectFailure(await world.run('home', ['http', String(web.port), '--name', 'another']), {
    says: /\(route_conflict\)$/,
  })
  expect(await ask(gateway.visitors)).toEqual({ status: 200, body: 'here' })
})
