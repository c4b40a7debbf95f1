import type { TlsMode } from '../config/index.ts'
import type { Pin } from '../identity/index.ts'
import type { Connector } from './connector.ts'
import type { Outcomes } from './outcomes.ts'
import type { Prober } from './prober.ts'
import { type ClientService, targetText } from './services.ts'
import type { Serving } from './serving.ts'
import type { TrustReport } from './trust/index.ts'

/** What `blindgate status` shows of one client process. All text is safe to print; times are ISO 8601. */
export interface ClientStatus {
  side: 'client'
  /** What its settings stand in; absent for a quick command, and in the SDK. */
  file?: string
  gateways: {
    address: string
    pin: Pin
    /** The tenant there. */
    name?: string
    connected: boolean
    /** Of the oldest tunnel. */
    since?: string
    /** The least of its tunnels. */
    rttMs?: number
    /** Why it is not connected. */
    error?: { code: string; message: string }
  }[]
  routes: {
    gateway: string
    name: string
    type: string
    /** As configured; absent for a service without any. */
    hosts?: string[]
    /** Empty while the gateway has not answered, or refused. */
    urls: string[]
    target: string
    /** The key that it must show, where that is configured. */
    targetKey?: Pin
    /** What its target answers to the health path; absent for a service without one. */
    health?: 'up' | 'down'
    /** Of https: where TLS ends, and what of its certificate if that is here. */
    tls?: { mode: TlsMode; expires?: string; trouble?: string }
    error?: { code: string; message: string }
  }[]
  /** Live visitors. */
  streams: number
  /** From visitors, and to them. */
  bytes: { in: number; out: number }
  errors: Record<string, number>
  /** Whether visitors come unread, as far as it was checked; absent for a client that does not check. */
  trust?: TrustReport
}

export function statusOf(options: {
  file: string | undefined
  connectors: readonly Connector[]
  services: ReadonlyMap<string, ClientService>
  outcomes: Outcomes
  serving: Serving
  prober: Prober
  errors: Record<string, number>
  trust: TrustReport | undefined
}): ClientStatus {
  const { file, connectors, services, outcomes, serving, prober, errors, trust } = options
  return {
    side: 'client',
    ...(file === undefined ? {} : { file }),
    gateways: connectors.map(gatewayStatus),
    routes: connectors.flatMap((connector) =>
      [...services.values()]
        .filter(({ name }) => connector.offers(name))
        .map((service) => {
          const { gateway } = connector
          const { name, type, hosts, targetKey } = service
          const outcome = outcomes.of(connector, name)
          const error = outcome?.error
          const urls = outcome?.urls ?? []
          const health = prober.health(name)
          return {
            gateway,
            name,
            type,
            ...(hosts.length === 0 ? {} : { hosts }),
            urls,
            target: targetText(service),
            ...(targetKey === undefined ? {} : { targetKey }),
            ...(health === undefined ? {} : { health }),
            ...tlsStatus(service, serving),
            ...(error === undefined ? {} : { error }),
          }
        }),
    ),
    streams: serving.active,
    bytes: serving.bytes,
    errors,
    // Of services that have no TLS of their own there is nothing to tell.
    ...(trust === undefined || trust.alarms.length + trust.findings.length === 0 ? {} : { trust }),
  }
}

function tlsStatus({ name, tls: mode }: ClientService, serving: Serving): { tls?: RouteTls } {
  if (mode === undefined) return {}
  const { expires, trouble } = serving.certificate(name) ?? {}
  return {
    tls: {
      mode,
      ...(expires === undefined ? {} : { expires: new Date(expires).toISOString() }),
      ...(trouble === undefined ? {} : { trouble }),
    },
  }
}

type RouteTls = NonNullable<ClientStatus['routes'][number]['tls']>

function gatewayStatus(connector: Connector): ClientStatus['gateways'][number] {
  const { gateway, name, problem, live } = connector
  const tunnels = live.flatMap(({ tunnel }) => (tunnel === undefined ? [] : [tunnel]))
  const rtts = tunnels.flatMap(({ session }) => (session.rtt === undefined ? [] : [session.rtt]))
  return {
    address: gateway,
    pin: connector.entry.pin,
    ...(name === undefined ? {} : { name }),
    connected: tunnels.length > 0,
    ...(tunnels.length === 0
      ? {}
      : { since: new Date(Math.min(...tunnels.map(({ since }) => since))).toISOString() }),
    ...(rtts.length === 0 ? {} : { rttMs: Math.round(Math.min(...rtts) * 100) / 100 }),
    ...(problem === undefined ? {} : { error: { code: problem.code, message: problem.message } }),
  }
}
