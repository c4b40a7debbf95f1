import { z } from 'zod'
import { type Pin, parsePin } from '../../identity/index.ts'
import { SHOWN_KEYS, SHOWN_KEYS_MS } from '../../limits.ts'
import type { State } from '../../state/index.ts'

const FILE = 'shown-keys.json'

const record = z.object({
  version: z.literal(1),
  keys: z.array(z.object({ pin: z.string().transform((text) => parsePin(text)), at: z.number() })),
})

/**
 * Keys of certificates that this client has shown its visitors, from whatever source, kept as long as one of them may be
 * valid: who renews a certificate file takes a new key each time, and the certificate before stays in the logs.
 */
export class ShownKeys {
  readonly #state: State

  constructor(state: State) {
    this.#state = state
  }

  /** Rejects with `state_invalid`. */
  async list(): Promise<Pin[]> {
    return ((await this.#state.readJson(FILE, record))?.keys ?? []).map(({ pin }) => pin)
  }

  /** `now` in milliseconds of the epoch. Writes only what is new. Rejects with `state_…`. */
  async add(pins: readonly Pin[], now: number): Promise<void> {
    if (await this.#hasAll(pins)) return
    const lock = await this.#state.lock(FILE)
    try {
      const kept = (await this.#state.readJson(FILE, record))?.keys ?? []
      const recent = kept.filter(({ pin, at }) => at > now - SHOWN_KEYS_MS && !pins.includes(pin))
      const keys = [...recent, ...pins.map((pin) => ({ pin, at: now }))].slice(-SHOWN_KEYS)
      await this.#state.writeJson(FILE, { version: 1, keys })
    } finally {
      await lock.release()
    }
  }

  async #hasAll(pins: readonly Pin[]): Promise<boolean> {
    const known = new Set(await this.list())
    return pins.every((pin) => known.has(pin))
  }
}
