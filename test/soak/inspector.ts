/** The inspector of a Node process, through its WebSocket: the heap of a program that was not changed for it. */
import { request } from 'node:http'
import type { Socket } from 'node:net'
import type { Running } from '../cli/binary.ts'
import { frame, MessageReader, Opcode } from '../e2e/websocket.ts'
import { type Closable, heard } from '../e2e/world.ts'

/** For the environment of a program that is to be inspected. */
export const INSPECTED = { NODE_OPTIONS: '--inspect=127.0.0.1:0' }

interface Answer {
  id: number
  result?: { result?: { value?: unknown } }
  error?: { message: string }
}

export class Inspector implements Closable {
  readonly #socket: Socket
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  #calls = 0

  static async of(program: Running): Promise<Inspector> {
    const [, where = ''] = await heard(program, 'err', /Debugger listening on ws:\/\/(\S+)/)
    const headers = {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': Buffer.alloc(16).toString('base64'),
    }
    const asked = request(`http://${where}`, { headers }).end()
    return new Promise((resolve, reject) => {
      asked.on('upgrade', (_response, socket) => resolve(new Inspector(socket)))
      asked.on('error', reject)
    })
  }

  private constructor(socket: Socket) {
    this.#socket = socket
    const reader = new MessageReader()
    socket.on('data', (chunk: Buffer) => {
      for (const { payload } of reader.push(chunk)) {
        const answer = JSON.parse(payload.toString()) as Answer
        this.#waiting.get(answer.id)?.(answer)
        this.#waiting.delete(answer.id)
      }
    })
    // A program that a test kills takes it along.
    socket.on('error', () => undefined)
  }

  collect(): Promise<unknown> {
    return this.#call('HeapProfiler.collectGarbage')
  }

  /** What an expression gives there, as JSON has it. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result } = await this.#call('Runtime.evaluate', { expression, returnByValue: true })
    return result?.result?.value as T
  }

  close(): void {
    this.#socket.destroy()
  }

  #call(method: string, params: object = {}): Promise<Answer> {
    const id = ++this.#calls
    this.#socket.write(frame(Opcode.text, JSON.stringify({ id, method, params }), true))
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, (answer) => {
        if (answer.error === undefined) resolve(answer)
        else reject(new Error(`${method}: ${answer.error.message}`))
      })
    })
  }
}
