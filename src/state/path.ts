import { isAbsolute, join, resolve } from 'node:path'
import { userError } from '../errors.ts'

export interface StatePathSources {
  /** `--state` */
  flag?: string | undefined
  env: Readonly<Record<string, string | undefined>>
  /** Effective user id; undefined where there is none. */
  uid?: number | undefined
  home: string
}

/** Where state lives, absolute: first match wins. An empty variable counts as unset. Throws `usage` for an empty flag. */
export function resolveStatePath({ flag, env, uid, home }: StatePathSources): string {
  if (flag === '') throw userError('usage', '--state is empty: give it a folder')
  // systemd separates several folders by colons; the first is ours.
  const fromSystemd = env['STATE_DIRECTORY']?.split(':')[0]
  const chosen = flag ?? (env['BLINDGATE_STATE'] || fromSystemd)
  if (chosen !== undefined && chosen !== '') return resolve(chosen)
  if (uid === 0) return '/var/lib/blindgate'
  const xdg = env['XDG_STATE_HOME']
  // The XDG specification: a relative path is to be ignored.
  return join(xdg !== undefined && isAbsolute(xdg) ? xdg : join(home, '.local/state'), 'blindgate')
}
