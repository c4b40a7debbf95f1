/**
 * A program: a way of 127.0.0.1 on which each byte takes a while. `delay.js PORT MS` prints the port on which it listens;
 * what connects there reaches PORT, MS later, each way.
 *
 * It holds what is on its way, BUFFER_BYTES for each direction of a connection, and reads no more until some has arrived: that
 * is a link of BUFFER_BYTES per MS. Loses nothing and keeps the order.
 */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** At 25 ms each way 2.7 GB/s: more than anything on one machine sends. */
const BUFFER_BYTES = 64 * 1024 * 1024

/** One direction. */
class Way {
  /** Until both have ended. */
  static between(from: Socket, to: Socket, delay: number): Way {
    const way = new Way(from, to, delay)
    from.on('data', (chunk: Buffer) => way.#take(chunk))
    from.on('end', () => way.#take(undefined))
    from.on('error', () => to.destroy())
    from.on('close', (broken) => {
      if (broken) to.destroy()
    })
    to.on('drain', () => way.#drained())
    return way
  }

  readonly #from: Socket
  readonly #to: Socket
  readonly #delay: number
  readonly #due: { at: number; chunk: Buffer | undefined }[] = []
  #head = 0
  #bytes = 0
  #timer: NodeJS.Timeout | undefined
  #blocked = false

  private constructor(from: Socket, to: Socket, delay: number) {
    this.#from = from
    this.#to = to
    this.#delay = delay
  }

  #drained(): void {
    this.#blocked = false
    this.#send()
  }

  /** Undefined: the end. */
  #take(chunk: Buffer | undefined): void {
    this.#due.push({ at: performance.now() + this.#delay, chunk })
    this.#bytes += chunk?.length ?? 0
    if (this.#bytes >= BUFFER_BYTES) this.#from.pause()
    this.#wait()
  }

  #wait(): void {
    const next = this.#due[this.#head]
    if (next === undefined || this.#timer !== undefined || this.#blocked) return
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        this.#send()
      },
      Math.max(0, next.at - performance.now()),
    )
  }

  /** Sends what is due, as far as it is taken. */
  #send(): void {
    if (this.#to.destroyed) return
    // A timer may be a moment early.
    const now = performance.now() + 0.5
    this.#to.cork()
    for (let next = this.#due[this.#head]; next !== undefined && next.at <= now && !this.#blocked; ) {
      this.#head += 1
      if (next.chunk === undefined) this.#to.end()
      else {
        this.#bytes -= next.chunk.length
        this.#blocked = !this.#to.write(next.chunk) && this.#to.writableLength > BUFFER_BYTES / 16
      }
      next = this.#due[this.#head]
    }
    this.#to.uncork()
    if (this.#to.writableLength === 0) this.#blocked = false
    if (this.#head > 1024) {
      this.#due.splice(0, this.#head)
      this.#head = 0
    }
    if (this.#bytes < BUFFER_BYTES / 2) this.#from.resume()
    this.#wait()
  }
}

const [port, delay] = process.argv.slice(2).map(Number)
if (!(port !== undefined && port > 0 && delay !== undefined && delay >= 0)) {
  console.error('usage: delay.js PORT MS')
  process.exit(2)
}
const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
  const far = connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true })
  Way.between(near, far, delay)
  Way.between(far, near, delay)
})
server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port))
