import { describe, expect, it } from 'vitest'
import type { StationReport } from '../../src/gateway/report.ts'
import { countsOf, sumGauges, sumReports } from '../../src/gateway/sum.ts'

function report(n: number): StationReport {
  return {
    tunnels: [{ key: 'sha256:x', instance: 'i', address: '192.0.2.1' }],
    routes: [
      {
        route: 'default',
        service: 'web',
        type: 'http',
        replicas: n,
        down: n - 1,
        streams: n,
        held: 1,
      },
    ],
    streams: n,
    bytes: { in: n, out: 10 * n },
    errors: new Map([['refused', n]]),
    gauges: [
      { name: 'blindgate_tunnels', help: 'h', type: 'gauge', values: [{ value: 1 }] },
      {
        name: 'blindgate_route_replicas',
        help: 'h',
        type: 'gauge',
        labels: ['route'],
        values: [{ labels: { route: 'default' }, value: n }],
      },
      {
        name: 'blindgate_http_requests_total',
        help: 'h',
        type: 'counter',
        labels: ['route', 'status'],
        values: [
          { labels: { route: 'default', status: '2xx' }, value: n },
          { labels: { route: `only ${n}`, status: '2xx' }, value: 1 },
        ],
      },
    ],
  }
}

describe('the reports of workers', () => {
  it('are summed; of replicas the most counts, for a client has a tunnel to each worker', () => {
    const sum = sumReports([report(1), report(3), report(2)])
    expect(sum).toMatchObject({
      streams: 6,
      bytes: { in: 6, out: 60 },
      errors: new Map([['refused', 6]]),
      routes: [{ route: 'default', service: 'web', replicas: 3, down: 2, streams: 6, held: 3 }],
    })
    expect(sum.tunnels).toHaveLength(3)
    expect(sum.gauges.map(({ name, values }) => [name, values.map(({ value }) => value)])).toEqual([
      ['blindgate_tunnels', [3]],
      ['blindgate_route_replicas', [3]],
      ['blindgate_http_requests_total', [6, 1, 1, 1]],
    ])
  })

  it('of none are those of a gateway that does nothing', () => {
    expect(sumReports([])).toMatchObject({
      tunnels: [],
      routes: [],
      streams: 0,
      bytes: { in: 0, out: 0 },
      gauges: [],
    })
  })

  it('of one who has ended leave their counts, and nothing of what was there just then', () => {
    const past = countsOf(report(2))
    expect(past).toMatchObject({ tunnels: [], routes: [], streams: 0, bytes: { in: 2, out: 20 } })
    expect(past.gauges.map(({ name }) => name)).toEqual(['blindgate_http_requests_total'])
    expect(sumReports([past, report(1)])).toMatchObject({ streams: 1, bytes: { in: 3, out: 30 } })
  })

  it('change nothing of what they were made of', () => {
    const one = report(1)
    sumGauges([one.gauges, report(2).gauges])
    expect(one).toEqual(report(1))
  })
})
