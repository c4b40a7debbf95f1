import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import { z } from 'zod'
import { type Identity, type Pin, parsePin, pinOf, samePin } from '../../identity/index.ts'

/** Where a terminator of ours answers probes, on every host of its own. */
const PROBE_PATH = '/.well-known/blindgate-probe'
/** The exporter (RFC 8446, 7.5; RFC 5705) by which both ends of one TLS session, and nobody between, know it. */
export const PROBE_EXPORTER_LABEL = 'EXPORTER-blindgate-probe'
export const PROBE_EXPORTER_BYTES = 32
/** 128 bits in hex. */
const NONCE = /^[0-9a-f]{32}$/

/** One TLS session as one end of it sees it. */
export interface ProbedSession {
  /** 32 characters, lower-case hex. */
  nonce: string
  /** The name that was asked for, lower case. */
  host: string
  /** 32 bytes. */
  exporter: Uint8Array
  /** Pin of the certificate's key. */
  leaf: Pin
}

/** What the terminator says in JSON. `key` is the DER SPKI of `identity`; with `signature` and `exporter` it is base64. */
export interface ProbeAnswer {
  identity: Pin
  key: string
  leaf: Pin
  exporter: string
  signature: string
}

/** What a probe asks for. */
export function probeTarget(nonce: string): string {
  return `${PROBE_PATH}?nonce=${nonce}`
}

/** Characters of that; every other request is told from a probe by them. */
export const PROBE_TARGET_CHARACTERS = probeTarget('').length + 32

/** The nonce in a request's target as it stands in the request; undefined for one that is no probe. */
export function probeNonce(target: string): string | undefined {
  const before = probeTarget('')
  const nonce = target.startsWith(before) ? target.slice(before.length) : ''
  return NONCE.test(nonce) ? nonce : undefined
}

/**
 * Proves that this end of the session is ours: signs it with the machine's key. Whoever asks may be anybody, the gateway
 * too; what they get is about their own session and no other. `session` must be TLS 1.3, whose exporter covers the
 * certificate.
 */
export function probeAnswer({
  identity,
  nonce,
  host,
  exporter,
  leafSpki,
}: {
  identity: Pick<Identity, 'key'>
  nonce: string
  host: string
  exporter: Uint8Array
  /** DER of the certificate's public key, or its pin. */
  leafSpki: Uint8Array | Pin
}): ProbeAnswer {
  const { key, publicKey } = keysOf(identity)
  const leaf = typeof leafSpki === 'string' ? leafSpki : pinOf(readKey(leafSpki))
  const message = signedMessage({ nonce, host: host.toLowerCase(), exporter, leaf })
  return {
    identity: pinOf(publicKey),
    key: publicKey.export({ type: 'spki', format: 'der' }).toString('base64'),
    leaf,
    exporter: Buffer.from(exporter).toString('base64'),
    signature: sign(null, message, key).toString('base64'),
  }
}

/** Reading a key takes as long as signing with it, and anybody may ask. */
const keys = new WeakMap<object, { key: KeyObject; publicKey: KeyObject }>()

function keysOf(identity: Pick<Identity, 'key'>): { key: KeyObject; publicKey: KeyObject } {
  const known = keys.get(identity)
  if (known !== undefined) return known
  const key = createPrivateKey(identity.key)
  const both = { key, publicKey: createPublicKey(key) }
  keys.set(identity, both)
  return both
}

const answerSchema = z.object({
  identity: z.string().transform((text) => parsePin(text)),
  key: z.base64().max(128),
  leaf: z.string().transform((text) => parsePin(text)),
  exporter: z.base64().max(64),
  signature: z.base64().max(128),
})

/** How what was answered stands to what was seen. First match wins. */
export type ProofVerdict =
  /** It is no answer, or its signature does not hold, or is about another nonce or host. */
  | 'none'
  /** It is right in itself, by a key that is not ours. */
  | 'stranger'
  /** Our terminator shows another certificate than was seen. */
  | 'foreign_leaf'
  /** Our terminator is at the end of another TLS session. */
  | 'exporter_mismatch'
  | 'ok'

/** Checks an answer against the session as the prober sees it. Never throws, whatever stands in `body`. */
export function checkProof(
  body: string,
  seen: ProbedSession,
  accepted: readonly Pin[],
): { verdict: ProofVerdict; identity?: Pin } {
  const answer = readAnswer(body)
  if (answer === undefined) return { verdict: 'none' }
  const { identity, leaf } = answer
  const exporter = Buffer.from(answer.exporter, 'base64')
  try {
    const key = readKey(Buffer.from(answer.key, 'base64'))
    if (key.asymmetricKeyType !== 'ed25519' || !samePin(pinOf(key), identity)) return { verdict: 'none' }
    const message = signedMessage({ nonce: seen.nonce, host: seen.host, exporter, leaf })
    if (!verify(null, message, key, Buffer.from(answer.signature, 'base64'))) return { verdict: 'none' }
  } catch {
    return { verdict: 'none' }
  }
  if (!accepted.some((pin) => samePin(pin, identity))) return { verdict: 'stranger', identity }
  if (!samePin(leaf, seen.leaf)) return { verdict: 'foreign_leaf', identity }
  if (!exporter.equals(seen.exporter)) return { verdict: 'exporter_mismatch', identity }
  return { verdict: 'ok', identity }
}

function readAnswer(body: string): ProbeAnswer | undefined {
  try {
    return answerSchema.safeParse(JSON.parse(body)).data
  } catch {
    return undefined
  }
}

/**
 * What is signed: a text that stands for this use of the key and no other, then each part behind its length of four
 * bytes, so that no two sessions have one encoding. TLS itself signs what begins with 64 spaces.
 */
function signedMessage({ nonce, host, exporter, leaf }: ProbedSession): Buffer {
  const parts = ['blindgate probe 1', nonce, host, Buffer.from(exporter), leaf]
  return Buffer.concat(
    parts.flatMap((part) => {
      const bytes = Buffer.from(part)
      const length = Buffer.alloc(4)
      length.writeUInt32BE(bytes.length)
      return [length, bytes]
    }),
  )
}

function readKey(spki: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' })
}
