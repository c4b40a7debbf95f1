/** Visitors of web servers who write their requests byte by byte, and read answers as strictly as a test wants. */
import { Visitor } from './visitors.ts'

/** One whole answer. */
export interface Answer {
  status: number
  /** By lower-case names; of several of one name, all joined by `, `. */
  headers: ReadonlyMap<string, string>
  /** Without its chunks, one character per byte. */
  body: string
  /** Trailer lines of a chunked body. */
  trailers: string
}

/** A connection of a visitor who speaks HTTP/1.1. */
export class Talk {
  readonly visitor: Visitor
  #at = 0

  static async to(port: number, first?: string): Promise<Talk> {
    return new Talk((await Visitor.to(port, first)).read())
  }

  constructor(visitor: Visitor) {
    this.visitor = visitor
  }

  /** What came after the answers that were taken. */
  get rest(): string {
    return this.visitor.text.slice(this.#at)
  }

  say(text: string | Uint8Array): void {
    this.visitor.socket.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text)
  }

  /** The next answer; 1xx ones are skipped. Rejects when the connection ends without a whole one. */
  async answer(method = 'GET'): Promise<Answer> {
    for (;;) {
      const read = readAnswer(this.visitor.text, this.#at, method, this.visitor.socket.readableEnded)
      if (read === undefined) {
        await this.#more()
        continue
      }
      this.#at = read.end
      if (read.answer.status >= 200 || read.answer.status === 101) return read.answer
    }
  }

  /** A GET on this connection, and its answer. */
  ask(host: string, path = '/', lines: readonly string[] = []): Promise<Answer> {
    this.say(get(host, path, lines))
    return this.answer()
  }

  /** Resolves when this text has come behind the answers that were taken. */
  async until(text: string): Promise<void> {
    while (!this.rest.includes(text)) await this.#more()
  }

  close(): void {
    this.visitor.socket.destroy()
  }

  async #more(): Promise<void> {
    const { visitor } = this
    if (visitor.socket.readableEnded || visitor.socket.destroyed)
      throw new Error(`over after ${JSON.stringify(this.rest)}`)
    await Promise.race([visitor.has(visitor.received + 1), visitor.ended, visitor.closed])
  }
}

export function get(host: string, path = '/', lines: readonly string[] = []): string {
  return [`GET ${path} HTTP/1.1`, `Host: ${host}`, ...lines, '', ''].join('\r\n')
}

/** The answer that begins at `from`, and where it ends; undefined while it is not whole. */
export function readAnswer(
  text: string,
  from: number,
  method: string,
  ended: boolean,
): { answer: Answer; end: number } | undefined {
  const headEnd = text.indexOf('\r\n\r\n', from)
  if (headEnd < 0) return undefined
  const [first = '', ...lines] = text.slice(from, headEnd).split('\r\n')
  const status = Number(/^HTTP\/1\.1 (\d{3})(?: |$)/.exec(first)?.[1])
  if (!(status >= 100)) throw new Error(`no answer begins with ${JSON.stringify(first)}`)
  const headers = new Map<string, string>()
  for (const line of lines) {
    const [, name = '', value = ''] = /^([^:\s]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? []
    const key = name.toLowerCase()
    headers.set(key, headers.has(key) ? `${headers.get(key)}, ${value}` : value)
  }
  const start = headEnd + 4
  const whole = (body: string, end: number, trailers = ''): { answer: Answer; end: number } => ({
    answer: { status, headers, body, trailers },
    end,
  })
  if (status < 200 || status === 204 || status === 304 || method === 'HEAD') return whole('', start)
  if (headers.get('transfer-encoding') === 'chunked') return readChunks(text, start, whole)
  const length = headers.get('content-length')
  if (length === undefined) return ended ? whole(text.slice(start), text.length) : undefined
  const end = start + Number(length)
  return text.length < end ? undefined : whole(text.slice(start, end), end)
}

function readChunks<T>(
  text: string,
  start: number,
  whole: (body: string, end: number, trailers: string) => T,
): T | undefined {
  let body = ''
  let at = start
  for (;;) {
    const line = text.indexOf('\r\n', at)
    if (line < 0) return undefined
    const digits = text.slice(at, line)
    if (!/^[0-9a-f]+$/.test(digits)) throw new Error(`no chunk size: ${JSON.stringify(digits)}`)
    const size = Number.parseInt(digits, 16)
    if (size === 0) {
      if (text.startsWith('\r\n', line + 2)) return whole(body, line + 4, '')
      const end = text.indexOf('\r\n\r\n', line)
      return end < 0 ? undefined : whole(body, end + 4, text.slice(line + 2, end))
    }
    const data = line + 2
    if (text.length < data + size + 2) return undefined
    body += text.slice(data, data + size)
    at = data + size + 2
  }
}
