import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { boundedSeries, type Gauge } from '../../src/gateway/series.ts'

const perRoute = (count: number, name = 'streams'): Gauge => ({
  name,
  help: '',
  type: 'gauge',
  labels: ['route'],
  values: Array.from({ length: count }, (_, n) => ({ labels: { route: `r${n}` }, value: n })),
})
const one: Gauge = { name: 'one', help: '', type: 'gauge', values: [{ value: 7 }] }

describe('series of a scrape', () => {
  test('are as they were where there is room', () => {
    const gauges = [one, perRoute(9)]
    expect(boundedSeries(gauges, 10)).toEqual(gauges)
  })

  test('past the bound are summed under other, and small gauges stay whole', () => {
    const [streams, single, held] = boundedSeries([perRoute(100), one, perRoute(3, 'held')], 10)
    expect(single).toEqual(one)
    expect(held).toEqual(perRoute(3, 'held'))
    expect(streams?.values).toEqual([
      ...perRoute(5).values,
      { labels: { route: 'other' }, value: (5 + 99) * 47.5 },
    ])
  })

  test('of several labels keep the later ones apart under other', () => {
    const values = ['a', 'b', 'c', 'd'].flatMap((route) =>
      ['2xx', '5xx'].map((status) => ({ labels: { route, status }, value: 1 })),
    )
    const gauge: Gauge = { name: 'n', help: '', type: 'counter', labels: ['route', 'status'], values }
    expect(boundedSeries([gauge], 6)[0]?.values).toEqual([
      ...values.slice(0, 4),
      { labels: { route: 'other', status: '2xx' }, value: 2 },
      { labels: { route: 'other', status: '5xx' }, value: 2 },
    ])
    expect(boundedSeries([gauge], 2)[0]?.values).toEqual([
      values[0],
      { labels: { route: 'other', status: 'other' }, value: 7 },
    ])
  })

  test('are never more than the bound, and no value is lost', () => {
    const label = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f')
    const gauge = fc.record({
      name: fc.constant('n'),
      help: fc.constant(''),
      type: fc.constant('gauge' as const),
      labels: fc.constant(['route', 'replica']),
      values: fc.array(fc.record({ labels: fc.record({ route: label, replica: label }), value: fc.nat(9) })),
    })
    const total = (gauges: readonly Gauge[]) =>
      gauges.flatMap(({ values }) => values).reduce((sum, { value }) => sum + value, 0)
    fc.assert(
      fc.property(fc.array(gauge, { maxLength: 4 }), fc.integer({ min: 4, max: 20 }), (gauges, most) => {
        const bounded = boundedSeries(gauges, most)
        expect(bounded.flatMap(({ values }) => values).length).toBeLessThanOrEqual(most)
        expect(total(bounded)).toBe(total(gauges))
      }),
    )
  })
})
