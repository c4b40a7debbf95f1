/** rathole with its encryption, Noise. */
import { generateKeyPairSync } from 'node:crypto'
import { launch, without } from './launched.ts'
import { freePort, listening } from './process.ts'
import { direct, type Kind } from './systems.ts'

/** Of a raw key at the end of its DER. */
const KEY_BYTES = 32

export const rathole: Kind = {
  name: 'rathole noise',
  peer: true,
  missing: () =>
    without(
      ['rathole'],
      'cargo install rathole, or put that of a release (github.com/rathole-org/rathole) there',
    ),
  start: (target, link = direct) =>
    launch('rathole', async (launched) => {
      const [port, tunnel] = [await freePort(), await freePort()]
      const keys = generateKeyPairSync('x25519', {
        publicKeyEncoding: { type: 'spki', format: 'der' },
        privateKeyEncoding: { type: 'pkcs8', format: 'der' },
      })
      const [secret, known] = [raw(keys.privateKey), raw(keys.publicKey)]
      const begin = (side: 'server' | 'client', lines: readonly string[]) => {
        const all = [`[${side}]`, 'default_token = "bench"', ...lines]
        return launched.program('rathole', [`--${side}`, launched.file(`${side}.toml`, all)], {
          ...process.env,
          RUST_LOG: 'error',
        })
      }
      const server = begin('server', [
        `bind_addr = "127.0.0.1:${tunnel}"`,
        '[server.transport]',
        'type = "noise"',
        '[server.transport.noise]',
        `local_private_key = "${secret}"`,
        '[server.services.bench]',
        `bind_addr = "127.0.0.1:${port}"`,
      ])
      await listening(tunnel)
      const client = begin('client', [
        `remote_addr = "127.0.0.1:${await link(tunnel)}"`,
        '[client.transport]',
        'type = "noise"',
        '[client.transport.noise]',
        `remote_public_key = "${known}"`,
        '[client.services.bench]',
        `local_addr = "127.0.0.1:${target}"`,
      ])
      await listening(port)
      return { port, gateway: server.pid, client: client.pid }
    }),
}

function raw(der: Buffer): string {
  return der.subarray(-KEY_BYTES).toString('base64')
}
