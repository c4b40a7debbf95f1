import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bodyOf, HttpFault } from '../../src/http1/index.ts'
import { cut, segments } from '../protocol/segments.ts'
import vectors from './chunked.vectors.json' with { type: 'json' }
import { bytesOf, latin1, segmentations, type Text, textOf } from './messages.ts'

const CHUNKED = { framing: 'chunked', length: 0 } as const

/** What a body passes on of bytes that come in these pieces; `rest`: what was behind it. */
function passedOn(pieces: readonly Uint8Array[], encoded = true) {
  const body = bodyOf(CHUNKED, encoded)
  const out: Uint8Array[] = []
  let rest = ''
  for (const piece of pieces) rest += latin1(piece.subarray(body.push(piece, 0, out)))
  body.end()
  return { text: out.map(latin1).join(''), out, rest, received: body.received }
}

function faultOf(pieces: readonly Uint8Array[], encoded: boolean): HttpFault | undefined {
  try {
    passedOn(pieces, encoded)
    return undefined
  } catch (error) {
    if (error instanceof HttpFault) return error
    throw error
  }
}

describe('a chunked body', () => {
  it.each(vectors.refused as { name: string; bytes: Text; status: number }[])(
    'is refused: $name',
    ({ bytes, status }) => {
      for (const pieces of segmentations(bytesOf(textOf(bytes)))) {
        for (const encoded of [true, false]) {
          const fault = faultOf(pieces, encoded)
          if (fault?.status !== status)
            expect({ pieces: pieces.map(latin1), status: fault?.status }).toEqual({ status })
        }
      }
    },
  )

  it.each(vectors.passed)('is passed on: $name', ({ bytes, encoded, content }) => {
    const wanted = [encoded, content, 'GET /', content.length]
    for (const pieces of segmentations(bytesOf(`${bytes}GET /`))) {
      const { text, rest, received } = passedOn(pieces)
      const plain = passedOn(pieces, false)
      const all = [text, plain.text, rest, received]
      if (String(all) !== String(wanted) || plain.rest !== rest || plain.received !== received)
        expect({ pieces: pieces.map(latin1), all, plain }).toEqual({ all: wanted })
    }
  })

  it('in its one form is passed on as views of what came', () => {
    const chunk = bytesOf(`..5\r\nhello\r\nfff\r\n${'x'.repeat(0xfff)}\r\n0\r\n\r\nrest`)
    const out: Uint8Array[] = []
    const body = bodyOf(CHUNKED)
    expect(body.push(chunk, 2, out)).toBe(chunk.length - 4)
    expect(body.done).toBe(true)
    expect(out.length).toBe(1)
    expect(out[0]?.buffer).toBe(chunk.buffer)
    expect(out[0]?.byteOffset).toBe(chunk.byteOffset + 2)
    expect(out[0]?.length).toBe(chunk.length - 6)
  })

  it('is the same chunk when one piece is all data', () => {
    const body = bodyOf(CHUNKED)
    body.push(bytesOf('fff\r\n'), 0, [])
    const data = bytesOf('x'.repeat(100))
    const out: Uint8Array[] = []
    body.push(data, 0, out)
    expect(out.length).toBe(1)
    expect(out[0]).toBe(data)
  })

  it('takes nothing once it is done', () => {
    const body = bodyOf(CHUNKED)
    const out: Uint8Array[] = []
    body.push(bytesOf('0\r\n\r\n'), 0, out)
    out.length = 0
    expect(body.push(bytesOf('5\r\nhello'), 0, out)).toBe(0)
    expect(out).toEqual([])
  })

  it('has sizes of up to 13 digits', () => {
    for (const size of ['fffffffffffff', '0fffffffffffff', `${'0'.repeat(100)}fffffffffffff`]) {
      const out: Uint8Array[] = []
      bodyOf(CHUNKED).push(bytesOf(`${size}\r\nabc`), 0, out)
      expect(out.map(latin1).join('')).toBe('fffffffffffff\r\nabc')
    }
  })

  it('comes through in any segmentation and spelling', () => {
    const extension = fc.constantFrom('', ';a', ';a=b', ';a="\\";"')
    const size = (length: number, zeros: number, upper: boolean): string => {
      const text = '0'.repeat(zeros) + length.toString(16)
      return upper ? text.toUpperCase() : text
    }
    const chunk = fc.record({
      data: fc
        .string({ unit: 'binary', minLength: 1, maxLength: 60 })
        .map((text) => text.replace(/[^\0-\xff]/g, '?')),
      zeros: fc.nat(3),
      upper: fc.boolean(),
      extension,
    })
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 6 }), segments, (chunks, sizes) => {
        const text = chunks.map(
          (each) => `${size(each.data.length, each.zeros, each.upper)}${each.extension}\r\n${each.data}\r\n`,
        )
        const pieces = cut(bytesOf(`${text.join('')}0\r\n\r\n`), sizes)
        const content = chunks.map((each) => each.data).join('')
        expect(passedOn(pieces, false).text).toBe(content)
        const encoded = passedOn(pieces)
        expect(encoded.text).toBe(
          `${chunks.map((each) => `${each.data.length.toString(16)}\r\n${each.data}\r\n`).join('')}0\r\n\r\n`,
        )
        // What leaves stays as it is when it passes another one.
        expect(passedOn(encoded.out).text).toBe(encoded.text)
        expect(passedOn(encoded.out, false).text).toBe(content)
      }),
    )
  })
})

describe('a body of a length', () => {
  it('is passed on as views, and ends where it said', () => {
    for (const pieces of segmentations(bytesOf('hello world'))) {
      const body = bodyOf({ framing: 'length', length: 5 })
      const out: Uint8Array[] = []
      let rest = ''
      for (const piece of pieces) rest += latin1(piece.subarray(body.push(piece, 0, out)))
      expect(out.map(latin1).join('')).toBe('hello')
      expect(rest).toBe(' world')
      expect(body.received).toBe(5)
      expect(out.every((piece) => pieces.some((each) => each.buffer === piece.buffer))).toBe(true)
      body.end()
    }
  })

  it('is missed when it does not come', () => {
    const body = bodyOf({ framing: 'length', length: 5 })
    body.push(bytesOf('hell'), 0, [])
    expect(() => body.end()).toThrow(HttpFault)
  })
})

describe('a body until the end', () => {
  it('is all that comes', () => {
    const body = bodyOf({ framing: 'close', length: 0 })
    const out: Uint8Array[] = []
    const chunk = bytesOf('..hello')
    expect(body.push(chunk, 2, out)).toBe(chunk.length)
    expect(body.push(bytesOf(''), 0, out)).toBe(0)
    expect(out.map(latin1)).toEqual(['hello'])
    expect(body.done).toBe(false)
    body.end()
    expect(body.done).toBe(true)
    expect(body.received).toBe(5)
  })
})
