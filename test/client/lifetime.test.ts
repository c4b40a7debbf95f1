import { afterEach, expect, it } from 'vitest'
import { FakeGateway } from './fake-gateway.ts'
import { World } from './world.ts'

const world = new World()
afterEach(() => world.close())

/** What keeps this process alive: sockets, and timers that are not unref'd. */
async function held(): Promise<string[]> {
  // What was closed in this turn is gone two turns later.
  for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate)
  return process.getActiveResourcesInfo().filter((name) => name === 'Timeout' || name.startsWith('TCP'))
}

it('a client keeps the process alive while it waits to dial again, and leaves nothing behind when it is closed', async () => {
  const gateway = await FakeGateway.start()
  const { client, events } = await world.client([gateway], [], { random: () => 0.999 })
  client.start()
  await client.ready()
  await gateway.close()
  await events.find(({ event }) => event === 'disconnected')
  const waiting = await held()
  await client.close()
  const after = await held()
  // What is left is the test runner's.
  expect(waiting).toEqual([...after, 'Timeout'])
  expect(after.filter((name) => name.startsWith('TCP'))).toEqual([])
})
