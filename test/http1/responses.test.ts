import { describe, expect, it } from 'vitest'
import { bytesOf, latin1, Responses, reading, segmentations, type Text, textOf } from './messages.ts'
import vectors from './responses.vectors.json' with { type: 'json' }

interface Refused {
  name: string
  bytes: Text
  status?: number
  upgrade?: string
}

interface Passed {
  name: string
  bytes: string
  written: string
  body?: string
  method?: string
  upgrade?: string
  head?: Record<string, unknown>
  changes?: { close: boolean; dechunked?: boolean }
}

describe('a response that is refused', () => {
  it.each(vectors.refused as Refused[])('$name', ({ bytes, status = 400, upgrade }) => {
    for (const pieces of segmentations(bytesOf(textOf(bytes)))) {
      const { fault, messages } = reading(new Responses([{ method: 'GET', upgrade }]), pieces)
      if (fault?.status !== status || messages.length > 0)
        expect({ pieces: pieces.map(latin1), status: fault?.status }).toEqual({ status })
    }
  })
})

describe('a response that is passed on', () => {
  it.each(vectors.passed as Passed[])('$name', (vector) => {
    const { bytes, written, body = '', method = 'GET', upgrade, head = {}, changes } = vector
    const names = Object.keys(head)
    const wanted = [null, { written, body, whole: true, head }]
    const text = JSON.stringify(wanted)
    for (const pieces of segmentations(bytesOf(bytes))) {
      const { fault, messages } = reading(new Responses([{ method, upgrade }], changes), pieces)
      const told = messages.map(({ written, body, whole, head }) => ({
        written,
        body,
        whole,
        head: Object.fromEntries(names.map((name) => [name, Reflect.get(head, name) ?? null])),
      }))
      const all = [fault?.status ?? null, ...told]
      if (JSON.stringify(all) !== text) expect({ pieces: pieces.map(latin1), all }).toEqual({ all: wanted })
    }
  })

  const passed = (text: string, changes?: { close: boolean }) => {
    const { messages } = reading(new Responses([{ method: 'GET', upgrade: undefined }], changes), [
      bytesOf(text),
    ])
    return messages[0]
  }

  it('that nothing is to be changed in is the head that came', () => {
    expect(passed('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')?.copied).toBe(false)
  })

  it('keeps a lone keep-alive where that is all, and where it is as true of the visitor’s connection', () => {
    const head = (connection: string, more = '') =>
      `HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: ${connection}\r\n${more}\r\n`
    const kept = passed(head('keep-alive'))
    expect([kept?.copied, kept?.written]).toEqual([false, head('keep-alive')])
    for (const other of [
      passed(head('keep-alive'), { close: true }),
      passed(head('keep-alive', 'Keep-Alive: timeout=5\r\n')),
      passed(head('keep-alive, X-A', 'X-A: b\r\n')),
      passed(head('keep-alive', 'Connection: keep-alive\r\n')),
      passed(head('keep-alive').replace('HTTP/1.1', 'HTTP/1.0')),
    ]) {
      expect(other?.copied).toBe(true)
      expect(other?.written).not.toMatch(/keep-alive|x-a/i)
    }
  })
})

describe('the bytes behind a response', () => {
  const asked = { method: 'GET', upgrade: 'websocket' }
  const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

  it('are the next one, or nothing that was asked for', () => {
    for (const pieces of segmentations(bytesOf(`HTTP/1.1 100 Continue\r\n\r\n${ok}${ok}${ok}`))) {
      const { messages, rest } = reading(new Responses([asked, asked]), pieces)
      expect(messages.map((each) => each.head.status)).toEqual([100, 200, 200])
      expect(rest).toBe(ok)
    }
  })

  it('are of the other protocol after a 101', () => {
    const text = 'HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi'
    for (const pieces of segmentations(bytesOf(text)))
      expect(reading(new Responses([asked, asked]), pieces).rest).toBe('\x81\x02hi')
  })
})
