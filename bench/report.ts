/** Numbers for people: medians, spread, tables. */

export interface Spread {
  median: number
  min: number
  max: number
}

export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const upper = sorted[middle] ?? Number.NaN
  const median = sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
  return { median, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN }
}

/** `25.1 (24.8–26.0)` */
export function format({ median, min, max }: Spread, digits = 1): string {
  return `${median.toFixed(digits)} (${min.toFixed(digits)}–${max.toFixed(digits)})`
}

/** A Markdown table that also reads well in a terminal. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  )
  const line = (cells: readonly string[]) =>
    `| ${widths.map((width, column) => (cells[column] ?? '').padEnd(width)).join(' | ')} |`
  return [line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)].join(
    '\n',
  )
}

/** A bar of the project: what is measured must not be over it. */
export function bar(name: string, measured: number, limit: number, unit: string): string {
  const verdict = measured <= limit ? 'met' : 'MISSED'
  return `${name}: ${measured.toFixed(2)} ${unit}, bar ≤ ${limit} ${unit}: ${verdict}`
}

/** The same for what must not be under it. */
export function atLeast(name: string, measured: number, limit: number, unit: string): string {
  const verdict = measured >= limit ? 'met' : 'MISSED'
  return `${name}: ${measured.toFixed(2)} ${unit}, bar ≥ ${limit} ${unit}: ${verdict}`
}

/** Why there is nothing to report. */
export function skip(reason: string): { skipped: string } {
  console.log(`  not measured: ${reason}`)
  return { skipped: reason }
}
