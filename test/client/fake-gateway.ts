import type { TunnelError } from '../../src/errors.ts'
import { createIdentity, type Identity, type Pin, peerPin, readIdentity } from '../../src/identity/index.ts'
import { HELLO_BYTES } from '../../src/limits.ts'
import type { Stream, StreamSink } from '../../src/mux/index.ts'
import {
  encodeProxyHeader,
  type GatewayMessage,
  type Hello,
  type Message,
  packItems,
  type ServiceOffer,
  type ServiceResult,
  type Unreached,
  type Welcome,
} from '../../src/protocol/index.ts'
import { Tunnel, TunnelListener } from '../../src/transport/index.ts'
import { Moments } from './moments.ts'

/** What a client sees of a gateway, by script: `answer` says what happens on each `hello`. */
export class FakeGateway {
  readonly pin: Pin
  readonly tunnels = new Moments<FakeTunnel>()
  /** The default: welcome, every service granted. */
  answer: (tunnel: FakeTunnel) => void = (tunnel) => tunnel.welcome()
  /** On each `register`; by default all granted. */
  grant: (offer: ServiceOffer) => ServiceResult = ({ name }) => ({ name, urls: ['http://0.0.0.0:9000'] })
  id = 'one'
  ids: string[] | undefined
  port = 0
  /** TLS connections that finished their handshake. */
  connections = 0
  readonly #listener: TunnelListener<Pin>
  readonly #accepted = new Set<FakeTunnel>()

  static async start(identity?: Identity): Promise<FakeGateway> {
    const gateway = new FakeGateway(identity ?? createIdentity())
    gateway.port = (await gateway.#listener.listen({ host: '127.0.0.1', port: 0 })).port
    return gateway
  }

  private constructor(identity: Identity) {
    this.pin = readIdentity(identity.key, identity.certificate).pin
    this.#listener = new TunnelListener<Pin>({
      keys: identity,
      identify: peerPin,
      accept: (socket, _pin, authenticated) => {
        authenticated()
        this.connections += 1
        this.#accepted.add(
          new FakeTunnel(this, (handler) => new Tunnel(socket, handler, { role: 'gateway' })),
        )
      },
      turnedAway: () => {},
    })
  }

  /** Decrypted bytes that came on all of them. */
  get bytesRead(): number {
    return [...this.#accepted].reduce((sum, { tunnel }) => sum + tunnel.session.bytesIn, 0)
  }

  get address(): string {
    return `127.0.0.1:${this.port}`
  }

  /** The `index`-th tunnel, once its `hello` was answered. */
  tunnel(index = 0): Promise<FakeTunnel> {
    return this.tunnels.at(index)
  }

  async close(): Promise<void> {
    for (const { tunnel } of this.#accepted) tunnel.end()
    await this.#listener.close()
    await Promise.all([...this.#accepted].map(({ closed }) => closed))
  }
}

type Handler = ConstructorParameters<typeof Tunnel>[1]

export class FakeTunnel {
  readonly tunnel: Tunnel
  readonly gateway: FakeGateway
  readonly closed: Promise<TunnelError>
  readonly messages = new Moments<Message>()
  hello!: Hello

  constructor(gateway: FakeGateway, open: (handler: Handler) => Tunnel) {
    this.gateway = gateway
    let end: (reason: TunnelError) => void = () => {}
    this.closed = new Promise((resolve) => (end = resolve))
    this.tunnel = open({
      message: (message) => this.#message(message),
      stream: (stream) => stream.reset(),
      closed: (reason) => end(reason),
    })
  }

  send(message: GatewayMessage): void {
    this.tunnel.send(message)
  }

  welcome(changes: Partial<Omit<Welcome, 'type'>> = {}): void {
    const { gateway } = this
    this.tunnel.establish({ peerStreamWindow: this.hello.streamWindow, keepaliveSeconds: 10 })
    const welcome: Welcome = {
      type: 'welcome',
      protocol: 1,
      gateway: { id: gateway.id, version: '0', ids: gateway.ids ?? [gateway.id] },
      name: 'home',
      streamWindow: 65_536,
      keepalive: 10,
      services: [],
    }
    const [first = [], ...rest] = packItems(this.hello.services.map(gateway.grant), welcome, HELLO_BYTES)
    this.send({ ...welcome, services: first, ...changes })
    for (const services of rest) this.send({ type: 'registered', seq: 0, services })
  }

  /** Opens a visitor's stream that begins with `header`, a service's name or bytes. */
  visit(header: string | Uint8Array): Visit {
    const visit = new Visit(this)
    const stream = this.tunnel.open(visit)
    if (stream === undefined) throw new Error('no room for a stream')
    visit.stream = stream
    stream.write(
      typeof header === 'string'
        ? encodeProxyHeader({ source: { address: '203.0.113.5', port: 4242 }, tlvs: { service: header } })
        : header,
    )
    return visit
  }

  /** What the client said of a stream, if it said anything before it reset it. */
  unreached({ stream }: Visit): Unreached | undefined {
    return this.messages.all.find(
      (message): message is Unreached => message.type === 'unreached' && message.stream === stream.id,
    )
  }

  #message(message: Message): void {
    if (message.type === 'hello') {
      this.hello = message
      this.gateway.answer(this)
      this.gateway.tunnels.add(this)
    } else if (message.type === 'register') {
      const { seq } = message
      const results = message.services.map(this.gateway.grant)
      for (const services of packItems(results, { type: 'registered', seq, services: [] })) {
        this.send({ type: 'registered', seq, services })
      }
    } else if (message.type === 'unregister') this.send({ type: 'unregistered', seq: message.seq })
    this.messages.add(message)
  }
}

/** One visitor, seen from the gateway's end of its stream. */
export class Visit implements StreamSink {
  stream!: Stream
  /** Nothing more comes: 'end', or why it was reset. */
  readonly over: Promise<'end' | TunnelError>
  /** `unreached` code that had come by the time of the reset. */
  code: string | undefined
  readonly #chunks: Buffer[] = []
  #held: number | undefined
  readonly #tunnel: FakeTunnel
  readonly #arrived = new Moments<number>()
  #finish: (how: 'end' | TunnelError) => void = () => {}

  constructor(tunnel: FakeTunnel) {
    this.#tunnel = tunnel
    this.over = new Promise((resolve) => (this.#finish = resolve))
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString('latin1')
  }

  /** Resolves when this much text has come. */
  async received(text: string): Promise<void> {
    await this.#arrived.find(() => this.text.includes(text))
  }

  write(text: string | Uint8Array): void {
    this.stream.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text)
  }

  /** Resolves when the client has taken all that was written, or the stream is over. */
  async drained(): Promise<void> {
    while (this.stream.queued > 0 && !this.stream.closed) await new Promise(setImmediate)
  }

  /** Takes what comes, and gives no window for more until `release`. */
  hold(): void {
    this.#held = 0
  }

  release(): void {
    const held = this.#held ?? 0
    this.#held = undefined
    this.stream.consume(held)
  }

  data(stream: Stream, chunk: Uint8Array): void {
    this.#chunks.push(Buffer.from(chunk))
    if (this.#held === undefined) stream.consume(chunk.length)
    else this.#held += chunk.length
    this.#arrived.add(chunk.length)
  }

  end(): void {
    this.#finish('end')
  }

  reset(_stream: Stream, reason: TunnelError): void {
    this.code = this.#tunnel.unreached(this)?.code
    this.#finish(reason)
  }

  drain(): void {}
}
