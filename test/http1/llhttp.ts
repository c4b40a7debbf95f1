import { METHODS } from 'node:http'
import { createRequire } from 'node:module'

/** What Node's own parser (llhttp) makes of one message. */
export interface Seen {
  /** Of a request. */
  method: string
  target: string
  /** Of a response. */
  status: number
  /** Names and values in turn. */
  fields: string[]
  trailers: string[]
  body: string
  upgrade: boolean
  whole: boolean
}

/** The binding's parser, as `node:http` drives it; Node has no public door to it that takes bytes in memory at this pace. */
interface Parser {
  initialize(type: number, resource: object, maxHeaderSize: number, lenient: number): void
  execute(bytes: Uint8Array): number | Error
  finish(): number | Error | undefined
  [callback: number]: unknown
}

const { HTTPParser } = createRequire(import.meta.url)('_http_common') as {
  HTTPParser: {
    new (): Parser
    readonly REQUEST: number
    readonly RESPONSE: number
    readonly kOnHeaders: number
    readonly kOnHeadersComplete: number
    readonly kOnBody: number
    readonly kOnMessageComplete: number
  }
}

const HEAD_BYTES = 1 << 20

/** One connection after another, read by llhttp. */
export class Llhttp {
  seen: Seen[] = []
  /** Of each response, whether it answers a HEAD: llhttp must be told. */
  bodiless: (index: number, status: number) => boolean = () => false
  readonly #parser = new HTTPParser()
  readonly #type: number
  readonly #methods: readonly string[]
  #fields: string[] = []
  #target = ''
  #open: Seen | undefined

  constructor(
    kind: 'requests' | 'responses',
    methods: readonly string[] = kind === 'requests' ? methodNumbers() : [],
  ) {
    this.#type = kind === 'requests' ? HTTPParser.REQUEST : HTTPParser.RESPONSE
    this.#methods = methods
    const parser = this.#parser
    parser[HTTPParser.kOnHeaders] = (fields: string[], target: string) => {
      if (this.#open !== undefined) this.#open.trailers.push(...fields)
      else {
        this.#fields.push(...fields)
        this.#target += target
      }
    }
    parser[HTTPParser.kOnHeadersComplete] = (
      _major: number,
      _minor: number,
      fields: string[] | undefined,
      method: number | undefined,
      target: string | undefined,
      status: number | undefined,
      _reason: string | undefined,
      upgrade: boolean,
    ) => {
      this.#open = {
        method: this.#methods[method ?? -1] ?? `number ${method}`,
        target: target ?? this.#target,
        status: status ?? 0,
        fields: fields ?? this.#fields,
        trailers: [],
        body: '',
        upgrade,
        whole: false,
      }
      this.#fields = []
      this.#target = ''
      this.seen.push(this.#open)
      return this.bodiless(this.seen.length - 1, this.#open.status) ? 1 : 0
    }
    parser[HTTPParser.kOnBody] = (bytes: Buffer) => {
      if (this.#open !== undefined) this.#open.body += bytes.toString('latin1')
    }
    parser[HTTPParser.kOnMessageComplete] = () => {
      if (this.#open !== undefined) this.#open.whole = true
      this.#open = undefined
    }
  }

  /** Reads all of a connection's bytes; `ended`: and its end. Gives the error, if there was one. */
  read(bytes: Uint8Array, ended: boolean): string | undefined {
    this.seen = []
    this.#fields = []
    this.#target = ''
    this.#open = undefined
    this.#parser.initialize(this.#type, {}, HEAD_BYTES, 0)
    if (bytes.length > 0) {
      const result = this.#parser.execute(bytes)
      if (typeof result !== 'number') return told(result)
    }
    const end = ended ? this.#parser.finish() : undefined
    return end instanceof Error ? told(end) : undefined
  }
}

function told(error: Error): string {
  const { code, reason } = error as Error & { code?: string; reason?: string }
  return `${code}: ${reason}`
}

/** Which number stands for which method differs between versions. */
function methodNumbers(): string[] {
  const numbers: string[] = []
  for (const method of METHODS) {
    const llhttp = new Llhttp('requests', [])
    llhttp.read(
      Buffer.from(`${method} ${method === 'CONNECT' ? 'a:1' : '/'} HTTP/1.1\r\nHost: a\r\n\r\n`),
      false,
    )
    const number = Number(/\d+$/.exec(llhttp.seen[0]?.method ?? '')?.[0])
    numbers[number] = method
  }
  return numbers
}
