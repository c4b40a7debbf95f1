/** The command that has a certificate revoked, on the state of a client, at a CA of the test's own. */
import { chmodSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { FakeCa } from '../acme/fake-ca.ts'
import { newState, run } from '../acme/world.ts'
import { lastLine, Workshop } from './binary.ts'

const workshop = new Workshop()
let ca: FakeCa

beforeAll(async () => {
  ca = await FakeCa.start()
})
afterAll(async () => {
  await ca.close()
  await workshop.close()
})

it('revokes, says what happens next, and fails where there is nothing to revoke', async () => {
  const state = await newState()
  const settings = { directory: ca.directory, ca: ca.authority.root }
  const challenges = { offer: () => Promise.resolve(() => undefined) }
  const client = run({ state, settings, challenges, hosts: ['a.example', 'b.example'] })
  await client.certificate()
  await client.close()
  const [config, root] = [workshop.path('blindgate.toml'), workshop.path('root.pem')]
  const command = ['revoke-certificate', 'web', '--state', state.path]
  const homeless = await workshop.run(command)
  expect(homeless).toMatchObject({ code: 1, out: '' })
  expect(lastLine(homeless.err)).toMatch(
    /does not prove to be itself .*no blindgate\.toml here: .* -c FILE\)$/,
  )
  writeFileSync(root, ca.authority.root)
  writeFileSync(config, `[acme]\nca_file = "root.pem"\n`)
  chmodSync(config, 0o600)

  // Without the file's root the CA is a stranger: nothing is revoked, and nothing removed.
  const stranger = await workshop.run([...command, '-c', workshop.path('none.toml')])
  expect(stranger).toMatchObject({ code: 1, out: '' })
  expect(await state.names('certificate-', '.pem')).toEqual(['certificate-web.pem'])

  // blindgate.toml of the folder that it runs in.
  expect(await workshop.run(command)).toEqual({
    code: 0,
    out:
      'revoked the certificate of "web" for a.example, b.example\n' +
      'it is served no more: a client that runs orders another within seconds, one that is started at its start\n',
    err: '',
  })
  const asked = ca.asked.filter(({ resource }) => resource === 'revokeCert')
  expect(asked).toEqual([
    expect.objectContaining({
      header: expect.objectContaining({ kid: `${ca.origin}/account/1`, alg: 'ES256' }) as unknown,
      payload: { certificate: expect.stringMatching(/^MII[\w-]+$/) as unknown },
    }),
  ])

  const again = await workshop.run([...command, '-c', config])
  expect(again).toMatchObject({ code: 1, out: '' })
  expect(lastLine(again.err)).toBe(
    'blindgate: service "web" has no certificate to revoke: there is none in this state',
  )
})
