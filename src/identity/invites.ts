import { createHash } from 'node:crypto'
import { type TunnelError, userError } from '../errors.ts'
import { INVITE_ADDRESS_BYTES, INVITE_ADDRESSES, INVITE_TEXT_CHARACTERS } from '../limits.ts'
import { checkName, isName } from './names.ts'
import { hashOfPin, PIN_BYTES, type Pin, pinOfHash } from './pins.ts'
import { SECRET_BYTES } from './secrets.ts'

/** What a new machine needs to reach a gateway, to know it, and to be let in. */
export interface Invite {
  /** `host:port`, in the order to try them. */
  addresses: string[]
  /** The gateway's key. */
  pin: Pin
  /** The tenant that the machine will belong to, for people: what counts is the gateway's own record. */
  name: string
  domain?: string
  /** 16 bytes. */
  secret: Uint8Array
}

const PREFIX = 'bg1_'
const VERSION = 1
const SUM_BYTES = 4
const DOMAIN = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/
/** `host:port` in visible ASCII; whoever dials reads it further. */
const ADDRESS = /^[!-~]+$/

/**
 * `bg1_` and base64url of: version 1; count, and per address its length and text; pin, 32 bytes; name and
 * domain, each length and text (0: no domain); secret, 16 bytes; the first 4 bytes of SHA-256 over all before.
 * Counts and lengths are one byte. Throws `config_invalid` for what does not fit.
 */
export function encodeInvite(invite: Invite): string {
  const { addresses, domain } = invite
  if (addresses.length === 0 || addresses.length > INVITE_ADDRESSES) {
    throw userError(
      'config_invalid',
      `an invite carries 1 to ${INVITE_ADDRESSES} addresses, not ${addresses.length}`,
    )
  }
  for (const address of addresses) {
    if (!isAddress(address)) {
      throw userError(
        'config_invalid',
        `${JSON.stringify(address.slice(0, 80))} cannot be in an invite: use host:port in at most ${INVITE_ADDRESS_BYTES} ASCII characters`,
      )
    }
  }
  if (domain !== undefined && !DOMAIN.test(domain)) {
    throw userError('config_invalid', `${JSON.stringify(domain.slice(0, 80))} is not a domain in lower case`)
  }
  if (invite.secret.length !== SECRET_BYTES) throw new RangeError(`a secret has ${SECRET_BYTES} bytes`)
  const body = Buffer.concat([
    Buffer.of(VERSION, addresses.length),
    ...addresses.map(counted),
    hashOfPin(invite.pin),
    counted(checkName(invite.name)),
    counted(domain ?? ''),
    invite.secret,
  ])
  return PREFIX + Buffer.concat([body, sumOf(body)]).toString('base64url')
}

/**
 * Reads an invite as pasted: spaces and line breaks around and in it do not count. Throws `invite_invalid` for
 * people, which never quotes the text: it may hold a live secret.
 */
export function decodeInvite(text: string): Invite {
  if (text.length > INVITE_TEXT_CHARACTERS) throw invalid('it is too long')
  const compact = text.replaceAll(/\s/g, '')
  if (!compact.startsWith(PREFIX)) {
    if (compact.length < PREFIX.length && PREFIX.startsWith(compact)) throw incomplete()
    if (/^bg[0-9]+_/.test(compact)) throw invalid('a newer blindgate made it, so upgrade this one')
    throw invalid(`one begins with ${PREFIX}`)
  }
  const encoded = compact.slice(PREFIX.length)
  const bytes = Buffer.from(encoded, 'base64url')
  const body = bytes.subarray(0, Math.max(0, bytes.length - SUM_BYTES))
  // Node skips what is not base64url and ignores loose bits at the end: only the canonical text counts.
  if (bytes.toString('base64url') !== encoded || !sumOf(body).equals(bytes.subarray(body.length))) {
    throw incomplete()
  }
  return readBody(body)
}

/** Past the sum: what is wrong here was made wrong, not lost on the way. */
function readBody(body: Buffer): Invite {
  let at = 0
  const take = (length: number) => {
    const part = body.subarray(at, at + length)
    if (part.length < length) throw invalid('its parts do not fit together')
    at += length
    return part
  }
  const byte = () => take(1).readUInt8(0)
  const ascii = () => take(byte()).toString('latin1')

  if (byte() !== VERSION) throw invalid('a newer blindgate made it, so upgrade this one')
  const count = byte()
  if (count === 0 || count > INVITE_ADDRESSES) throw invalid(`it has ${count} addresses`)
  const addresses = Array.from({ length: count }, ascii)
  const pin = pinOfHash(take(PIN_BYTES))
  const name = ascii()
  const domain = ascii()
  const secret = Uint8Array.from(take(SECRET_BYTES))
  if (at !== body.length) throw invalid('its parts do not fit together')
  if (!addresses.every(isAddress)) throw invalid('it has an address that is none')
  if (!isName(name)) throw invalid('it has a name that is none')
  if (domain !== '' && !DOMAIN.test(domain)) throw invalid('it has a domain that is none')
  return { addresses, pin, name, ...(domain === '' ? {} : { domain }), secret }
}

const isAddress = (text: string) => text.length <= INVITE_ADDRESS_BYTES && ADDRESS.test(text)

function counted(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1')
  return Buffer.concat([Buffer.of(bytes.length), bytes])
}

function sumOf(body: Uint8Array): Buffer {
  return createHash('sha256').update(body).digest().subarray(0, SUM_BYTES)
}

const incomplete = (): TunnelError =>
  userError('invite_invalid', 'this invite is incomplete: copy it whole, from bg1_ to its last character')

const invalid = (fact: string): TunnelError =>
  userError(
    'invite_invalid',
    `this is not an invite that can be used: ${fact}; ask the gateway's operator for a new one`,
  )
