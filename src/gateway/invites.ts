import { userError } from '../errors.ts'
import { inviteId, type Pin, sameSecretHash } from '../identity/index.ts'
import { INVITE_REMEMBERED_MS, INVITE_USES_MAX, INVITES } from '../limits.ts'
import type { Invitation } from './record.ts'

export interface NewInvite {
  name: string
  uses: number
  /** Epoch ms. */
  expiresAt: number
  /** SHA-256 of the secret, hex. */
  secretHash: string
  /** Printed at a first run. */
  first: boolean
}

/**
 * The invites that were made, alive or spent. Spent ones stay for a while, so that whoever comes with one is
 * told why it no longer works. Bounded: a spent one goes when its room is needed.
 */
export class Invites {
  readonly #invites: Invitation[]

  constructor(invites: readonly Invitation[]) {
    this.#invites = invites.map((invite) => ({ ...invite }))
  }

  get all(): readonly Invitation[] {
    return this.#invites
  }

  /** Invites that could still enroll a machine. */
  alive(now: number): Invitation[] {
    return this.#invites.filter((invite) => isAlive(invite, now))
  }

  /** Throws `usage` for numbers out of bounds, a secret that is there already, and when there is no room. */
  add({ name, uses, expiresAt, secretHash, first }: NewInvite, now: number): Invitation {
    if (!Number.isInteger(uses) || uses < 1 || uses > INVITE_USES_MAX) {
      throw userError('usage', `an invite has from 1 to ${INVITE_USES_MAX} uses: give --uses N`)
    }
    if (!(expiresAt > now)) {
      throw userError('usage', 'an invite must expire in the future: give --expires 24h')
    }
    // Only a broken source of randomness gets here; two invites of one secret would be one in two states.
    if (this.find(secretHash) !== undefined)
      throw userError('usage', 'this secret was given out before: invite again')
    this.#makeRoom(now)
    const invite: Invitation = {
      id: inviteId(secretHash),
      name,
      hash: secretHash,
      uses,
      left: uses,
      createdAt: now,
      expiresAt: Math.floor(expiresAt),
      first,
      voided: false,
    }
    this.#invites.push(invite)
    return invite
  }

  /** The invite of this secret, alive or not. Looks at all of them, whichever it is, in constant time each. */
  find(secretHash: string): Invitation | undefined {
    let found: Invitation | undefined
    for (const invite of this.#invites) if (sameSecretHash(invite.hash, secretHash)) found = invite
    return found
  }

  /** Takes one use. The caller has checked that there is one. */
  use(invite: Invitation, key: Pin): void {
    invite.left--
    invite.lastKey = key
  }

  /** Takes back the invites that `which` chooses; returns how many were not yet. */
  void(which: (invite: Invitation) => boolean): number {
    let voided = 0
    for (const invite of this.#invites) {
      if (invite.voided || !which(invite)) continue
      invite.voided = true
      voided++
    }
    return voided
  }

  #makeRoom(now: number): void {
    this.#drop((invite) => now - invite.expiresAt >= INVITE_REMEMBERED_MS)
    if (this.#invites.length < INVITES) return
    const spent = this.#invites.findIndex((invite) => !isAlive(invite, now))
    if (spent < 0) {
      throw userError('usage', `${INVITES} invites are open, the most there may be: wait until one expires`)
    }
    this.#invites.splice(spent, 1)
  }

  #drop(which: (invite: Invitation) => boolean): void {
    const kept = this.#invites.filter((invite) => !which(invite))
    this.#invites.splice(0, this.#invites.length, ...kept)
  }
}

export function isAlive(invite: Invitation, now: number): boolean {
  return !invite.voided && invite.left > 0 && now < invite.expiresAt
}
