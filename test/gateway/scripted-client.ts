import { parseRemote } from '../../src/config/index.ts'
import type { TunnelError, UnreachedCode } from '../../src/errors.ts'
import { type Identity, peerPin } from '../../src/identity/index.ts'
import type { Stream, StreamSink } from '../../src/mux/index.ts'
import {
  type ClientMessage,
  type GatewayMessage,
  type Hello,
  type ProxyHeader,
  ProxyReader,
  type ServiceOffer,
  type ServiceResult,
} from '../../src/protocol/index.ts'
import { dialTls, Tunnel, tunnelContext } from '../../src/transport/index.ts'
import { Moments } from '../client/moments.ts'
import { HELLO } from '../transport/raw-peer.ts'

/** A client by script: its tunnel is ours, what it says and does is the test's. */
export class ScriptedClient {
  readonly messages = new Moments<GatewayMessage>()
  /** Visitors that it was sent, once their header was read. */
  readonly visits = new Moments<Carried>()
  readonly closed: Promise<TunnelError>
  readonly tunnel: Tunnel
  /** What becomes of a visitor; by default it waits for the test. */
  serve: (visit: Carried) => unknown = () => {}
  #end: (reason: TunnelError) => void = () => {}
  #seq = 0

  /** Its `hello` is on the way; nothing has been answered. */
  static async dial(
    address: string,
    identity: Identity,
    hello: Partial<Hello> = {},
    serve?: (visit: Carried) => unknown,
  ): Promise<ScriptedClient> {
    const socket = await dialTls({
      ...parseRemote(address),
      context: tunnelContext(identity),
      verify: (certificate) => {
        peerPin(certificate)
      },
    })
    const client = new ScriptedClient((handler) => new Tunnel(socket, handler, { role: 'client' }))
    if (serve !== undefined) client.serve = serve
    client.say({ ...HELLO, ...hello })
    return client
  }

  private constructor(open: (handler: ConstructorParameters<typeof Tunnel>[1]) => Tunnel) {
    this.closed = new Promise((resolve) => (this.#end = resolve))
    this.tunnel = open({
      message: (message) => {
        if (message.type === 'welcome') {
          this.tunnel.establish({
            peerStreamWindow: message.streamWindow,
            keepaliveSeconds: message.keepalive,
          })
        }
        this.messages.add(message as GatewayMessage)
      },
      stream: (stream) => {
        stream.sink = new Carried(this, stream, (visit) => {
          this.serve(visit)
          this.visits.add(visit)
        })
      },
      closed: (reason) => this.#end(reason),
    })
  }

  say(message: ClientMessage): void {
    this.tunnel.send(message)
  }

  heard<T extends GatewayMessage['type']>(
    type: T,
    fits: (message: Extract<GatewayMessage, { type: T }>) => boolean = () => true,
  ): Promise<Extract<GatewayMessage, { type: T }>> {
    type Wanted = Extract<GatewayMessage, { type: T }>
    return this.messages.find(
      (message): message is Wanted => message.type === type && fits(message as Wanted),
    )
  }

  /** The answers of its `welcome`. */
  async welcome(): Promise<ServiceResult[]> {
    const refused = this.heard('reject').then(({ code, message }) => {
      throw new Error(`rejected: ${code}: ${message}`)
    })
    return (await Promise.race([this.heard('welcome'), refused])).services
  }

  /** Offers more, and waits for the answers. */
  async register(...services: ServiceOffer[]): Promise<ServiceResult[]> {
    this.#seq += 1
    const seq = this.#seq
    this.say({ type: 'register', seq, services })
    return (await this.heard('registered', (message) => message.seq === seq)).services
  }

  async unregister(names: string[], release?: boolean): Promise<void> {
    this.#seq += 1
    const seq = this.#seq
    this.say({ type: 'unregister', seq, names, ...(release === undefined ? {} : { release }) })
    await this.heard('unregistered', (message) => message.seq === seq)
  }
}

/** One visitor, seen from the client's end of its stream. */
export class Carried implements StreamSink {
  readonly stream: Stream
  header!: ProxyHeader
  /** Nothing more comes: 'end', or why it was reset. */
  readonly over: Promise<'end' | TunnelError>
  readonly #client: ScriptedClient
  readonly #chunks: Buffer[] = []
  readonly #arrived = new Moments<number>()
  readonly #reader = new ProxyReader()
  readonly #begun: (visit: Carried) => void
  #finish: (how: 'end' | TunnelError) => void = () => {}

  constructor(client: ScriptedClient, stream: Stream, begun: (visit: Carried) => void) {
    this.#client = client
    this.stream = stream
    this.#begun = begun
    this.over = new Promise((resolve) => (this.#finish = resolve))
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString('latin1')
  }

  async received(text: string): Promise<void> {
    await this.until((all) => all.includes(text))
  }

  async until(fits: (text: string) => boolean): Promise<void> {
    while (!fits(this.text)) await this.#arrived.at(this.#arrived.all.length)
  }

  write(text: string | Uint8Array): void {
    this.stream.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text)
  }

  /** Answers and ends. */
  answer(text: string): void {
    this.write(text)
    this.stream.end()
  }

  /** Says that no byte reached a target, and resets. */
  unreached(code: UnreachedCode): void {
    this.#client.say({ type: 'unreached', stream: this.stream.id, code })
    this.stream.reset()
  }

  data(stream: Stream, chunk: Uint8Array): void {
    stream.consume(chunk.length)
    if (this.header !== undefined) this.#take(chunk)
    else {
      const read = this.#reader.push(chunk)
      if (read === undefined) return
      this.header = read.header
      this.#take(read.rest)
      this.#begun(this)
    }
  }

  #take(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.#chunks.push(Buffer.from(chunk))
    this.#arrived.add(chunk.length)
  }

  end(): void {
    this.#finish('end')
  }

  reset(_stream: Stream, reason: TunnelError): void {
    this.#finish(reason)
  }

  drain(): void {}
}
