import { connect, createServer, type Server, type Socket } from 'node:net'

/** A network between client and gateway, which may lose a connection without a word to either side. */
export class Relay {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  /** Connections of these are lost. */
  readonly #lost = new Set<Socket>()
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
      const lost = (): boolean => this.#lost.has(near)
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(from)
        from.on('data', (chunk: Buffer) => {
          if (!lost()) to.write(chunk)
        })
        from.on('end', () => {
          if (!lost()) to.end()
        })
        from.on('error', () => {})
        from.on('close', () => {
          this.#sockets.delete(from)
          if (!lost()) to.destroy()
        })
      }
    })
  }

  get address(): string {
    return `127.0.0.1:${this.port}`
  }

  /** On what is connected now nothing passes any more, and nobody is told. What connects later works. */
  fallSilent(): void {
    for (const socket of this.#sockets) this.#lost.add(socket)
  }

  /** What is connected now is cut, and both sides see it. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}
