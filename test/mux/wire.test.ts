import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  ACK,
  DATA,
  FIN,
  GO_AWAY,
  GO_AWAY_INTERNAL_ERROR,
  GO_AWAY_NORMAL,
  GO_AWAY_PROTOCOL_ERROR,
  HEADER_BYTES,
  PING,
  RST,
  readU32,
  SYN,
  VERSION,
  WINDOW_UPDATE,
  writeHeader,
} from '../../src/mux/frame.ts'
import { type FrameHandler, FrameReader } from '../../src/mux/reader.ts'
import { End, frame } from './pair.ts'

/** Source: hashicorp/yamux spec.md, and const.go of v0.1.2. */
const SPEC = { VERSION: 0, HEADER: 12, TYPES: [0, 1, 2, 3], FLAGS: [1, 2, 4, 8], CODES: [0, 1, 2] }

const u32 = fc.integer({ min: 0, max: 0xffff_ffff })

/** What a reader tells, with the pieces of a body joined. */
class Transcript implements FrameHandler {
  stopped = false
  readonly lines: string[] = []
  #body = ''

  header(version: number, type: number, flags: number, id: number, length: number): void {
    this.lines.push(`${version} ${type} ${flags} ${id} ${length}`)
    this.#body = ''
  }

  body(chunk: Uint8Array, from: number, to: number): void {
    if (to <= from) throw new Error('an empty piece')
    this.#body += Buffer.from(chunk.subarray(from, to)).toString('hex')
  }

  bodyEnd(): void {
    this.lines.push(`body ${this.#body}`)
  }
}

describe('the wire format', () => {
  it('has the numbers of the specification', () => {
    expect({
      VERSION,
      HEADER: HEADER_BYTES,
      TYPES: [DATA, WINDOW_UPDATE, PING, GO_AWAY],
      FLAGS: [SYN, ACK, FIN, RST],
      CODES: [GO_AWAY_NORMAL, GO_AWAY_PROTOCOL_ERROR, GO_AWAY_INTERNAL_ERROR],
    }).toEqual(SPEC)
  })

  it('lays a header out big-endian', () => {
    const header = new Uint8Array(12)
    writeHeader(header, 0, WINDOW_UPDATE, SYN | RST, 0x01020304, 0xfffefdfc)
    expect(Buffer.from(header).toString('hex')).toBe('0001000901020304fffefdfc')
  })

  it('sends these bytes for a life of a client and a server', () => {
    const client = new End({ role: 'client' })
    const server = new End({ role: 'server' })
    const { stream } = client.open()
    stream.write(Buffer.from('hi'))
    stream.end()
    const opening = client.take()
    expect(opening.toString('hex')).toBe(
      // DATA SYN, id 1, 2 bytes: "hi" · WINDOW_UPDATE FIN
      '0000000100000001000000026869000100040000000100000000',
    )
    server.onStream = (peer) => peer.end()
    server.session.receive(opening, 0)
    // WINDOW_UPDATE ACK · WINDOW_UPDATE FIN
    expect(server.take().toString('hex')).toBe('000100020000000100000000000100040000000100000000')

    server.session.receive(frame(PING, SYN, 0, 0xdecade), 0)
    expect(server.take().toString('hex')).toBe('000200020000000000decade')
    server.open().stream.write(Buffer.from('x'))
    expect(server.take().toString('hex')).toBe('00000001000000020000000178')
    server.accepted.length = 0
    server.session.goAway(0)
    expect(server.take().toString('hex')).toBe('000300000000000000000000')
  })

  it('reads back any header that it writes', () => {
    fc.assert(
      fc.property(fc.nat(3), fc.nat(15), u32, u32, fc.nat(20), (type, flags, id, length, at) => {
        const bytes = Buffer.alloc(40, 0xee)
        writeHeader(bytes, at, type, flags, id, length)
        expect(bytes.subarray(at, at + 12)).toEqual(frame(type, flags, id, length))
        expect(readU32(bytes, at + 4)).toBe(id)
        expect(readU32(bytes, at + 8)).toBe(length)
        expect(bytes[at + 12]).toBe(0xee)
      }),
    )
  })

  it('is read the same under any segmentation', () => {
    const frames = fc.array(
      fc.oneof(
        fc
          .tuple(fc.nat(15), u32, fc.uint8Array({ maxLength: 60 }))
          .map(([flags, id, body]) => frame(DATA, flags, id, body.length, body)),
        fc
          .tuple(fc.integer({ min: 1, max: 255 }), fc.nat(0xffff), u32, u32)
          .map(([type, flags, id, length]) => frame(type, flags, id, length)),
      ),
      { maxLength: 20 },
    )
    fc.assert(
      fc.property(frames, fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }), (list, cuts) => {
        const bytes = Buffer.concat(list)
        const whole = new Transcript()
        new FrameReader(whole).push(bytes)
        const cut = new Transcript()
        const reader = new FrameReader(cut)
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const step = cuts[i % cuts.length] as number
          reader.push(bytes.subarray(at, at + step))
          at += step
        }
        expect(cut.lines).toEqual(whole.lines)
        expect(whole.lines.filter((line) => !line.startsWith('body')).length).toBe(list.length)
      }),
    )
  })
})
