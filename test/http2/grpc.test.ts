import * as grpc from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Moments } from '../client/moments.ts'
import { pattern } from '../net/joined.ts'
import { World } from './world.ts'

/** Messages are bytes: no schema is needed to see that they arrive. */
const bytes = {
  requestSerialize: (value: Buffer) => value,
  requestDeserialize: (value: Buffer) => value,
  responseSerialize: (value: Buffer) => value,
  responseDeserialize: (value: Buffer) => value,
}
const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
  path: `/test.Echo/${name}`,
  requestStream,
  responseStream,
  ...bytes,
})
const SERVICE = {
  unary: method('unary', false, false),
  up: method('up', true, false),
  down: method('down', false, true),
  both: method('both', true, true),
}

let world: World
let server: grpc.Server
let client: grpc.Client
/** Calls that the server saw cancelled. */
let cancelled: Moments<string>
let port: number

beforeEach(async () => {
  world = new World()
  cancelled = new Moments()
  server = new grpc.Server({ 'grpc.max_receive_message_length': 8 << 20 })
  server.addService(SERVICE, {
    unary: (call: grpc.ServerUnaryCall<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) => {
      call.on('cancelled', () => cancelled.add('unary'))
      const ask = String(call.request)
      if (ask === 'never') return
      const trailers = new grpc.Metadata()
      trailers.set('x-detail', 'why')
      trailers.set('x-detail-bin', Buffer.from([0, 1, 255]))
      if (ask === 'fail') {
        callback({ code: grpc.status.FAILED_PRECONDITION, details: 'not "now" ✓', metadata: trailers })
        return
      }
      const head = new grpc.Metadata()
      head.set('x-saw', String(call.metadata.get('x-mine')))
      head.set('x-forwarded', String(call.metadata.get('x-forwarded-for')))
      call.sendMetadata(head)
      callback(null, call.request, trailers)
    },
    up: (call: grpc.ServerReadableStream<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) => {
      let length = 0
      call.on('data', (message: Buffer) => {
        length += message.length
        if (String(message) === 'enough') callback({ code: grpc.status.OUT_OF_RANGE, details: 'enough' })
      })
      call.on('end', () => callback(null, Buffer.from(String(length))))
    },
    down: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
      call.on('cancelled', () => cancelled.add('down'))
      const ask = String(call.request)
      for (let at = 0; at < 10; at++) call.write(Buffer.from(`${ask} ${at}`))
      if (ask !== 'open') call.end()
    },
    both: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
      call.on('cancelled', () => cancelled.add('both'))
      call.on('data', (message: Buffer) => call.write(message))
      call.on('end', () => call.end())
    },
  })
  port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  )
  world.h2c(port)
  // A caller speaks TLS by a port of its own, which leads to the tunnel.
  client = new grpc.Client(
    `127.0.0.1:${await world.port()}`,
    grpc.credentials.createSsl(null, null, null, {
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
    }),
    {
      'grpc.ssl_target_name_override': 'x',
      'grpc.default_authority': 'x',
      'grpc.max_receive_message_length': 8 << 20,
    },
  )
})

afterEach(async () => {
  client.close()
  server.forceShutdown()
  await world.close()
})

interface Answer {
  error: grpc.ServiceError | null
  message: Buffer | undefined
  head: grpc.Metadata | undefined
  status: grpc.StatusObject | undefined
}

function unary(
  message: string | Buffer,
  options: grpc.CallOptions = {},
  metadata = new grpc.Metadata(),
): Promise<Answer> {
  return new Promise((resolve) => {
    const answer: Answer = { error: null, message: undefined, head: undefined, status: undefined }
    const call = client.makeUnaryRequest(
      SERVICE.unary.path,
      bytes.requestSerialize,
      bytes.responseDeserialize,
      Buffer.from(message),
      metadata,
      options,
      (error, got) => {
        answer.error = error
        answer.message = got
      },
    )
    call.on('metadata', (head) => (answer.head = head))
    call.on('status', (status) => {
      answer.status = status
      setImmediate(resolve, answer)
    })
  })
}

describe('gRPC through a service of TLS', () => {
  test('answers a call, with metadata and trailers both ways, and says who asks', async () => {
    const metadata = new grpc.Metadata()
    metadata.set('x-mine', 'this')
    metadata.set('x-forwarded-for', '6.6.6.6')
    const { error, message, head, status } = await unary('hello', {}, metadata)
    expect(error).toBeNull()
    expect(String(message)).toBe('hello')
    expect(head?.get('x-saw')).toEqual(['this'])
    expect(head?.get('x-forwarded')).toEqual(['192.0.2.7'])
    expect(status?.metadata.get('x-detail')).toEqual(['why'])
    expect(status?.metadata.get('x-detail-bin')).toEqual([Buffer.from([0, 1, 255])])
  })

  test('carries a status with its details', async () => {
    const { error } = await unary('fail')
    expect(error).toMatchObject({ code: grpc.status.FAILED_PRECONDITION, details: 'not "now" ✓' })
    expect(error?.metadata.get('x-detail-bin')).toEqual([Buffer.from([0, 1, 255])])
  })

  test('carries an answer that is only trailers', async () => {
    const code = await new Promise((resolve) =>
      client.makeUnaryRequest(
        '/test.Echo/none',
        bytes.requestSerialize,
        bytes.responseDeserialize,
        Buffer.alloc(0),
        (error) => resolve(error?.code),
      ),
    )
    expect(code).toBe(grpc.status.UNIMPLEMENTED)
  })

  test('carries messages of a megabyte, and fifty calls at once', async () => {
    const body = pattern(1 << 20)
    const big = await unary(body)
    expect(big.message?.equals(body)).toBe(true)
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, index) => unary(pattern(20_000 + index))),
    )
    expect(answers.map(({ message }) => message?.length)).toEqual(answers.map((_, index) => 20_000 + index))
  })

  test('carries streams up, down, and both ways at once', async () => {
    const length = await new Promise<string>((resolve, reject) => {
      const up = client.makeClientStreamRequest(
        SERVICE.up.path,
        bytes.requestSerialize,
        bytes.responseDeserialize,
        (error, message) => (error ? reject(error) : resolve(String(message))),
      )
      for (let at = 0; at < 100; at++) up.write(pattern(10_000))
      up.end()
    })
    expect(length).toBe('1000000')

    const down = client.makeServerStreamRequest(
      SERVICE.down.path,
      bytes.requestSerialize,
      bytes.responseDeserialize,
      Buffer.from('n'),
    )
    const messages: string[] = []
    for await (const message of down) messages.push(String(message))
    expect(messages).toEqual(Array.from({ length: 10 }, (_, at) => `n ${at}`))

    const both = client.makeBidiStreamRequest(
      SERVICE.both.path,
      bytes.requestSerialize,
      bytes.responseDeserialize,
    )
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
      const up = client.makeClientStreamRequest(
        SERVICE.up.path,
        bytes.requestSerialize,
        bytes.responseDeserialize,
        resolve,
      )
      up.on('error', () => {})
      up.write(pattern(10_000))
      up.write(Buffer.from('enough'))
    })
    expect(error).toMatchObject({ code: grpc.status.OUT_OF_RANGE, details: 'enough' })
  })

  test('tells the server that a call was cancelled', async () => {
    const down = client.makeServerStreamRequest(
      SERVICE.down.path,
      bytes.requestSerialize,
      bytes.responseDeserialize,
      Buffer.from('open'),
    )
    down.on('error', () => {})
    const ten = new Moments<unknown>()
    down.on('data', (message) => ten.add(message))
    await ten.at(9)
    down.cancel()
    expect(await cancelled.at(0)).toBe('down')
  })

  test('keeps a deadline, and the server learns that it has passed', async () => {
    const { error } = await unary('never', { deadline: Date.now() + 200 })
    expect(error?.code).toBe(grpc.status.DEADLINE_EXCEEDED)
    expect(await cancelled.at(0)).toBe('unary')
  })

  test('is unavailable while its server is away', async () => {
    server.forceShutdown()
    expect((await unary('x')).error?.code).toBe(grpc.status.UNAVAILABLE)
  })
})
