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

/** Sent at a time. */
const WRITE_BYTES = 4 * 1024 * 1024

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
    return way
  }

  readonly #from: Socket
  readonly #to: Socket
  readonly #delay: number
  readonly #due: { at: number; chunk: Buffer | undefined }[] = []
  #head = 0
  #bytes = 0
  #timer: NodeJS.Timeout | undefined
  #writing = false

  private constructor(from: Socket, to: Socket, delay: number) {
    this.#from = from
    this.#to = to
    this.#delay = delay
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
    if (next === undefined || this.#timer !== undefined || this.#writing) return
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        this.#send()
      },
      Math.max(0, next.at - performance.now()),
    )
  }

  /** Sends what is due, in one write; the next begins when that has left. */
  #send(): void {
    // A timer may be a moment early.
    const now = performance.now() + 0.5
    const chunks: Buffer[] = []
    let bytes = 0
    let ended = false
    while (bytes < WRITE_BYTES) {
      const next = this.#due[this.#head]
      if (next === undefined || next.at > now) break
      this.#head += 1
      if (next.chunk === undefined) ended = true
      else chunks.push(next.chunk)
      bytes += next.chunk?.length ?? 0
    }
    const last = chunks.pop()
    this.#to.cork()
    for (const chunk of chunks) this.#to.write(chunk)
    this.#writing = last !== undefined
    if (last !== undefined) this.#to.write(last, this.#written)
    if (ended) this.#to.end()
    this.#to.uncork()
    this.#bytes -= bytes
    if (this.#head > 1024) {
      this.#due.splice(0, this.#head)
      this.#head = 0
    }
    if (this.#bytes < BUFFER_BYTES / 2) this.#from.resume()
    this.#wait()
  }

  readonly #written = (error?: Error | null): void => {
    this.#writing = false
    if (!error) this.#wait()
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
