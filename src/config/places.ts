import type { ServiceSettings } from './service-settings.ts'

/** Two services of one file that no gateway can serve both. `key` is what of the later one is to change. */
export interface Clash {
  /** Of the later one. */
  index: number
  key: 'host' | 'port'
  detail: string
}

/** What decides where visitors reach a service. */
export type Placed = Pick<ServiceSettings, 'name' | 'type' | 'hosts' | 'path' | 'port' | 'gateways'>

/** What is undefined is no service to look at. Where the gateway chooses the place, only it can tell. */
export function clashesOf(services: readonly (Placed | undefined)[]): Clash[] {
  const holders = new Map<string, Placed[]>()
  return services.flatMap((service, index) => {
    if (service === undefined) return []
    const { type } = service
    const clashes = placesOf(service).flatMap((place): Clash[] => {
      const at = `${type} ${place}`
      const before = holders.get(at) ?? []
      holders.set(at, [...before, service])
      const holder = before.find((other) => shareGateway(service, other))
      if (holder === undefined) return []
      const detail = `${place} is taken by the service "${holder.name}" above: ${ADVICE[type]}`
      return [{ index, key: type === 'tcp' ? 'port' : 'host', detail }]
    })
    return clashes.slice(0, 1)
  })
}

const ADVICE: Readonly<Record<ServiceSettings['type'], string>> = {
  http: 'give it another host or path',
  https: 'give it another host',
  tcp: 'give it another port, or leave port out and the gateway chooses one',
  udp: 'give it another port',
}

function placesOf({ hosts, path, port }: Placed): string[] {
  if (port !== undefined) return [`port ${port}`]
  return hosts.map((host) => `host "${host}"${path === undefined ? '' : ` with path "${path}"`}`)
}

/** Without a list it is all gateways; with an empty one none. */
function shareGateway({ gateways: one }: Placed, { gateways: other }: Placed): boolean {
  if (one === undefined) return other === undefined || other.length > 0
  if (other === undefined) return one.length > 0
  return one.some((address) => other.includes(address))
}
