import { homedir } from 'node:os'
import { type Command, Option } from 'commander'
import type { Logger } from 'pino'
import type { State } from '../state/index.ts'
import { outOfSupport } from './node-lines.ts'
import { notes } from './output.ts'

export const LEVELS = ['error', 'warn', 'info', 'debug'] as const
export type Level = (typeof LEVELS)[number]

/** The options that every command has. */
export interface Globals {
  state?: string
  json?: true
  logLevel?: Level
}

export const GLOBAL_OPTIONS: readonly Option[] = [
  new Option(
    '--state <dir>',
    'the folder of keys and enrolments (default: /var/lib/blindgate for root, ~/.local/state/blindgate for others)',
  ),
  new Option('--json', 'answer with JSON'),
  new Option('--log-level <level>', 'how much goes to stderr').choices(LEVELS),
]

/** The end of a help text. */
export function examples(...lines: string[]): string {
  return `\nExample${lines.length > 1 ? 's' : ''}:\n${lines.map((line) => `  $ ${line}`).join('\n')}`
}

export function globalsOf(command: Command): Globals {
  return command.optsWithGlobals()
}

/** Flag over environment; undefined: what the command thinks right. An empty variable counts as unset. */
export function levelOf({ logLevel }: Globals, env: NodeJS.ProcessEnv): Level | undefined {
  const said = env['BLINDGATE_LOG_LEVEL']
  return logLevel ?? LEVELS.find((level) => level === said)
}

/** The state folder that was said, or the usual one. Rejects with `not_found`, `state_invalid`, `state_unwritable`. */
export async function stateOf(globals: Globals, { create }: { create: boolean }): Promise<State> {
  const { openState, resolveStatePath } = await import('../state/index.ts')
  const path = resolveStatePath({
    flag: globals.state,
    env: process.env,
    uid: process.geteuid?.(),
    home: homedir(),
  })
  return openState(path, { create })
}

/**
 * The log of a command, on stderr. `level` is for when nobody said one: a command that only asks says little of
 * itself, its answer is what it is for. One that stays begins with what is wrong with the Node under it.
 */
export async function logOf(globals: Globals, level: Level): Promise<Logger> {
  const { createLog } = await import('./log.ts')
  const log = createLog({
    level: levelOf(globals, process.env) ?? level,
    pretty: notes.terminal,
    color: notes.terminal && process.stderr.hasColors(),
    write: (text) => process.stderr.write(text),
  })
  const old = level === 'info' ? outOfSupport(process.versions.node, new Date()) : undefined
  if (old !== undefined) log.warn(old)
  return log
}
