import type { Grant, PortRange } from '../config/index.ts'
import { TunnelError } from '../errors.ts'
import { printable, type ServiceOffer } from '../protocol/index.ts'
import { parseRoute, type Route, routeOf } from './route.ts'

/** What a gateway without any `[grant.NAME]` lets its one name offer. Lower ports need a word from the operator. */
const WITHOUT_GRANTS: Grant = { types: ['http', 'tcp'], hosts: ['*'], ports: [{ from: 1024, to: 65_535 }] }

/**
 * What each name may offer: the `[grant.NAME]` tables of gateway.toml, or the rule for a gateway without any.
 * Immutable; a reload makes a new one.
 */
export class Grants {
  readonly #grants: ReadonlyMap<string, Grant> | undefined

  constructor(grants: ReadonlyMap<string, Grant> | undefined) {
    this.#grants = grants
  }

  /** False without any `[grant.NAME]`: the gateway then serves one name. */
  get some(): boolean {
    return this.#grants !== undefined
  }

  /** Names with a grant, in the order of the file. */
  get names(): string[] {
    return [...(this.#grants?.keys() ?? [])]
  }

  has(name: string): boolean {
    return this.#grants === undefined || this.#grants.has(name)
  }

  /** Throws `not_granted`, `unsupported` or `bad_service`, each saying what to change, unless `name` may offer this. */
  check(name: string, offer: ServiceOffer, reserved: ReadonlySet<number>): void {
    const grant = this.#of(name)
    if (grant === undefined) throw notGranted(`"${name}" has no grant: add [grant.${name}] ${WHERE}`)
    const route = routeOf(offer)
    if (!grant.types.some((type) => type === offer.type)) {
      const types = grant.types.join(', ') || 'nothing'
      throw notGranted(
        `type ${printable(offer.type)} is outside the grant of "${name}" (${types}): ${this.#add(name, 'types')}`,
      )
    }
    if (route === undefined) {
      if (grant.ports.length === 0) {
        throw notGranted(`the grant of "${name}" has no ports: ${this.#add(name, 'ports')}`)
      }
      return
    }
    const why = this.#outside(name, grant, route, reserved)
    if (why !== undefined) throw notGranted(why)
  }

  /** True while `name` may have `route`, whatever it was offered as. */
  covers(name: string, route: Route, reserved: ReadonlySet<number>): boolean {
    const grant = this.#of(name)
    if (grant === undefined) return false
    const type = parseRoute(route).kind === 'tcp' ? 'tcp' : 'http'
    return grant.types.includes(type) && this.#outside(name, grant, route, reserved) === undefined
  }

  /** The lowest port of the grant for which `taken` says false; undefined when there is none. */
  lowestPort(name: string, taken: (port: number) => boolean): number | undefined {
    const ranges = [...(this.#of(name)?.ports ?? [])].sort((a, b) => a.from - b.from)
    for (const { from, to } of ranges) {
      for (let port = from; port <= to; port++) if (!taken(port)) return port
    }
    return undefined
  }

  /** The ports of a grant as the file writes them: `2222, 8000-8100`. */
  portsOf(name: string): string {
    return (this.#of(name)?.ports ?? []).map(portsText).join(', ') || 'none'
  }

  #of(name: string): Grant | undefined {
    return this.#grants === undefined ? WITHOUT_GRANTS : this.#grants.get(name)
  }

  #outside(name: string, grant: Grant, route: Route, reserved: ReadonlySet<number>): string | undefined {
    const parsed = parseRoute(route)
    if (parsed.kind === 'default') {
      if (grant.hosts.includes('*')) return undefined
      return `the default route is outside the grant of "${name}": add "*" under [grant.${name}] hosts ${WHERE}`
    }
    const { port } = parsed
    if (reserved.has(port)) return `port ${port} is the gateway's own: choose another`
    if (grant.ports.some((range) => range.from <= port && port <= range.to)) return undefined
    const ports = grant.ports.map(portsText).join(', ') || 'none'
    return `port ${port} is outside the grant of "${name}" (${ports}): ${this.#add(name, 'ports')}`
  }

  #add(name: string, key: 'types' | 'ports'): string {
    return this.some
      ? `add it under [grant.${name}] ${key} ${WHERE}`
      : `add [grant.${name}] with types, hosts and ports to gateway.toml there, and start the gateway with -c gateway.toml`
  }
}

const WHERE = 'on the gateway, then SIGHUP'

function portsText({ from, to }: PortRange): string {
  return from === to ? `${from}` : `${from}-${to}`
}

function notGranted(detail: string): TunnelError {
  return new TunnelError('not_granted', { scope: 'stream', remote: true, detail })
}
