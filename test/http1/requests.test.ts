import { describe, expect, it } from 'vitest'
import { Field, fieldText, HeadReader, RequestHead } from '../../src/http1/index.ts'
import { bytesOf, latin1, NOTHING, Requests, reading, segmentations, type Text, textOf } from './messages.ts'
import passed from './passed-requests.vectors.json' with { type: 'json' }
import refused from './refused-requests.vectors.json' with { type: 'json' }

interface Refused {
  name: string
  bytes: Text
  status: number
}

interface Passed {
  name: string
  bytes: string
  written: string
  body?: string
  /** The body does not end. */
  part?: boolean
  head?: Record<string, unknown>
  changes?: { added: string; dropped?: string[]; keepForwarding?: boolean; host?: string; target?: string }
}

describe('a request that is refused', () => {
  it.each(refused.refused as Refused[])('$name: $status', ({ bytes, status }) => {
    for (const pieces of segmentations(bytesOf(textOf(bytes)))) {
      const { fault, messages } = reading(new Requests(), pieces)
      if (fault?.status !== status || fault.code !== 'bad_message' || messages.length > 0)
        expect({ pieces: pieces.map(latin1), status: fault?.status }).toEqual({ status })
    }
  })

  it('is told in words that hold nothing of it', () => {
    for (const { bytes } of refused.refused as Refused[]) {
      const { fault } = reading(new Requests(), [bytesOf(textOf(bytes))])
      expect(fault?.message).toMatch(/^[ -~]+$/)
      expect(fault?.message).not.toContain('example')
    }
  })
})

describe('a request that is passed on', () => {
  it.each(passed.passed as Passed[])('$name', ({ bytes, written, body = '', part, head = {}, changes }) => {
    const made = changes === undefined ? NOTHING : { ...changes, dropped: new Set(changes.dropped) }
    const names = Object.keys(head)
    const wanted = [part === true ? 400 : null, { written, body, whole: part !== true, head }]
    const text = JSON.stringify(wanted)
    for (const pieces of segmentations(bytesOf(bytes))) {
      const { fault, messages } = reading(new Requests(made), pieces)
      const told = messages.map(({ written, body, whole, head }) => ({
        written,
        body,
        whole,
        head: Object.fromEntries(names.map((name) => [name, head[name as keyof RequestHead] ?? null])),
      }))
      // An `expect` for each piece would take longer than all the rest.
      const all = [fault?.status ?? null, ...told]
      if (JSON.stringify(all) !== text) expect({ pieces: pieces.map(latin1), all }).toEqual({ all: wanted })
    }
  })

  it('goes on in order with those behind it', () => {
    const all = (passed.passed as Passed[]).filter(
      (each) => each.changes === undefined && each.part !== true && !('upgrade' in (each.head ?? {})),
    )
    const { fault, messages } = reading(new Requests(), [bytesOf(all.map((each) => each.bytes).join(''))])
    expect(fault).toBeUndefined()
    expect(messages.map((each) => each.written + each.body)).toEqual(
      all.map((each) => each.written + (each.body ?? '')),
    )
  })

  it('has as many fields as are allowed', () => {
    const text = `GET / HTTP/1.1\r\nHost: a\r\n${'X: y\r\n'.repeat(255)}\r\n`
    for (const pieces of [[bytesOf(text)], Array.from(text, bytesOf)])
      expect(reading(new Requests(NOTHING, text.length), pieces).messages[0]?.written).toBe(text)
  })

  it('is as long as is allowed, and not a byte longer', () => {
    const text = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
    const more = 'GET / HTTP/1.1\r\nHost: ab\r\n\r\n'
    for (const pieces of segmentations(bytesOf(text + more))) {
      const { messages, fault } = reading(new Requests(NOTHING, text.length), pieces)
      expect(messages.length).toBe(1)
      expect(fault?.status).toBe(431)
    }
  })
})

describe('a reader of heads', () => {
  const text = 'GET /x HTTP/1.1\r\nHost: a.example\r\nCookie: a=1\r\nX: y\r\nCookie: b=2\r\n\r\n'

  it('says where the bytes behind a head begin, and gives a view of a whole one', () => {
    const chunk = bytesOf(`..${text}rest`)
    const reader = new HeadReader()
    const head = reader.push(chunk, 2, 4096)
    expect(head?.buffer).toBe(chunk.buffer)
    expect(head?.byteOffset).toBe(chunk.byteOffset + 2)
    expect(reader.next).toBe(2 + text.length)
    expect(reader.begun).toBe(false)
  })

  it('has begun with the first byte that is no empty line', () => {
    const reader = new HeadReader()
    const begun = Array.from(`\r\n\r\n${text}`, (byte) => {
      reader.push(bytesOf(byte), 0, 4096)
      return reader.begun
    })
    expect(begun.indexOf(true)).toBe(4)
    expect(begun.lastIndexOf(false)).toBe(begun.length - 1)
    expect(begun.filter((each) => !each).length).toBe(5)
  })

  it('keeps the bound that a head began under, and takes none of its bytes for lost', () => {
    const reader = new HeadReader()
    expect(reader.push(bytesOf(text.slice(0, 50)), 0, 4096)).toBeUndefined()
    expect(reader.push(bytesOf(text.slice(50)), 0, 10)?.length).toBe(text.length)
    expect(reader.next).toBe(text.length - 50)
  })

  it('holds what has come and no more than twice that', () => {
    const reader = new HeadReader()
    const sizes: number[] = []
    const long = `GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(3000)}\r\n\r\n`
    for (const byte of long.slice(0, -1)) {
      reader.push(bytesOf(byte), 0, 4096)
      sizes.push(1)
    }
    const head = reader.push(bytesOf(long.slice(-1)), 0, 4096)
    expect(head?.length).toBe(sizes.length + 1)
    expect(head?.buffer.byteLength).toBeLessThanOrEqual(4096)
  })

  it('finds fields of a head again, whatever was read in between', () => {
    const reader = new HeadReader()
    const bytes = reader.push(bytesOf(text), 0, 4096) as Uint8Array
    const head = new RequestHead(bytes, reader.scanner)
    new HeadReader().push(bytesOf('GET /other HTTP/1.1\r\nHost: b\r\nCookie: none\r\n\r\n'), 0, 4096)
    expect(fieldText(head.bytes, Field.cookie)).toBe('a=1, b=2')
    expect(fieldText(head.bytes, Field.referer)).toBeUndefined()
  })
})
