import { rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { probe } from '../../src/client/probe.ts'
import type { ClientService } from '../../src/client/services.ts'
import { HEALTH_ANSWER_BYTES } from '../../src/limits.ts'
import { ProxyReader } from '../../src/protocol/index.ts'
import { service, World } from './world.ts'

const world = new World()
afterEach(() => world.close())

async function web(listener: RequestListener, at: number | string = 0): Promise<Server> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => {
    if (typeof at === 'string') server.listen(at, resolve)
    else server.listen(at, '127.0.0.1', resolve)
  })
  world.later(
    () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(resolve)
      }),
  )
  return server
}

const portOf = (server: { address(): AddressInfo | string | null }) => (server.address() as AddressInfo).port
const waiting = () => new AbortController().signal

function ask(port: number | string, rest: Partial<ClientService> = {}, timeoutMs?: number) {
  return probe(service('web', port, { health: '/health', ...rest }), { signal: waiting(), timeoutMs })
}

/** The request that a target gets. */
async function asked(rest: Partial<ClientService> = {}): Promise<IncomingMessage> {
  let seen: IncomingMessage | undefined
  const server = await web((request, response) => {
    seen = request
    response.end()
  })
  expect(await ask(portOf(server), rest)).toBeUndefined()
  if (seen === undefined) throw new Error('nothing was asked')
  return seen
}

describe('a target that is asked for its health', () => {
  it.each([[200], [204], [299], [301], [304], [399]])('is well when it answers %i', async (status) => {
    const server = await web((_, response) => response.writeHead(status).end())
    expect(await ask(portOf(server))).toBeUndefined()
  })

  it.each([[400], [404], [500], [503]])('is not when it answers %i', async (status) => {
    const server = await web((_, response) => response.writeHead(status).end('why'))
    expect(await ask(portOf(server))).toBe(`status ${status}`)
  })

  it('is not when nobody listens', async () => {
    const target = await world.target()
    const { port } = target
    await target.close()
    expect(await ask(port)).toBe('no connection: ECONNREFUSED')
    expect(await ask('unix:/nowhere/at/all')).toBe('no connection: ENOENT')
  })

  it('is not when it says what is not HTTP', async () => {
    const target = await world.target((socket) => socket.end('SSH-2.0-x\r\n'))
    expect(await ask(target.port)).toBe('what it says is not HTTP')
  })

  it.each([
    ['at once', ''],
    ['within its head', 'HTTP/1.1 200 OK\r\nContent-'],
    ['within its body', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf'],
    [
      'after the head of another protocol',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
    ],
  ])('is not when its answer ends %s', async (_, answer) => {
    const target = await world.target((socket) => socket.once('data', () => socket.end(answer)))
    expect(await ask(target.port)).toMatch(/^(the connection broke|its answer breaks off|what it says)/)
  })

  it.each([
    ['never answers', ''],
    ['never ends its answer', 'HTTP/1.1 200 OK\r\n\r\nand'],
  ])('is not when it %s', async (_, answer) => {
    const target = await world.target((socket) => socket.once('data', () => socket.write(answer)))
    expect(await ask(target.port, {}, 20)).toBe('no answer within 0.02 s')
    const socket = await target.sockets.at(0)
    await new Promise((resolve) => socket.destroyed || socket.once('close', resolve).destroy())
  })

  it('need not be heard to the end of a long answer', async () => {
    const target = await world.target((socket) =>
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n')
        socket.write(Buffer.alloc(HEALTH_ANSWER_BYTES))
      }),
    )
    expect(await ask(target.port)).toBeUndefined()
  })

  it('may be on a unix socket', async () => {
    const path = join(tmpdir(), `bg-probe-${process.pid}.sock`)
    world.later(() => Promise.resolve(rmSync(path, { force: true })))
    await web((_, response) => response.end(), path)
    expect(await ask(`unix:${path}`)).toBeUndefined()
  })

  it('is told that no visitor comes, where it wants to be told who comes', async () => {
    let said = Buffer.alloc(0)
    const target = await world.target((socket) =>
      socket.on('data', (chunk: Buffer) => {
        said = Buffer.concat([said, chunk])
        if (said.includes('\r\n\r\n', 16)) socket.end('HTTP/1.1 204 No Content\r\n\r\n')
      }),
    )
    expect(await ask(target.port, { proxyHeader: true })).toBeUndefined()
    const { header, rest = [] } = new ProxyReader().push(said) ?? {}
    expect(Buffer.from(rest).toString()).toMatch(/^GET \/health HTTP/)
    expect(header).toEqual({ command: 'LOCAL' })
  })

  it('is left alone when nobody waits any more', async () => {
    const target = await world.target()
    const abort = new AbortController()
    const web = service('web', target.port, { health: '/' })
    const why = probe(web, { signal: abort.signal })
    const socket = await target.sockets.at(0)
    const closed = new Promise((resolve) => socket.once('close', resolve).resume())
    abort.abort()
    expect(await why).toBe('nobody waits for it')
    socket.end()
    await closed
    expect(await probe(web, { signal: abort.signal })).toBe('nobody waits for it')
  })
})

describe('the question', () => {
  it('is a GET of the path, as it stands', async () => {
    const { method, url, headers } = await asked({ health: '/health/?deep=1%20' })
    expect({ method, url, connection: headers.connection }).toEqual({
      method: 'GET',
      url: '/health/?deep=1%20',
      connection: 'close',
    })
  })

  it.each<[string, Partial<ClientService>]>([
    ['intern.local', { rewrite: { host: 'intern.local' }, hosts: ['app.example.com'] }],
    ['app.example.com', { hosts: ['*.example.com', '*', 'app.example.com'] }],
    ['[2001:db8::1]', { hosts: ['2001:db8::1'] }],
  ])('has %s as its host', async (host, rest) => {
    expect((await asked(rest)).headers.host).toBe(host)
  })

  it("has the target's own address as its host where the service has none", async () => {
    const { headers, socket } = await asked({ hosts: ['*.example.com'] })
    expect(headers.host).toMatch(/^127\.0\.0\.1:\d+$/)
    expect(socket.destroyed).toBe(true)
  })

  it('has the headers that requests of visitors get', async () => {
    const { headers } = await asked({ rewrite: { headers: [['X-From', 'Gr\u00fc\u00dfe']] } })
    expect(headers['x-from']).toBe('Gr\u00fc\u00dfe')
  })
})
