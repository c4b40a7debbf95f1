import { bindPort, type Handle, type ListenAddress } from '../../net/index.ts'

interface Bound {
  handle: Handle
  host: string
  port: number
}

interface Binding {
  readonly bound: Promise<Bound>
  /** Workers that listen there. */
  readonly users: Set<number>
}

/**
 * The ports that workers listen on: bound here once, and handed to each that asks. One is free again when its last
 * worker has closed it, and that of the gateway itself when this is closed.
 */
export class Bindings {
  readonly #all = new Map<string, Binding>()
  /** Stay bound without a worker, so that a visitor waits for the next one. */
  readonly #kept = new Set<string>()

  /** A port of the gateway's own; 0 becomes the one that is found. Rejects with `address_in_use`. */
  async keep(address: ListenAddress): Promise<Bound> {
    const bound = await bindPort(address)
    const key = keyOf({ ...address, port: bound.port })
    this.#kept.add(key)
    this.#all.set(key, { bound: Promise.resolve(bound), users: new Set() })
    return bound
  }

  async bind(address: ListenAddress, worker: number): Promise<Bound> {
    const key = keyOf(address)
    let binding = this.#all.get(key)
    if (binding === undefined) {
      binding = { bound: bindPort(address), users: new Set() }
      this.#all.set(key, binding)
    }
    binding.users.add(worker)
    try {
      return await binding.bound
    } catch (error) {
      if (this.#all.get(key) === binding) this.#all.delete(key)
      throw error
    }
  }

  unbind(address: ListenAddress, worker: number): void {
    this.#leave(keyOf(address), worker)
  }

  /** A worker has ended. */
  gone(worker: number): void {
    for (const key of Array.from(this.#all.keys())) this.#leave(key, worker)
  }

  close(): void {
    this.#kept.clear()
    for (const key of Array.from(this.#all.keys())) this.#free(key)
  }

  #leave(key: string, worker: number): void {
    const users = this.#all.get(key)?.users
    if (users?.delete(worker) === true && users.size === 0 && !this.#kept.has(key)) this.#free(key)
  }

  #free(key: string): void {
    const binding = this.#all.get(key)
    this.#all.delete(key)
    binding?.bound.then(
      ({ handle }) => handle.close(),
      () => undefined,
    )
  }
}

function keyOf({ host = '', port }: ListenAddress): string {
  return `${host} ${port}`
}
