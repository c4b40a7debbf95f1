import { afterEach, describe, expect, test } from 'vitest'
import { SERVICES_BURST, TRIES_PER_VISITOR, TUNNELS_PER_KEY } from '../../src/limits.ts'
import { ANSWER, freePort, HTTP, REQUEST, status, tcp, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

describe('one name that asks for everything', () => {
  test('gets so many tunnels per key, and is told; what it has goes on', async () => {
    const running = await world.gateway()
    const first = await world.enroll(running, 'm', {
      services: [HTTP],
      serve: (visit) => visit.answer(ANSWER),
    })
    const others = Array.from({ length: TUNNELS_PER_KEY - 1 }, async () =>
      (await world.dial(running, 'm')).welcome(),
    )
    await Promise.all(others)
    const tooMany = await world.dial(running, 'm')
    expect(await tooMany.heard('reject')).toMatchObject({ code: 'overloaded', final: false, retryAfter: 30 })
    await world.visit(running.http, REQUEST).received('here')
    expect(first.tunnel.closed).toBe(false)
    // One that ends makes room for one.
    first.tunnel.end()
    await first.closed
    await (await world.dial(running, 'm')).welcome()
  })

  test('is rejected when it registers more services than a name may at once', async () => {
    const running = await world.gateway()
    const client = await world.enroll(running, 'm')
    const services = Array.from({ length: 1_000 }, (_, n) => ({ name: `s${n}`, type: 'udp' as const }))
    for (let seq = 1; seq * services.length <= SERVICES_BURST + services.length; seq += 1) {
      client.say({ type: 'register', seq, services })
    }
    expect(await client.heard('reject')).toMatchObject({ code: 'overloaded', final: false })
    // A name is what is bounded: another tunnel of it finds nothing left either.
    const again = await world.dial(running, 'm', { services: services.slice(0, 900) })
    expect(await again.heard('reject')).toMatchObject({ code: 'overloaded' })
  })

  test('owns no port for a service that is refused, and the log has one line for many', async () => {
    const running = await world.gateway()
    const client = await world.enroll(running, 'm')
    const ports = await Promise.all([freePort(), freePort()])
    const fill = Array.from({ length: 50 }, (_, n) => ({
      name: `u${n}`,
      type: 'udp' as const,
    }))
    const answers = await client.register(tcp(ports[0], 'one'), tcp(ports[1], 'one'), ...fill)
    expect(answers[1]).toMatchObject({ name: 'one', error: { code: 'bad_service' } })
    expect((await status(running)).routes.map(({ route }) => route)).toEqual([`tcp:${ports[0]}`])
    const said = running.lines.all.filter(({ msg }) => /service/.test(msg))
    expect(said.filter(({ level }) => level >= 30)).toHaveLength(1)
  })

  test('has a visitor tried on a few of its clients that reach no target, and not on all of them', async () => {
    const running = await world.gateway()
    const clients = []
    for (let n = 0; n < TRIES_PER_VISITOR + 3; n += 1) {
      clients.push(
        await world.enroll(running, `m${n}`, {
          services: [HTTP],
          serve: (visit) => visit.unreached('refused'),
        }),
      )
    }
    await world.visit(running.http, REQUEST).received('502')
    expect(clients.flatMap(({ visits }) => visits.all)).toHaveLength(TRIES_PER_VISITOR)
  })
})

test('strangers get one line of the log between them, however many they are', async () => {
  const running = await world.gateway()
  for (let n = 0; n < 5; n += 1) {
    const stranger = await world.dial(running, `stranger${n}`)
    expect(await stranger.heard('reject')).toMatchObject({ code: 'unknown_client' })
    await stranger.closed
  }
  const said = running.lines.all.filter(({ msg }) => msg.startsWith('rejected'))
  expect(said.filter(({ level }) => level >= 30)).toHaveLength(1)
})
