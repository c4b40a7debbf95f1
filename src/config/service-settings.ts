import { userError } from '../errors.ts'
import { HTTP_IDLE_MS } from '../limits.ts'
import type { ServiceType } from '../protocol/index.ts'
import { serviceNameOf, type Target } from './target.ts'

/** A service as the client runs it. */
export interface ServiceSettings {
  name: string
  type: ServiceType
  /** Host patterns; none: the default route. Always none in this version. */
  hosts: string[]
  path?: string | undefined
  /** tcp: the gateway's port; undefined lets the gateway choose. */
  port?: number | undefined
  target: Target
  /** Addresses of the gateways that offer it; undefined: all. */
  gateways?: string[] | undefined
  /** A visitor silent both ways this long is let go; 0: never. */
  idleMs: number
  /** Begin each connection to the target with a PROXY v2 header. */
  proxyHeader: boolean
}

/** A service as a file or a command line says it: parsed, with what was left out undefined. */
export interface ServiceWish {
  name?: string | undefined
  type: 'http' | 'tcp'
  port?: number | undefined
  target: Target
  gateways?: string[] | undefined
  idleMs?: number | undefined
  proxyHeader?: boolean | undefined
}

/** Fills in what was left out. Throws `config_invalid` for a port that the type has not, or where no name can be made. */
export function serviceSettings(wish: ServiceWish): ServiceSettings {
  const { type, port, target, gateways } = wish
  const name = wish.name ?? serviceNameOf(type, target)
  if (name === undefined) {
    throw userError('config_invalid', `no name can be made of ${target.text}: give the service a name`)
  }
  if (type === 'http' && port !== undefined) {
    throw userError(
      'config_invalid',
      "http has no port of its own, visitors use the gateway's: leave port out, or offer tcp",
    )
  }
  return {
    name,
    type,
    hosts: [],
    port,
    target,
    gateways,
    idleMs: wish.idleMs ?? (type === 'http' ? HTTP_IDLE_MS : 0),
    proxyHeader: wish.proxyHeader ?? false,
  }
}
