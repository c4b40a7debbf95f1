import { CommanderError } from 'commander'
import { TunnelError } from '../errors.ts'

/** Where a mistake of ours is reported. */
const REPORT_AT = 'https://www.npmjs.com/package/blindgate'
/** Longest failure line, in characters: a path and an address fit, a runaway message does not. */
const LINE_CHARACTERS = 2_000

/** What this version has not, and typing it says so. */
const LATER: Readonly<Record<string, string>> = {
  udp: 'udp services are not in this version yet: "blindgate tcp TARGET" carries TCP',
}

/** 0 done, 1 it failed, 2 wrong usage. */
export function exitCodeOf(error: unknown): 0 | 1 | 2 {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  return error instanceof TunnelError && error.code === 'usage' ? 2 : 1
}

/** Neither the user's nor the network's nor the system's doing. */
export function isBug(error: unknown): boolean {
  if (error instanceof TunnelError) return error.code === 'internal'
  return !(error instanceof CommanderError) && !isSystemError(error)
}

/**
 * The last line on stderr of a failure, `blindgate: what: what to do`. `typed` are the words that were no options:
 * the first is the command.
 */
export async function failureLine(error: unknown, typed: readonly string[]): Promise<string> {
  const { printable } = await import('../protocol/index.ts')
  return printable(`blindgate: ${sentence(error, typed)}`, LINE_CHARACTERS)
}

function sentence(error: unknown, typed: readonly string[]): string {
  if (error instanceof CommanderError) return usageSentence(error, typed)
  if (isBug(error)) return bugSentence(error)
  const { message } = error as Error
  return isSystemError(error) ? `the system refused: ${message}` : message
}

function usageSentence({ code, message }: CommanderError, [command = '']: readonly string[]): string {
  const later = code === 'commander.unknownCommand' ? LATER[command] : undefined
  if (later !== undefined) return later
  if (code === 'commander.help')
    return 'no command: take one from the list above, "blindgate demo" shows it all'
  const [what = '', advice] = message.replace(/^error: |\.$/g, '').split('\n')
  const known = code !== 'commander.unknownCommand' && command !== '' && !command.startsWith('-')
  const help = known ? `blindgate ${command} --help` : 'blindgate --help'
  const suggestion = /^\(Did you mean (.*)\?\)$/.exec(advice ?? '')?.[1]
  return suggestion === undefined ? `${what}: see "${help}"` : `${what}: did you mean ${suggestion}?`
}

function bugSentence(error: unknown): string {
  const what = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  return `a mistake in blindgate itself (${what}): please report it at ${REPORT_AT} with the output of --log-level debug`
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error && 'code' in error
}
