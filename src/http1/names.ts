import { NAME } from './characters.ts'

/**
 * Field names that mean something on the way, by a small number each. All others are passed on as they came.
 * Groups are RFC 9110, section 7.6.1 (hop by hop), RFC 9112 section 6 (framing) and RFC 7239 with its forerunners.
 */
export const Field = {
  other: 0,
  host: 1,
  contentLength: 2,
  transferEncoding: 3,
  connection: 4,
  /** Hop by hop, and of no further interest. */
  hop: 5,
  upgrade: 6,
  expect: 7,
  /** What proxies say of a visitor: ours to say. */
  forwarding: 8,
  forwardedFor: 9,
  forwardedProto: 10,
  forwardedHost: 11,
  realIp: 12,
  requestId: 13,
  authorization: 14,
  /** Of a response: what it asks for. */
  authenticate: 15,
  cookie: 16,
  accept: 17,
  referer: 18,
  userAgent: 19,
  trailer: 20,
  /** A name of these that was written with `_` or the like, and that some target may take for the real one: never passed on. */
  disguised: 21,
  /** Of a response: that its host is to be asked by https alone. */
  transportSecurity: 22,
} as const
export type FieldId = (typeof Field)[keyof typeof Field]

const KNOWN: Readonly<Record<string, FieldId>> = {
  host: Field.host,
  'content-length': Field.contentLength,
  'transfer-encoding': Field.transferEncoding,
  connection: Field.connection,
  'keep-alive': Field.hop,
  'proxy-connection': Field.hop,
  'proxy-authenticate': Field.hop,
  'proxy-authorization': Field.hop,
  'http2-settings': Field.hop,
  te: Field.hop,
  upgrade: Field.upgrade,
  expect: Field.expect,
  forwarded: Field.forwarding,
  'x-forwarded-for': Field.forwardedFor,
  'x-forwarded-proto': Field.forwardedProto,
  'x-forwarded-host': Field.forwardedHost,
  'x-real-ip': Field.realIp,
  'x-request-id': Field.requestId,
  authorization: Field.authorization,
  'www-authenticate': Field.authenticate,
  cookie: Field.cookie,
  accept: Field.accept,
  referer: Field.referer,
  'user-agent': Field.userAgent,
  trailer: Field.trailer,
  'strict-transport-security': Field.transportSecurity,
}

interface Known {
  readonly name: Uint8Array
  readonly id: FieldId
}

const LONGEST = 25
const NONE: readonly Known[] = []
/** By length and first letter: most names of a head meet none of these, and the others one. */
const known: (readonly Known[])[] = Array.from({ length: (LONGEST + 1) * 32 }, () => NONE)
for (const [text, id] of Object.entries(KNOWN)) {
  const name = new TextEncoder().encode(text)
  const place = placeOf(name.length, name[0] as number)
  known[place] = [...(known[place] as readonly Known[]), { name, id }]
}

function placeOf(length: number, first: number): number {
  return length * 32 + (first & 31)
}

const FORWARDED = new TextEncoder().encode('x-forwarded-')

/** What the name in `bytes` from `start` to `end` is, in any case, and with `_` or another mark where there is a hyphen. */
export function fieldId(bytes: Uint8Array, start: number, end: number): FieldId {
  const length = end - start
  if (length <= LONGEST) {
    const candidates = known[placeOf(length, bytes[start] as number)] as readonly Known[]
    for (let index = 0; index < candidates.length; index++) {
      const { name, id } = candidates[index] as Known
      if (begins(bytes, start, name)) return id
    }
  }
  return length >= FORWARDED.length && begins(bytes, start, FORWARDED) ? Field.forwarding : Field.other
}

function begins(bytes: Uint8Array, start: number, name: Uint8Array): boolean {
  for (let index = 0; index < name.length; index++)
    if (NAME[bytes[start + index] as number] !== name[index]) return false
  return true
}

/** A name in the form in which names are compared: see `NAME`. */
export function plainName(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z0-9]/g, '-')
}

/** True for fields that say who the visitor is. Only from a trusted proxy are they believed. */
export function isForwarding(id: number): boolean {
  return id >= Field.forwarding && id <= Field.realIp
}
