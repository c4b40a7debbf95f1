/**
 * Who is who: keys with their certificates and pins, and the invites that carry a pin and a secret to a new
 * machine. Knows no file and no socket: `state` keeps what this room makes, `transport` shows it.
 */
export { createIdentity, type Identity, readIdentity } from './identity.ts'
export { decodeInvite, encodeInvite, type Invite } from './invites.ts'
export { checkName, isName } from './names.ts'
export { type Pin, parsePin, peerPin, pinOf, pinOfHash, samePin } from './pins.ts'
export { hashSecret, inviteId, newSecret, sameSecretHash } from './secrets.ts'
