import * as grpc from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Moments } from '../client/moments.ts'
import { pattern } from '../net/joined.ts'
import { EchoClient, EchoServer } from './grpc-echo.ts'
import { World } from './world.ts'

let world: World
let server: EchoServer
let client: EchoClient

beforeEach(async () => {
  world = new World()
  server = new EchoServer()
  world.h2c(await server.listen())
  // A caller speaks TLS by a port of its own, which leads to the tunnel.
  client = new EchoClient(await world.port(), 'x')
})

afterEach(async () => {
  client.close()
  server.close()
  await world.close()
})

describe('gRPC through a service of TLS', () => {
  test('answers a call, with metadata and trailers both ways, and says who asks', async () => {
    const metadata = new grpc.Metadata()
    metadata.set('x-mine', 'this')
    metadata.set('x-forwarded-for', '6.6.6.6')
    const { error, message, head, status } = await client.unary('hello', {}, metadata)
    expect(error).toBeNull()
    expect(String(message)).toBe('hello')
    expect(head?.get('x-saw')).toEqual(['this'])
    expect(head?.get('x-forwarded')).toEqual(['192.0.2.7'])
    expect(status?.metadata.get('x-detail')).toEqual(['why'])
    expect(status?.metadata.get('x-detail-bin')).toEqual([Buffer.from([0, 1, 255])])
  })

  test('carries a status with its details', async () => {
    const { error } = await client.unary('fail')
    expect(error).toMatchObject({ code: grpc.status.FAILED_PRECONDITION, details: 'not "now" ✓' })
    expect(error?.metadata.get('x-detail-bin')).toEqual([Buffer.from([0, 1, 255])])
  })

  test('carries an answer that is only trailers', async () => {
    const { error } = await client.unary('', {}, undefined, '/test.Echo/none')
    expect(error?.code).toBe(grpc.status.UNIMPLEMENTED)
  })

  test('carries messages of a megabyte, and fifty calls at once', async () => {
    const body = pattern(1 << 20)
    const big = await client.unary(body)
    expect(big.message?.equals(body)).toBe(true)
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, index) => client.unary(pattern(20_000 + index))),
    )
    expect(answers.map(({ message }) => message?.length)).toEqual(answers.map((_, index) => 20_000 + index))
  })

  test('carries streams up, down, and both ways at once', async () => {
    const length = await new Promise<string>((resolve, reject) => {
      const up = client.up((error, message) => (error ? reject(error) : resolve(String(message))))
      for (let at = 0; at < 100; at++) up.write(pattern(10_000))
      up.end()
    })
    expect(length).toBe('1000000')

    const down = client.down('n')
    const messages: string[] = []
    for await (const message of down) messages.push(String(message))
    expect(messages).toEqual(Array.from({ length: 10 }, (_, at) => `n ${at}`))

    const both = client.both()
    const echoes = new Moments<string>()
    both.on('data', (message: Buffer) => echoes.add(String(message)))
    for (let at = 0; at < 5; at++) {
      both.write(Buffer.from(String(at)))
      expect(await echoes.at(at)).toBe(String(at))
    }
    const status = new Promise<grpc.StatusObject>((resolve) => both.on('status', resolve))
    both.end()
    expect((await status).code).toBe(grpc.status.OK)
  })

  test('carries a status that comes before the call is whole', async () => {
    const error = await new Promise<grpc.ServiceError | null>((resolve) => {
      const up = client.up(resolve)
      up.on('error', () => {})
      up.write(pattern(10_000))
      up.write(Buffer.from('enough'))
    })
    expect(error).toMatchObject({ code: grpc.status.OUT_OF_RANGE, details: 'enough' })
  })

  test('tells the server that a call was cancelled', async () => {
    const down = client.down('open')
    down.on('error', () => {})
    const ten = new Moments<unknown>()
    down.on('data', (message) => ten.add(message))
    await ten.at(9)
    down.cancel()
    expect(await server.cancelled.at(0)).toBe('down')
  })

  test('keeps a deadline, and the server learns that it has passed', async () => {
    const { error } = await client.unary('never', { deadline: Date.now() + 200 })
    expect(error?.code).toBe(grpc.status.DEADLINE_EXCEEDED)
    expect(await server.cancelled.at(0)).toBe('unary')
  })

  test('is unavailable while its server is away', async () => {
    server.close()
    expect((await client.unary('x')).error?.code).toBe(grpc.status.UNAVAILABLE)
  })
})
