import { isatty } from 'node:tty'

/**
 * Where a command writes. stdout carries the answer and nothing else, in a pretty form only where a person reads
 * it; everything else goes to stderr.
 */
export interface Output {
  /** A person reads it. */
  readonly terminal: boolean
  line(text: string): void
}

export const answer: Output & { flushed(done: () => void): void } = {
  get terminal(): boolean {
    return isatty(1)
  },
  line(text: string): void {
    process.stdout.write(`${text}\n`)
  },
  /** Calls back when all of it has left, or nobody wants it. */
  flushed(done: () => void): void {
    if (process.stdout.destroyed || process.stdout.writableLength === 0) done()
    else process.stdout.write('', () => done())
  },
}

export const notes: Output = {
  get terminal(): boolean {
    return isatty(2)
  },
  line(text: string): void {
    process.stderr.write(`${text}\n`)
  },
}

const onUnread = new Set<() => void>()

/** Calls `callback` when nobody reads stdout any more: for a command whose answer has no end. */
export function whenUnread(callback: () => void): void {
  onUnread.add(callback)
}

export function stdoutIsUnread(): void {
  for (const callback of onUnread) callback()
}

/** Columns as wide as their widest cell, two spaces between. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = []
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length)
  }
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}
