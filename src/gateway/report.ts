import type { Pin } from '../identity/index.ts'
import type { MemoryBudget } from '../mux/index.ts'
import type { Authority } from './authority.ts'
import type { Clients } from './clients.ts'
import { type ClientRow, clientRows } from './commands.ts'
import type { ConnectedClient } from './connected-client.ts'
import type { Route } from './route.ts'
import type { Routes } from './routes.ts'
import type { Gauge } from './series.ts'
import type { RouteTraffic } from './traffic.ts'
import type { Visitors } from './visitors.ts'

/** What a station's report is made of; nothing here is changed. */
export interface Reported {
  authority: Authority
  routes: Routes<ConnectedClient>
  clients: Clients
  visitors: Visitors
  memory: MemoryBudget
  /** Connections that have not logged in. */
  unauthenticated: number
}

/** What a station says of itself: plain values, for it may be another process. */
export interface StationReport {
  /** Those of clients that are logged in. */
  tunnels: { key: Pin; instance: string; address: string }[]
  /** Routes that somebody serves here, or waits for. */
  routes: ServedRoute[]
  streams: number
  bytes: { in: number; out: number }
  errors: Map<string, number>
  gauges: Gauge[]
}

export interface ServedRoute {
  route: Route
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

export interface RouteRow extends ServedRoute {
  owner: string
}

/** A process that serves, where there are several. */
export interface WorkerRow {
  worker: number
  pid: number
  /** What clients know it by. */
  id: string
  /** False: it said nothing in time, and of the sums it has only what it had counted before. */
  answered: boolean
  tunnels: number
  /** Visitors that it is serving. */
  streams: number
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
  /** Absent where one process does it all. */
  workers?: WorkerRow[]
}

/** Every enrolled machine, connected or not. */
export function reportClients(
  authority: Authority,
  { tunnels }: Pick<StationReport, 'tunnels'>,
): ClientRow[] {
  const live = new Map<Pin, { address: string; instance: string; copied: boolean }>()
  for (const { key, instance, address } of tunnels) {
    const before = live.get(key)
    const copied = before !== undefined && (before.copied || before.instance !== instance)
    live.set(key, { address, instance, copied })
  }
  return clientRows(authority, (key) => live.get(key))
}

export function reportStatus(
  authority: Authority,
  report: StationReport,
  workers?: WorkerRow[],
): GatewayStatus {
  const served = new Map(report.routes.map((row) => [row.route, row]))
  const none = { replicas: 0, down: 0, streams: 0, held: 0 }
  return {
    side: 'gateway',
    clients: reportClients(authority, report),
    routes: authority.owners.map(({ route, name }) => ({
      ...none,
      ...served.get(route),
      route,
      owner: name,
    })),
    streams: report.streams,
    bytes: report.bytes,
    errors: Object.fromEntries(report.errors),
    ...(workers === undefined ? {} : { workers }),
  }
}

export function reportStation(reported: Reported): StationReport {
  const { authority, clients, visitors } = reported
  const live = new Map(reported.routes.snapshot().map((entry) => [entry.route, entry]))
  const routes = authority.owners.flatMap(({ route }): ServedRoute[] => {
    const replicas = live.get(route)?.replicas ?? []
    const held = visitors.held(route)
    const [first] = replicas
    if (first === undefined && held === 0) return []
    return [
      {
        route,
        ...(first === undefined ? {} : { service: first.service, type: first.type }),
        replicas: replicas.filter((replica) => replica.tunnel.usable && !replica.down).length,
        down: replicas.filter((replica) => replica.down).length,
        streams: replicas.reduce((sum, replica) => sum + replica.active, 0),
        held,
      },
    ]
  })
  return {
    tunnels: Array.from(clients.all, ({ key, instance, tunnel }) => ({
      key,
      instance,
      address: tunnel.remoteAddress,
    })),
    routes,
    streams: visitors.active,
    bytes: visitors.bytes,
    errors: errorsOf(reported),
    gauges: gaugesOf(reported),
  }
}

/** For `/metrics`. Labels are registered routes and our own codes, so nobody outside can make new ones. */
function gaugesOf(reported: Reported): Gauge[] {
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
