import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { LocalAnswer } from '../../http/index.ts'
import type { RequestHead } from '../../http1/index.ts'
import { type Identity, pinOf } from '../../identity/index.ts'
import type { ProbeNonces } from './probe-nonces.ts'
import {
  PROBE_EXPORTER_BYTES,
  PROBE_EXPORTER_LABEL,
  PROBE_TARGET_CHARACTERS,
  probeAnswer,
  probeNonce,
} from './probe-proof.ts'

/** A request of a visitor, wherever its TLS ended: `target` is asked for only when its length fits. */
export type Probed = Pick<RequestHead, 'method' | 'host' | 'targetStart' | 'targetEnd' | 'bytes'>

/**
 * Answers probes in a target's place, and nothing else: undefined for every other request. For the terminators of this
 * process, over http/1.1 and h2; `socket` is the visitor's own TLS session.
 */
export function probeAnswerer(
  identity: Pick<Identity, 'key'>,
  nonces: ProbeNonces,
): (head: Probed, socket: Socket) => LocalAnswer | undefined {
  return ({ method, host, targetStart, targetEnd, bytes }, socket) => {
    // Each request comes by here: its length tells nearly all of them from a probe.
    if (targetEnd - targetStart !== PROBE_TARGET_CHARACTERS || method !== 'GET') return undefined
    const nonce = probeNonce(Buffer.from(bytes.subarray(targetStart, targetEnd)).toString('latin1'))
    if (nonce === undefined || !(socket instanceof TLSSocket)) return undefined
    nonces.note(nonce)
    const answer = answerIn(socket, { identity, nonce, host })
    return answer === undefined
      ? { status: 400, type: 'text/plain', body: 'a probe needs TLS 1.3\n' }
      : { status: 200, type: 'application/json', body: JSON.stringify(answer) }
  }
}

function answerIn(
  socket: TLSSocket,
  about: { identity: Pick<Identity, 'key'>; nonce: string; host: string },
): ReturnType<typeof probeAnswer> | undefined {
  const certificate = socket.getX509Certificate()
  // The exporter of older versions need not cover the certificate (RFC 7627).
  if (socket.getProtocol() !== 'TLSv1.3' || certificate === undefined) return undefined
  const exporter = socket.exportKeyingMaterial(PROBE_EXPORTER_BYTES, PROBE_EXPORTER_LABEL, Buffer.alloc(0))
  return probeAnswer({ ...about, exporter, leafSpki: pinOf(certificate.publicKey) })
}
