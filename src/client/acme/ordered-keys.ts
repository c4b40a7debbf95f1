import { z } from 'zod'
import type { Pin } from '../../identity/index.ts'
import { ACME_ACCOUNT_LOCK_MS, ORDERED_KEYS_MS } from '../../limits.ts'
import type { Millis } from '../../mux/index.ts'
import type { State } from '../../state/index.ts'

const FILE = 'ordered-keys.json'

const record = z.object({
  version: z.literal(1),
  keys: z.array(
    z.object({
      pin: z
        .string()
        .regex(/^sha256:[A-Za-z0-9+/]{43}$/)
        .transform((text) => text as Pin),
      hosts: z.array(z.string()),
      at: z.number(),
    }),
  ),
})

/** A key for which an order was made, or was about to be. */
export interface OrderedKey {
  pin: Pin
  hosts: string[]
  at: Millis
}

/**
 * Every key that this state ever ordered a certificate for, as long as one could still be valid: what a certificate
 * that others found must have, or it is not ours. Several processes may share it.
 */
export class OrderedKeys {
  readonly #state: State
  readonly #now: () => Millis

  constructor(state: State, now: () => Millis = Date.now) {
    this.#state = state
    this.#now = now
  }

  async list(): Promise<OrderedKey[]> {
    return (await this.#state.readJson(FILE, record))?.keys ?? []
  }

  async has(pin: Pin): Promise<boolean> {
    return (await this.list()).some((key) => key.pin === pin)
  }

  /** Resolves when it is on the disk: only then may the order be made. */
  async add(pin: Pin, hosts: readonly string[]): Promise<void> {
    const lock = await this.#state.lock('ordered-keys', ACME_ACCOUNT_LOCK_MS)
    try {
      const at = this.#now()
      const kept = (await this.list()).filter((key) => key.pin !== pin && key.at > at - ORDERED_KEYS_MS)
      await this.#state.writeJson(FILE, { version: 1, keys: [...kept, { pin, hosts, at }] })
    } finally {
      await lock.release()
    }
  }
}
