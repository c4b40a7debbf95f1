import type { Pin } from '../identity/index.ts'
import type { MemoryBudget } from '../mux/index.ts'
import type { Clients } from './clients.ts'
import { type ClientRow, clientRows } from './commands.ts'
import type { ConnectedClient } from './connected-client.ts'
import type { Route } from './route.ts'
import type { Routes } from './routes.ts'
import type { Gauge } from './series.ts'
import type { Store } from './store.ts'
import type { RouteTraffic } from './traffic.ts'
import type { Visitors } from './visitors.ts'

/** What a report is made of; nothing here is changed. */
export interface Reported {
  store: Store
  routes: Routes<ConnectedClient>
  clients: Clients
  visitors: Visitors
  memory: MemoryBudget
  /** Connections that have not logged in. */
  unauthenticated: number
}

export interface RouteRow {
  route: Route
  owner: string
  /** Absent while nobody serves it. */
  service?: string
  type?: string
  /** Usable ones. */
  replicas: number
  /** Those whose clients say that their targets are down. */
  down: number
  streams: number
  held: number
}

export interface GatewayStatus {
  side: 'gateway'
  clients: ClientRow[]
  routes: RouteRow[]
  /** Visitors that are being served. */
  streams: number
  /** From visitors, and to them. */
  bytes: { in: number; out: number }
  /** What went wrong since the start, by code. */
  errors: Record<string, number>
}

/** Every enrolled machine, connected or not. */
export function reportClients({ store, clients }: Reported): ClientRow[] {
  const live = new Map<Pin, ConnectedClient>()
  for (const client of clients.all) live.set(client.key, client)
  const copied = new Set(clients.copiedKeys)
  return clientRows(store, (key) => {
    const client = live.get(key)
    if (client === undefined) return undefined
    return { address: client.tunnel.remoteAddress, instance: client.instance, copied: copied.has(key) }
  })
}

export function reportStatus(reported: Reported): GatewayStatus {
  const { store, visitors } = reported
  const live = new Map(reported.routes.snapshot().map((entry) => [entry.route, entry]))
  const routes = store.authority.owners.map(({ route, name }) => {
    const replicas = live.get(route)?.replicas ?? []
    const [first] = replicas
    return {
      route,
      owner: name,
      ...(first === undefined ? {} : { service: first.service, type: first.type }),
      replicas: replicas.filter((replica) => replica.tunnel.usable && !replica.down).length,
      down: replicas.filter((replica) => replica.down).length,
      streams: replicas.reduce((sum, replica) => sum + replica.active, 0),
      held: visitors.held(route),
    }
  })
  return {
    side: 'gateway',
    clients: reportClients(reported),
    routes,
    streams: visitors.active,
    bytes: visitors.bytes,
    errors: Object.fromEntries(errorsOf(reported)),
  }
}

/** For `/metrics`. Labels are registered routes and our own codes, so nobody outside can make new ones. */
export function reportGauges(reported: Reported): Gauge[] {
  const { clients, visitors, memory } = reported
  const { bytes } = visitors
  const routes = reported.routes.snapshot()
  const one = (name: string, type: Gauge['type'], help: string, value: number): Gauge => ({
    name: `blindgate_${name}`,
    type,
    help,
    values: [{ value }],
  })
  const perRoute = (name: string, help: string, of: (entry: (typeof routes)[number]) => number): Gauge => ({
    name: `blindgate_route_${name}`,
    type: 'gauge',
    help,
    labels: ['route'],
    values: routes.map((entry) => ({ labels: { route: entry.route }, value: of(entry) })),
  })
  return [
    one('tunnels', 'gauge', 'Tunnels of clients that are logged in.', clients.all.size),
    one('unauthenticated', 'gauge', 'Connections that have not logged in.', reported.unauthenticated),
    one('visitors', 'gauge', 'Visitors that are connected.', visitors.size),
    one('held_visitors', 'gauge', 'Visitors that wait for a client.', visitors.heldAll),
    one('visitors_total', 'counter', 'Visitors since the start.', visitors.total),
    one('bytes_in_total', 'counter', 'Bytes from visitors.', bytes.in),
    one('bytes_out_total', 'counter', 'Bytes to visitors.', bytes.out),
    one('unread_bytes', 'gauge', 'Received from clients and not yet taken by visitors.', memory.unread),
    one('unsent_bytes', 'gauge', 'Received from visitors and not yet taken by clients.', memory.queued),
    perRoute('replicas', 'Clients that serve a route.', ({ replicas }) => replicas.length),
    perRoute('streams', 'Visitors of a route that are being served.', ({ replicas }) =>
      replicas.reduce((sum, replica) => sum + replica.active, 0),
    ),
    perRoute('held', 'Visitors that wait for a client of a route.', ({ route }) => visitors.held(route)),
    one('idle_streams', 'gauge', 'Streams that wait for a request of another visitor.', visitors.pool.size),
    ...trafficGauges(visitors.trafficNow),
    {
      name: 'blindgate_errors_total',
      type: 'counter',
      help: 'What went wrong, by code.',
      labels: ['code'],
      values: Array.from(errorsOf(reported), ([code, value]) => ({ labels: { code }, value })),
    },
  ]
}

/** Of each route since the start, up to this moment. */
function trafficGauges(traffic: ReadonlyMap<Route, RouteTraffic>): Gauge[] {
  const all = [...traffic]
  const bytes = (way: 'in' | 'out', help: string): Gauge => ({
    name: `blindgate_route_bytes_${way}_total`,
    type: 'counter',
    help,
    labels: ['route'],
    values: all.map(([route, each]) => ({ labels: { route }, value: each[way] })),
  })
  return [
    bytes('in', 'Bytes from the visitors of a route.'),
    bytes('out', 'Bytes to the visitors of a route.'),
    {
      name: 'blindgate_http_requests_total',
      type: 'counter',
      help: 'Requests of a route by the class of their answers.',
      labels: ['route', 'status'],
      values: all.flatMap(([route, { answers }]) =>
        answers.flatMap((value, kind) =>
          value === 0 ? [] : [{ labels: { route, status: kind === 0 ? 'none' : `${kind}xx` }, value }],
        ),
      ),
    },
  ]
}

/** Of clients and visitors together. */
function errorsOf({ clients, visitors }: Reported): Map<string, number> {
  const sum = new Map(clients.errors)
  for (const [code, count] of visitors.errors) sum.set(code, (sum.get(code) ?? 0) + count)
  return sum
}
