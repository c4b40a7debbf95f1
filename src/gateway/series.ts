import { METRIC_SERIES } from '../limits.ts'

export interface Gauge {
  name: string
  help: string
  /** A count that only grows, or a state. */
  type: 'counter' | 'gauge'
  /** What tells the values apart, in the order in which they may be many: `route` first. None where there is one value. */
  labels?: readonly string[]
  values: readonly Series[]
}

export interface Series {
  labels?: Readonly<Record<string, string>>
  value: number
}

/** The value of a label under which those are summed that have no series of their own. */
const OTHER = 'other'

/**
 * Keeps a scrape to `most` series: a collector that gets more gives up, or falls over. Gauges share the room so
 * that the small ones are whole. Of a larger one the first values keep their series; the rest are summed under
 * `other` in place of their first label, or of every label where that leaves too many. Pure.
 */
export function boundedSeries(gauges: readonly Gauge[], most: number = METRIC_SERIES): Gauge[] {
  let left = most
  const rooms = new Map<Gauge, number>()
  const bySize = gauges.toSorted((a, b) => a.values.length - b.values.length)
  for (const [index, gauge] of bySize.entries()) {
    const room = Math.min(gauge.values.length, Math.floor(left / (bySize.length - index)))
    rooms.set(gauge, room)
    left -= room
  }
  return gauges.map((gauge) => bounded(gauge, rooms.get(gauge) ?? 0))
}

function bounded(gauge: Gauge, room: number): Gauge {
  const { labels = [], values } = gauge
  if (values.length <= room) return gauge
  const [first = ''] = labels
  const byFirst = (series: Series) => ({ ...series.labels, [first]: OTHER })
  const groups = summed(values, byFirst).length
  const [kept, other] =
    groups < room
      ? [room - groups, byFirst]
      : [Math.max(0, room - 1), () => Object.fromEntries(labels.map((label) => [label, OTHER]))]
  return { ...gauge, values: [...values.slice(0, kept), ...summed(values.slice(kept), other)].slice(0, room) }
}

/** One series for each different set of labels that `labelsOf` gives. */
function summed(
  values: readonly Series[],
  labelsOf: (series: Series) => Readonly<Record<string, string>>,
): Series[] {
  const sums = new Map<string, { labels: Readonly<Record<string, string>>; value: number }>()
  for (const series of values) {
    const labels = labelsOf(series)
    const key = JSON.stringify(Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1)))
    const sum = sums.get(key)
    if (sum === undefined) sums.set(key, { labels, value: series.value })
    else sum.value += series.value
  }
  return [...sums.values()]
}
