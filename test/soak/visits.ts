/** What visits have in common: where they go to, and what may become of them. */
import { connect, type Socket } from 'node:net'
import type { Chance } from '../http1/mutations.ts'
import { isAt } from './pattern.ts'

/** Whose clients serve a route: of the one that stays, of the one that is killed, or of both. */
export const SIDES = ['stays', 'leaves', 'both'] as const
export type Side = (typeof SIDES)[number]

/** Where a visitor finds the services of one side. */
export interface Place {
  http: number
  tls: number
  /** Where clients come. */
  tunnel: number
  tcp: number
  hosts: Hosts
}

export interface Hosts {
  http: string
  /** TLS ends in the client. */
  secure: string
  /** And at the target. */
  passthrough: string
}

export interface Kind {
  name: string
  /** How often, against the others. */
  weight: number
  /** It has to get what it asks for. The others only have to come to an end. */
  mannered: boolean
  /** Resolves when all was right; rejects with `Told` when the visitor was told that it was not. */
  visit(place: Place, chance: Chance): Promise<void>
}

/** An end that a visitor can tell from a good one: its connection was reset, its answer cut off, or a status said so. */
export class Told extends Error {
  readonly what: string

  constructor(what: string) {
    super(`told: ${what}`)
    this.what = what
  }
}

/** A visitor by tcp, who holds all that comes against what should come. */
export class Caller {
  readonly socket: Socket
  #received = 0
  #wrong: number | undefined
  #failed = false
  #ended = false
  readonly #watchers = new Set<() => void>()

  /** `first` leaves at once; all that comes has to be the bytes from `at` on. It does not read yet. */
  constructor(port: number, first: string, at: number) {
    this.socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
    this.socket.write(first)
    const changed = (): void => {
      for (const look of this.#watchers) look()
    }
    this.socket.on('data', (chunk: Buffer) => {
      if (this.#wrong === undefined && !isAt(at + this.#received, chunk)) this.#wrong = this.#received
      this.#received += chunk.length
      changed()
    })
    this.socket.pause()
    this.socket.on('error', () => {
      this.#failed = true
    })
    this.socket.on('end', () => {
      // Bytes and a reset that come together are bytes and an end to Node; an empty write then fails.
      const seen = (error?: Error | null): void => {
        this.#failed ||= error !== undefined && error !== null
        this.#ended = true
        changed()
      }
      if (this.socket.writable) this.socket.write(Buffer.alloc(0), seen)
      else seen(this.socket.errored)
    })
    this.socket.on('close', changed)
  }

  /** Resolves when so many bytes came in all. */
  async has(bytes: number): Promise<void> {
    this.socket.resume()
    while (this.#received < bytes) {
      if (this.#ended || this.socket.destroyed) this.#over(bytes)
      await this.#change()
    }
    this.#over(bytes, false)
  }

  /** Resolves when exactly so many bytes came, and an end. */
  async all(bytes: number): Promise<void> {
    this.socket.resume()
    while (!this.#ended && !this.socket.destroyed) await this.#change()
    this.#over(bytes)
    this.socket.destroy()
  }

  /** Resolves when it is reset. */
  async broken(): Promise<void> {
    this.socket.resume()
    while (!this.#failed) {
      if (this.#ended || this.socket.destroyed) throw new Error('ended in order; a reset was due')
      await this.#change()
    }
    if (this.#wrong !== undefined) throw new Error(`wrong from byte ${this.#wrong}`)
    this.socket.destroy()
  }

  /** Breaks it, and waits until nothing of it is left here. */
  async reset(): Promise<void> {
    this.socket.resetAndDestroy()
    while (!this.socket.closed) await this.#change()
  }

  #over(wanted: number, exactly = true): void {
    const { socket } = this
    if (this.#wrong !== undefined) throw new Error(`wrong from byte ${this.#wrong} of ${wanted}`)
    if (exactly && (this.#received !== wanted || this.#failed)) {
      socket.destroy()
      if (this.#failed) throw new Told('reset')
      throw new Error(`an end after ${this.#received} of ${wanted} bytes`)
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        this.#watchers.delete(look)
        resolve()
      }
      this.#watchers.add(look)
    })
  }
}
