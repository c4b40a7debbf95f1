import { afterEach, describe, expect, test } from 'vitest'
import { CHANGES_LOGGED_BURST, HEALTH_BURST } from '../../src/limits.ts'
import { until } from '../net/joined.ts'
import { ANSWER, HTTP, REQUEST, status, World } from './world.ts'

const INFO = 30
let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

describe('a client that calls its target down', () => {
  test('gets no visitors until it is up: they are held', async () => {
    const running = await world.gateway()
    const home = await world.enroll(running, 'home-1', { services: [HTTP] })
    home.say({ type: 'health', name: 'web', up: false })
    home.say({ type: 'health', name: 'nothing', up: false })
    await until(async () => (await status(running)).routes[0]?.down === 1)
    expect((await status(running)).routes).toMatchObject([{ route: 'default', replicas: 0, down: 1 }])
    const visit = world.visit(running.http, REQUEST)
    await until(async () => (await status(running)).routes[0]?.held === 1)
    expect(home.visits.all).toEqual([])
    home.say({ type: 'health', name: 'web', up: true })
    const carried = await home.visits.at(0)
    carried.answer(ANSWER)
    await visit.received('here')
    expect((await status(running)).routes).toMatchObject([{ replicas: 1, down: 0 }])
  })

  test('and up again, said without end, is too much', async () => {
    const running = await world.gateway()
    const home = await world.enroll(running, 'home-1', { services: [HTTP] })
    for (let n = 0; n < HEALTH_BURST + 500; n++) home.say({ type: 'health', name: 'web', up: n % 2 === 1 })
    expect(await home.heard('reject')).toMatchObject({ code: 'overloaded', final: false })
    await home.closed
  })

  test('and up again without end does not fill the log', async () => {
    const running = await world.gateway()
    const home = await world.enroll(running, 'home-1', { services: [HTTP] })
    for (let n = 0; n < 300; n++) home.say({ type: 'health', name: 'web', up: n % 2 === 1 })
    home.say({ type: 'health', name: 'web', up: false })
    await home.register(HTTP)
    expect((await status(running)).routes).toMatchObject([{ down: 1 }])
    const said = (text: string) =>
      running.lines.all.filter(({ level, msg }) => level >= INFO && msg.includes(text)).length
    for (const text of ['target is', 'no client']) {
      expect(said(text)).toBeGreaterThan(CHANGES_LOGGED_BURST - 2)
      // A second or two may pass meanwhile.
      expect(said(text)).toBeLessThan(CHANGES_LOGGED_BURST + 20)
    }
  })

  test('leaves its visitors to the other replicas', async () => {
    const running = await world.gateway()
    const one = await world.enroll(running, 'home-1', { services: [HTTP] })
    await world.enroll(running, 'home-2', { services: [HTTP], serve: (visit) => visit.answer(ANSWER) })
    one.say({ type: 'health', name: 'web', up: false })
    await until(async () => (await status(running)).routes[0]?.down === 1)
    for (let n = 0; n < 4; n++) await world.visit(running.http, REQUEST).received('here')
    expect(one.visits.all).toEqual([])
  })
})
