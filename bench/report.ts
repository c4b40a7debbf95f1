/** Numbers for people: medians, spread, tables, and what they are to reach. */

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
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

export interface Table {
  readonly head: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** Markdown that also reads well in a terminal. */
export function markdown({ head, rows }: Table): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  )
  const line = (cells: readonly string[]) =>
    `| ${widths.map((width, column) => (cells[column] ?? '').padEnd(width)).join(' | ')} |`
  return [line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)].join(
    '\n',
  )
}

/** One row for each, a column for each of its keys. */
export function recordTable(records: readonly object[]): Table {
  const head = [...new Set(records.flatMap((each) => Object.keys(each)))]
  const rows = records.map((each) => {
    const cells = new Map(Object.entries(each))
    return head.map((key) => String(cells.get(key) ?? ''))
  })
  return { head, rows }
}

/** What is measured, and what it must reach (`bar`) and should (`aim`). */
export interface Goal {
  readonly what: string
  readonly measured: Spread
  readonly unit: string
  /** Whether less is better (`≤`) or more (`≥`). */
  readonly than: '≤' | '≥'
  readonly bar: number
  readonly aim?: number
}

/** Not over `bar`. No goals without a figure: `measured` is undefined where a system is missing. */
export function atMost(
  what: string,
  measured: Spread | undefined,
  unit: string,
  bar: number,
  aim?: number,
): Goal[] {
  return goal(what, measured, unit, '≤', bar, aim)
}

/** Not under it. */
export function atLeast(
  what: string,
  measured: Spread | undefined,
  unit: string,
  bar: number,
  aim?: number,
): Goal[] {
  return goal(what, measured, unit, '≥', bar, aim)
}

function goal(
  what: string,
  measured: Spread | undefined,
  unit: string,
  than: Goal['than'],
  bar: number,
  aim: number | undefined,
): Goal[] {
  if (measured === undefined) return []
  return [{ what, measured, unit, than, bar, ...(aim === undefined ? {} : { aim }) }]
}

/** The median counts. One that is not a number reaches nothing. */
export function reaches({ measured, than }: Goal, limit: number): boolean {
  return than === '≤' ? measured.median <= limit : measured.median >= limit
}

/** What measurements give: shown, and written into build/bench.json. */
export interface Outcome {
  readonly tables: readonly Table[]
  readonly goals: readonly Goal[]
  /** Systems that are not in it, and why. */
  readonly without?: readonly string[]
  /** The same as numbers. */
  readonly figures?: unknown
}

export interface Skipped {
  readonly skipped: string
}

/** Why there is nothing to report. */
export function skip(reason: string): Skipped {
  return { skipped: reason }
}

export function show(outcome: Outcome | Skipped): string {
  if ('skipped' in outcome) return `  not measured: ${outcome.skipped}`
  return [...outcome.tables.map((each) => `\n${markdown(each)}`), '', ...outcome.goals.map(goalLine)].join(
    '\n',
  )
}

function goalLine(goal: Goal): string {
  const { what, measured, unit, than, bar, aim } = goal
  const about = (name: string, limit: number, missed: string) =>
    `${name} ${than} ${limit}: ${reaches(goal, limit) ? 'met' : missed}`
  const limits = [about('bar', bar, 'MISSED'), ...(aim === undefined ? [] : [about('aim', aim, 'missed')])]
  return `${what}: ${measured.median.toFixed(2)} ${unit}; ${limits.join('; ')}`
}
