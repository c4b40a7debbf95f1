import { connect, type Socket } from 'node:net'
import { Moments } from '../client/moments.ts'

/** One visitor from the internet. */
export class Visit {
  readonly socket: Socket
  /** 'end': it was closed in order; 'reset': cut. */
  readonly over: Promise<'end' | 'reset'>
  readonly connected: Promise<void>
  /** It does not close when the other side does. */
  stays = false
  readonly #chunks: Buffer[] = []
  readonly #arrived = new Moments<number>()

  constructor(port: number, text?: string | Uint8Array) {
    this.socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true })
    this.connected = new Promise((resolve) => {
      this.socket.once('connect', resolve)
      this.socket.once('close', () => resolve())
    })
    this.over = new Promise((resolve) => {
      this.socket.once('error', () => resolve('reset'))
      this.socket.once('end', () => {
        if (!this.stays) this.socket.end()
        resolve('end')
      })
      this.socket.once('close', () => resolve('reset'))
    })
    this.socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk)
      this.#arrived.add(chunk.length)
    })
    if (text !== undefined) this.socket.write(text)
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString('latin1')
  }

  get bytes(): number {
    return this.#chunks.reduce((sum, { length }) => sum + length, 0)
  }

  /** Resolves when this much text has come; rejects when the connection is over without it. */
  async received(text: string): Promise<void> {
    await Promise.race([
      this.#arrived.find(() => this.text.includes(text)),
      this.over.then((how) => {
        if (!this.text.includes(text)) throw new Error(`${how} after ${JSON.stringify(this.text)}`)
      }),
    ])
  }

  write(text: string | Uint8Array): void {
    this.socket.write(text)
  }
}
