/** An authoritative name server of the test's own, on a free port of 127.0.0.1, over UDP and TCP. */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { type Answer, type DecodedPacket, decode, encode, type Packet } from 'dns-packet'

const AUTHORITATIVE = 0x0400
const TRUNCATED = 0x0200
const NXDOMAIN = 3
const REFUSED = 5

/** Records by owner, as a zone file has them. */
export type Records = Record<string, Answer[]>

export class NameServer {
  /** Apexes that it answers for, each with its records. */
  readonly zones = new Map<string, Records>()
  /** Answers over UDP say that there is more. */
  truncates = false
  /** What is answered instead; undefined: the usual. */
  instead: ((query: DecodedPacket, usual: Packet) => Buffer | undefined) | undefined
  readonly asked: string[] = []
  readonly #udp: UdpSocket = createSocket('udp4')
  readonly #tcp: Server

  static async start(): Promise<NameServer> {
    for (;;) {
      const server = new NameServer()
      server.#udp.bind(0, '127.0.0.1')
      await once(server.#udp, 'listening')
      server.#tcp.listen(server.port, '127.0.0.1')
      // The port may be somebody's over TCP.
      const listening = await once(server.#tcp, 'listening').then(
        () => true,
        () => false,
      )
      if (listening) return server
      await server.close()
    }
  }

  private constructor() {
    this.#udp.on('message', (message, from) => {
      const answer = this.#answer(message, 'udp')
      if (answer !== undefined) this.#udp.send(answer, from.port, from.address)
    })
    this.#tcp = createServer((socket) => {
      socket.on('error', () => undefined)
      socket.on('data', (chunk) => {
        const answer = this.#answer(chunk.subarray(2), 'tcp')
        if (answer === undefined) return
        const length = Buffer.alloc(2)
        length.writeUInt16BE(answer.length)
        socket.write(Buffer.concat([length, answer]))
      })
    })
  }

  get port(): number {
    return this.#udp.address().port
  }

  get at(): { host: string; port: number } {
    return { host: '127.0.0.1', port: this.port }
  }

  /** A zone with one name server, which has the address given. */
  zone(apex: string, records: Records = {}, serverAddress = '127.0.0.53'): Records {
    const zone: Records = {
      ...records,
      [apex]: [
        { type: 'SOA', name: apex, data: { mname: `ns.${apex}`, rname: `hostmaster.${apex}` } },
        { type: 'NS', name: apex, data: `ns.${apex}` },
        ...(records[apex] ?? []),
      ],
      [`ns.${apex}`]: [{ type: 'A', name: `ns.${apex}`, data: serverAddress }],
    }
    this.zones.set(apex, zone)
    return zone
  }

  /** Puts a record where the zone has the name. */
  add(record: Answer): void {
    const zone = this.zones.get(this.#apexOf(record.name) ?? '')
    if (zone === undefined) throw new Error(`no zone has ${record.name}`)
    zone[record.name] = [...(zone[record.name] ?? []), record]
  }

  #apexOf(name: string): string | undefined {
    return [...this.zones.keys()]
      .filter((apex) => name === apex || name.endsWith(`.${apex}`))
      .toSorted((a, b) => b.length - a.length)[0]
  }

  async close(): Promise<void> {
    await Promise.all([
      new Promise<void>((resolve) => this.#udp.close(() => resolve())),
      new Promise<void>((resolve) => this.#tcp.close(() => resolve())),
    ])
  }

  #answer(message: Buffer, transport: 'udp' | 'tcp'): Buffer | undefined {
    const query = decode(message)
    const [question] = query.questions ?? []
    if (question === undefined) return undefined
    const { name, type } = question
    this.asked.push(`${transport} ${name} ${type}`)
    const apex = this.#apexOf(name)
    const zone = apex === undefined ? undefined : this.zones.get(apex)
    const here = zone?.[name] ?? []
    const answers = here.filter((each) => each.type === type || each.type === 'CNAME')
    if (zone !== undefined) answers.push(...renamed(zone, name))
    const isThere = here.length > 0 || answers.length > 0
    const rcode = zone === undefined ? REFUSED : isThere ? 0 : NXDOMAIN
    const truncated = this.truncates && transport === 'udp'
    const usual: Packet = {
      type: 'response',
      id: query.id,
      flags: (zone === undefined ? 0 : AUTHORITATIVE) | (truncated ? TRUNCATED : 0) | rcode,
      questions: [question],
      answers: truncated ? [] : answers,
    }
    return this.instead === undefined ? encode(usual) : this.instead(query, usual)
  }
}

/** DNAME records of names above. */
function renamed(zone: Records, name: string): Answer[] {
  return Object.entries(zone).flatMap(([owner, records]) =>
    name.endsWith(`.${owner}`) ? records.filter(({ type }) => type === 'DNAME') : [],
  )
}

export function a(name: string, ...addresses: string[]): Answer[] {
  return addresses.map((data) => ({ type: 'A', name, data }))
}

export function caa(name: string, ...records: [tag: string, value: string, critical?: boolean][]): Answer[] {
  return records.map(([tag, value, critical]) => ({
    type: 'CAA',
    name,
    data: { flags: critical === true ? 128 : 0, tag: tag as 'issue', value },
  }))
}

export function cname(name: string, data: string): Answer[] {
  return [{ type: 'CNAME', name, data }]
}

/** Lines of a zone file, as the check prints them, put into zones. */
export function addLines(server: NameServer, lines: readonly string[]): void {
  for (const line of lines) {
    const [, owner = '', flags = '', tag = '', value = ''] =
      /^(\S+)\. IN CAA ([0-9]+) (\S+) "([^"]*)"$/.exec(line) ?? []
    if (owner === '') throw new Error(`not a CAA record: ${line}`)
    for (const record of caa(owner, [tag, value, flags === '128'])) server.add(record)
  }
}
