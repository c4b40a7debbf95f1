import {
  type Body,
  bodyOf,
  HeadReader,
  HttpFault,
  type RequestChanges,
  RequestHead,
  type ResponseChanges,
  ResponseHead,
  writeRequest,
  writeResponse,
} from '../../src/http1/index.ts'

/** What a proxy makes of one message. Its texts have one character for each byte. */
export interface Message<Head> {
  readonly head: Head
  /** The head as it goes on. */
  readonly written: string
  /** Which is not the one that came. */
  readonly copied: boolean
  /** The body as it goes on. */
  body: string
  /** The same without chunks. */
  content: string
  /** It came whole. */
  whole: boolean
}

export interface Transcript<Head> {
  readonly messages: Message<Head>[]
  /** What ended the reading. */
  fault: HttpFault | undefined
  /** What was behind a message after which there is none: an upgrade, or a response that closes. */
  rest: string
}

export const NOTHING: RequestChanges = { added: '' }

export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}

export function bytesOf(text: string): Buffer {
  return Buffer.from(text, 'latin1')
}

abstract class Reading<Head> implements Transcript<Head> {
  readonly messages: Message<Head>[] = []
  fault: HttpFault | undefined
  rest = ''
  readonly #reader = new HeadReader()
  readonly #maxBytes: number
  #body: Body | undefined
  /** Reads the same body, for its content. */
  #plain: Body | undefined
  #over = false

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Reads the head that the reader has just found; tells its body, whether bytes behind it are no message, and how it is written. */
  protected abstract head(
    bytes: Uint8Array,
    reader: HeadReader,
  ): { head: Head; body: Body; plain: Body; last: boolean; written: Uint8Array }

  /** Throws what is no `HttpFault`. */
  push(chunk: Uint8Array): void {
    if (this.fault !== undefined) return
    try {
      this.#push(chunk)
    } catch (error) {
      this.#failed(error)
    }
  }

  end(): void {
    if (this.fault !== undefined || this.#body === undefined) return
    try {
      this.#body.end()
      this.#last().whole = true
    } catch (error) {
      this.#failed(error)
    }
  }

  #failed(error: unknown): void {
    if (!(error instanceof HttpFault)) throw error
    this.fault = error
  }

  #last(): Message<Head> {
    const message = this.messages.at(-1)
    if (message === undefined) throw new Error('no message yet')
    return message
  }

  #push(chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#body !== undefined) {
        at = this.#goOn(this.#body, chunk, at)
        continue
      }
      if (this.#over) {
        this.rest += latin1(chunk.subarray(at))
        return
      }
      const bytes = this.#reader.push(chunk, at, this.#maxBytes)
      if (bytes === undefined) return
      at = this.#reader.next
      const { head, body, plain, last, written } = this.head(bytes, this.#reader)
      this.messages.push({
        head,
        written: latin1(written),
        copied: written !== bytes,
        body: '',
        content: '',
        whole: body.done,
      })
      this.#over = last
      if (body.done) continue
      this.#body = body
      this.#plain = plain
    }
  }

  #goOn(body: Body, chunk: Uint8Array, at: number): number {
    const message = this.#last()
    const out: Uint8Array[] = []
    const plain: Uint8Array[] = []
    let next: number
    try {
      next = body.push(chunk, at, out)
    } catch (error) {
      next = -1
      this.#failed(error)
    }
    // What a fault is found behind may have been passed on.
    for (const piece of out) message.body += latin1(piece)
    try {
      if (this.#plain?.push(chunk, at, plain) !== next) throw new Error('a body ends in two places')
    } catch (error) {
      if (next >= 0) throw error
    }
    for (const piece of plain) message.content += latin1(piece)
    if (next < 0) return chunk.length
    if (body.received !== this.#plain?.received || body.received !== message.content.length)
      throw new Error('a body is counted in two ways')
    if (body.done) {
      message.whole = true
      this.#body = undefined
    }
    return next
  }
}

/** A connection's requests as they are passed on. */
export class Requests extends Reading<RequestHead> {
  readonly #changes: RequestChanges
  #last: RequestHead | undefined

  constructor(changes: RequestChanges = NOTHING, maxBytes = 4096) {
    super(maxBytes)
    this.#changes = changes
  }

  protected head(bytes: Uint8Array, reader: HeadReader) {
    const head = new RequestHead(bytes, reader.scanner, this.#last)
    this.#last = head
    return {
      head,
      body: bodyOf(head),
      plain: bodyOf(head, false),
      last: head.upgrade !== undefined,
      written: writeRequest(head, this.#changes),
    }
  }
}

export interface Asked {
  readonly method: string
  readonly upgrade: string | undefined
}

/** A stream's responses as they are passed on; one final response for each of `asked`. */
export class Responses extends Reading<ResponseHead> {
  readonly #asked: readonly Asked[]
  readonly #changes: ResponseChanges
  #finals = 0

  constructor(asked: readonly Asked[], changes: ResponseChanges = { close: false }, maxBytes = 4096) {
    super(maxBytes)
    this.#asked = asked
    this.#changes = changes
  }

  protected head(bytes: Uint8Array, reader: HeadReader) {
    const asked = this.#asked[this.#finals] ?? { method: 'GET', upgrade: undefined }
    const head = new ResponseHead(bytes, reader.scanner, asked)
    if (!head.interim) this.#finals++
    const last =
      !head.interim && (head.close || head.upgrade !== undefined || this.#finals >= this.#asked.length)
    return {
      head,
      plain: bodyOf(head, false),
      body: bodyOf(head, this.#changes.dechunked !== true),
      last,
      written: writeResponse(head, last || head.interim ? this.#changes : { ...this.#changes, close: false }),
    }
  }
}

/** Runs a reading over bytes that come in these pieces, each in memory of its own, and ends it. */
export function reading<Head>(over: Reading<Head>, pieces: Iterable<Uint8Array>): Transcript<Head> {
  for (const piece of pieces) over.push(piece)
  over.end()
  return over
}

/** Whole, byte by byte, and cut once at each offset; long ones at some of them. */
export function* segmentations(bytes: Uint8Array): Generator<Uint8Array[]> {
  yield [bytes]
  yield Array.from(bytes, (_, at) => bytes.slice(at, at + 1))
  const step = Math.max(1, Math.floor(bytes.length / 700))
  for (let at = 1; at < bytes.length; at += step) yield [bytes.slice(0, at), bytes.slice(at)]
}

/** Text of a vector: pieces, some of them many times. */
export type Text = string | readonly (string | readonly [string, number])[]

export function textOf(text: Text): string {
  if (typeof text === 'string') return text
  return text.map((piece) => (typeof piece === 'string' ? piece : piece[0].repeat(piece[1]))).join('')
}
