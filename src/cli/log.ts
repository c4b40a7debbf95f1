import { type Logger, pino } from 'pino'
import { printable } from '../protocol/index.ts'
import type { Level } from './globals.ts'

export interface LogOptions {
  level: Level
  /** For a person: one line of text. Else one JSON object per line. */
  pretty: boolean
  color: boolean
  /** Takes whole lines, at once. */
  write: (line: string) => void
}

/** Longest value beside a message, in characters. */
const VALUE_CHARACTERS = 200
/** Longest message: a sentence with two addresses, two keys and what to do. */
const MESSAGE_CHARACTERS = 1_000

const COLORS: Readonly<Record<string, string>> = { error: '\x1b[31m', warn: '\x1b[33m', debug: '\x1b[2m' }
const PLAIN = '\x1b[0m'

/** What a terminal or an editor obeys and JSON lets through. */
const UNSAFE_IN_JSON = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g

/** A log in one of two forms; either way nothing in it moves a cursor or turns text around. */
export function createLog({ level, pretty, color, write }: LogOptions): Logger {
  const stream = {
    write: pretty
      ? (line: string) => write(`${prettyLine(JSON.parse(line) as Entry, color)}\n`)
      : (line: string) => write(line.replace(UNSAFE_IN_JSON, escaped)),
  }
  const options = {
    level,
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: (error: unknown) => errorFields(error, level === 'debug') },
  }
  return pino(options, stream)
}

/** A line of pino, read back. */
type Entry = { level: string; time: string; msg?: string } & Record<string, unknown>

/** `12:00:00 warn  lost gateway … key=value`, in local time; values that the message says already are left out. */
export function prettyLine({ level, time, msg, ...values }: Entry, color: boolean): string {
  const message = printable(msg ?? '', MESSAGE_CHARACTERS)
  const clock = new Date(time).toTimeString().slice(0, 8)
  const word = color && level in COLORS ? `${COLORS[level]}${level.padEnd(5)}${PLAIN}` : level.padEnd(5)
  const rest = Object.entries(values).flatMap(([key, value]) => {
    const text = printable(typeof value === 'string' ? value : JSON.stringify(value), VALUE_CHARACTERS)
    return message.includes(text) ? [] : [`${printable(key)}=${text}`]
  })
  return [clock, word, ...(message === '' ? [] : [message]), ...rest].join(' ')
}

function errorFields(error: unknown, withStack: boolean): unknown {
  if (!(error instanceof Error)) return String(error)
  const code = 'code' in error ? { code: error.code } : {}
  return { ...code, message: error.message, ...(withStack ? { stack: error.stack } : {}) }
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}
