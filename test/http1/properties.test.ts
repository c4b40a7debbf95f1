import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { HeadReader } from '../../src/http1/index.ts'
import { cut, segments } from '../protocol/segments.ts'
import { bytesOf, NOTHING, Requests, Responses, reading, type Transcript } from './messages.ts'
import { Chance, mutated } from './mutations.ts'

const ASKED = [
  { method: 'GET', upgrade: 'websocket' },
  { method: 'HEAD', upgrade: undefined },
]
const MAX = 2048

/** Bytes near the grammar, and bytes that are not. */
const anything = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc
    .array(
      fc.constantFrom(
        'GET',
        ' ',
        '/',
        'HTTP/1.1',
        'HTTP/1.1 200 OK',
        '\r\n',
        '\r',
        '\n',
        'Host',
        ':',
        'a',
        'Content-Length',
        '5',
        'Transfer-Encoding',
        'chunked',
        '0\r\n\r\n',
        ';',
        'Connection',
        'upgrade',
        ',',
        '\t',
        '\0',
        '\xff',
        'GET / HTTP/1.1\r\nHost: a\r\n',
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n',
        'x'.repeat(300),
      ),
      { maxLength: 60 },
    )
    .map((pieces) => bytesOf(pieces.join(''))),
)

function told<Head>({ messages, fault, rest }: Transcript<Head>): unknown {
  return [
    messages.map(({ written, body, content, whole }) => ({ written, body, content, whole })),
    fault?.status,
    rest,
  ]
}

/** The same with what a fault cut short left out: how much of it was passed on before is a matter of pieces. */
function toldOfWhole<Head>(transcript: Transcript<Head>): unknown {
  const { messages, fault, rest } = transcript
  return fault === undefined
    ? told(transcript)
    : [told({ messages: messages.filter((each) => each.whole), fault, rest }), messages.length]
}

describe('any bytes in any pieces', () => {
  it('are requests or a fault, the same ones as in one piece', () => {
    fc.assert(
      fc.property(anything, segments, (bytes, sizes) => {
        const whole = reading(new Requests(NOTHING, MAX), [bytes])
        const cutUp = reading(new Requests(NOTHING, MAX), cut(bytes, sizes))
        expect(toldOfWhole(cutUp)).toEqual(toldOfWhole(whole))
      }),
      { numRuns: 2000 },
    )
  })

  it('are responses or a fault, the same ones as in one piece', () => {
    fc.assert(
      fc.property(anything, segments, fc.boolean(), (bytes, sizes, dechunked) => {
        const changes = { close: dechunked, dechunked }
        const whole = reading(new Responses(ASKED, changes, MAX), [bytes])
        const cutUp = reading(new Responses(ASKED, changes, MAX), cut(bytes, sizes))
        expect(toldOfWhole(cutUp)).toEqual(toldOfWhole(whole))
      }),
      { numRuns: 2000 },
    )
  })

  it('hold no more memory than a head may have', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4000 }), segments, (length, sizes) => {
        const reader = new HeadReader()
        const bytes = bytesOf(`GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(length)}\r\n\r\n`)
        let head: Uint8Array | undefined
        let fault = false
        const pieces = cut(bytes, sizes)
        for (const piece of pieces) {
          if (head !== undefined || fault) break
          try {
            head = reader.push(piece, 0, MAX)
          } catch {
            fault = true
          }
        }
        expect(fault).toBe(bytes.length > MAX)
        // A head in one piece is a view of what came; any other is in memory of the reader's own.
        if (head !== undefined && pieces.length > 1) expect(head.buffer.byteLength).toBeLessThanOrEqual(MAX)
      }),
    )
  })
})

describe('a request', () => {
  const token = fc.string({
    unit: fc.constantFrom(..."abcXYZ019!#$%&'*+.^`|~-".split('')),
    minLength: 1,
    maxLength: 12,
  })
  const target = fc.string({
    unit: fc.constantFrom(...'abc/?%&=.;:@!~"<>[]{}|\\^`'.split('')),
    maxLength: 20,
  })
  const value = fc
    .string({ unit: fc.constantFrom(...'ab 1\t,;:"\xe4\xff'.split('')), maxLength: 20 })
    .map((text) => text.replace(/^[ \t]+|[ \t]+$/g, ''))
  /** Names that mean nothing to anybody on the way. */
  const field = fc.tuple(
    token.map((text) => `Q${text}`),
    fc.constantFrom('', ' ', '\t ', '   '),
    value,
    fc.constantFrom('', ' '),
  )
  const body = fc.oneof(
    fc.constant({ lines: '', text: '' }),
    fc.string({ unit: 'binary-ascii', maxLength: 30 }).map((text) => ({
      lines: `Content-Length: ${text.length}\r\n`,
      text,
    })),
  )

  it('that is valid comes through with the fields that it had, whatever is around them', () => {
    const hop = fc.constantFrom(
      '',
      'Connection: close\r\n',
      'Connection: keep-alive, X-Drop\r\n',
      'TE: trailers\r\n',
      'X-Forwarded-For: 1\r\n',
    )
    fc.assert(
      fc.property(
        token,
        target,
        fc.array(field, { maxLength: 10 }),
        hop,
        body,
        segments,
        (method, path, fields, dropped, content, sizes) => {
          fc.pre(method !== 'CONNECT')
          const lines = fields.map(([name, before, text, after]) => `${name}:${before}${text}${after}\r\n`)
          const half = lines.length >> 1
          const line = `${method} /${path} HTTP/1.1\r\n`
          const text = `${line}${lines.slice(0, half).join('')}Host: a\r\n${dropped}X-Drop2: 1\r\n${lines.slice(half).join('')}${content.lines}\r\n`
          const { messages, fault } = reading(new Requests(NOTHING), cut(bytesOf(text + content.text), sizes))
          expect(fault).toBeUndefined()
          expect(messages.length).toBe(1)
          expect(messages[0]?.written).toBe(text.replace(dropped, ''))
          expect(messages[0]?.body).toBe(content.text)
          expect(messages[0]?.head.method).toBe(method)
          expect(messages[0]?.head.target).toBe(`/${path}`)
        },
      ),
    )
  })

  it('that is passed on is the same to us when it is read again, and is not changed again', () => {
    const seeds = [
      'GET http://a/x HTTP/1.0\r\nHost: a\r\nConnection: close, X\r\nX: y\r\n\r\n',
      'POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\t05 \r\nExpect: 100-continue\r\nx_forwarded_for: 1\r\n\r\nhello',
      'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\nKeep-Alive: 1\r\n\r\n05;x\r\nhello\r\n0\r\nT: u\r\nHost: b\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    ]
    fc.assert(
      fc.property(fc.constantFrom(...seeds), fc.integer(), (seed, chance) => {
        const { messages } = reading(new Requests(NOTHING), [bytesOf(mutated(seed, new Chance(chance)))])
        for (const { head, written, body, content, whole } of messages) {
          if (!whole) continue
          const again = reading(new Requests(NOTHING), [bytesOf(written + body)])
          expect(again.fault).toBeUndefined()
          expect(again.messages.length).toBe(1)
          expect(again.messages[0]).toMatchObject({ written, body, content, whole })
          const { method, host, hostText, framing, length, upgrade, target, requestId } = head
          expect(again.messages[0]?.head).toMatchObject({
            method,
            host,
            hostText,
            framing,
            length,
            upgrade,
            requestId,
          })
          expect(again.messages[0]?.head.target).toBe(target)
          expect(again.messages[0]?.head.nominated).toEqual([])
        }
      }),
      { numRuns: 2000 },
    )
  })
})

describe('each byte at each place', () => {
  const allowed = (byte: number): boolean => byte === 9 || (byte >= 0x20 && byte !== 0x7f)

  it('of a value, of a reason and of an extension is text or a fault', () => {
    for (let byte = 0; byte < 256; byte++) {
      for (let at = 0; at < 9; at++) {
        const text = `${'v'.repeat(at)}${String.fromCharCode(byte)}${'w'.repeat(8 - at)}`
        const request = `GET / HTTP/1.1\r\nHost: a\r\nX:${text}z\r\n\r\n`
        const response = `HTTP/1.1 200 ${text}\r\nTransfer-Encoding: chunked\r\n\r\n1;${text}\r\na\r\n0\r\n\r\n`
        const requests = reading(new Requests(NOTHING), [bytesOf(request)])
        const responses = reading(new Responses(ASKED), [bytesOf(response)])
        const told = [
          requests.messages.length,
          requests.fault?.status,
          responses.messages.length,
          responses.fault?.status,
        ]
        const wanted = allowed(byte) ? [1, undefined, 1, undefined] : [0, 400, 0, 400]
        if (String(told) !== String(wanted)) expect({ byte, at, told }).toEqual({ byte, at, told: wanted })
      }
    }
  })

  it('of a name, a method and a target is what the grammar says or a fault', () => {
    const token = /^[A-Za-z0-9!#$%&'*+.^_`|~-]$/
    for (let byte = 0; byte < 256; byte++) {
      const character = String.fromCharCode(byte)
      const cases = {
        name: [
          `GET / HTTP/1.1\r\nHost: a\r\nX${character}Y: z\r\n\r\n`,
          token.test(character) || character === ':',
        ],
        method: [`G${character}T / HTTP/1.1\r\nHost: a\r\n\r\n`, token.test(character)],
        target: [
          `GET /${character}b HTTP/1.1\r\nHost: a\r\n\r\n`,
          byte > 0x20 && byte < 0x7f && character !== '#',
        ],
      } as const
      for (const [where, [text, fine]] of Object.entries(cases)) {
        const { fault } = reading(new Requests(NOTHING), [bytesOf(text)])
        if (fault?.status !== (fine ? undefined : 400))
          expect({ where, byte, fine }).toEqual({ status: fault?.status })
      }
    }
  })
})
