import type { Logger } from 'pino'
import { printable } from '../protocol/index.ts'
import type { Connector } from './connector.ts'
import { type ClientService, type ServiceOutcome, targetText } from './services.ts'
import { visitorUrls } from './urls.ts'

/**
 * What became of each service at each gateway, as last known: kept while a tunnel is away, told and logged when
 * it changes. A service is up where any tunnel to the gateway's ids carries it.
 */
export class Outcomes {
  readonly #log: Logger
  readonly #known = new Map<Connector, Map<string, ServiceOutcome>>()
  /** Gateways whose dropped URLs the log has seen. */
  readonly #warned = new Set<Connector>()

  constructor(log: Logger) {
    this.#log = log
  }

  of(connector: Connector, name: string): ServiceOutcome | undefined {
    return this.#known.get(connector)?.get(name)
  }

  all(connector: Connector): ServiceOutcome[] {
    return [...(this.#known.get(connector)?.values() ?? [])]
  }

  /** Looks at what the tunnels say now; gives the outcome if it is new. */
  learn(connector: Connector, service: ClientService): ServiceOutcome | undefined {
    const outcome = this.#now(connector, service)
    if (outcome === undefined) return undefined
    let known = this.#known.get(connector)
    if (known === undefined) this.#known.set(connector, (known = new Map()))
    const before = known.get(service.name)
    known.set(service.name, outcome)
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(outcome)) return undefined
    this.#tell(outcome)
    return outcome
  }

  /** Forgets services that are not offered there any more. */
  prune(connector: Connector): void {
    const known = this.#known.get(connector)
    for (const name of known?.keys() ?? []) if (!connector.offers(name)) known?.delete(name)
  }

  /** Forgets a gateway. */
  forget(connector: Connector): void {
    this.#known.delete(connector)
    this.#warned.delete(connector)
  }

  #now(connector: Connector, service: ClientService): ServiceOutcome | undefined {
    const { gateway } = connector
    const { name, type } = service
    const about = { gateway, name, type, target: targetText(service) }
    const urls = new Set<string>()
    let up = false
    let error: { code: string; message: string } | undefined
    for (const { offers } of connector.live) {
      const answer = offers.answer(name)
      if (answer === undefined) continue
      if ('error' in answer) {
        error ??= { code: printable(answer.error.code), message: withoutName(answer.error.message, name) }
        continue
      }
      up = true
      const checked = visitorUrls(service, answer.urls, connector)
      for (const url of checked.urls) urls.add(url)
      this.#warnOfDropped(connector, name, checked.dropped)
    }
    if (up) return { ...about, urls: [...urls] }
    return error === undefined ? undefined : { ...about, error }
  }

  #tell(outcome: ServiceOutcome): void {
    const { gateway, name: service, target, error } = outcome
    if (error !== undefined) {
      const text = `service "${service}" is refused by ${gateway}: ${error.message} (${error.code})`
      this.#log.warn({ gateway, service, code: error.code }, text)
    } else {
      const urls = outcome.urls.join(' ')
      // Whoever runs the client prints it as its answer; a log that says it too is noise beside that.
      this.#log.debug({ gateway, service, target }, `service "${service}": ${urls || 'no URL'} → ${target}`)
    }
  }

  #warnOfDropped(connector: Connector, service: string, dropped: readonly string[]): void {
    const [first] = dropped
    if (first === undefined || this.#warned.has(connector)) return
    this.#warned.add(connector)
    const { gateway } = connector
    this.#log.warn(
      { gateway, service },
      `gateway ${gateway} gave service "${service}" an address that is neither its own nor below its domain, dropped: ` +
        `${printable(first)} (if the gateway's domain is new, join it again)`,
    )
  }
}

/** Some of a gateway's words begin with the service that they are about, and so do ours. */
function withoutName(message: string, service: string): string {
  const begin = `service "${service}": `
  return printable(message.startsWith(begin) ? message.slice(begin.length) : message)
}
