/** A gRPC service that echoes, and its callers; what lies between them is the test's. */
import * as grpc from '@grpc/grpc-js'
import { Moments } from '../client/moments.ts'

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
const MESSAGE_BYTES_MAX = 8 << 20

/** Listens without TLS on 127.0.0.1. */
export class EchoServer {
  /** Calls that it never answers and saw cancelled, by method: grpc-js says that of those that are over, too. */
  readonly cancelled = new Moments<string>()
  readonly #server = new grpc.Server({ 'grpc.max_receive_message_length': MESSAGE_BYTES_MAX })

  constructor() {
    this.#server.addService(SERVICE, {
      unary: (call: grpc.ServerUnaryCall<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) => {
        const ask = String(call.request)
        if (ask === 'never') {
          call.on('cancelled', () => this.cancelled.add('unary'))
          return
        }
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
        const ask = String(call.request)
        for (let at = 0; at < 10; at++) call.write(Buffer.from(`${ask} ${at}`))
        if (ask === 'open') call.on('cancelled', () => this.cancelled.add('down'))
        else call.end()
      },
      both: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
        call.on('data', (message: Buffer) => call.write(message))
        call.on('end', () => call.end())
      },
    })
  }

  listen(): Promise<number> {
    return new Promise((resolve, reject) =>
      this.#server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) =>
        error ? reject(error) : resolve(port),
      ),
    )
  }

  close(): void {
    this.#server.forceShutdown()
  }
}

export interface Answer {
  error: grpc.ServiceError | null
  message: Buffer | undefined
  head: grpc.Metadata | undefined
  status: grpc.StatusObject | undefined
}

/** A caller by TLS of whatever answers for `host` on a port of 127.0.0.1. */
export class EchoClient {
  readonly #client: grpc.Client

  /** `ca`: whose certificates it believes, PEM; any when left out. */
  constructor(port: number, host: string, ca?: string) {
    const credentials =
      ca === undefined
        ? grpc.credentials.createSsl(null, null, null, {
            rejectUnauthorized: false,
            checkServerIdentity: () => undefined,
          })
        : grpc.credentials.createSsl(Buffer.from(ca))
    this.#client = new grpc.Client(`127.0.0.1:${port}`, credentials, {
      'grpc.ssl_target_name_override': host,
      'grpc.default_authority': host,
      'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
    })
  }

  unary(
    message: string | Buffer,
    options: grpc.CallOptions = {},
    metadata = new grpc.Metadata(),
    path = SERVICE.unary.path,
  ): Promise<Answer> {
    return new Promise((resolve) => {
      const answer: Answer = { error: null, message: undefined, head: undefined, status: undefined }
      const call = this.#client.makeUnaryRequest(
        path,
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

  up(callback: grpc.requestCallback<Buffer>): grpc.ClientWritableStream<Buffer> {
    const { path } = SERVICE.up
    return this.#client.makeClientStreamRequest(
      path,
      bytes.requestSerialize,
      bytes.responseDeserialize,
      callback,
    )
  }

  down(message: string): grpc.ClientReadableStream<Buffer> {
    const { path } = SERVICE.down
    const sent = Buffer.from(message)
    return this.#client.makeServerStreamRequest(path, bytes.requestSerialize, bytes.responseDeserialize, sent)
  }

  both(): grpc.ClientDuplexStream<Buffer, Buffer> {
    const { path } = SERVICE.both
    return this.#client.makeBidiStreamRequest(path, bytes.requestSerialize, bytes.responseDeserialize)
  }

  close(): void {
    this.#client.close()
  }
}
