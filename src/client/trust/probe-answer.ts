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

/** Answers probes in a target's place, for the terminators of this process. */
export class ProbeAnswerer {
  readonly #identity: Pick<Identity, 'key'>
  readonly #nonces: ProbeNonces

  constructor(identity: Pick<Identity, 'key'>, nonces: ProbeNonces) {
    this.#identity = identity
    this.#nonces = nonces
  }

  /** Undefined for every request that is no probe. `socket` is the visitor's own TLS session. */
  answer(
    head: Pick<RequestHead, 'method' | 'host' | 'targetStart' | 'targetEnd' | 'bytes'>,
    socket: Socket,
  ): LocalAnswer | undefined {
    const { method, host, targetStart, targetEnd, bytes } = head
    // Each request comes by here: its length tells nearly all of them from a probe.
    if (targetEnd - targetStart !== PROBE_TARGET_CHARACTERS) return undefined
    const target = Buffer.from(bytes.subarray(targetStart, targetEnd)).toString('latin1')
    return this.answerTo({ method, host, target }, socket)
  }

  /** The same for requests whose target is text, as those of h2 are; `host` lower case, without port. */
  answerTo(
    { method, host, target }: { method: string; host: string; target: string },
    socket: Socket,
  ): LocalAnswer | undefined {
    const nonce = method === 'GET' ? probeNonce(target) : undefined
    if (nonce === undefined || !(socket instanceof TLSSocket)) return undefined
    this.#nonces.note(nonce)
    const answer = answerIn(socket, { identity: this.#identity, nonce, host })
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
