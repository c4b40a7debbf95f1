import { createHash } from 'node:crypto'
import type { Grant } from '../../src/config/index.ts'
import type { ErrorCode } from '../../src/errors.ts'
import { TunnelError } from '../../src/errors.ts'
import { Authority, type AuthorityRecord, authoritySchema } from '../../src/gateway/authority.ts'
import type { Pin } from '../../src/identity/index.ts'

export const HOUR = 3_600_000
export const NOW = 1_800_000_000_000

/** The nth machine's key. */
export function keyOf(n: number): Pin {
  return `sha256:${createHash('sha256').update(`key ${n}`).digest('base64').slice(0, 43)}`
}

/** The hash of the nth invite's secret. */
export function secretOf(n: number): string {
  return createHash('sha256').update(`secret ${n}`).digest('hex')
}

export function grants(
  ...entries: [name: string, ports: [from: number, to: number][], hosts?: string[]][]
): Map<string, Grant> {
  return new Map(
    entries.map(([name, ports, hosts]) => [
      name,
      { types: ['http', 'tcp'], hosts: hosts ?? [], ports: ports.map(([from, to]) => ({ from, to })) },
    ]),
  )
}

/** What a restart makes of a record: through JSON and the schema. */
export function reread(record: AuthorityRecord): AuthorityRecord {
  return authoritySchema.parse(JSON.parse(JSON.stringify(record)))
}

/** A gateway on which the nth machine is enrolled under the nth name. */
export function enrolled(names: string[], granted: ReadonlyMap<string, Grant> | undefined): Authority {
  const authority = new Authority(undefined, granted)
  for (const [n, name] of names.entries()) {
    authority.createInvite({ name, uses: 1, expiresAt: NOW + HOUR, secretHash: secretOf(n), now: NOW })
    authority.redeem({ secretHash: secretOf(n), key: keyOf(n), now: NOW })
  }
  return authority
}

/** The error that `act` throws; fails when it throws none, or another kind. */
export function refusal(act: () => unknown): { code: ErrorCode; message: string; scope: string } {
  try {
    act()
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error
    return { code: error.code, message: error.message, scope: error.scope }
  }
  throw new Error('was not refused')
}
