import { EventEmitter, once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer, type Server } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Client, ClientEvents } from '../../src/client/index.ts'
import { Forwarding, forward, listen, TunnelError } from '../../src/index.ts'
import { built, Workshop } from '../cli/binary.ts'
import { gatewayForTest, type TestGateway } from './gateway.ts'

const workshop = new Workshop()
let gateway: TestGateway
const target = createServer((request, response) => response.end(`target ${request.url}`))

beforeAll(async () => {
  gateway = await gatewayForTest()
  target.listen(0, '127.0.0.1')
  await once(target, 'listening')
})
afterAll(async () => {
  await gateway.close()
  await closed(target)
  await workshop.close()
})

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}

async function closed(server: Server): Promise<void> {
  if ('closeAllConnections' in server)
    (server as unknown as { closeAllConnections(): void }).closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
}

async function get(url: string): Promise<string> {
  const response = await fetch(url, { headers: { connection: 'close' } })
  return response.text()
}

async function code(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => undefined,
    (error: unknown) => (error instanceof TunnelError ? error.code : String(error)),
  )
}

describe('forward', () => {
  it('enrolls by an invite and resolves when visitors reach the target', async () => {
    const state = workshop.path('one')
    const tunnel = await forward(portOf(target), { state, invite: await gateway.invite() })
    expect(tunnel.url).toBe(gateway.visitors)
    expect(tunnel.urls).toEqual([gateway.visitors])
    expect(await get(`${tunnel.url}/a`)).toBe('target /a')
    await tunnel.close()
  })

  it('needs no invite the next time, and the spent one does no harm', async () => {
    const state = workshop.path('two')
    const invite = await gateway.invite()
    await (await forward(portOf(target), { state, invite })).close()
    const again = await forward(`127.0.0.1:${portOf(target)}`, { state, invite })
    expect(await get(again.url)).toBe('target /')
    await again.close()
    const plain = await forward(portOf(target), { state, gateway: gateway.address })
    expect(plain.url).toBe(gateway.visitors)
    await plain.drain(0)
  })

  it('is closed by the block that uses it', async () => {
    let tunnel: Forwarding | undefined
    {
      tunnel = await forward(portOf(target), { state: workshop.path('one') })
      await tunnel[Symbol.asyncDispose]()
    }
    expect(await code(tunnel.close())).toBeUndefined()
  })

  it('says why it cannot, and leaves nothing open', async () => {
    const state = workshop.path('one')
    const first = await forward(portOf(target), { state })
    expect(await code(forward(portOf(target), { state, name: 'other' }))).toBe('route_conflict')
    expect(await code(forward(22, { state, type: 'tcp', port: 80 }))).toBe('not_granted')
    await first.close()
    expect(await code(forward(80, { state: workshop.path('nowhere') }))).toBe('not_found')
    expect(await code(forward(80, { state, gateway: '192.0.2.1:1' }))).toBe('not_found')
    expect(await code(forward('no target', { state }))).toBe('config_invalid')
    expect(await code(forward(80, { state, invite: 'bg1_AAAA' }))).toBe('invite_invalid')
    expect(await code(forward(80, { state, port: 80 }))).toBe('config_invalid')
    expect(await code(forward(80, { state, host: 'no host' }))).toBe('config_invalid')
    expect(await code(forward(80, { state, host: [] }))).toBe('config_invalid')
    expect(await code(forward(80, { state, path: 'api' }))).toBe('config_invalid')
    expect(await code(forward(80, { state, type: 'tcp', host: 'a.example' }))).toBe('config_invalid')
    // That gateway has no port for it.
    expect(await code(forward(443, { state, type: 'https', host: 'a.example' }))).toBe('unsupported')
    expect(await code(forward(443, { state, type: 'https', tls: 'passthrough' }))).toBe('config_invalid')
  })

  it('gives up when it is told to', async () => {
    const other = await gatewayForTest()
    const state = workshop.path('away')
    await (await forward(portOf(target), { state, invite: await other.invite() })).close()
    await other.close()
    const abort = new AbortController()
    const waiting = forward(portOf(target), { state, signal: abort.signal })
    abort.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
  })

  it('tells of a lost tunnel and of a key that was taken away', async () => {
    const state = workshop.path('revoked')
    const tunnel = await forward(portOf(target), { state, invite: await gateway.invite(), type: 'tcp' })
    expect(tunnel.url).toMatch(/^tcp:\/\/127\.0\.0\.1:\d+$/)
    const failed = once(tunnel, 'failed')
    const disconnected = once(tunnel, 'disconnected')
    const { clients } = (await gateway.gateway.command({ command: 'clients' })) as {
      clients: { key: string; connected: boolean }[]
    }
    const key = clients.find(({ connected }) => connected)?.key ?? ''
    await gateway.gateway.command({ command: 'revoke', target: key })
    expect((await failed)[0]).toMatchObject({ code: 'revoked' })
    expect((await disconnected)[0]).toMatchObject({ gateway: gateway.address, retryMs: undefined })
    await tunnel.close()
  })
})

describe('an alarm of the client', () => {
  it('is an event with what was seen and what to do', async () => {
    const client = new EventEmitter<ClientEvents>() as unknown as Client
    const tunnel = new Forwarding(client, [])
    const told = once(tunnel, 'trust')
    client.emit('trust', {
      check: 'ct',
      about: 'a.example',
      level: 'fail',
      alarm: true,
      text: 'foreign',
      advice: 'act',
    })
    expect(await told).toEqual([{ check: 'ct', host: 'a.example', text: 'foreign', advice: 'act' }])
  })
})

describe('listen', () => {
  it('serves visitors from an http server that opens no port', async () => {
    const server = createServer((request, response) => {
      response.end(`here ${request.url} ${request.socket.remoteAddress === undefined ? 'unknown' : 'known'}`)
    })
    const tunnel = await listen(server, { state: workshop.path('one') })
    expect(await get(`${tunnel.url}/b`)).toMatch(/^here \/b /)
    expect(server.listening).toBe(false)
    await tunnel.close()
  })

  it('serves visitors from a tcp server, whose sockets answer an end with an end', async () => {
    const server = createTcpServer((socket) => socket.on('data', (data) => socket.write(data)))
    const tunnel = await listen(server, { state: workshop.path('one'), type: 'tcp', name: 'echo' })
    const visitor = connect(Number(new URL(tunnel.url).port), '127.0.0.1')
    visitor.end('echo this')
    let said = ''
    visitor.setEncoding('utf8').on('data', (text: string) => (said += text))
    await once(visitor, 'close')
    expect(said).toBe('echo this')
    await tunnel.close()
  })
})

describe('the process', () => {
  const index = (): string => pathToFileURL(join(built(), 'dist', 'index.js')).href

  function script(name: string, body: string) {
    const path = workshop.path(name)
    writeFileSync(path, `import { forward } from ${JSON.stringify(index())}\n${body}`)
    return workshop.startScript(path, [workshop.path('one'), String(portOf(target))])
  }

  it('ends by itself when all is closed, without a signal handler left', async () => {
    const program = script(
      'ends.mjs',
      `const handlers = () => process.eventNames().map((name) => [name, process.listenerCount(name)])
      const before = JSON.stringify(handlers())
      const tunnel = await forward(Number(process.argv[3]), { state: process.argv[2] })
      const during = JSON.stringify(handlers())
      const body = await (await fetch(tunnel.url + '/c', { headers: { connection: 'close' } })).text()
      await tunnel.close()
      console.log(body, during === before ? 'no handler' : during)`,
    )
    expect(await program.ended).toMatchObject({ code: 0, out: 'target /c no handler\n', err: '' })
  })

  it('ends by itself when forward was refused', async () => {
    const program = script(
      'refused.mjs',
      `await forward(22, { state: process.argv[2], type: 'tcp', port: 80 }).catch((error) => console.log(error.code))`,
    )
    expect(await program.ended).toMatchObject({ code: 0, out: 'not_granted\n' })
  })

  it('goes on serving while nothing is closed', async () => {
    const program = script(
      'serves.mjs',
      `console.log((await forward(Number(process.argv[3]), { state: process.argv[2] })).url)`,
    )
    await program.says('out', /http/)
    expect(await get(`${gateway.visitors}/d`)).toBe('target /d')
    program.signal('SIGTERM')
    await program.ended
    expect(program.child.signalCode).toBe('SIGTERM')
  })
})
