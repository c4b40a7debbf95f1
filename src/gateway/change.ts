import type { Pin } from '../identity/index.ts'
import type { Authority, Revoked } from './authority.ts'
import type { Route } from './route.ts'

/**
 * A change of the authority's record, with all that went into it: made again on a copy of the record as it was before, it
 * leaves the same record. Only what succeeded and was news is one.
 */
export type Change =
  | { kind: 'invite'; invite: Invite & { name?: string; uses: number } }
  | { kind: 'firstInvite'; invite: Invite }
  | { kind: 'redeem'; by: { secretHash: string; key: Pin; instance?: string; now: number } }
  | { kind: 'revoke'; target: string; now: number }
  | { kind: 'claim'; routes: readonly Route[]; name: string }
  | { kind: 'keepPort'; name: string; service: string; port: number }
  | { kind: 'release'; route: Route }
  | { kind: 'live'; route: Route }
  | { kind: 'gone'; route: Route; now: number }

interface Invite {
  expiresAt: number
  secretHash: string
  now: number
}

/** What is to follow where services are served: nothing of theirs may stay. */
export interface Taken {
  revoked?: Revoked
  released?: Route
}

/** Makes a change again. Throws when this is no copy of the record that it was made on: then it is of no use. */
export function replay(authority: Authority, change: Change): Taken {
  switch (change.kind) {
    case 'invite':
      authority.createInvite(change.invite)
      return {}
    case 'firstInvite':
      authority.createFirstInvite(change.invite)
      return {}
    case 'redeem':
      authority.redeem(change.by)
      return {}
    case 'revoke':
      return { revoked: authority.revoke(change.target, change.now) }
    case 'claim':
      authority.claimAll(change.routes, change.name)
      return {}
    case 'keepPort':
      authority.keepPort(change.name, change.service, change.port)
      return {}
    case 'release':
      authority.release(change.route)
      return { released: change.route }
    case 'live':
      authority.markLive(change.route)
      return {}
    case 'gone':
      authority.markGone(change.route, change.now)
      return {}
  }
}
