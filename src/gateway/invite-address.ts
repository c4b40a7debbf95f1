import { formatAddress, parseRemote } from '../config/index.ts'

/**
 * The address that invites carry: what the operator said, else the bound host if it is a specific one, else the only
 * global address of an interface. Undefined: nobody can know (a machine behind a load balancer, a home router).
 */
export function inviteAddress(from: {
  said: string | undefined
  bound: { host: string; port: number }
  globals: readonly string[]
}): string | undefined {
  const { said, bound, globals } = from
  if (said !== undefined) return saidAddress(said)
  if (bound.host !== '0.0.0.0' && bound.host !== '::') return formatAddress(bound)
  const [only, ...others] = globals
  return only === undefined || others.length > 0 ? undefined : formatAddress({ host: only, port: bound.port })
}

/** Checks what an operator typed and spells it as invites do. Throws `config_invalid`. */
export function saidAddress(text: string): string {
  return formatAddress(parseRemote(text))
}

export const NO_ADDRESS =
  'cannot tell by which address clients reach this gateway: give --address HOST:PORT to the gateway (or to this invite)'
