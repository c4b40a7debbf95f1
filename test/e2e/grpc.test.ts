/** gRPC through real programs: its TLS ends in the client, which has the certificate, and its server speaks none. */
import { writeFileSync } from 'node:fs'
import * as grpc from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Moments } from '../client/moments.ts'
import { TestAuthority } from '../client/trust/authorities.ts'
import { EchoClient, EchoServer } from '../http2/grpc-echo.ts'
import { pattern } from '../net/joined.ts'
import { type Gateway, type Offered, World } from './world.ts'

const HOST = 'app.example.com'

const world = new World()
let ca: TestAuthority
let gateway: Gateway
let server: EchoServer
let client: EchoClient
let offered: Offered

beforeAll(async () => {
  ca = await TestAuthority.create()
  const { cert, key } = await ca.issue([HOST])
  server = world.with(new EchoServer())
  gateway = await world.gateway(['--tls', '127.0.0.1:0'])
  await world.join('home', gateway)
  const files = {
    'app.pem': cert,
    'app.key': key,
    'blindgate.toml': `[[service]]
name = "echo"
type = "https"
host = "${HOST}"
cert = "app.pem"
key = "app.key"
target = "h2c://127.0.0.1:${await server.listen()}"
`,
  }
  for (const [name, text] of Object.entries(files)) writeFileSync(world.path(name), text, { mode: 0o600 })
  offered = await offer()
  client = world.with(new EchoClient(gateway.tls, HOST, ca.certificate))
})
afterAll(() => world.close())

function offer(): Promise<Offered> {
  return world.offer('home', ['up', '-c', world.path('blindgate.toml')])
}

describe('gRPC to a server behind NAT', () => {
  it('answers a call that verifies the certificate, with metadata and trailers both ways', async () => {
    const metadata = new grpc.Metadata()
    metadata.set('x-mine', 'this')
    const { error, message, head, status } = await client.unary('hello', {}, metadata)
    expect(error).toBeNull()
    expect(String(message)).toBe('hello')
    expect(head?.get('x-saw')).toEqual(['this'])
    expect(status?.metadata.get('x-detail')).toEqual(['why'])
    expect(status?.metadata.get('x-detail-bin')).toEqual([Buffer.from([0, 1, 255])])
  })

  it('carries a status with its details', async () => {
    const { error } = await client.unary('fail')
    expect(error).toMatchObject({ code: grpc.status.FAILED_PRECONDITION, details: 'not "now" ✓' })
    expect(error?.metadata.get('x-detail')).toEqual(['why'])
  })

  it('streams up, down, and both ways at once', async () => {
    const length = await new Promise<string>((resolve, reject) => {
      const up = client.up((error, message) => (error ? reject(error) : resolve(String(message))))
      for (let at = 0; at < 100; at++) up.write(pattern(50_000))
      up.end()
    })
    expect(length).toBe('5000000')

    const messages: string[] = []
    for await (const message of client.down('n')) messages.push(String(message))
    expect(messages).toEqual(Array.from({ length: 10 }, (_, at) => `n ${at}`))

    const both = client.both()
    const echoes = new Moments<Buffer>()
    both.on('data', (message: Buffer) => echoes.add(message))
    // Each is answered before the next is sent: nothing waits for an end.
    for (const [at, size] of [1, 1000, 100_000, 1_000_000].entries()) {
      const sent = pattern(size)
      both.write(sent)
      expect((await echoes.at(at)).equals(sent)).toBe(true)
    }
    const status = new Promise<grpc.StatusObject>((resolve) => both.on('status', resolve))
    both.end()
    expect((await status).code).toBe(grpc.status.OK)
  })

  it('tells the server of a call that is cancelled, and of a deadline that has passed', async () => {
    const down = client.down('open')
    down.on('error', () => {})
    const ten = new Moments<unknown>()
    down.on('data', (message) => ten.add(message))
    await ten.at(9)
    down.cancel()
    expect(await server.cancelled.at(0)).toBe('down')

    const { error } = await client.unary('never', { deadline: Date.now() + 500 })
    expect(error?.code).toBe(grpc.status.DEADLINE_EXCEEDED)
    expect(await server.cancelled.at(1)).toBe('unary')
  })

  it('waits while the client is restarted', async () => {
    offered.program.child.kill('SIGTERM')
    expect((await offered.program.ended).code).toBe(0)
    const waiting = client.unary('again', { deadline: Date.now() + 20_000 })
    await gateway.reaches('blindgate_held_visitors', 1)
    offered = await offer()
    expect(await waiting).toMatchObject({ error: null, message: Buffer.from('again') })
  })

  it('is not called by who believes another authority', async () => {
    const { certificate } = await TestAuthority.create()
    const other = world.with(new EchoClient(gateway.tls, HOST, certificate))
    expect((await other.unary('hello')).error).toMatchObject({ code: grpc.status.UNAVAILABLE })
  })
})
