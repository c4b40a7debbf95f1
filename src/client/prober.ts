import type { Logger } from 'pino'
import { HEALTH_JITTER, HEALTH_PROBE_MS } from '../limits.ts'
import type { Millis } from '../mux/index.ts'
import { Health } from './health.ts'
import { probe } from './probe.ts'
import type { ClientService } from './services.ts'

export interface ProberOptions {
  log: Logger
  /** 0 ≤ x < 1; for the jitter. */
  random: () => number
  everyMs?: Millis | undefined
  /** The health of a service has changed, for the gateways where it is offered. Synchronous. */
  changed(name: string, up: boolean): void
}

/**
 * Asks the targets of the services that have a health path, again and again, whether they work. Its timers never
 * keep the process alive; after `close` nothing is left.
 */
export class Prober {
  readonly #options: ProberOptions
  readonly #rounds = new Map<string, Round>()
  #running = false

  constructor(options: ProberOptions) {
    this.#options = options
  }

  /** Begins to ask. */
  start(): void {
    this.#running = true
    for (const round of this.#rounds.values()) this.#plan(round, this.#options.random())
  }

  /** Replaces the services. One whose target is asked otherwise than before begins anew, as up. */
  watch(services: Iterable<ClientService>): void {
    const before = new Map(this.#rounds)
    this.#rounds.clear()
    const anew: Round[] = []
    const named = new Set<string>()
    for (const service of services) {
      const { name, health } = service
      named.add(name)
      // What is served in this process has no target to ask.
      if (health === undefined || service.serve !== undefined) continue
      const known = before.get(name)
      if (known !== undefined && sameQuestion(known.service, service)) {
        before.delete(name)
        this.#rounds.set(name, known)
      } else {
        const round = { service, health: new Health(), abort: new AbortController(), timer: undefined }
        this.#rounds.set(name, round)
        anew.push(round)
      }
    }
    for (const [name, round] of before) {
      stop(round)
      if (!round.health.up && named.has(name)) this.#options.changed(name, true)
    }
    if (this.#running) for (const round of anew) this.#plan(round, this.#options.random())
  }

  /** undefined: nobody asks. */
  health(name: string): 'up' | 'down' | undefined {
    const round = this.#rounds.get(name)
    if (round === undefined) return undefined
    return round.health.up ? 'up' : 'down'
  }

  close(): void {
    this.#running = false
    for (const round of this.#rounds.values()) stop(round)
  }

  /** Asks after so many rounds' time. */
  #plan(round: Round, rounds: number): void {
    const { everyMs = HEALTH_PROBE_MS } = this.#options
    round.timer = setTimeout(() => void this.#ask(round), everyMs * rounds).unref()
  }

  async #ask(round: Round): Promise<void> {
    const { service, health, abort } = round
    const why = await probe(service, { signal: abort.signal })
    if (abort.signal.aborted) return
    if (health.note(why === undefined)) {
      this.#tell(service, why)
      this.#options.changed(service.name, health.up)
    }
    this.#plan(round, 1 + HEALTH_JITTER * (2 * this.#options.random() - 1))
  }

  #tell({ name, health }: ClientService, why: string | undefined): void {
    const about = { service: name }
    if (why === undefined) this.#options.log.info(about, `service "${name}": its target is back`)
    else {
      const text = `service "${name}": its target does not answer GET ${health} (${why}): visitors go elsewhere`
      this.#options.log.warn(about, text)
    }
  }
}

/** One service that is being asked. */
interface Round {
  readonly service: ClientService
  readonly health: Health
  readonly abort: AbortController
  timer: NodeJS.Timeout | undefined
}

function stop({ abort, timer }: Round): void {
  clearTimeout(timer)
  abort.abort()
}

/** What an answer depends on, and who gives it. */
function sameQuestion(a: ClientService, b: ClientService): boolean {
  const question = ({ target, health, proxyHeader, rewrite, hosts }: ClientService) =>
    JSON.stringify([target, health, proxyHeader, rewrite, hosts])
  return question(a) === question(b)
}
