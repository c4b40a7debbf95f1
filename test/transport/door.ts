import { createPrivateKey, webcrypto } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { type Identity, type Pin, peerPin } from '../../src/identity/index.ts'
import { TunnelListener, type TunnelListenerOptions } from '../../src/transport/index.ts'
import { Moments } from '../client/moments.ts'

export interface Arrival {
  socket: TLSSocket
  pin: Pin
  authenticated: () => void
}

/** A tunnel port alone: who came through it, and who did not. */
export class Door {
  readonly arrivals = new Moments<Arrival>()
  readonly turnedAway = new Moments<string>()
  readonly listener: TunnelListener<Pin>
  port = 0

  static async open(
    identity: Identity,
    bounds?: TunnelListenerOptions<Pin>['bounds'],
    accept?: (arrival: Arrival) => void,
  ): Promise<Door> {
    const door = new Door(identity, bounds, accept)
    door.port = (await door.listener.listen({ host: '127.0.0.1', port: 0 })).port
    return door
  }

  private constructor(
    identity: Identity,
    bounds: TunnelListenerOptions<Pin>['bounds'],
    accept: (arrival: Arrival) => void = ({ socket }) => socket.on('error', () => {}),
  ) {
    this.listener = new TunnelListener<Pin>({
      keys: identity,
      identify: peerPin,
      accept: (socket, pin, authenticated) => {
        const arrival = { socket, pin, authenticated }
        accept(arrival)
        this.arrivals.add(arrival)
      },
      turnedAway: (_address, why) => this.turnedAway.add(why),
      bounds,
    })
  }

  async close(): Promise<void> {
    for (const { socket } of this.arrivals.all) socket.destroy()
    await this.listener.close()
  }
}

const ALGORITHMS = {
  Ed25519: { name: 'Ed25519' },
  'P-256': { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  RSA: {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    modulusLength: 2048,
    publicExponent: new Uint8Array([1, 0, 1]),
  },
} as const

/** A certificate as others make them. */
export async function strangeKeys(
  kind: keyof typeof ALGORITHMS,
  details: { name?: string; notBefore?: Date; notAfter?: Date } = {},
): Promise<{ key: string; certificate: string }> {
  await import('reflect-metadata')
  const { X509CertificateGenerator } = await import('@peculiar/x509')
  const algorithm = ALGORITHMS[kind]
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair
  const { name = 'CN=somebody', notBefore = new Date(0), notAfter = new Date('2099-01-01') } = details
  const made = await X509CertificateGenerator.createSelfSigned(
    { name, notBefore, notAfter, keys, signingAlgorithm: algorithm },
    webcrypto,
  )
  const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
  return {
    key: String(
      createPrivateKey({ key, format: 'der', type: 'pkcs8' }).export({ type: 'pkcs8', format: 'pem' }),
    ),
    certificate: made.toString('pem'),
  }
}
