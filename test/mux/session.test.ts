import { describe, expect, it } from 'vitest'
import { End, frames, settle } from './pair.ts'

const DATA = 0
const WINDOW_UPDATE = 1
const SYN = 1
const FIN = 4

function pair(): [End, End] {
  return [new End({ role: 'client' }), new End({ role: 'server' })]
}

describe('a session', () => {
  it('carries bytes both ways, and ends a stream when both sides have', () => {
    const [client, server] = pair()
    const { stream, sink } = client.open()
    stream.write(Buffer.from('ping'))
    stream.end()
    server.onStream = (peer, recorder) => {
      recorder.onEnd = () => {
        peer.write(Buffer.from('pong'))
        peer.end()
      }
    }
    settle(client, server)
    expect(server.accepted[0]?.sink.text).toBe('ping')
    expect(sink.text).toBe('pong')
    expect(sink.ended).toBe(true)
    expect(stream.closed).toBe(true)
    expect([client.session.streams, server.session.streams]).toEqual([0, 0])
    expect(stream.acknowledged).toBe(true)
  })

  it('sends the first data with the SYN, and the FIN behind the last in a frame of its own', () => {
    const [client] = pair()
    const { stream } = client.open()
    stream.write(Buffer.from('x'))
    stream.end()
    const sent = frames(client.take())
    expect(sent.map(({ type, flags, id, length }) => [type, flags, id, length])).toEqual([
      [DATA, SYN, 1, 1],
      [WINDOW_UPDATE, FIN, 1, 0],
    ])
  })
})
