import { TunnelError, userError } from '../errors.ts'
import { DRAIN_MS, DRAIN_MS_MAX } from '../limits.ts'
import { parseDuration } from './units.ts'

/** Variables of the process. */
export type Environment = Readonly<Record<string, string | undefined>>

/** Parses what a flag or a variable said; a mistake begins with its name. Throws `code`. */
export function labelled<T, Said = string>(
  code: 'usage' | 'config_invalid',
  label: string,
  text: Said,
  parse: (text: Said) => T,
): T {
  try {
    return parse(text)
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error
    throw userError(code, `${label}: ${error.message}`)
  }
}

/**
 * What a flag says, else what a variable says; undefined when neither was given. An empty variable is how units
 * and compose files leave one out.
 */
export function flagOrVariable<T>(
  [flag, text]: [flag: string, text: string | undefined],
  [variable, env]: [variable: string, env: Environment],
  parse: (text: string) => T,
): T | undefined {
  if (text !== undefined) return labelled('usage', flag, text, parse)
  const value = env[variable]
  return value === undefined || value === '' ? undefined : labelled('config_invalid', variable, value, parse)
}

/** `--drain`, else BLINDGATE_DRAIN, else the file's, else the default: of either side, and never over the longest. */
export function drainSetting(sources: {
  flag?: string | undefined
  env: Environment
  fileMs?: number | undefined
}): number {
  const given = flagOrVariable(['--drain', sources.flag], ['BLINDGATE_DRAIN', sources.env], parseDuration)
  return Math.min(given ?? sources.fileMs ?? DRAIN_MS, DRAIN_MS_MAX)
}
