import type { EventEmitter } from 'node:events'
import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2'
import { connect as connectPlain } from 'node:net'
import { Duplex } from 'node:stream'
import { setTimeout as passed } from 'node:timers/promises'
import { connect } from 'node:tls'
import { createIdentity } from '../../src/identity/index.ts'
import { TUNNEL_ALPN } from '../../src/protocol/index.ts'
import { Visitor } from '../e2e/visitors.ts'
import type { Chance } from '../http1/mutations.ts'
import { fromNode } from '../protocol/hellos.ts'
import { asked, broken, byTls, conversation } from './http-visits.ts'
import { bytesAt, isAt } from './pattern.ts'
import { type Kind, type Place, Told } from './visits.ts'

const KiB = 1024
/** A key that nobody has enrolled. */
const stranger = createIdentity()

/** Resolves when it is over, well or not. */
function closed(of: EventEmitter): Promise<void> {
  return new Promise((resolve) => of.once('close', resolve))
}

/** `gone` resolves when its connection is, well or not. */
function session({ tls, hosts }: Place): { over: ClientHttp2Session; gone: Promise<void> } {
  const plain = connectPlain({ host: '127.0.0.1', port: tls })
  const gone = closed(plain)
  // Node's session over a socket of its own can sleep through a reset for good: here one that is apart hears of it.
  const socket = connect({
    socket: Duplex.from({ readable: plain, writable: plain }),
    servername: hosts.secure,
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
  })
  const over = connectHttp2(`https://${hosts.secure}`, { createConnection: () => socket })
  // It is told by what becomes of the requests.
  over.on('error', () => undefined)
  return { over, gone }
}

function head({ hosts }: Place, at: number, length: number): Record<string, string> {
  return { ':path': `/bytes/${at}/${length}`, ':authority': hosts.secure }
}

/** One request by HTTP/2, held against what is right. */
function get(over: ClientHttp2Session, place: Place, at: number, length: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const stream = over.request(head(place, at, length))
    let status = 0
    let received = 0
    let right = true
    stream.on('response', (headers) => {
      status = headers[':status'] ?? 0
    })
    stream.on('data', (chunk: Buffer) => {
      right &&= isAt(at + received, chunk)
      received += chunk.length
    })
    stream.on('error', () => undefined)
    stream.on('close', () => {
      if ([502, 503, 504].includes(status)) reject(new Told(`${status}`))
      else if (stream.rstCode !== 0 || over.destroyed) reject(new Told('reset'))
      else if (status === 200 && right && received === length) resolve()
      else reject(new Error(`status ${status}, ${received} of ${length} bytes, right: ${right}`))
    })
  })
}

async function overHttp2(place: Place, visit: (over: ClientHttp2Session) => Promise<unknown>): Promise<void> {
  const { over, gone } = session(place)
  // Its requests hear of that in a moment, if they do.
  const cut = gone.then(async () => {
    await passed(1_000)
    throw new Told('reset')
  })
  cut.catch(() => undefined)
  try {
    await Promise.race([visit(over), cut])
    over.close()
  } catch (error) {
    over.destroy()
    throw error
  }
  await gone
}

/** Says something, waits a little, and leaves. Whatever comes is read. */
async function leaves(port: number, bytes: Uint8Array, chance: Chance): Promise<void> {
  const visitor = new Visitor(connectPlain({ host: '127.0.0.1', port })).read()
  visitor.socket.write(bytes)
  await passed(chance.below(400))
  if (chance.below(2) === 0) visitor.socket.resetAndDestroy()
  else visitor.socket.end()
  await visitor.closed
}

function part(bytes: Buffer, chance: Chance): Buffer {
  return bytes.subarray(0, 1 + chance.below(bytes.length - 1))
}

export const TLS: readonly Kind[] = [
  {
    name: 'https, TLS ends in the client',
    weight: 8,
    mannered: true,
    visit: (place, chance) => byTls(place, place.hosts.secure, (site) => conversation(site, chance)),
  },
  {
    name: 'https, TLS ends at the target',
    weight: 8,
    mannered: true,
    visit: (place, chance) => byTls(place, place.hosts.passthrough, (site) => conversation(site, chance)),
  },
  {
    name: 'https stalled, then read',
    weight: 2,
    mannered: true,
    visit: (place, chance) =>
      byTls(place, chance.of([place.hosts.secure, place.hosts.passthrough]), (site) => {
        const [at, length] = [chance.below(1e6), (4 + chance.below(4)) * KiB * KiB]
        return asked({ ...site, at, length, stallMs: chance.below(3_000) })
      }),
  },
  {
    name: 'HTTP/2',
    weight: 6,
    mannered: true,
    visit: (place, chance) =>
      overHttp2(place, (over) =>
        Promise.all(
          Array.from({ length: 1 + chance.below(8) }, () =>
            get(over, place, chance.below(1e6), chance.below(200 * KiB)),
          ),
        ),
      ),
  },
  {
    name: 'HTTP/2 with resets, others whole',
    weight: 5,
    mannered: true,
    visit: (place, chance) =>
      overHttp2(place, async (over) => {
        const reset = Array.from({ length: 1 + chance.below(4) }, () => {
          const stream = over.request(head(place, 0, 1_000_000))
          stream.on('error', () => undefined)
          if (chance.below(2) === 0) stream.once('data', () => stream.close(constants.NGHTTP2_CANCEL))
          else setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), chance.below(50))
          return closed(stream)
        })
        await get(over, place, chance.below(1e6), chance.below(200 * KiB))
        await Promise.all(reset)
      }),
  },
  {
    name: 'HTTP/2 cut with its connection',
    weight: 4,
    mannered: false,
    async visit(place, chance) {
      const { over, gone } = session(place)
      for (let streams = 1 + chance.below(6); streams > 0; streams--) {
        const stream = over.request(head(place, 0, 1_000_000))
        stream.on('error', () => undefined)
        if (chance.below(2) === 0) stream.resume()
      }
      await passed(chance.below(200))
      over.destroy()
      await gone
    },
  },
  {
    name: 'https broken off in a body',
    weight: 5,
    mannered: false,
    visit: (place, chance) =>
      byTls(place, chance.of([place.hosts.secure, place.hosts.passthrough]), (site) => broken(site, chance)),
  },
  {
    name: 'a hello, or half of one',
    weight: 5,
    mannered: false,
    visit({ tls, hosts }, chance) {
      const hello = fromNode({
        servername: chance.of([hosts.secure, hosts.passthrough, 'nobody.example.com']),
      })
      return leaves(tls, chance.below(2) === 0 ? hello : part(hello, chance), chance)
    },
  },
  {
    name: 'garbage for TLS',
    weight: 3,
    mannered: false,
    visit: ({ tls, hosts }, chance) => {
      const hello = Buffer.from(fromNode({ servername: hosts.secure }))
      for (let times = 3; times > 0; times--) hello[chance.below(hello.length)] = chance.below(256)
      return leaves(tls, chance.of([hello, bytesAt(chance.below(1e6), 500)]), chance)
    },
  },
]

/** Who comes where clients come, and is none. */
export const STRANGERS: readonly Kind[] = [
  {
    name: 'a stranger with garbage or half a hello',
    weight: 4,
    mannered: false,
    visit({ tunnel, tls }, chance) {
      const hello = fromNode({ ALPNProtocols: [TUNNEL_ALPN] })
      const bytes = chance.of([bytesAt(chance.below(1e6), 500), part(hello, chance), hello])
      return leaves(chance.of([tunnel, tls]), bytes, chance)
    },
  },
  {
    name: 'a stranger that shakes hands',
    weight: 3,
    mannered: false,
    async visit({ tunnel, tls }, chance) {
      const { key, certificate: cert } = stranger
      const socket = connect({
        host: '127.0.0.1',
        port: chance.of([tunnel, tls]),
        ALPNProtocols: [chance.of([TUNNEL_ALPN, TUNNEL_ALPN, 'h2'])],
        rejectUnauthorized: false,
        ...(chance.below(3) === 0 ? {} : { key, cert }),
      })
      socket.on('error', () => undefined)
      socket.resume()
      const gone = closed(socket)
      socket.on('secureConnect', () => socket.write(bytesAt(chance.below(1e6), 2_000)))
      await Promise.race([gone, passed(chance.below(1_000))])
      socket.destroy()
      await gone
    },
  },
]
