import { z } from 'zod'
import type { Millis } from '../../mux/index.ts'
import type { State } from '../../state/index.ts'
import { recentOrders } from './pace.ts'

const pending = z.object({
  directory: z.string(),
  account: z.string(),
  hosts: z.array(z.string()),
  /** When it was made. */
  at: z.number(),
  profile: z.string().optional(),
  /** PKCS#8 PEM, of the certificate to be. */
  key: z.string(),
  /** The order's; none yet if a crash came before the CA's answer. */
  url: z.string().optional(),
})
/** An order that is under way. */
export type PendingOrder = z.infer<typeof pending>

const record = z.object({
  version: z.literal(1),
  /** When orders were made, for the bound on their number. */
  orders: z.array(z.number()),
  pending: pending.optional(),
  /** A CA that asked to be left alone, and until when. */
  rest: z.object({ directory: z.string(), until: z.number() }).optional(),
})
type JournalRecord = z.infer<typeof record>

/**
 * What a service's orders leave on the disk: the one that is under way, with its key; when the last ones were made; and
 * what a CA asked for, since a restart is no reason to ask it again. Only who holds the service's lock writes it.
 */
export class Journal {
  readonly #state: State
  readonly #file: string

  constructor(state: State, service: string) {
    this.#state = state
    this.#file = `order-${service}.json`
  }

  async read(): Promise<JournalRecord> {
    return (await this.#state.readJson(this.#file, record)) ?? { version: 1, orders: [] }
  }

  /** Notes an order that is about to be made; resolves when its key is on the disk. */
  async begin(pending: PendingOrder, now: Millis): Promise<void> {
    const { orders } = await this.read()
    // The CA let us ask again.
    await this.#write({ version: 1, orders: [...recentOrders(orders, now), now], pending })
  }

  /** Replaces the order that is under way, or removes it. */
  async keep(pending: PendingOrder | undefined): Promise<void> {
    await this.#write({ ...(await this.read()), pending })
  }

  /** Notes that a CA is to be left alone. */
  async rest(directory: string, until: Millis): Promise<void> {
    await this.#write({ ...(await this.read()), rest: { directory, until } })
  }

  /** Removes the order for this key (PEM), if it is the one under way. */
  async forget(key: string): Promise<void> {
    const { pending } = await this.read()
    if (pending?.key.trim() === key.trim()) await this.keep(undefined)
  }

  #write(record: { [Key in keyof JournalRecord]: JournalRecord[Key] | undefined }): Promise<void> {
    return this.#state.writeJson(this.#file, record)
  }
}
