import type { Logger } from 'pino'
import { userError } from '../errors.ts'
import { type State, serveLocal } from '../state/index.ts'
import type { ClientStatus } from './status.ts'

/** Sockets of this process so far: one that runs several clients has one for each. */
let made = 0

/** Where `blindgate status` asks this process. A client serves its visitors also where there can be none. */
export class StatusSocket {
  readonly #state: State
  readonly #status: () => ClientStatus
  readonly #log: Logger
  #opening: Promise<{ close(): Promise<void> } | undefined> | undefined

  constructor(state: State, status: () => ClientStatus, log: Logger) {
    this.#state = state
    this.#status = status
    this.#log = log
  }

  /** Resolves when it can be asked, or never can. */
  async open(): Promise<void> {
    this.#opening ??= this.#open()
    await this.#opening
  }

  async close(): Promise<void> {
    const server = await this.#opening
    await server?.close()
  }

  async #open(): Promise<{ close(): Promise<void> } | undefined> {
    made += 1
    const name = made === 1 ? `client-${process.pid}` : `client-${process.pid}-${made}`
    try {
      return await serveLocal(this.#state.socketPath(name), (request) => this.#answer(request))
    } catch (error) {
      this.#log.warn({ err: error }, '`blindgate status` will not see this client: its socket cannot be made')
      return undefined
    }
  }

  #answer(request: unknown): Promise<ClientStatus> {
    if (
      typeof request === 'object' &&
      request !== null &&
      'command' in request &&
      request.command === 'status'
    ) {
      return Promise.resolve(this.#status())
    }
    return Promise.reject(userError('usage', 'a client answers only to "status"'))
  }
}
