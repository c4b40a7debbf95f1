/** The figures of a run as Markdown, put where docs/PERFORMANCE.md has room for them: none of them is typed by hand. */
import { type Goal, markdown, type Outcome, reaches, type Skipped } from './report.ts'

/** build/bench.json. */
export interface Run {
  readonly date: string
  readonly machine: {
    readonly cpus: number
    readonly model: string
    readonly memory: number
    readonly kernel: string
    readonly node: string
  }
  readonly rounds: number
  readonly seconds: number
  readonly results: Record<string, (Outcome | Skipped) & { readonly about: string }>
}

const BEGIN = '<!-- figures: written by `npm run bench -- --document` -->'
const END = '<!-- end of the figures -->'

/** The text of the document with the figures of a run between its two marks; throws where it has none. */
export function withFigures(text: string, run: Run): string {
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)]
  if (begin < 0 || end < begin)
    throw new Error(`the document has no place for figures: "${BEGIN}" and "${END}"`)
  return `${text.slice(0, begin + BEGIN.length)}\n\n${figures(run)}\n\n${text.slice(end)}`
}

function figures(run: Run): string {
  const measured = Object.entries(run.results).flatMap(([name, result]) =>
    'skipped' in result ? [] : [{ name, ...result }],
  )
  const goals = measured.flatMap((each) => each.goals.map((goal) => ({ name: each.name, goal })))
  const sections = measured.map((each) =>
    [
      `### ${each.name}`,
      `${capital(each.about)}.`,
      ...each.tables.map(markdown),
      ...(each.without ?? []).map((why) => `Without ${why}.`),
    ].join('\n\n'),
  )
  const table = markdown({
    head: ['work', 'measured', '', 'bar', '', 'aim', '', 'row'],
    rows: goals.map(({ name, goal }) => [...goalCells(goal), `[${name}](#${name})`]),
  })
  return [machineLine(run), ...(goals.length > 0 ? [table] : []), ...sections].join('\n\n')
}

function goalCells(goal: Goal): string[] {
  const { what, measured, unit, than, bar, aim } = goal
  const verdict = (limit: number) => (reaches(goal, limit) ? 'met' : 'missed')
  const reached = aim === undefined ? ['', ''] : [`${than} ${aim}`, verdict(aim)]
  const spread = `${digits(measured.median)} (${digits(measured.min)}–${digits(measured.max)})`
  return [what, spread, unit, `${than} ${bar}`, verdict(bar), ...reached]
}

function machineLine({ date, machine, rounds, seconds }: Run): string {
  const { cpus, model, memory, kernel, node } = machine
  const on = `${cpus} CPUs (${model}), ${Math.round(memory / 2 ** 30)} GiB, Linux ${kernel}, Node ${node}`
  return `Measured ${date.slice(0, 10)} on ${on}: medians of ${rounds} rounds of ${seconds} s, least and most in parentheses.`
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2)
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}
