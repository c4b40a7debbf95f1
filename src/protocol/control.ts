/**
 * Control messages: what stream 1 carries. Each is a length (4 bytes, big-endian) and that many bytes of JSON.
 *
 * Every schema below is what the other side is believed: fields that it does not name are dropped, numbers are
 * clamped, text is bounded but kept as it came, so whoever prints it uses `printable`. Values that a later
 * version may add to (codes, service types) are kept as `Foreign` text instead of refusing the message.
 */
import { z } from 'zod'
import {
  REJECT_CODES,
  type RejectCode,
  SERVICE_CODES,
  type ServiceCode,
  TunnelError,
  UNREACHED_CODES,
  type UnreachedCode,
} from '../errors.ts'
import {
  CHALLENGE_SECONDS_MAX,
  CONTROL_MESSAGE_BYTES,
  CONTROL_TEXT_CHARACTERS,
  DRAIN_MS_MAX,
  KEEPALIVE_SECONDS_MAX,
  KEEPALIVE_SECONDS_MIN,
  RETRY_AFTER_SECONDS_MAX,
  REWRITE_VALUE_CHARACTERS,
  STREAM_WINDOW_MIN_BYTES,
  URL_CHARACTERS,
  YAMUX_WINDOW_BYTES,
} from '../limits.ts'

/** ALPN of a tunnel, and the one version of the protocol that this program speaks. */
export const TUNNEL_ALPN = 'blindgate/1'
export const PROTOCOL_VERSION = 1

export const SERVICE_TYPES = ['http', 'https', 'tcp', 'udp'] as const
export type ServiceType = (typeof SERVICE_TYPES)[number]

/** How a certificate authority sees that a host is ours (RFC 8737; RFC 8555, 8.3), where a gateway has to let it through. */
export const CHALLENGE_KINDS = ['tls-alpn-01', 'http-01'] as const
export type ChallengeKind = (typeof CHALLENGE_KINDS)[number]

/** A word of a later version of the protocol: not one of ours, so nothing can be decided by it, only printed. */
declare const foreign: unique symbol
export type Foreign = string & { readonly [foreign]: true }

// ── Values ──────────────────────────────────────────────────────────────────────────────────────────────

const LONE_SURROGATE = /\p{Surrogate}/u

/** Names, hosts, ids. Halves of surrogate pairs have no UTF-8, so such a name could not come back the same. */
const text = (max: number) =>
  z
    .string()
    .max(max)
    .refine((value) => !LONE_SURROGATE.test(value), 'is not well-formed text')
const word = text(CONTROL_TEXT_CHARACTERS)
/** For people; bounded by the message it is in. */
const sentence = z.string()
/** One of `known`, or a foreign word that nothing will match. */
const oneOf = <T extends string>() => word.transform((value) => value as T | Foreign)
/** An integer at least `min` and at most `max`, whatever was sent. */
const clamped = (min: number, max: number) =>
  z.number().transform((value) => Math.min(max, Math.max(min, Math.trunc(value))))
/** A number that names something: to clamp it would name something else. */
const id = z.int().min(0).max(0xffff_ffff)
/**
 * A list that is given up at its first wrong item. zod's own goes on and reports each: 32 000 of them in one
 * `hello`, from anybody, cost 50 ms; this costs 2.
 */
const list = <T extends z.ZodType>(item: T) =>
  z.array(z.unknown()).transform((values, context) => {
    const items: z.output<T>[] = []
    for (const value of values) {
      const result = item.safeParse(value)
      if (!result.success) {
        const [issue] = result.error.issues
        const path = [items.length, ...(issue?.path ?? [])]
        context.addIssue({ code: 'custom', message: issue?.message ?? 'is wrong', path })
        return z.NEVER
      }
      items.push(result.data)
    }
    return items
  })

const streamWindow = clamped(STREAM_WINDOW_MIN_BYTES, YAMUX_WINDOW_BYTES).optional()

export const serviceOffer = z.object({
  name: word,
  type: oneOf<ServiceType>(),
  /** Host patterns, `*.` for exactly one label. */
  hosts: list(word).optional(),
  path: word.optional(),
  /** `tcp`, `udp`: the gateway's port; without it, or 0, the gateway chooses. */
  port: z.int().min(0).max(65_535).optional(),
  tls: word.optional(),
  /** False: streams of this service are never shared between visitors. */
  share: z.boolean().optional(),
  /** Opaque; another one means that something else answers now: no stream is used across the change. */
  generation: word.optional(),
  /** `http`: `idempotent` lets the gateway repeat PUT and DELETE too, as it does GET, HEAD and OPTIONS. */
  retry: oneOf<'idempotent'>().optional(),
  /** `http`: what the gateway changes in each request. */
  rewrite: z
    .object({
      /** Instead of the visitor's Host. */
      host: word.optional(),
      /** Set in each request, names as given; the visitor's own of these names are dropped. */
      headers: list(z.tuple([word, text(REWRITE_VALUE_CHARACTERS)])).optional(),
      /** The service's path is taken off before the target sees it. */
      stripPath: z.boolean().optional(),
    })
    .optional(),
})

const problem = z.object({ code: oneOf<ServiceCode>(), message: sentence })
const serviceRefusal = z.object({ name: word, error: problem })
const serviceResult = z.union([z.object({ name: word, urls: list(text(URL_CHARACTERS)) }), serviceRefusal])

// ── Messages ────────────────────────────────────────────────────────────────────────────────────────────

const hello = z.object({
  type: z.literal('hello'),
  protocol: z.object({ min: clamped(0, 0xffff), max: clamped(0, 0xffff) }),
  /** Program and version, for logs. */
  agent: word,
  /** The same for all client processes of one machine and state folder. */
  instance: word,
  /** Random per run. */
  process: word,
  /** Bytes; absent: a plain yamux peer, counted at YAMUX_WINDOW_BYTES in both directions. */
  streamWindow,
  services: list(serviceOffer),
  /** 16 bytes, unpadded base64url. */
  enroll: z.object({ secret: z.string().regex(/^[A-Za-z0-9_-]{22}$/) }).optional(),
})

const welcome = z.object({
  type: z.literal('welcome'),
  protocol: z.literal(PROTOCOL_VERSION),
  gateway: z.object({ id: word, version: word, ids: list(word) }),
  /** The tenant that this key is enrolled under. */
  name: word,
  streamWindow,
  /** Seconds. */
  keepalive: clamped(KEEPALIVE_SECONDS_MIN, KEEPALIVE_SECONDS_MAX),
  services: list(serviceResult),
})

const reject = z.object({
  type: z.literal('reject'),
  code: oneOf<RejectCode>(),
  message: sentence,
  /** True: dialling this gateway again cannot help. */
  final: z.boolean(),
  /** Seconds. */
  retryAfter: clamped(0, RETRY_AFTER_SECONDS_MAX).optional(),
})

const register = z.object({ type: z.literal('register'), seq: id, services: list(serviceOffer) })
/** An answer that does not fit one message comes in parts with the same `seq`; 0 continues `welcome`. */
const registered = z.object({ type: z.literal('registered'), seq: id, services: list(serviceResult) })
const unregister = z.object({
  type: z.literal('unregister'),
  seq: id,
  names: list(word),
  /** True: others may have the host or port. */
  release: z.boolean().optional(),
})
const unregistered = z.object({ type: z.literal('unregistered'), seq: id })
/** Not one byte of `stream` reached a target; its RST follows. */
const unreached = z.object({ type: z.literal('unreached'), stream: id, code: oneOf<UnreachedCode>() })
/** The client's word on its own target, which it probes: while it is down no visitor is sent there. */
const health = z.object({ type: z.literal('health'), name: word, up: z.boolean() })
/** An authority is about to ask the host for this: whoever sends it wants to be the one who answers. */
const challenge = z.object({
  type: z.literal('challenge'),
  seq: id,
  host: word,
  kind: oneOf<ChallengeKind>(),
  /** `http-01`: the last segment of the path that is asked for. */
  token: word.optional(),
  /** Seconds until nobody will ask any more. */
  expires: clamped(1, CHALLENGE_SECONDS_MAX),
})
const challengeReady = z.object({
  type: z.literal('challenge_ready'),
  seq: id,
  /** It will not be passed on. */
  error: problem.optional(),
})
const challengeDone = z.object({ type: z.literal('challenge_done'), seq: id })
const withdrawn = z.object({ type: z.literal('withdrawn'), services: list(serviceRefusal) })
/** The ids of all gateways behind this address: a client holds a tunnel to each. */
const gateways = z.object({ type: z.literal('gateways'), ids: list(word) })
const drain = z.object({ type: z.literal('drain'), deadlineMs: clamped(0, DRAIN_MS_MAX) })

export type ServiceOffer = z.output<typeof serviceOffer>
export type ServiceRefusal = z.output<typeof serviceRefusal>
export type ServiceResult = z.output<typeof serviceResult>
export type Hello = z.output<typeof hello>
export type Welcome = z.output<typeof welcome>
export type Reject = z.output<typeof reject>
export type Register = z.output<typeof register>
export type Registered = z.output<typeof registered>
export type Unregister = z.output<typeof unregister>
export type Unregistered = z.output<typeof unregistered>
export type Unreached = z.output<typeof unreached>
export type Health = z.output<typeof health>
export type Challenge = z.output<typeof challenge>
export type ChallengeReady = z.output<typeof challengeReady>
export type ChallengeDone = z.output<typeof challengeDone>
export type Withdrawn = z.output<typeof withdrawn>
export type Gateways = z.output<typeof gateways>
export type Drain = z.output<typeof drain>

export type ClientMessage =
  | Hello
  | Register
  | Unregister
  | Unreached
  | Health
  | Challenge
  | ChallengeDone
  | Drain
export type GatewayMessage =
  | Welcome
  | Reject
  | Registered
  | Unregistered
  | ChallengeReady
  | Withdrawn
  | Gateways
  | Drain
export type Message = ClientMessage | GatewayMessage

const byType = <T>(...schemas: (z.ZodType<T> & { shape: { type: z.ZodLiteral<string> } })[]) =>
  new Map(schemas.map((schema) => [schema.shape.type.value, schema] as const))

/** By type, what each side may send. For this room and its tests: the document is held against the shapes. */
export const FROM_CLIENT = byType<ClientMessage>(
  hello,
  register,
  unregister,
  unreached,
  health,
  challenge,
  challengeDone,
  drain,
)
export const FROM_GATEWAY = byType<GatewayMessage>(
  welcome,
  reject,
  registered,
  unregistered,
  challengeReady,
  withdrawn,
  gateways,
  drain,
)

// ── Codes ───────────────────────────────────────────────────────────────────────────────────────────────

export const isRejectCode = (code: string): code is RejectCode => Object.hasOwn(REJECT_CODES, code)
export const isServiceCode = (code: string): code is ServiceCode =>
  (SERVICE_CODES as readonly string[]).includes(code)
export const isUnreachedCode = (code: string): code is UnreachedCode =>
  (UNREACHED_CODES as readonly string[]).includes(code)
export const isServiceType = (type: string): type is ServiceType =>
  (SERVICE_TYPES as readonly string[]).includes(type)
export const isChallengeKind = (kind: string): kind is ChallengeKind =>
  (CHALLENGE_KINDS as readonly string[]).includes(kind)

/** What a token may be (RFC 8555, 8.1): base64url, so that it stands in a path as it is. */
export const isChallengeToken = (token: string): boolean =>
  token.length <= CONTROL_TEXT_CHARACTERS && /^[A-Za-z0-9_-]+$/.test(token)

/** A `reject` whose `final` is what the table of codes says. `retryAfter` in seconds. */
export function rejection(code: RejectCode, message: string, retryAfter?: number): Reject {
  const { final } = REJECT_CODES[code]
  return { type: 'reject', code, message, final, ...(retryAfter === undefined ? {} : { retryAfter }) }
}

// ── Bytes ───────────────────────────────────────────────────────────────────────────────────────────────

const LENGTH_BYTES = 4

/** The message as it travels, length included. Throws `protocol_error` (ours) if it is too long: see `packItems`. */
export function encodeControl(message: Message): Buffer {
  const json = JSON.stringify(message)
  const length = Buffer.byteLength(json)
  if (length > CONTROL_MESSAGE_BYTES) {
    throw new TunnelError('protocol_error', {
      scope: 'tunnel',
      detail: `a control message "${message.type}" of ${length} bytes is over ${CONTROL_MESSAGE_BYTES}`,
    })
  }
  const out = Buffer.allocUnsafe(LENGTH_BYTES + length)
  out.writeUInt32BE(length, 0)
  out.write(json, LENGTH_BYTES)
  return out
}

/**
 * Cuts a list into runs that each fit one message. `envelope` is the message with the list empty; `limit` the
 * bytes of the whole. Always gives at least one run, so that an empty list still is a message. An item too
 * long for any message gets a run of its own, which `encodeControl` then refuses.
 */
export function packItems<T>(items: readonly T[], envelope: object, limit = CONTROL_MESSAGE_BYTES): T[][] {
  const room = limit - Buffer.byteLength(JSON.stringify(envelope))
  let run: T[] = []
  const runs = [run]
  let used = 0
  for (const item of items) {
    const bytes = Buffer.byteLength(JSON.stringify(item)) + 1 // and its comma
    if (used + bytes > room && run.length > 0) {
      run = []
      runs.push(run)
      used = 0
    }
    run.push(item)
    used += bytes
  }
  return runs
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

type MessageFrom = { fromClient: ClientMessage; fromGateway: GatewayMessage }

/**
 * Reads control messages at any segmentation. Holds at most one unfinished message, in memory that grows with
 * what has come, never with what was announced.
 */
export class ControlReader<Side extends keyof MessageFrom = keyof MessageFrom> {
  readonly #schemas: ReadonlyMap<string, z.ZodType<MessageFrom[Side]>>
  #held: Buffer = Buffer.alloc(0)
  #filled = 0
  #received = 0

  constructor(side: Side) {
    this.#schemas = (side === 'fromClient' ? FROM_CLIENT : FROM_GATEWAY) as ReadonlyMap<
      string,
      z.ZodType<MessageFrom[Side]>
    >
  }

  /** Messages so far, those of unknown types as well: what a bound on their rate has to count. */
  get received(): number {
    return this.#received
  }

  /**
   * The messages that `chunk` completes, in order; unknown types are left out. Does not keep `chunk`.
   * Throws `protocol_error` (remote) for a message that is too long, not UTF-8, not JSON or of the wrong
   * shape: the tunnel ends, and messages before it in the same chunk go with it.
   */
  push(chunk: Uint8Array): MessageFrom[Side][] {
    const messages: MessageFrom[Side][] = []
    let rest = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
    while (rest.length > 0) {
      // Common case: the whole message is in the chunk, and is read where it lies.
      const whole = this.#filled === 0 ? messageEnd(rest, rest.length) : undefined
      if (whole !== undefined && whole <= rest.length) {
        this.#read(rest.subarray(LENGTH_BYTES, whole), messages)
        rest = rest.subarray(whole)
      } else {
        rest = this.#hold(rest, messages)
      }
    }
    return messages
  }

  /** Moves bytes of the unfinished message from `rest` into the held buffer; gives what belongs to the next. */
  #hold(rest: Buffer, messages: MessageFrom[Side][]): Buffer {
    const end = messageEnd(this.#held, this.#filled) ?? LENGTH_BYTES
    const take = Math.min(rest.length, end - this.#filled)
    this.#makeRoom(this.#filled + take, end)
    rest.copy(this.#held, this.#filled, 0, take)
    this.#filled += take
    const known = messageEnd(this.#held, this.#filled)
    if (known !== undefined && known === this.#filled) {
      this.#read(this.#held.subarray(LENGTH_BYTES, known), messages)
      this.#held = Buffer.alloc(0)
      this.#filled = 0
    }
    return rest.subarray(take)
  }

  #makeRoom(bytes: number, end: number): void {
    if (bytes <= this.#held.length) return
    const grown = Buffer.allocUnsafe(Math.min(end, Math.max(bytes, 2 * this.#held.length)))
    this.#held.copy(grown, 0, 0, this.#filled)
    this.#held = grown
  }

  #read(json: Buffer, messages: MessageFrom[Side][]): void {
    this.#received += 1
    let value: unknown
    try {
      value = JSON.parse(utf8.decode(json))
    } catch {
      // Without its cause: V8 quotes the text there, and it may hold an invite's secret.
      throw broken('is not JSON in UTF-8')
    }
    if (typeof value !== 'object' || value === null || !('type' in value)) throw broken('has no type')
    const { type } = value
    if (typeof type !== 'string') throw broken('has no type')
    const schema = this.#schemas.get(type)
    if (schema === undefined) return
    const result = schema.safeParse(value)
    if (!result.success) {
      const [issue] = result.error.issues
      // Only names of our own schemas and indexes: nothing that the peer chose gets into the sentence.
      throw broken(`"${type}" is wrong at ${issue?.path.join('.')}: ${issue?.message}`)
    }
    messages.push(result.data)
  }
}

/** Where the message at the start of `bytes` ends, once its length is there. Throws if that is out of bounds. */
function messageEnd(bytes: Buffer, filled: number): number | undefined {
  if (filled < LENGTH_BYTES) return undefined
  const length = bytes.readUInt32BE(0)
  if (length > CONTROL_MESSAGE_BYTES) throw broken(`of ${length} bytes is over ${CONTROL_MESSAGE_BYTES}`)
  return LENGTH_BYTES + length
}

function broken(fact: string): TunnelError {
  return new TunnelError('protocol_error', {
    scope: 'tunnel',
    remote: true,
    detail: `a control message ${fact}`,
  })
}
