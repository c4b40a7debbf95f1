import { z } from 'zod'
import { isName, type Pin, parsePin } from '../identity/index.ts'
import { isRoute, readRoute } from './route.ts'

/**
 * What the gateway keeps of who may do what: one JSON file, written whole. No secret is in it: of an invite
 * it has the SHA-256, of a machine the pin of its key. Times are epoch milliseconds.
 */

const millis = z.number().int().nonnegative()
const pin = z.custom<Pin>(isPin, 'not a key pin')
const name = z.string().refine(isName, 'not a name')

const inviteSchema = z.object({
  id: z.string().regex(/^[0-9a-f]{8}$/),
  name,
  /** SHA-256 of the secret, hex. */
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  uses: z.number().int().positive(),
  left: z.number().int().nonnegative(),
  createdAt: millis,
  expiresAt: millis,
  /** Printed by a gateway that nobody had joined yet; the next such one voids it. */
  first: z.boolean(),
  /** Taken back by a revoke or by a later first-run invite. */
  voided: z.boolean(),
  /** Who used it last, so that a machine that comes too late can be told whom to revoke. */
  lastKey: pin.optional(),
})

const enrolmentSchema = z.object({
  key: pin,
  name,
  /** Id of the invite that enrolled it. */
  invite: z.string(),
  enrolledAt: millis,
  lastSeen: millis,
  /** Machines or state folders that this key was seen from, latest first. More than one means a copied key. */
  instances: z.array(z.object({ instance: z.string(), at: millis })),
})

const revokedSchema = z.object({ key: pin, name, at: millis })

const ownedSchema = z.object({
  route: z.string().refine(isRoute, 'not a route'),
  name,
  /** The service that a port was chosen for, which gets the same one again. */
  service: z.string().optional(),
  /** It had a client when this was written. */
  live: z.boolean(),
  /** When its last client left, the last time that none was there. */
  leftAt: millis.optional(),
})

export const authoritySchema = z
  .object({
    version: z.literal(1),
    invites: z.array(inviteSchema),
    enrolled: z.array(enrolmentSchema),
    revoked: z.array(revokedSchema),
    owners: z.array(ownedSchema),
  })
  .refine(
    (record) =>
      distinct(record.invites, (invite) => invite.hash) &&
      distinct([...record.enrolled, ...record.revoked], (entry) => entry.key) &&
      distinct(record.owners, (owned) => owned.route),
    'the same key, invite or route twice',
  )
  .refine((record) => hostsHaveOneOwner(record.owners), 'one host of two names')

export type AuthorityRecord = z.infer<typeof authoritySchema>
export type Invitation = z.infer<typeof inviteSchema>
export type Enrolment = z.infer<typeof enrolmentSchema>
export type Revocation = z.infer<typeof revokedSchema>
export type OwnedRoute = z.infer<typeof ownedSchema>

function isPin(value: unknown): boolean {
  if (typeof value !== 'string') return false
  try {
    return parsePin(value) === value
  } catch {
    return false
  }
}

/** On every path, as `Owners` keeps it. */
function hostsHaveOneOwner(owners: readonly OwnedRoute[]): boolean {
  const nameOf = new Map<string, string>()
  return owners.every(({ route, name }) => {
    const parsed = readRoute(route)
    if (parsed === undefined || parsed.kind === 'tcp') return true
    const first = nameOf.get(parsed.host) ?? name
    nameOf.set(parsed.host, first)
    return first === name
  })
}

function distinct<T>(entries: readonly T[], keyOf: (entry: T) => string): boolean {
  return new Set(entries.map(keyOf)).size === entries.length
}
