import { userError } from '../errors.ts'
import type { GatewayEntry } from './gateways.ts'
import { isAt } from './services.ts'

/**
 * The gateway that a quick command or a program means: the one it names, else the only one that is joined. Never
 * several: trying a friend's gateway must not publish yesterday's service there. `how` is
 * where the name would stand. Throws `not_found`, and `usage` where one must be named.
 */
export function chooseGateway(
  joined: readonly GatewayEntry[],
  said: string | undefined,
  how: string,
): GatewayEntry {
  const [only, ...others] = joined
  if (only === undefined) {
    throw userError(
      'not_found',
      'this machine has joined no gateway: run `blindgate join` with an invite first',
    )
  }
  const known = joined.map(({ addresses }) => addresses[0]).join(', ')
  if (said === undefined) {
    if (others.length === 0) return only
    throw userError('usage', `several gateways are joined (${known}): say which with ${how}`)
  }
  const chosen = joined.find((entry) => isAt(entry, said))
  if (chosen === undefined) {
    throw userError('not_found', `${said} is not joined: joined is ${known}; \`blindgate join\` adds another`)
  }
  return chosen
}
