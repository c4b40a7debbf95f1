import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, expect, it } from 'vitest'
import { ask, Target } from './visitors.ts'
import { heard, main, until, World } from './world.ts'

const whole = new World()
afterAll(() => whole.close())

const SCRIPT = `
import http from 'node:http'
const [sdk, port, gateway, state] = process.argv.slice(2)
const { forward, listen } = await import(sdk)
const visit = (url) => new Promise((resolve, reject) => {
  http.get(url, { agent: false }, async (response) => {
    let body = ''
    for await (const chunk of response) body += chunk
    resolve(body)
  }).on('error', reject)
})
const tunnel = await forward(Number(port), { gateway, state })
const server = http.createServer((request, response) => response.end('from this process to ' + request.socket.remoteAddress))
const open = await listen(server, { gateway, state, type: 'tcp', name: 'here' })
console.log(tunnel.url, await visit(tunnel.url))
console.log(await visit(open.url.replace('tcp:', 'http:')), server.listening)
await open.drain()
await tunnel.close()
console.log('closed')
`

it('a program forwards a port and serves from a server of its own, and ends by itself when both are closed', async () => {
  const world = whole.with(new World())
  const gateway = await world.gateway()
  await world.join('home', gateway)
  const web = world.with(await Target.web('from a port'))
  const path = world.path('script.mjs')
  writeFileSync(path, SCRIPT)
  const sdk = pathToFileURL(join(dirname(main()), '..', 'index.js')).href
  const args = [sdk, String(web.port), `127.0.0.1:${gateway.clients}`, world.path('home')]
  const { code, out, err } = await world.workshop.startScript(path, args).ended
  expect({ code, err }).toEqual({ code: 0, err: '' })
  expect(out.split('\n')).toEqual([
    `http://127.0.0.1:${gateway.visitors} from a port`,
    // Visitors of loopback say nothing of use, and no gateway is believed when it names one.
    'from this process to undefined false',
    'closed',
    '',
  ])
})

it('the program of the README runs as it stands there', async () => {
  const world = whole.with(new World())
  const gateway = await world.gateway()
  await world.join('reader', gateway)
  const web = world.with(await Target.web('from a port'))
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
  const program = /^```js\n([^]*?)^```$/m.exec(readme)?.[1] ?? ''
  const sdk = pathToFileURL(join(dirname(main()), '..', 'index.js')).href
  const path = world.path('readme.mjs')
  writeFileSync(path, program.replace("'blindgate'", `'${sdk}'`).replace('3000', String(web.port)))
  const env = { ...process.env, BLINDGATE_STATE: world.path('reader') }
  const running = world.workshop.startScript(path, [], { env })
  await heard(running, 'out', new RegExp(`^http://127.0.0.1:${gateway.visitors}\n`))
  await until('the server of the program answers', async () => {
    const { body } = await ask(gateway.visitors)
    return body === 'from behind NAT\n' ? true : body
  })
})
