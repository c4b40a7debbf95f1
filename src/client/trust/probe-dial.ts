import { request } from 'node:http'
import { connect, isIPv6, type Socket } from 'node:net'
import { checkServerIdentity, connect as connectTls, type TLSSocket } from 'node:tls'
import type { ProbeProxy } from '../../config/index.ts'
import { type Pin, pinOf } from '../../identity/index.ts'
import { SELF_PROBE_BYTES, SELF_PROBE_TIMEOUT_MS } from '../../limits.ts'
import { printable } from '../../protocol/index.ts'
import { believing } from './https-get.ts'
import type { ProbeSight } from './probe.ts'
import { checkProof, PROBE_EXPORTER_BYTES, PROBE_EXPORTER_LABEL, probeTarget } from './probe-proof.ts'
import { throughProxy } from './proxy.ts'

export interface ProbeDial {
  host: string
  /** One of the host's public addresses. */
  address: string
  port: number
  via?: ProbeProxy | undefined
  nonce: string
  /** Identities whose answer counts. */
  accepted: readonly Pin[]
  ca?: readonly string[] | undefined
  signal?: AbortSignal | undefined
  /** Where it comes from, on a machine with several addresses. */
  localAddress?: string | undefined
}

/**
 * Visits a host as a stranger would, and asks inside TLS who ends it. Never rejects: what was seen is the answer. Nothing
 * is resumed, and a certificate that is not believed is a fact like others.
 */
export async function probeOnce(dial: ProbeDial): Promise<ProbeSight> {
  const { host, address, port, via, nonce, accepted } = dial
  const where = { address: `${isIPv6(address) ? `[${address}]` : address}:${port}`, via: via?.text }
  const sockets: Socket[] = []
  try {
    const { tls, leaf, exporter, untrusted } = await within(dial, sockets, async () =>
      secured(dial, await reached(dial, sockets), sockets),
    )
    const sight = { ...where, leaf, untrusted }
    const body = await within(dial, sockets, () => asked(tls, dial)).catch(() => undefined)
    if (body === undefined) return { ...sight, verdict: 'none' }
    return { ...sight, ...checkProof(body, { nonce, host, exporter, leaf }, accepted) }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return { ...where, verdict: 'none', unreachable: printable(code ?? message) }
  } finally {
    for (const socket of sockets) socket.destroy()
  }
}

/** A connection to the address, or to it through the proxy. */
async function reached({ address, port, via, localAddress }: ProbeDial, sockets: Socket[]): Promise<Socket> {
  const to = via ?? { host: address, port }
  const socket = connect({
    host: to.host,
    port: to.port,
    ...(localAddress === undefined ? {} : { localAddress }),
  })
  sockets.push(socket)
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.on('error', reject)
  })
  if (via !== undefined) await throughProxy(socket, via, { address, port })
  return socket
}

function secured(
  { host, ca }: ProbeDial,
  socket: Socket,
  sockets: Socket[],
): Promise<{ tls: TLSSocket; leaf: Pin; exporter: Buffer; untrusted: string | undefined }> {
  return new Promise((resolve, reject) => {
    const tls = connectTls({
      socket,
      servername: host,
      ALPNProtocols: ['http/1.1'],
      // Its exporter covers the certificate; that of older versions need not.
      minVersion: 'TLSv1.3',
      // A certificate that is not believed is looked at all the same, and reported.
      rejectUnauthorized: false,
      checkServerIdentity,
      ...believing(ca),
    })
    sockets.push(tls)
    tls.on('error', reject)
    tls.on('close', () => reject(new Error('the connection was closed')))
    tls.once('secureConnect', () => {
      try {
        const certificate = tls.getPeerX509Certificate()
        if (certificate === undefined) throw new Error('no certificate was shown')
        // Node gives the code of an error here, and types it as an error.
        const why = tls.authorizationError as unknown
        resolve({
          tls,
          leaf: pinOf(certificate.publicKey),
          // Now: whoever answers could end the session with its answer, and what was seen of it with the session.
          exporter: tls.exportKeyingMaterial(PROBE_EXPORTER_BYTES, PROBE_EXPORTER_LABEL, Buffer.alloc(0)),
          untrusted: tls.authorized ? undefined : why instanceof Error ? why.message : String(why),
        })
      } catch (error) {
        reject(error)
      }
    })
  })
}

/** The body of a 200; undefined for every other answer. */
function asked(tls: TLSSocket, { host, port, nonce }: ProbeDial): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const get = request({
      path: probeTarget(nonce),
      headers: { host: port === 443 ? host : `${host}:${port}`, connection: 'close' },
      setHost: false,
      createConnection: () => tls,
    })
    get.on('error', reject)
    get.on('close', () => reject(new Error('the connection broke')))
    get.on('response', (response) => {
      const chunks: Buffer[] = []
      let length = 0
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk)
        length += chunk.length
        if (length > SELF_PROBE_BYTES) reject(new Error('its answer is too long'))
      })
      response.on('error', reject)
      response.on('end', () =>
        resolve(response.statusCode === 200 ? Buffer.concat(chunks).toString() : undefined),
      )
    })
    get.end()
  })
}

/** One step, which ends with its time or with the check. */
async function within<T>({ signal }: ProbeDial, sockets: Socket[], step: () => Promise<T>): Promise<T> {
  let stop = (): void => {}
  const over = new Promise<never>((_resolve, reject) => {
    const ended = (why: string) => () => reject(new Error(why))
    const late = ended(`no answer within ${SELF_PROBE_TIMEOUT_MS / 1000} s`)
    const aborted = ended('the check took too long')
    const timer = setTimeout(late, SELF_PROBE_TIMEOUT_MS)
    signal?.addEventListener('abort', aborted, { once: true })
    if (signal?.aborted === true) aborted()
    stop = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', aborted)
    }
  })
  try {
    return await Promise.race([step(), over])
  } catch (error) {
    for (const socket of sockets) socket.destroy()
    throw error
  } finally {
    stop()
  }
}
