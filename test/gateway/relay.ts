import { connect, createServer, type Server, type Socket } from 'node:net'

/** A network between client and gateway, from which bytes may vanish without a word. */
export class Relay {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #silent = false
  port = 0

  static async to(port: number): Promise<Relay> {
    const relay = new Relay(port)
    await new Promise<void>((resolve) => relay.#server.listen(0, '127.0.0.1', resolve))
    relay.port = (relay.#server.address() as { port: number }).port
    return relay
  }

  private constructor(port: number) {
    this.#server = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(from)
        from.on('data', (chunk: Buffer) => {
          if (!this.#silent) to.write(chunk)
        })
        from.on('end', () => {
          if (!this.#silent) to.end()
        })
        from.on('error', () => {})
        from.on('close', () => {
          this.#sockets.delete(from)
          if (!this.#silent) to.destroy()
        })
      }
    })
  }

  get address(): string {
    return `127.0.0.1:${this.port}`
  }

  /** From now on nothing passes, on what is connected and on what connects; nobody is told. */
  fallSilent(): void {
    this.#silent = true
  }

  /** What connects from now on works again; what was connected stays lost. */
  heal(): void {
    for (const socket of this.#sockets) socket.removeAllListeners('data')
    this.#silent = false
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}
