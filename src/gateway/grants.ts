import type { Grant, PortRange } from '../config/index.ts'
import { TunnelError } from '../errors.ts'
import { printable, type ServiceOffer } from '../protocol/index.ts'
import { DEFAULT_HOST, parseRoute, type Route } from './route.ts'

/** A `Grant` whose hosts are looked up and not gone through. */
type Granted = Pick<Grant, 'types' | 'ports'> & { hosts: ReadonlySet<string> | 'any' }

/** What a gateway without any `[grant.NAME]` lets its one name offer. Lower ports need a word from the operator. */
const WITHOUT_GRANTS: Granted = {
  types: ['http', 'https', 'tcp'],
  hosts: 'any',
  ports: [{ from: 1024, to: 65_535 }],
}

/**
 * What each name may offer: the `[grant.NAME]` tables of gateway.toml, or the rule for a gateway without any.
 * Immutable; a reload makes a new one.
 */
export class Grants {
  readonly #grants: ReadonlyMap<string, Granted> | undefined

  constructor(grants: ReadonlyMap<string, Grant> | undefined) {
    this.#grants =
      grants &&
      new Map(Array.from(grants, ([name, grant]) => [name, { ...grant, hosts: new Set(grant.hosts) }]))
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

  /**
   * Throws `not_granted`, saying what to change, unless `name` may offer this on these routes; undefined for a port
   * that has yet to be chosen.
   */
  check(
    name: string,
    offer: ServiceOffer,
    routes: readonly Route[] | undefined,
    reserved: ReadonlySet<number>,
  ): void {
    const grant = this.#of(name)
    if (grant === undefined) throw notGranted(`"${name}" has no grant: add [grant.${name}] ${WHERE}`)
    if (!grant.types.some((type) => type === offer.type)) {
      const types = grant.types.join(', ') || 'nothing'
      throw notGranted(
        `type ${printable(offer.type)} is outside the grant of "${name}" (${types}): ${this.#add(name, 'types')}`,
      )
    }
    if (routes === undefined) {
      if (grant.ports.length === 0) {
        throw notGranted(`the grant of "${name}" has no ports: ${this.#add(name, 'ports')}`)
      }
      return
    }
    for (const route of routes) {
      const why = this.#outside(name, grant, route, reserved)
      if (why !== undefined) throw notGranted(why)
    }
  }

  /** True when the grant of `name` has this very host, and not only a wildcard above it. */
  lists(name: string, host: string): boolean {
    const hosts = this.#grants?.get(name)?.hosts
    return hosts !== undefined && hosts !== 'any' && hosts.has(host)
  }

  /** True while `name` may have `route`, whatever it was offered as. */
  covers(name: string, route: Route, reserved: ReadonlySet<number>): boolean {
    const grant = this.#of(name)
    if (grant === undefined) return false
    return (
      grant.types.includes(parseRoute(route).kind) &&
      this.#outside(name, grant, route, reserved) === undefined
    )
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

  #of(name: string): Granted | undefined {
    return this.#grants === undefined ? WITHOUT_GRANTS : this.#grants.get(name)
  }

  #outside(name: string, grant: Granted, route: Route, reserved: ReadonlySet<number>): string | undefined {
    const parsed = parseRoute(route)
    if (parsed.kind !== 'tcp') {
      const { host } = parsed
      if (coversHost(grant.hosts, host)) return undefined
      const what = host === DEFAULT_HOST ? 'the default route' : `host ${host}`
      return `${what} is outside the grant of "${name}": add "${host}" under [grant.${name}] hosts ${WHERE}`
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

/** `*.example.com` has every host one label below it, and itself as a pattern; `*` the default route and no host. */
function coversHost(hosts: Granted['hosts'], host: string): boolean {
  if (hosts === 'any' || hosts.has(host)) return true
  const dot = host.indexOf('.')
  return dot > 0 && hosts.has(`*${host.slice(dot)}`)
}

function portsText({ from, to }: PortRange): string {
  return from === to ? `${from}` : `${from}-${to}`
}

function notGranted(detail: string): TunnelError {
  return new TunnelError('not_granted', { scope: 'stream', remote: true, detail })
}
