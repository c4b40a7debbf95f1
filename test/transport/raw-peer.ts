import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import type { Identity } from '../../src/identity/index.ts'
import { type GatewayMessage, type Hello, type Message, TUNNEL_ALPN } from '../../src/protocol/index.ts'
import { Moments } from '../client/moments.ts'

/** yamux by hand: types and flags as its specification numbers them. */
export const DATA = 0
export const WINDOW_UPDATE = 1
export const PING = 2
export const GO_AWAY = 3
export const SYN = 1
export const ACK = 2
export const FIN = 4
export const RST = 8

export interface Frame {
  type: number
  flags: number
  id: number
  /** Of the payload of DATA; else what the header says. */
  length: number
  body: Buffer
}

export function frame(type: number, flags: number, id: number, body: Uint8Array | number = 0): Buffer {
  const header = Buffer.alloc(12)
  header[1] = type
  header.writeUInt16BE(flags, 2)
  header.writeUInt32BE(id, 4)
  header.writeUInt32BE(typeof body === 'number' ? body : body.length, 8)
  return typeof body === 'number' ? header : Buffer.concat([header, body])
}

/** A control message as it lies on stream 1; text goes as it is. */
export function control(message: Message | string): Buffer {
  const json = Buffer.from(typeof message === 'string' ? message : JSON.stringify(message))
  const length = Buffer.alloc(4)
  length.writeUInt32BE(json.length)
  return Buffer.concat([length, json])
}

export const HELLO: Hello = {
  type: 'hello',
  protocol: { min: 1, max: 1 },
  agent: 'test/0',
  instance: 'instance-one',
  process: 'process-one',
  streamWindow: 65_536,
  services: [],
}

/** Whoever dials a tunnel port and does as the test says: TLS, and frames by hand. */
export class RawPeer {
  readonly socket: TLSSocket
  readonly frames = new Moments<Frame>()
  readonly messages = new Moments<GatewayMessage>()
  /** The connection is over. */
  readonly closed: Promise<void>
  #held = Buffer.alloc(0)
  #control = Buffer.alloc(0)

  /** Resolves when the handshake is done on this side. */
  static async dial(
    port: number,
    identity?: Pick<Identity, 'key' | 'certificate'>,
    options: ConnectionOptions = {},
  ): Promise<RawPeer> {
    const socket = dialRawTls(port, identity, options)
    const peer = new RawPeer(socket)
    await new Promise<void>((resolve) => socket.once('secureConnect', resolve).once('close', () => resolve()))
    return peer
  }

  constructor(socket: TLSSocket) {
    this.socket = socket
    this.closed = new Promise((resolve) => socket.on('close', () => resolve()))
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
  }

  write(...frames: Uint8Array[]): void {
    this.socket.write(Buffer.concat(frames))
  }

  /** On stream 1; the first one opens it. */
  say(...messages: (Message | string)[]): void {
    this.write(...messages.map((message) => frame(DATA, this.#syn(), 1, control(message))))
  }

  #said = false
  #syn(): number {
    if (this.#said) return 0
    this.#said = true
    return SYN
  }

  /** The first message of a type, from the `from`-th message on. */
  heard<T extends GatewayMessage['type']>(type: T, from = 0): Promise<Extract<GatewayMessage, { type: T }>> {
    return this.messages.find(
      (message): message is Extract<GatewayMessage, { type: T }> => message.type === type,
      from,
    )
  }

  /** The last frame that came. */
  get last(): Frame | undefined {
    return this.frames.all.at(-1)
  }

  /** What streams were opened towards this peer. */
  get opened(): number[] {
    return this.frames.all.filter(({ flags, type }) => type < PING && (flags & SYN) !== 0).map(({ id }) => id)
  }

  /** All bytes that came on a stream. */
  bytes(id: number): Buffer {
    return Buffer.concat(
      this.frames.all.filter((one) => one.type === DATA && one.id === id).map(({ body }) => body),
    )
  }

  #read(chunk: Buffer): void {
    this.#held = Buffer.concat([this.#held, chunk])
    for (;;) {
      const held = this.#held
      if (held.length < 12) return
      const type = held[1] as number
      const length = held.readUInt32BE(8)
      const end = type === DATA ? 12 + length : 12
      if (held.length < end) return
      this.#held = held.subarray(end)
      const one = {
        type,
        flags: held.readUInt16BE(2),
        id: held.readUInt32BE(4),
        length,
        body: held.subarray(12, end),
      }
      this.frames.add(one)
      if (type === DATA && one.id === 1) this.#readControl(one.body)
    }
  }

  #readControl(body: Buffer): void {
    this.#control = Buffer.concat([this.#control, body])
    while (this.#control.length >= 4) {
      const end = 4 + this.#control.readUInt32BE(0)
      if (this.#control.length < end) return
      this.messages.add(JSON.parse(this.#control.toString('utf8', 4, end)) as GatewayMessage)
      this.#control = this.#control.subarray(end)
    }
  }
}

/** A TLS client of any kind; by default as a client of ours dials. */
export function dialRawTls(
  port: number,
  identity?: Pick<Identity, 'key' | 'certificate'>,
  options: ConnectionOptions = {},
): TLSSocket {
  return connect({
    host: '127.0.0.1',
    port,
    rejectUnauthorized: false,
    ALPNProtocols: [TUNNEL_ALPN],
    ...(identity === undefined ? {} : { key: identity.key, cert: identity.certificate }),
    ...options,
  })
}

/** TCP without a word. */
export async function silentConnection(port: number): Promise<Socket> {
  const socket = connectTcp({ host: '127.0.0.1', port })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}
