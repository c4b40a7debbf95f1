import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { AccessLogSettings } from '../../src/config/index.ts'
import { type AccessEntry, AccessLog, formatAccess } from '../../src/gateway/access-log.ts'
import { ACCESS_LOG_BYTES, ACCESS_LOG_MS, ACCESS_LOG_WRITE_BYTES } from '../../src/limits.ts'

const FULL: AccessLogSettings = { access: 'json', address: 'full', query: true }
const JSON_LINES = { access: 'json', address: 'full', query: false } as const
const COMBINED: AccessLogSettings = { access: 'combined', address: 'full', query: true }

const ENTRY: AccessEntry = {
  time: Date.UTC(2000, 9, 10, 13, 55, 36, 7),
  address: '203.0.113.7',
  route: 'app.example.com/',
  service: 'web',
  replica: '3q2+abcd',
  method: 'GET',
  target: '/a?token=secret',
  host: 'app.example.com',
  version: '1.1',
  status: 200,
  bytesIn: 0,
  bytesOut: 2_326,
  firstByteMs: 12.34,
  totalMs: 15,
  requestId: 'a1b2',
  referer: 'http://example.com/start?session=secret',
  userAgent: 'Mozilla/4.08 [en] (Win98; "I")',
}

/** The fields of a combined line. */
const FIELDS =
  /^(\S+) - - \[([^\]]+)\] "(\S+) (\S+) HTTP\/(\S+)" (\S+) (\S+) "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)" (\S+) (\S+) (\S+)$/

describe('a line of the access log', () => {
  test('is JSON with all that is known', () => {
    expect(JSON.parse(formatAccess(ENTRY, FULL))).toEqual({
      ...ENTRY,
      time: '2000-10-10T13:55:36.007Z',
      firstByteMs: 12.3,
    })
    const { service: _, replica: __, firstByteMs: ___, ...refused } = ENTRY
    expect(Object.keys(JSON.parse(formatAccess({ ...refused, error: 'no_client' }, FULL)) as object)).toEqual(
      [
        'time',
        'address',
        'route',
        'method',
        'host',
        'target',
        'version',
        'status',
        'bytesIn',
        'bytesOut',
        'totalMs',
        'requestId',
        'referer',
        'userAgent',
        'error',
      ],
    )
  })

  test('is what Apache writes, and the rest behind it', () => {
    expect(formatAccess(ENTRY, COMBINED)).toBe(
      '203.0.113.7 - - [10/Oct/2000:13:55:36 +0000] "GET /a?token=secret HTTP/1.1" 200 2326 ' +
        '"http://example.com/start?session=secret" "Mozilla/4.08 [en] (Win98; \\"I\\")" ' +
        '"app.example.com/" "3q2+abcd" 12.3 15 a1b2',
    )
    const { replica: _, firstByteMs: __, referer: ___, userAgent: ____, ...bare } = ENTRY
    expect(formatAccess(bare, COMBINED)).toMatch(/ 2326 "-" "-" "app\.example\.com\/" "-" - 15 a1b2$/)
  })

  test('has no query string unless it was asked for, of the page before neither', () => {
    for (const access of ['json', 'combined'] as const) {
      const line = formatAccess(ENTRY, { access, address: 'full', query: false })
      expect(line).not.toContain('secret')
      expect(line).not.toContain('?')
      expect(line).toContain('http://example.com/start')
    }
  })

  test.each([
    ['203.0.113.7', '203.0.113.0'],
    ['::ffff:203.0.113.7', '203.0.113.0'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1::'],
    ['2001:db8::1', '2001:db8::'],
    ['2001::1', '2001::'],
    ['0:1:2::', '0:1:2::'],
    ['::1', '::'],
    ['fe80::1%eth0', 'fe80::'],
    ['somebody', '-'],
  ])('has of address %s as much as was asked for: %s', (address, truncated) => {
    for (const access of ['json', 'combined'] as const) {
      const shown = (form: AccessLogSettings['address']) => {
        const line = formatAccess({ ...ENTRY, address }, { access, address: form, query: false })
        return access === 'json' ? (JSON.parse(line) as AccessEntry).address : line.split(' ')[0]
      }
      expect(shown('truncated')).toBe(truncated)
      expect(shown('none')).toBe('-')
      expect(shown('full')).toBe(address.replace('::ffff:', ''))
    }
  })

  test('escapes bytes, and cuts what is long', () => {
    const entry = { ...ENTRY, target: '/ü\x00 \u{1f600}', userAgent: `\r\n\x7f\u202e${'a'.repeat(5_000)}` }
    const line = formatAccess(entry, COMBINED)
    expect(line).toContain('"GET /\\xfc\\x00\\x20\\xf0\\x9f\\x98\\x80 HTTP/1.1"')
    expect(line).toContain('"\\x0d\\x0a\\x7f\\xe2\\x80\\xaeaaa')
    expect(line.length).toBeLessThan(1_400)
    expect(formatAccess(entry, FULL).length).toBeLessThan(1_600)
    expect(formatAccess(entry, FULL)).not.toContain('\u202e')
  })

  const text = fc.string({ unit: 'binary', maxLength: 60 })
  const time = fc.integer({ min: 0, max: Date.UTC(9999, 0) })
  const entry: fc.Arbitrary<AccessEntry> = fc.record(
    {
      time,
      address: fc.oneof(text, fc.ipV4(), fc.ipV6()),
      route: text,
      service: text,
      replica: text,
      method: text,
      target: text,
      host: text,
      version: fc.constantFrom('1.0', '1.1'),
      status: fc.nat(999),
      bytesIn: fc.maxSafeNat(),
      bytesOut: fc.maxSafeNat(),
      firstByteMs: fc.float({ min: 0, noNaN: true, noDefaultInfinity: true }),
      totalMs: fc.float({ min: 0, noNaN: true, noDefaultInfinity: true }),
      requestId: text,
      referer: text,
      userAgent: text,
      error: text,
    },
    {
      requiredKeys: [
        'time',
        'address',
        'route',
        'method',
        'target',
        'host',
        'version',
        'status',
        'bytesIn',
        'bytesOut',
        'totalMs',
        'requestId',
      ],
    },
  )
  const address = fc.constantFrom<AccessLogSettings['address'][]>('full', 'truncated', 'none')

  test('in the combined form is one line of ASCII that splits into its fields, whatever is in them', () => {
    fc.assert(
      fc.property(entry, address, fc.boolean(), (entry, address, query) => {
        const line = formatAccess(entry, { access: 'combined', address, query })
        expect(line).toMatch(/^[\x20-\x7e]+$/)
        const [, , , method, target, version, status, bytes, , , , , , , id] = FIELDS.exec(line) ?? []
        expect([version, status, bytes]).toEqual([entry.version, `${entry.status}`, `${entry.bytesOut}`])
        expect([method, target, id].every((word) => word !== undefined && word !== '')).toBe(true)
      }),
    )
  })

  test('in JSON is one line that parses, with nothing in it that a terminal obeys', () => {
    fc.assert(
      fc.property(entry, address, fc.boolean(), (entry, address, query) => {
        const line = formatAccess(entry, { access: 'json', address, query })
        // oxlint-disable-next-line no-control-regex -- what must not be there
        expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/)
        expect(JSON.parse(line)).toMatchObject({ status: entry.status, bytesIn: entry.bytesIn })
      }),
    )
  })
})

describe('the access log', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  /** What was written, and the calls that say it has left. */
  function begin() {
    const written: string[] = []
    const leaving: (() => void)[] = []
    const log = new AccessLog(JSON_LINES, (text, done) => {
      written.push(text)
      leaving.push(done)
    })
    return { log, written, left: () => leaving.shift()?.() }
  }

  test('writes what came within a moment together, in whole lines', () => {
    const { log, written } = begin()
    for (let n = 0; n < 3; n += 1) log.note({ ...ENTRY, status: 200 + n })
    expect(written).toEqual([])
    vi.advanceTimersByTime(ACCESS_LOG_MS)
    expect(written).toHaveLength(1)
    expect(written[0]).toMatch(/^(?:\{.*\}\n){3}$/)
    vi.advanceTimersByTime(10 * ACCESS_LOG_MS)
    expect(written).toHaveLength(1)
  })

  test('does not wait when there is much', () => {
    const { log, written } = begin()
    while (written.length === 0) log.note(ENTRY)
    expect(written[0]?.length).toBeGreaterThanOrEqual(ACCESS_LOG_WRITE_BYTES)
    expect(written[0]?.length).toBeLessThan(ACCESS_LOG_WRITE_BYTES + 1_000)
  })

  test('writes once at a time, and then all that came meanwhile', () => {
    const { log, written, left } = begin()
    log.note(ENTRY)
    log.flush()
    for (let n = 0; n < 500; n += 1) log.note(ENTRY)
    vi.advanceTimersByTime(10 * ACCESS_LOG_MS)
    expect(written).toHaveLength(1)
    left()
    expect(written.map((text) => text.split('\n').length - 1)).toEqual([1, 500])
    left()
    expect(written).toHaveLength(2)
  })

  test('keeps a bounded number of lines where nobody reads, and says how many it dropped', () => {
    const { log, written, left } = begin()
    log.note(ENTRY)
    log.flush()
    for (let n = 0; n < 20_000; n += 1) log.note(ENTRY)
    left()
    const lines = written[1]?.split('\n').slice(0, -1) ?? []
    expect(written[1]?.length).toBeLessThan(ACCESS_LOG_BYTES + 1_000)
    expect(JSON.parse(lines.at(-1) ?? '')).toEqual({
      time: '2000-10-10T13:55:36.007Z',
      dropped: 20_000 - (lines.length - 1),
    })
    left()
    log.note(ENTRY)
    log.flush()
    expect(written[2]).not.toContain('dropped')
  })

  test('at its end writes all that waits, and nothing after it', () => {
    const { log, written, left } = begin()
    log.note(ENTRY)
    log.flush()
    log.note(ENTRY)
    log.close()
    expect(written).toHaveLength(2)
    log.note(ENTRY)
    log.close()
    left()
    vi.advanceTimersByTime(10 * ACCESS_LOG_MS)
    expect(written).toHaveLength(2)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('shows what a reload says from the next line on, in the form that it has', () => {
    const { log, written } = begin()
    log.reload({ access: 'combined', address: 'none', query: true })
    log.note(ENTRY)
    log.flush()
    expect(JSON.parse(written[0] ?? '')).toMatchObject({ address: '-', target: '/a?token=secret' })
  })
})
