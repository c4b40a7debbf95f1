import { TunnelError, userError } from '../errors.ts'
import { checkName, type Pin } from '../identity/index.ts'
import { ENROLLED_CLIENTS } from '../limits.ts'
import type { Enrolments } from './enrolments.ts'
import type { Grants } from './grants.ts'
import type { Invites } from './invites.ts'
import type { Owners } from './owners.ts'
import type { Enrolment, Invitation } from './record.ts'

/** The name that a gateway serves whose operator said nothing else. */
const HOME = 'home'

export interface InviteMade {
  /** 8 hex characters: what logs call it. */
  id: string
  name: string
  /** Keys already enrolled under the name: the new machine will share their visitors. For the warning on stderr. */
  sharesWith: Pin[]
}

export interface Redeemed {
  name: string
  /** True when the key was enrolled already: its `welcome` was lost, and no use was taken. */
  again: boolean
  inviteId: string
  usesLeft: number
}

/**
 * How machines come in: who may be invited, and what a secret is worth.
 * Works on the parts of the record that `Authority` owns; times are epoch ms.
 */
export class Admission {
  /** Replaced by a reload. */
  grants: Grants
  readonly #invites: Invites
  readonly #enrolments: Enrolments
  readonly #owners: Owners

  constructor(parts: { invites: Invites; enrolments: Enrolments; owners: Owners; grants: Grants }) {
    this.#invites = parts.invites
    this.#enrolments = parts.enrolments
    this.#owners = parts.owners
    this.grants = parts.grants
  }

  /** As `Authority.createInvite`. */
  createInvite(invite: {
    name?: string
    uses: number
    expiresAt: number
    secretHash: string
    now: number
  }): InviteMade {
    const name = invite.name ?? this.#nameUnsaid()
    this.#checkInvitable(name, invite.now)
    const made = this.#make({ ...invite, name, first: false })
    // A first-run invite that nobody used was a guess at the name; an operator who names another one corrects it.
    if (!this.grants.some) this.#invites.void((other) => other.first && other.name !== name)
    return made
  }

  /** As `Authority.createFirstInvite`. */
  createFirstInvite(invite: { expiresAt: number; secretHash: string; now: number }): InviteMade | undefined {
    if (this.#enrolments.size > 0) return undefined
    const { names } = this.grants
    const name = this.grants.has(HOME) ? HOME : names.length === 1 ? names[0] : undefined
    if (name === undefined || this.#secondName(name, invite.now) !== undefined) return undefined
    const made = this.#make({ ...invite, name, uses: 1, first: true })
    this.#invites.void((other) => other.first && other.hash !== invite.secretHash)
    return made
  }

  /** As `Authority.redeem`. */
  redeem({ secretHash, key, now }: { secretHash: string; key: Pin; now: number }): Redeemed {
    if (this.#enrolments.revoked(key) !== undefined) throw enrolling('revoked', REVOKED)
    const invite = this.#invites.find(secretHash)
    if (invite === undefined) {
      throw enrolling('invite_invalid', `this gateway does not know this invite: ${NEW_INVITE}`)
    }
    const enrolled = this.#enrolments.of(key)
    if (enrolled !== undefined) return redeemAgain(enrolled, invite)

    this.#checkUsable(invite, now)
    if (this.#enrolments.size >= ENROLLED_CLIENTS) {
      const detail = `${ENROLLED_CLIENTS} machines are enrolled, the most there may be: revoke some on the gateway`
      throw enrolling('overloaded', detail)
    }
    this.#invites.use(invite, key)
    this.#enrolments.add({ key, name: invite.name, invite: invite.id, now })
    return { name: invite.name, again: false, inviteId: invite.id, usesLeft: invite.left }
  }

  /** Says that this gateway serves one name, when that is so and it is not `name`. */
  servesAnother(name: string): string | undefined {
    if (this.grants.some) return undefined
    const served = this.#enrolments.firstName ?? this.#owners.firstName
    if (served === undefined || served === name) return undefined
    return `this gateway serves one name, and not "${name}": ${toGrant(served, name)}`
  }

  #checkUsable(invite: Invitation, now: number): void {
    if (invite.voided) {
      throw enrolling('invite_invalid', `this invite was taken back: ${NEW_INVITE}`)
    }
    if (invite.left <= 0) {
      // Short enough that the machine at the other end prints all of it.
      const times = invite.uses > 1 ? ` ${invite.uses} times` : ''
      const detail = `this invite was used${times}: if not by you, run \`blindgate revoke ${invite.lastKey}\` on the gateway; \`blindgate invite\` makes a new one`
      throw enrolling('invite_used', detail)
    }
    if (now >= invite.expiresAt) {
      const at = new Date(invite.expiresAt).toISOString()
      throw enrolling('invite_expired', `this invite expired at ${at}: ${NEW_INVITE}`)
    }
    const another = this.servesAnother(invite.name)
    if (another !== undefined) throw enrolling('invite_invalid', another)
  }

  #make(invite: {
    name: string
    uses: number
    expiresAt: number
    secretHash: string
    first: boolean
    now: number
  }): InviteMade {
    const { id, name } = this.#invites.add(invite, invite.now)
    return { id, name, sharesWith: this.#enrolments.keysOf(name) }
  }

  #nameUnsaid(): string {
    const others = this.#enrolments.names.filter((name) => name !== HOME)
    if (others.length === 0 && this.grants.has(HOME)) return HOME
    const names = others.length > 0 ? this.#enrolments.names : this.grants.names
    throw userError('usage', `say for whom the invite is: --name NAME (there is ${quoted(names)})`)
  }

  #checkInvitable(name: string, now: number): void {
    checkName(name)
    if (!this.grants.has(name)) {
      const detail = `"${name}" has no grant: add [grant.${name}] with types, hosts and ports to gateway.toml, SIGHUP the gateway, and invite again`
      throw userError('not_granted', detail)
    }
    const other = this.#secondName(name, now)
    if (other !== undefined) {
      throw userError('usage', `this gateway serves one name, "${other}": ${toGrant(other, name)}`)
    }
  }

  /** Without grants there is one name: that of the enrolled, of the owners, or of an invite made on purpose. */
  #secondName(name: string, now: number): string | undefined {
    if (this.grants.some) return undefined
    const invited = this.#invites.alive(now).filter((invite) => !invite.first)
    const names = [...this.#enrolments.names, ...this.#owners.names, ...invited.map((invite) => invite.name)]
    return names.find((other) => other !== name)
  }
}

function redeemAgain(enrolled: Enrolment, invite: Invitation): Redeemed {
  if (enrolled.name !== invite.name) {
    const detail = `this machine is enrolled as "${enrolled.name}" and the invite is for "${invite.name}": join with a state folder of its own (--state DIR)`
    throw enrolling('invite_invalid', detail)
  }
  return { name: enrolled.name, again: true, inviteId: invite.id, usesLeft: invite.left }
}

const NEW_INVITE = 'make a new one with `blindgate invite` on the gateway'
const REVOKED =
  'this key was revoked on the gateway: to come back, join with a new key (a new invite, and --state with an empty folder)'

function toGrant(one: string, other: string): string {
  return `for a second one give each a grant in gateway.toml, [grant.${one}] and [grant.${other}], with types = ["http", "tcp"], hosts = ["*"] for the one that gets the default route, and ports = ["8000-8100"]`
}

function enrolling(
  code: 'revoked' | 'invite_invalid' | 'invite_expired' | 'invite_used' | 'overloaded',
  detail: string,
): TunnelError {
  return new TunnelError(code, { scope: 'tunnel', remote: true, detail })
}

/** A few of the names there are, for the end of a message. */
export function quoted(names: readonly string[]): string {
  if (names.length === 0) return 'none yet'
  const shown = names.slice(0, 8).map((name) => `"${name}"`)
  return names.length > 8 ? `${shown.join(', ')} and ${names.length - 8} more` : shown.join(', ')
}
