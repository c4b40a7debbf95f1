/** Fields that Node wants once, sent twice: where it throws for them nobody catches it, and a process of many visitors ends. */
import { once } from 'node:events'
import { createServer as createHttp2Server } from 'node:http2'
import { type AddressInfo, createServer } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { block, END_HEADERS, END_STREAM, fields, frame, RawVisitor, Type } from './frames.ts'
import { ask, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const TWICE = [
  ['etag', 'a'],
  ['etag', 'b'],
] as const

/** A target of HTTP/2 that answers the first stream by these frames. */
async function scripted(...frames: Buffer[]): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    world.opened.keep(socket)
    socket.write(frame(Type.settings, 0, 0))
    socket.once('data', () => socket.write(Buffer.concat([frame(Type.settings, 1, 0), ...frames])))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  world.keep(server)
  world.h2c((server.address() as AddressInfo).port)
}

function headers(list: readonly (readonly [string, string])[], flags = 0): Buffer {
  return frame(Type.headers, END_HEADERS | flags, 1, block(list))
}

describe('a field that stands twice', () => {
  test('in a visitor’s trailers comes to the target as one', async () => {
    const server = createHttp2Server()
    server.on('stream', (stream) => {
      stream.on('error', () => {})
      stream.on('trailers', (trailers) => {
        stream.respond({ ':status': 200, 'x-heard': trailers['etag'] })
        stream.end()
      })
      stream.resume()
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    world.keep(server)
    world.h2c((server.address() as AddressInfo).port)
    const visitor = new RawVisitor(await world.socket())
    visitor.ask(1, fields({ ':method': 'POST' }), 0)
    visitor.write(frame(Type.data, 0, 1, Buffer.from('body')), headers(TWICE, END_STREAM))
    expect(await visitor.fate(1)).toBe('200')
  })

  test('in a target’s trailers comes to the visitor as one', async () => {
    await scripted(headers([[':status', '200']]), headers(TWICE, END_STREAM))
    expect((await ask(await world.visitor())).trailers).toMatchObject({ etag: 'a, b' })
  })

  test.each([
    ['comes as one', TWICE, 1],
    ['is left out with what HTTP/2 does not have', [['http2-settings', 'x']] as const, 0],
  ])('in a hint of a target of HTTP/2 %s', async (_what, list, hints) => {
    await scripted(headers([[':status', '103'], ...list]), headers([[':status', '200']], END_STREAM))
    const { status, interim } = await ask(await world.visitor())
    expect(status).toBe(200)
    expect(interim).toHaveLength(hints)
  })

  test('in a hint of a target of HTTP/1.1 comes as one', async () => {
    const answer = ask(await world.visitor())
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    far.write('HTTP/1.1 103 Early Hints\r\nETag: a\r\nETag: b\r\n\r\n')
    far.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere')
    const { interim, body } = await answer
    expect(interim[0]).toMatchObject({ ':status': 103, etag: 'a, b' })
    expect(String(body)).toBe('here')
  })
})
