import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { afterAll, describe, expect, it } from 'vitest'
import { lastLine, Workshop } from '../cli/binary.ts'

const workshop = new Workshop()
afterAll(() => workshop.close())

const PORTS = ['--http', '127.0.0.1:0', '--tunnel', '127.0.0.1:0']

/** Its folders go where this says, so that other demos on this machine do not matter. */
const env = { TMPDIR: workshop.folder }

function leftovers(): string[] {
  return readdirSync(workshop.folder).filter((name) => name.startsWith('blindgate-demo-'))
}

describe('the demo', () => {
  it('prints pong, and nothing else, on stdout; ends after --count and leaves no folder', async () => {
    const { code, out, err } = await workshop.run(['demo', ...PORTS, '--count', '2'], { env })
    expect({ code, out }).toEqual({ code: 0, out: 'pong\npong\n' })
    expect(err).toMatch(/^target .*\ngateway .*\nclients .*\nvisitor .*http:\/\/127\.0\.0\.1:\d+\/ping.*\n$/)
    expect(leftovers()).toEqual([])
  })

  it('answers a browser too, with two clients behind one gateway; Ctrl-C ends it with exit 0', async () => {
    const demo = workshop.start(['demo', ...PORTS], { env })
    const [, url = ''] = await demo.says('err', /(http:\/\/\S+)\/ping/)
    await demo.says('out', /pong/)
    const response = await fetch(`${url}/ping`, { headers: { connection: 'close' } })
    expect([response.status, await response.text()]).toEqual([200, 'pong\n'])
    expect((await fetch(url, { headers: { connection: 'close' } })).status).toBe(404)
    const [folder = ''] = leftovers()
    const { out } = await workshop.run(['clients', '--json', '--state', workshop.path(folder, 'gateway')])
    const clients = JSON.parse(out) as { name: string; key: string; connected: boolean }[]
    expect(clients.map(({ name, connected }) => ({ name, connected }))).toEqual([
      { name: 'home', connected: true },
      { name: 'home', connected: true },
    ])
    expect(new Set(clients.map(({ key }) => key)).size).toBe(2)
    demo.signal('SIGINT')
    expect((await demo.ended).code).toBe(0)
    expect(leftovers()).toEqual([])
  })

  it('says what to do when a port is taken, exits 1 and leaves no folder', async () => {
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const address = `127.0.0.1:${(taken.address() as AddressInfo).port}`
    const { code, out, err } = await workshop.run(['demo', '--http', address, '--tunnel', '127.0.0.1:0'], {
      env,
    })
    expect({ code, out }).toEqual({ code: 1, out: '' })
    expect(lastLine(err)).toMatch(
      new RegExp(`^blindgate: cannot listen on ${address}: .*--http and --tunnel`),
    )
    expect(leftovers()).toEqual([])
    taken.close()
  })

  it('ends quietly when nobody reads its answers any more', async () => {
    const demo = workshop.start(['demo', ...PORTS], { env })
    await demo.says('out', /pong/)
    demo.child.stdout.destroy()
    const { code, err } = await demo.ended
    expect(code).toBe(0)
    expect(err).not.toMatch(/EPIPE|blindgate:/)
    expect(leftovers()).toEqual([])
  })
})
