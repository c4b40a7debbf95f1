import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join as joinPath } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { join, joinedGateways } from '../../src/client/index.ts'
import { createIdentity, type Invite, newSecret } from '../../src/identity/index.ts'
import { openState, type State } from '../../src/state/index.ts'
import type { FakeGateway } from './fake-gateway.ts'
import { recordingLog, World } from './world.ts'

const world = new World()
afterEach(() => world.close())

async function stateFolder(): Promise<State> {
  const path = mkdtempSync(joinPath(tmpdir(), 'bg-join-'))
  world.later(() => Promise.resolve(rmSync(path, { recursive: true })))
  return openState(path)
}

const inviteOf = (gateway: FakeGateway): Invite => ({
  addresses: [gateway.address],
  pin: gateway.pin,
  name: 'home',
  secret: newSecret(),
})

async function joining(state: State, invite: Invite, replace?: boolean) {
  const { log } = recordingLog()
  const identity = createIdentity()
  return join({
    invite,
    identity,
    instance: 'i',
    state,
    version: '0',
    log,
    ...(replace === undefined ? {} : { replace }),
  })
}

describe('join', () => {
  it('enrolls by the secret and pins the gateway under the name that the gateway says', async () => {
    const [gateway, state] = [await world.gateway(), await stateFolder()]
    gateway.answer = (tunnel) => tunnel.welcome({ name: 'office' })
    const invite = inviteOf(gateway)
    const entry = { addresses: [gateway.address], pin: gateway.pin, name: 'office' }
    expect(await joining(state, invite)).toEqual(entry)
    expect(await joinedGateways(state)).toEqual([entry])
    const { hello, closed } = await gateway.tunnel()
    expect(hello.enroll?.secret).toBe(Buffer.from(invite.secret).toString('base64url'))
    expect(hello.services).toEqual([])
    expect((await closed).code).toBe('closed')
  })

  it('remembers the domain that the invite names, below which services may be', async () => {
    const [gateway, state] = [await world.gateway(), await stateFolder()]
    await joining(state, { ...inviteOf(gateway), domain: 'example.com' })
    expect(await joinedGateways(state)).toMatchObject([{ domain: 'example.com' }])
    // By an invite that names none, it has none any more.
    await joining(state, inviteOf(gateway))
    expect((await joinedGateways(state))[0]).not.toHaveProperty('domain')
  })

  it('again changes nothing', async () => {
    const [gateway, state] = [await world.gateway(), await stateFolder()]
    await joining(state, inviteOf(gateway))
    await joining(state, inviteOf(gateway))
    expect(await joinedGateways(state)).toHaveLength(1)
  })

  it('sends nothing to a gateway with another key than the invite’s', async () => {
    const [gateway, state] = [await world.gateway(), await stateFolder()]
    const { pin } = createIdentity()
    await expect(joining(state, { ...inviteOf(gateway), pin })).rejects.toMatchObject({ code: 'wrong_pin' })
    expect(gateway.bytesRead).toBe(0)
    expect(await joinedGateways(state)).toEqual([])
  })

  it('writes nothing when it is refused, and says why', async () => {
    const [gateway, state] = [await world.gateway(), await stateFolder()]
    gateway.answer = (tunnel) => {
      tunnel.send({ type: 'reject', code: 'invite_used', message: 'by key sha256:abc', final: true })
      tunnel.tunnel.end()
    }
    await expect(joining(state, inviteOf(gateway))).rejects.toMatchObject({
      code: 'invite_used',
      message: expect.stringMatching(/blindgate revoke KEY.*sha256:abc/) as string,
    })
    expect(await joinedGateways(state)).toEqual([])
  })

  it('accepts another key at a known address only on purpose, before it dials', async () => {
    const [old, other, state] = [await world.gateway(), await world.gateway(), await stateFolder()]
    await joining(state, inviteOf(old))
    const moved = { ...inviteOf(other), addresses: [old.address, other.address] }
    await expect(joining(state, moved)).rejects.toMatchObject({
      code: 'wrong_pin',
      message: expect.stringContaining('--replace') as string,
    })
    expect([old.connections, other.connections]).toEqual([1, 0])
    await old.close()
    await joining(state, moved, true)
    expect((await joinedGateways(state)).map(({ pin }) => pin)).toEqual([other.pin])
  })

  it('keeps other gateways', async () => {
    const [one, two, state] = [await world.gateway(), await world.gateway(), await stateFolder()]
    await joining(state, inviteOf(one))
    await joining(state, inviteOf(two))
    expect((await joinedGateways(state)).map(({ pin }) => pin)).toEqual([one.pin, two.pin])
  })
})
