import { createPrivateKey } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { afterAll, expect, it } from 'vitest'
import { decodeInvite, hashSecret } from '../../src/identity/index.ts'
import { ask, Target } from './visitors.ts'
import { killed, World } from './world.ts'

const world = new World()
afterAll(() => world.close())

it('no secret is in any output or where it does not belong, and no file of a state folder is open to others', async () => {
  const debug = ['--log-level', 'debug']
  const gateway = await world.gateway(debug)
  const web = world.with(await Target.web('here'))
  const text = await gateway.command(['invite', '--uses', '2'])
  const { secret } = decodeInvite(text)

  const said: string[] = []
  const session = async (state: string, args: readonly string[], input?: string): Promise<void> => {
    const { code, out, err } = await world.run(state, [...args, ...debug], input)
    said.push(out, err)
    expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' })
  }
  await session('home', ['join', '-'], text)
  await session('home', ['join', '-'], text)
  await session('lost', ['join', text])
  const { program } = await world.offer('home', ['http', String(web.port), ...debug])
  expect(await ask(gateway.visitors)).toEqual({ status: 200, body: 'here' })
  const refused = await world.run('late', ['join', '-', ...debug], text)
  expect(refused.code).toBe(1)
  said.push(refused.out, refused.err)
  await session(gateway.state, ['clients', '--json'])
  await session(gateway.state, ['status', '--json'])
  await session(gateway.state, ['revoke', 'home'])
  await program.ended
  await killed(gateway.program)
  said.push(program.out, program.err, gateway.program.out, gateway.program.err)
  const spoken = said.join('\n')
  expect(spoken).toContain('a machine enrolled')

  const bytes = Buffer.from(secret)
  const forms = [text, bytes.toString('base64url'), bytes.toString('base64'), bytes.toString('hex')]
  const folders = ['gateway', 'home', 'lost', 'late']
  const files = folders.flatMap((folder) =>
    readdirSync(world.path(folder)).map((name) => ({ folder, name, path: world.path(folder, name) })),
  )
  const keys = files.filter(({ name }) => name.endsWith('.key'))
  expect(keys).toHaveLength(4)
  for (const { path } of keys) {
    const pem = readFileSync(path, 'utf8')
    const { d = '' } = createPrivateKey(pem).export({ format: 'jwk' })
    const raw = Buffer.from(d, 'base64url')
    forms.push(pem.split('\n')[1] ?? '', d, raw.toString('base64'), raw.toString('hex'))
  }
  expect(forms.every((form) => form.length >= 20)).toBe(true)
  for (const form of forms) expect(spoken.includes(form)).toBe(false)

  for (const folder of folders) expect(statSync(world.path(folder)).mode & 0o777).toBe(0o700)
  for (const { name, path } of files) {
    const stats = statSync(path)
    // A lock is a folder.
    const mode = stats.isDirectory() ? '700' : '600'
    expect([name, (stats.mode & 0o777).toString(8)]).toEqual([name, mode])
    if (name.endsWith('.key') || !stats.isFile()) continue
    const contents = readFileSync(path)
    for (const form of forms) expect([name, contents.includes(form)]).toEqual([name, false])
    expect([name, contents.includes(bytes)]).toEqual([name, false])
  }
  // What the gateway keeps of an invite is the hash of its secret.
  expect(readFileSync(world.path('gateway', 'gateway.json'), 'utf8')).toContain(hashSecret(secret))
})
