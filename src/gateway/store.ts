import type { Logger } from 'pino'
import { z } from 'zod'
import type { Grant } from '../config/index.ts'
import { userError } from '../errors.ts'
import { SIGHTINGS_WRITE_MS } from '../limits.ts'
import { SERVICE_TYPES } from '../protocol/index.ts'
import type { State } from '../state/index.ts'
import { Authority, authoritySchema } from './authority.ts'

const FILE = 'gateway.json'

const grantSchema = z.object({
  types: z.array(z.enum(SERVICE_TYPES)),
  hosts: z.array(z.string()),
  ports: z.array(z.object({ from: z.number(), to: z.number() })),
})

/** What a gateway said of itself last; a command that finds none running goes by it. */
const saidSchema = z.object({
  /** What invites carry. */
  addresses: z.array(z.string()),
  /** The address that an operator once gave, which outlives the flag. */
  address: z.string().optional(),
  /** Below which services without a host are; invites carry it too. */
  domain: z.string().optional(),
  grants: z.record(z.string(), grantSchema).optional(),
})

const recordSchema = z.object({ version: z.literal(1), said: saidSchema, authority: authoritySchema })

type Said = z.infer<typeof saidSchema>

/**
 * The gateway's durable memory: the authority's record and the addresses that invites carry, in one file.
 * Whoever holds one holds the state's lock.
 */
export class Store {
  readonly authority: Authority
  readonly #state: State
  readonly #log: Logger
  #said: Said
  #written: { revision: number; sightings: number; said: Said }
  #timer: NodeJS.Timeout | undefined
  #closed = false

  private constructor(state: State, authority: Authority, said: Said, log: Logger) {
    this.#state = state
    this.#log = log
    this.authority = authority
    this.#said = said
    this.#written = { revision: authority.revision, sightings: authority.sightings, said }
  }

  /** With the grants of the last gateway that ran here, until `setGrants`. */
  static async open(state: State, log: Logger): Promise<Store> {
    const record = await state.readJson(FILE, recordSchema)
    const said = record?.said ?? { addresses: [] }
    return new Store(state, new Authority(record?.authority, mapOf(said.grants)), said, log)
  }

  /** What invites carry. */
  get addresses(): readonly string[] {
    return this.#said.addresses
  }

  /** Its host, where there is one. */
  get host(): string | undefined {
    return this.#said.addresses[0]?.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')
  }

  /** The address that an operator gave, now or in an earlier run. */
  get address(): string | undefined {
    return this.#said.address
  }

  get domain(): string | undefined {
    return this.#said.domain
  }

  setDomain(domain: string | undefined): void {
    this.authority.domain = domain
    if (domain === this.#said.domain) return
    const { domain: _old, ...rest } = this.#said
    this.#said = { ...rest, ...(domain === undefined ? {} : { domain }) }
  }

  setAddresses(addresses: readonly string[], given: string | undefined): void {
    const said = {
      ...this.#said,
      addresses: [...addresses],
      ...(given === undefined ? {} : { address: given }),
    }
    if (JSON.stringify(said) !== JSON.stringify(this.#said)) this.#said = said
  }

  /** Takes the grants of the file; returns the routes that were covered and no longer are. */
  setGrants(grants: ReadonlyMap<string, Grant> | undefined): ReturnType<Authority['setGrants']> {
    const { grants: _old, ...rest } = this.#said
    const said = { ...rest, ...(grants === undefined ? {} : { grants: Object.fromEntries(grants) }) }
    if (JSON.stringify(said) !== JSON.stringify(this.#said)) this.#said = said
    return this.authority.setGrants(grants)
  }

  /** Resolves when all that anybody may be told is on disk. */
  async save(): Promise<void> {
    // The lock is free: whoever has it now would lose its own changes.
    if (this.#closed) throw userError('state_locked', 'the gateway is closed: start it again')
    if (this.authority.revision === this.#written.revision && this.#said === this.#written.said)
      this.saveSoon()
    else await this.#write()
  }

  /** Writes what has not been written, sightings included. For the end. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    const { revision, sightings } = this.authority
    const written = this.#written
    if (revision !== written.revision || sightings !== written.sightings || this.#said !== written.said)
      await this.#write()
  }

  /** What a crash may lose (who was seen when, which route has a client) is written now and then, not with each dial. */
  saveSoon(): void {
    if (this.#closed || this.#timer !== undefined || this.authority.sightings === this.#written.sightings)
      return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#write().catch((error: unknown) => this.#log.error({ err: error }, 'cannot write the state'))
    }, SIGHTINGS_WRITE_MS)
    this.#timer.unref()
  }

  async #write(): Promise<void> {
    const { revision, sightings } = this.authority
    const said = this.#said
    await this.#state.writeJson(FILE, { version: 1, said, authority: this.authority.record })
    this.#written = { revision, sightings, said }
  }
}

function mapOf(grants: Said['grants']): ReadonlyMap<string, Grant> | undefined {
  return grants === undefined ? undefined : new Map(Object.entries(grants))
}
