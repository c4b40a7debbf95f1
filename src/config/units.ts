import { userError } from '../errors.ts'
import { DURATION_MS_MAX, MEMORY_MIN_BYTES, TIMER_MS_MAX, TUNNELS_PER_GATEWAY } from '../limits.ts'
import { printable } from '../protocol/index.ts'

const DURATION_UNITS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1_000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
])

const BYTE_UNITS: ReadonlyMap<string, number> = new Map([
  ['b', 1],
  ['kb', 1e3],
  ['mb', 1e6],
  ['gb', 1e9],
  ['kib', 2 ** 10],
  ['mib', 2 ** 20],
  ['gib', 2 ** 30],
])

/** `500ms`, `30s`, `10m`, `24h`, `7d` → milliseconds. Throws `config_invalid`. */
export function parseDuration(text: string): number {
  const [, digits = '', unit = ''] = /^([0-9]{1,12})(ms|s|m|h|d)$/.exec(text) ?? []
  const factor = DURATION_UNITS.get(unit)
  if (factor === undefined) {
    throw userError(
      'config_invalid',
      `${quoted(text)} is not a duration: write a whole number and ms, s, m, h or d, as in "30s"`,
    )
  }
  const ms = Number(digits) * factor
  if (ms > DURATION_MS_MAX) {
    const days = DURATION_MS_MAX / 86_400_000
    throw userError('config_invalid', `${quoted(text)} is too long: ${days}d is the longest`)
  }
  return ms
}

/** `256MiB`, `1GiB`, `500MB` → bytes; upper and lower case are one. Throws `config_invalid`. */
export function parseBytes(text: string): number {
  const [, digits = '', unit = ''] = /^([0-9]{1,15}) ?([a-z]+)$/i.exec(text) ?? []
  const bytes = Number(digits) * (BYTE_UNITS.get(unit.toLowerCase()) ?? Number.NaN)
  if (Number.isSafeInteger(bytes)) return bytes
  throw userError(
    'config_invalid',
    `${quoted(text)} is not a size: write a whole number and B, KiB, MiB or GiB, as in "256MiB"`,
  )
}

/** Text as a person wrote it, for a message: in quotes, controls escaped, cut. */
export function quoted(text: string): string {
  return `"${printable(text, 80)}"`
}

/** A duration, or `off` (as `0s`) for never: 0. Longer than a timer can be becomes the longest timer. */
export function parseIdle(text: string): number {
  return text === 'off' ? 0 : Math.min(parseDuration(text), TIMER_MS_MAX)
}

/** `4`, also as text, or `auto` for as many as there are cores. Throws `config_invalid`. */
export function parseWorkers(said: unknown): number | 'auto' {
  if (said === 'auto') return said
  const workers = typeof said === 'string' && /^[0-9]{1,3}$/.test(said) ? Number(said) : said
  if (isWhole(workers) && workers >= 1 && workers <= TUNNELS_PER_GATEWAY) return workers
  const plain = typeof said === 'number' || typeof said === 'boolean'
  const shown = typeof said === 'string' ? quoted(said) : plain ? String(said) : 'that'
  throw userError(
    'config_invalid',
    `${shown} is no number of workers: write a whole number from 1 to ${TUNNELS_PER_GATEWAY}, or "auto" for one a core`,
  )
}

function isWhole(value: unknown): value is number {
  return Number.isInteger(value)
}

/** `parseBytes`, but not so few that nothing works. */
export function parseMemory(text: string): number {
  const bytes = parseBytes(text)
  if (bytes >= MEMORY_MIN_BYTES) return bytes
  throw userError(
    'config_invalid',
    `${quoted(text)} is too little memory for visitors: give ${MEMORY_MIN_BYTES / 2 ** 20}MiB or more`,
  )
}
