import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { HANDSHAKE_MS } from '../../../src/limits.ts'
import { until } from '../../net/joined.ts'
import { fromNode } from '../../protocol/hellos.ts'
import { get, secure, TlsWorld } from './people.ts'

let world: TlsWorld
beforeEach(async () => {
  world = await TlsWorld.start()
})
afterEach(() => world.close())

const HOST = 'app.example.com'

describe('a visitor who does not end the handshake', () => {
  // The clock of TLS is Node's own, and cannot be set: all of them at once.
  test('is cut after ten seconds, whether it says nothing, goes on byte by byte, or said all that it will', async () => {
    const web = await world.web((_request, response) => response.end('here'))
    const client = await world.offer([secure('web', [HOST], web.port)])
    const begin = async (): Promise<Socket> => {
      const socket = connect({ host: '127.0.0.1', port: world.port, noDelay: true, allowHalfOpen: true })
      world.later(() => socket.destroy())
      socket.on('error', () => {})
      socket.on('end', () => socket.end())
      socket.write(fromNode({ servername: HOST, minVersion: 'TLSv1.3' }))
      await once(socket, 'data')
      socket.resume()
      return socket
    }
    const begun = performance.now()
    const [silent, slow, ended] = [await begin(), await begin(), await begin()]
    ended.end()
    // The visitor's part of a handshake, as far as it comes.
    const record = [20, 3, 3, 0, 1, 1, 23, 3, 3, 0x40, 0]
    const drip = setInterval(() => slow.write(Buffer.of(record.shift() ?? 0)), 200)
    world.later(() => clearInterval(drip))
    await Promise.all(
      [silent, slow, ended].map((socket) => new Promise((over) => socket.once('close', over))),
    )
    const took = performance.now() - begun
    expect(took).toBeGreaterThan(HANDSHAKE_MS - 1000)
    expect(took).toBeLessThan(HANDSHAKE_MS + 5000)
    await until(() => client.status().streams === 0)
    expect(client.status().errors['handshake_failed']).toBe(3)
    expect(await (await world.visitor(HOST)).ask(get(HOST), 'here')).toMatch(/200 OK/)
  })
})
