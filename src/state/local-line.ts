import { TunnelError } from '../errors.ts'
import { LOCAL_MESSAGE_BYTES } from '../limits.ts'

/** The line that answers a request. */
export type Answer = { answer: unknown } | { error: { code: string; message: string } }

/** One JSON line. */
export function lineOf(value: unknown): string {
  return `${JSON.stringify(value)}\n`
}

/** Reads what came back. Throws `protocol_error` when it is no answer. */
export function answerOf(value: unknown): Answer {
  if (typeof value === 'object' && value !== null) {
    if ('answer' in value) return { answer: value.answer }
    const error: unknown = 'error' in value ? value.error : undefined
    if (typeof error === 'object' && error !== null && 'code' in error && 'message' in error) {
      return { error: { code: String(error.code), message: String(error.message) } }
    }
  }
  throw bad('what came back is no answer')
}

/** Gathers one JSON line. What follows it is ignored. */
export class LineReader {
  readonly #chunks: Buffer[] = []
  #bytes = 0

  /** The value, once its line is whole; undefined until then. Throws `protocol_error`: too long, or not JSON. */
  push(chunk: Buffer): unknown {
    const end = chunk.indexOf(0x0a)
    const part = end === -1 ? chunk : chunk.subarray(0, end)
    this.#bytes += part.length
    if (this.#bytes > LOCAL_MESSAGE_BYTES) throw bad(`a message is over ${LOCAL_MESSAGE_BYTES} bytes`)
    this.#chunks.push(part)
    if (end === -1) return undefined
    try {
      return JSON.parse(Buffer.concat(this.#chunks).toString()) as unknown
    } catch {
      throw bad('a message is not JSON')
    }
  }
}

function bad(detail: string): TunnelError {
  return new TunnelError('protocol_error', {
    scope: 'process',
    remote: true,
    detail: `local control: ${detail}`,
  })
}
