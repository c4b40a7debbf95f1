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
  /** A name of these that was written with `_`, and that some target may take for the real one: never passed on. */
  disguised: 21,
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
}

interface Known {
  readonly name: Uint8Array
  readonly hash: number
  readonly id: FieldId
}

/** One step of the hash that the scanner computes over a name as it reads it. `folded` is a byte of `NAME`. */
export function hashed(hash: number, folded: number): number {
  return (Math.imul(hash, 31) + folded) | 0
}

const BUCKETS = 256
const buckets: (readonly Known[] | undefined)[] = Array.from({ length: BUCKETS })
for (const [text, id] of Object.entries(KNOWN)) {
  const name = new TextEncoder().encode(text)
  const hash = name.reduce(hashed, 0)
  const at = hash & (BUCKETS - 1)
  buckets[at] = [...(buckets[at] ?? []), { name, hash, id }]
}

const FORWARDED = new TextEncoder().encode('x-forwarded-')
const LETTER_X = 0x78

/** What the name in `bytes` from `start` to `end` is; `fold` gives the form in which names are compared. */
export function fieldId(
  bytes: Uint8Array,
  start: number,
  end: number,
  hash: number,
  fold: Uint8Array,
): FieldId {
  for (const known of buckets[hash & (BUCKETS - 1)] ?? NONE) {
    if (
      known.hash === hash &&
      begins(bytes, start, end, known.name, fold) &&
      end - start === known.name.length
    )
      return known.id
  }
  const first = fold[bytes[start] as number]
  return first === LETTER_X && begins(bytes, start, end, FORWARDED, fold) ? Field.forwarding : Field.other
}

const NONE: readonly Known[] = []

function begins(bytes: Uint8Array, start: number, end: number, name: Uint8Array, fold: Uint8Array): boolean {
  if (end - start < name.length) return false
  for (let index = 0; index < name.length; index++)
    if (fold[bytes[start + index] as number] !== name[index]) return false
  return true
}

/** True for fields that say who the visitor is. Only from a trusted proxy are they believed. */
export function isForwarding(id: number): boolean {
  return id >= Field.forwarding && id <= Field.realIp
}
