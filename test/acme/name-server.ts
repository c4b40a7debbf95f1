/** An authoritative name server of one zone that takes changes (RFC 2136) from who has its key (RFC 8945). */
import { createHmac } from 'node:crypto'
import dgram from 'node:dgram'
import { once } from 'node:events'
import net from 'node:net'
import { decode, encode } from 'dns-packet'

export interface NameServerKey {
  name: string
  algorithm: 'hmac-sha256' | 'hmac-sha384' | 'hmac-sha512'
  secret: Buffer
}

interface Unknown {
  type: string
  name: string
  class: unknown
  ttl?: number
  data: Buffer | Buffer[]
}

const NOERROR = 0
const REFUSED = 5
const NOTAUTH = 9

export class NameServer {
  /** Name → texts. */
  readonly records = new Map<string, string[]>()
  /** `add NAME` and `remove NAME`, in order. */
  readonly changes: string[] = []
  /** Questions for TXT that are answered with nothing before the truth is told. */
  hides = 0
  /** Seconds that its clock is off. */
  wrongBy = 0
  /** What answers to changes are not. */
  forgets: 'signature' | 'grants' | undefined
  /** ms; signatures are of this time. */
  now: () => number = Date.now
  readonly #zone: string
  readonly #key: NameServerKey
  readonly #tcp: net.Server
  readonly #udp = dgram.createSocket('udp4')
  readonly #sockets = new Set<net.Socket>()

  static async start(zone: string, key: NameServerKey): Promise<NameServer> {
    const server = new NameServer(zone, key)
    await once(server.#tcp, 'listening')
    server.#udp.bind(server.port, '127.0.0.1')
    await once(server.#udp, 'listening')
    return server
  }

  constructor(zone: string, key: NameServerKey) {
    this.#zone = zone
    this.#key = key
    this.#tcp = net.createServer((socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
      socket.on('error', () => undefined)
      let received = Buffer.alloc(0)
      socket.on('data', (chunk) => {
        received = Buffer.concat([received, chunk])
        if (received.length < 2 || received.length < 2 + received.readUInt16BE()) return
        const answer = this.answer(received.subarray(2))
        const length = Buffer.alloc(2)
        length.writeUInt16BE(answer.length)
        // In two pieces, as networks have it.
        socket.write(length.subarray(0, 1))
        socket.write(Buffer.concat([length.subarray(1), answer]))
      })
    })
    this.#tcp.listen(0, '127.0.0.1')
    this.#udp.on('message', (message, { port, address }) => {
      this.#udp.send(this.answer(message), port, address)
    })
  }

  get port(): number {
    return (this.#tcp.address() as net.AddressInfo).port
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#tcp.close(resolve))
    await new Promise<void>((resolve) => this.#udp.close(resolve))
  }

  answer(message: Buffer): Buffer {
    return ((message.readUInt16BE(2) >> 11) & 0xf) === 5 ? this.#update(message) : this.#query(message)
  }

  #query(message: Buffer): Buffer {
    const { id = 0, questions = [] } = decode(message)
    const { name, type } = questions[0] ?? { name: '', type: '' }
    let texts = type === 'TXT' ? (this.records.get(name.toLowerCase()) ?? []) : []
    if (texts.length > 0 && this.hides > 0) {
      this.hides -= 1
      texts = []
    }
    const answers = texts.map((data) => ({ type: 'TXT' as const, name, ttl: 1, data }))
    return encode({ type: 'response', id, flags: 0x400, questions, answers })
  }

  #update(message: Buffer): Buffer {
    const { id = 0, questions = [], authorities = [], additionals = [] } = decode(message)
    const mac = this.#macOf(message, additionals as unknown as Unknown[])
    const known = mac !== undefined && questions[0]?.name === this.#zone
    const code = this.forgets === 'grants' ? REFUSED : known ? NOERROR : NOTAUTH
    const flags = (5 << 11) | code
    if (code === NOERROR) for (const record of authorities) this.#change(record as unknown as Unknown)
    const answer = encode({ type: 'response', id, flags, questions })
    return mac === undefined || this.forgets === 'signature' ? answer : this.#signed(answer, mac)
  }

  #change({ name, type, class: klass, data, ttl }: Unknown): void {
    if (type !== 'TXT' || !name.endsWith(this.#zone)) throw new Error('an update of something else')
    const text = Buffer.concat(data as Buffer[]).toString()
    const others = (this.records.get(name) ?? []).filter((one) => one !== text)
    const add = klass === 'IN' && ttl === 60
    if (!add && !(klass === 'UNKNOWN_254' && ttl === 0)) throw new Error('an update of another kind')
    this.changes.push(`${add ? 'add' : 'remove'} ${name}`)
    this.records.set(name, add ? [...others, text] : others)
  }

  /** The MAC of a request, if it is right. */
  #macOf(message: Buffer, additionals: Unknown[]): Buffer | undefined {
    const tsig = additionals.at(-1)
    if (tsig?.type !== 'TSIG') return undefined
    const data = tsig.data as Buffer
    const bare = Buffer.from(message.subarray(0, message.length - data.length - 12 - tsig.name.length))
    bare.writeUInt16BE(bare.readUInt16BE(10) - 1, 10)
    const algorithm = wire(this.#key.algorithm)
    if (!data.subarray(0, algorithm.length).equals(algorithm) || tsig.name !== this.#key.name)
      return undefined
    const stamp = data.subarray(algorithm.length, algorithm.length + 8)
    const length = data.readUInt16BE(algorithm.length + 8)
    const mac = data.subarray(algorithm.length + 10, algorithm.length + 10 + length)
    return mac.equals(this.#hmac([bare, this.#variables(stamp)])) ? mac : undefined
  }

  #signed(answer: Buffer, requestMac: Buffer): Buffer {
    const stamp = Buffer.alloc(8)
    stamp.writeUIntBE(Math.floor(this.now() / 1_000) + this.wrongBy, 0, 6)
    stamp.writeUInt16BE(300, 6)
    const mac = this.#hmac([short(requestMac.length), requestMac, answer, this.#variables(stamp)])
    const data = [
      wire(this.#key.algorithm),
      stamp,
      short(mac.length),
      mac,
      answer.subarray(0, 2),
      short(0),
      short(0),
    ]
    const rdata = Buffer.concat(data)
    const head = Buffer.concat([
      wire(this.#key.name),
      short(250),
      short(255),
      Buffer.alloc(4),
      short(rdata.length),
    ])
    const whole = Buffer.concat([answer, head, rdata])
    whole.writeUInt16BE(1, 10)
    return whole
  }

  #variables(stamp: Buffer): Buffer {
    const { name, algorithm } = this.#key
    return Buffer.concat([wire(name), short(255), Buffer.alloc(4), wire(algorithm), stamp, Buffer.alloc(4)])
  }

  #hmac(parts: Buffer[]): Buffer {
    return createHmac(this.#key.algorithm.slice(5), this.#key.secret).update(Buffer.concat(parts)).digest()
  }
}

function wire(name: string): Buffer {
  const labels = name.split('.').flatMap((label) => [Buffer.of(label.length), Buffer.from(label)])
  return Buffer.concat([...labels, Buffer.of(0)])
}

function short(value: number): Buffer {
  return Buffer.of(value >> 8, value & 0xff)
}
