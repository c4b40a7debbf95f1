import type { ServedRoute, StationReport } from './report.ts'
import type { Gauge, Series } from './series.ts'

/** A gauge of which the highest says more than the sum: a client has a tunnel to each worker, and is one replica. */
const HIGHEST: ReadonlySet<string> = new Set(['blindgate_route_replicas'])

/** What several processes say, as one. Pure. */
export function sumReports(reports: readonly StationReport[]): StationReport {
  const routes = new Map<string, ServedRoute>()
  const errors = new Map<string, number>()
  for (const report of reports) {
    for (const row of report.routes) routes.set(row.route, bothRoutes(routes.get(row.route), row))
    for (const [code, times] of report.errors) errors.set(code, (errors.get(code) ?? 0) + times)
  }
  return {
    tunnels: reports.flatMap(({ tunnels }) => tunnels),
    routes: [...routes.values()],
    streams: total(reports, ({ streams }) => streams),
    bytes: { in: total(reports, ({ bytes }) => bytes.in), out: total(reports, ({ bytes }) => bytes.out) },
    errors,
    gauges: sumGauges(reports.map(({ gauges }) => gauges)),
  }
}

/** What is left of a process that has ended: what it has counted, so that no count ever falls. */
export function countsOf({ bytes, errors, gauges }: StationReport): StationReport {
  const counters = gauges.filter(({ type }) => type === 'counter')
  return { tunnels: [], routes: [], streams: 0, bytes, errors, gauges: counters }
}

/** One gauge of each name, its values added up where their labels are the same. In the order of the first that has them. */
export function sumGauges(all: readonly (readonly Gauge[])[]): Gauge[] {
  const sums = new Map<string, { gauge: Gauge; values: Map<string, Series> }>()
  for (const gauge of all.flat()) {
    const sum = sums.get(gauge.name) ?? { gauge, values: new Map<string, Series>() }
    sums.set(gauge.name, sum)
    for (const series of gauge.values) {
      const key = (gauge.labels ?? []).map((label) => series.labels?.[label] ?? '').join('\n')
      const before = sum.values.get(key)?.value ?? 0
      const value = HIGHEST.has(gauge.name) ? Math.max(before, series.value) : before + series.value
      sum.values.set(key, { ...series, value })
    }
  }
  return Array.from(sums.values(), ({ gauge, values }) => ({ ...gauge, values: [...values.values()] }))
}

function bothRoutes(before: ServedRoute | undefined, row: ServedRoute): ServedRoute {
  if (before === undefined) return row
  return {
    ...row,
    ...before,
    replicas: Math.max(before.replicas, row.replicas),
    down: Math.max(before.down, row.down),
    streams: before.streams + row.streams,
    held: before.held + row.held,
  }
}

function total(reports: readonly StationReport[], of: (report: StationReport) => number): number {
  return reports.reduce((sum, report) => sum + of(report), 0)
}
