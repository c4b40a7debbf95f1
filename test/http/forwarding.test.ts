import { describe, expect, test } from 'vitest'
import { forwardingFields, type VisitorFacts } from '../../src/http/index.ts'
import { HeadReader, RequestHead, writeRequest } from '../../src/http1/index.ts'

const PLAIN: VisitorFacts = { peer: '203.0.113.7', address: '203.0.113.7', proto: 'http', trusted: false }
const PROXY: VisitorFacts = { peer: '10.0.0.1', address: '198.51.100.9', proto: 'https', trusted: true }

/** The lines of the head as it goes to a target, without the first. */
function sent(facts: VisitorFacts, ...lines: string[]): string[] {
  const text = `GET / HTTP/1.1\r\nHost: App.example.com:9000\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`
  const reader = new HeadReader()
  const head = new RequestHead(reader.push(Buffer.from(text, 'latin1'), 0, 32_768) as Buffer, reader.scanner)
  const written = writeRequest(head, forwardingFields(head, 'made-1', facts)).toString('latin1')
  return written.split('\r\n').slice(1, -2)
}

describe('what is said of a visitor', () => {
  test('is what its connection says, behind everything that it sent', () => {
    expect(sent(PLAIN, 'X-Other: a')).toEqual([
      'Host: App.example.com:9000',
      'X-Other: a',
      'X-Forwarded-For: 203.0.113.7',
      'X-Real-IP: 203.0.113.7',
      'X-Forwarded-Proto: http',
      'X-Forwarded-Host: App.example.com:9000',
      'X-Request-Id: made-1',
    ])
  })

  test.each([
    'Forwarded: for=1.1.1.1',
    'X-Forwarded-For: 1.1.1.1',
    'x-forwarded-proto: https',
    'X-FORWARDED-HOST: evil.example',
    'X-Forwarded-Port: 1',
    'X-Forwarded-Anything: 1',
    'X-Real-IP: 1.1.1.1',
    'X_Forwarded_For: 1.1.1.1',
    'X-Forwarded_For: 1.1.1.1',
    'x_real_ip: 1.1.1.1',
    'X_Forwarded_Anything: 1',
  ])('gives way to nothing that the visitor says of itself: %s', (line) => {
    expect(sent(PLAIN, line)).not.toContain(line)
    expect(sent(PLAIN, line)).toEqual(sent(PLAIN))
  })

  test('has no address where none is known, and no invention of the visitor in its place', () => {
    const lines = sent({ ...PLAIN, peer: '', address: '' }, 'X-Forwarded-For: 1.1.1.1', 'X-Real-IP: 1.1.1.1')
    expect(lines.join()).not.toMatch(/Forwarded-For|Real-IP/i)
  })

  test('by a trusted proxy is passed on, with the proxy’s own address behind its list', () => {
    const said = [
      'X-Forwarded-For: 192.0.2.1, 198.51.100.9',
      'X-Real-IP: 198.51.100.9',
      'X-Forwarded-Proto: https',
      'X-Forwarded-Host: app.example.com',
      'X-Forwarded-Port: 443',
      'Forwarded: for=198.51.100.9',
    ]
    const lines = sent(PROXY, ...said)
    expect(lines).toEqual(expect.arrayContaining(said.slice(1)))
    expect(lines.filter((line) => /^x-forwarded-for:/i.test(line))).toEqual([
      'X-Forwarded-For: 192.0.2.1, 198.51.100.9, 10.0.0.1',
    ])
    expect(lines.filter((line) => /^x-real-ip:/i.test(line))).toHaveLength(1)
  })

  test('by a trusted proxy in several fields is one list', () => {
    const lines = sent(PROXY, 'X-Forwarded-For: 192.0.2.1', 'x-forwarded-for: 198.51.100.9')
    expect(lines).toContain('X-Forwarded-For: 192.0.2.1, 198.51.100.9, 10.0.0.1')
    expect(lines.filter((line) => /^x-forwarded-for:/i.test(line))).toHaveLength(1)
  })

  test('is made up where a trusted proxy says nothing', () => {
    expect(sent(PROXY)).toEqual([
      'Host: App.example.com:9000',
      'X-Forwarded-For: 10.0.0.1',
      'X-Real-IP: 198.51.100.9',
      'X-Forwarded-Proto: https',
      'X-Forwarded-Host: App.example.com:9000',
      'X-Request-Id: made-1',
    ])
  })

  test('in disguise is believed of nobody', () => {
    expect(sent(PROXY, 'X_Forwarded_For: 1.1.1.1').join()).not.toContain('1.1.1.1')
  })

  test('keeps a request id of the form that logs take, and replaces any other', () => {
    expect(sent(PLAIN, 'X-Request-Id: Abc.9_-')).toContain('X-Request-Id: Abc.9_-')
    expect(sent(PLAIN, 'X-Request-Id: Abc.9_-').join()).not.toContain('made-1')
    for (const bad of ['', 'a b', 'a"b', 'x'.repeat(65), 'ä']) {
      const lines = sent(PLAIN, `X-Request-Id: ${bad}`).filter((line) => /^x-request-id/i.test(line))
      expect(lines).toEqual(['X-Request-Id: made-1'])
    }
    const twice = sent(PLAIN, 'X-Request-Id: one', 'X-Request-Id: two')
    expect(twice.filter((line) => /^x-request-id/i.test(line))).toEqual(['X-Request-Id: made-1'])
  })
})
