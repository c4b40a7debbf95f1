import { readFileSync } from 'node:fs'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { PROXY_HEADER_BYTES } from '../../src/limits.ts'
import { encodeProxyHeader, type ProxyHeader, ProxyReader } from '../../src/protocol/index.ts'
import { cut, segments } from './segments.ts'

interface Vectors {
  valid: {
    name: string
    hex: string
    restHex?: string
    header: Omit<ProxyHeader, 'uniqueId'> & { uniqueId?: string }
  }[]
  invalid: { name: string; hex: string }[]
}
const vectors = JSON.parse(readFileSync(new URL('proxy-v2.vectors.json', import.meta.url), 'utf8')) as Vectors

/** Feeds chunk by chunk; `rest` is what the reader left and what it was not given. */
function readAll(chunks: readonly Uint8Array[]): { header: ProxyHeader; rest: Buffer } | undefined {
  const reader = new ProxyReader()
  for (const [index, chunk] of chunks.entries()) {
    const done = reader.push(chunk)
    if (done) return { header: done.header, rest: Buffer.concat([done.rest, ...chunks.slice(index + 1)]) }
  }
  return undefined
}

const hex = (header: ProxyHeader) => ({
  ...header,
  ...(header.uniqueId && { uniqueId: Buffer.from(header.uniqueId).toString('hex') }),
})

function refusal(act: () => unknown): TunnelError {
  try {
    act()
  } catch (error) {
    if (error instanceof TunnelError) return error
    throw error
  }
  throw new Error('it was accepted')
}

describe('the PROXY header reader', () => {
  it.each(vectors.valid)('reads $name', ({ hex: bytes, header, restHex = '' }) => {
    for (const sizes of [[1 << 20], [1], [12, 1, 2, 1], [16], [17]]) {
      const done = readAll(cut(Buffer.from(bytes, 'hex'), sizes))
      expect(done && hex(done.header)).toEqual(header)
      expect(done?.rest.toString('hex')).toBe(restHex)
    }
  })

  it.each(vectors.invalid)('refuses $name', ({ hex: bytes }) => {
    for (const sizes of [[1 << 20], [1], [12, 1, 2, 1], [16]]) {
      const error = refusal(() => readAll(cut(Buffer.from(bytes, 'hex'), sizes)))
      expect(error).toMatchObject({ code: 'protocol_error', scope: 'stream', remote: true })
    }
  })

  it('waits while the header is not whole, whatever the cut', () => {
    const bytes = Buffer.from(vectors.valid[11]?.hex ?? '', 'hex')
    for (let at = 0; at < bytes.length; at += 1) {
      const reader = new ProxyReader()
      expect(reader.push(bytes.subarray(0, at))).toBeUndefined()
      expect(reader.push(new Uint8Array(0))).toBeUndefined()
      const done = reader.push(bytes.subarray(at))
      expect(done?.header.service).toBe('web')
      expect(done?.rest.length).toBe(0)
    }
  })

  it('gives the rest as a view of the chunk, and keeps nothing of the chunk in the header', () => {
    const chunk = Buffer.concat([
      encodeProxyHeader({ tlvs: { uniqueId: Uint8Array.of(1, 2, 3) } }),
      Buffer.from('GET / HTTP/1.1'),
    ])
    const done = new ProxyReader().push(chunk)
    expect(done?.rest.buffer).toBe(chunk.buffer)
    expect(Buffer.from(done?.rest ?? []).toString()).toBe('GET / HTTP/1.1')
    expect(done?.header.uniqueId?.buffer).not.toBe(chunk.buffer)
    chunk.fill(0)
    expect(done?.header.uniqueId).toEqual(Uint8Array.of(1, 2, 3))
  })

  it('refuses the first wrong byte without waiting for more', () => {
    const signature = Buffer.from(vectors.valid[0]?.hex ?? '', 'hex').subarray(0, 12)
    for (let at = 0; at < signature.length; at += 1) {
      const bytes = Uint8Array.from(signature.subarray(0, at + 1))
      bytes[at] = (bytes[at] ?? 0) ^ 1
      expect(refusal(() => new ProxyReader().push(bytes)).code).toBe('protocol_error')
    }
  })

  it('reads a header of the longest length', () => {
    const length = PROXY_HEADER_BYTES - 16
    const bytes = Buffer.concat([
      Buffer.from(vectors.valid[3]?.hex ?? '', 'hex').subarray(0, 14),
      Buffer.of(length >> 8, length & 0xff, 0xee, (length - 3) >> 8, (length - 3) & 0xff),
      Buffer.alloc(length - 3),
    ])
    expect(readAll(cut(bytes, [1000]))?.header).toEqual({ command: 'PROXY' })
  })

  it('throws TunnelError or nothing, for any bytes', () => {
    const anything = fc.oneof(
      fc.uint8Array({ maxLength: 80 }),
      // Past the signature, where the interesting mistakes are.
      fc
        .tuple(
          fc.constantFrom(0x20, 0x21),
          fc.constantFrom(0, 0x10, 0x11, 0x21, 0x31),
          fc.uint8Array({ maxLength: 80 }),
        )
        .map(([command, family, body]) =>
          Buffer.concat([
            Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'),
            Buffer.of(command, family, 0, body.length),
            body,
          ]),
        ),
    )
    fc.assert(
      fc.property(anything, segments, (bytes, sizes) => {
        const outcomes = [sizes, [1], [1 << 20]].map((each) => {
          try {
            const done = readAll(cut(bytes, each))
            return done && hex(done.header)
          } catch (error) {
            expect(error).toBeInstanceOf(TunnelError)
            return 'refused'
          }
        })
        expect(outcomes[1]).toEqual(outcomes[0])
        expect(outcomes[2]).toEqual(outcomes[0])
      }),
      { numRuns: 500 },
    )
  })
})

describe('the PROXY header writer', () => {
  const port = fc.integer({ min: 0, max: 65_535 })
  const v4 = fc.record({ address: fc.ipV4(), port })
  const v6 = fc.record({
    address: fc
      .oneof(
        fc.ipV6(),
        fc
          .array(fc.constantFrom('0', '1', 'ffff'), { minLength: 8, maxLength: 8 })
          .map((groups) => groups.join(':')),
      )
      .map(canonical),
    port,
  })
  const addresses = fc.oneof(
    fc.record({ source: v4, destination: v4 }),
    fc.record({ source: v6, destination: v6 }),
    fc.constant({}),
  )
  const tlvs = fc.record(
    {
      alpn: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
      authority: fc.string({ maxLength: 60, unit: 'binary' }),
      uniqueId: fc.uint8Array({ maxLength: 128 }),
      service: fc.string({ maxLength: 60, unit: 'binary' }),
    },
    { requiredKeys: [] },
  )

  it('writes what the reader reads, at every segmentation', () => {
    fc.assert(
      fc.property(addresses, tlvs, segments, fc.uint8Array(), (ends, fields, sizes, rest) => {
        const header = encodeProxyHeader({ ...ends, tlvs: fields })
        const done = readAll(cut(Buffer.concat([header, rest]), sizes))
        expect(done?.header).toEqual({ command: 'PROXY', ...ends, ...fields })
        expect(done?.rest).toEqual(Buffer.from(rest))
      }),
      { numRuns: 400 },
    )
  })

  it('writes the bytes of the specification', () => {
    for (const index of [0, 1, 3, 4]) {
      const { hex: bytes = '', header } = vectors.valid[index] ?? {}
      const { source, destination, service } = header ?? {}
      expect(encodeProxyHeader({ source, destination, tlvs: { service } }).toString('hex')).toBe(bytes)
    }
  })

  const roundTrip = (ends: Parameters<typeof encodeProxyHeader>[0]) =>
    readAll([encodeProxyHeader(ends)])?.header

  it('sends no addresses of a visitor that is unknown, or whose address is not to be told', () => {
    const visitor = { address: '192.0.2.1', port: 1 }
    expect(roundTrip({})).toEqual({ command: 'PROXY' })
    expect(roundTrip({ destination: visitor })).toEqual({ command: 'PROXY' })
    expect(roundTrip({ source: visitor, destination: visitor, unknown: true })).toEqual({ command: 'PROXY' })
    expect(encodeProxyHeader({ source: visitor, unknown: true }).length).toBe(16)
  })

  it('sends a mapped address as IPv4, and IPv4 next to IPv6 mapped', () => {
    const plain = { address: '192.0.2.1', port: 1 }
    const mapped = { address: '::FFFF:192.0.2.1', port: 1 }
    const wide = { address: '2001:db8::1', port: 2 }
    expect(encodeProxyHeader({ source: mapped, destination: mapped })).toEqual(
      encodeProxyHeader({ source: plain, destination: plain }),
    )
    for (const source of [plain, mapped]) {
      const bytes = encodeProxyHeader({ source, destination: wide })
      expect(bytes.length).toBe(16 + 36)
      expect(readAll([bytes])?.header).toEqual({ command: 'PROXY', source: plain, destination: wide })
    }
  })

  it('fills an unknown destination with zeros, and leaves out the zone of an address', () => {
    expect(roundTrip({ source: { address: '192.0.2.1', port: 1 } })?.destination).toEqual({
      address: '0.0.0.0',
      port: 0,
    })
    expect(roundTrip({ source: { address: 'fe80::1%eth0', port: 1 } })).toMatchObject({
      source: { address: 'fe80::1', port: 1 },
      destination: { address: '::', port: 0 },
    })
  })

  it.each([
    '',
    'localhost',
    '1.2.3',
    '1.2.3.4.5',
    '1.2.3.256',
    '1.2.3.04',
    '1..2.3',
    '1.2.3.4 ',
    '-1.2.3.4',
    ':',
    ':::',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '1::2::3',
    '12345::',
    'g::',
    '1:2:3:4:5:6:7:1.2.3.4',
    '::1.2.3',
    '1:',
    ':1',
    '%eth0',
  ])('refuses the address "%s"', (address) => {
    const error = refusal(() => encodeProxyHeader({ source: { address, port: 1 } }))
    expect(error).toMatchObject({ code: 'protocol_error', remote: false })
    expect(
      refusal(() =>
        encodeProxyHeader({ source: { address: '::1', port: 1 }, destination: { address, port: 1 } }),
      ).code,
    ).toBe('protocol_error')
  })

  it('refuses a header past its bound, and a unique id past that of the specification', () => {
    expect(refusal(() => encodeProxyHeader({ tlvs: { service: 's'.repeat(PROXY_HEADER_BYTES) } })).code).toBe(
      'protocol_error',
    )
    expect(refusal(() => encodeProxyHeader({ tlvs: { uniqueId: new Uint8Array(129) } })).code).toBe(
      'protocol_error',
    )
  })
})

/** RFC 5952 by another implementation, the URL parser; mapped addresses as IPv4, as we give them. */
function canonical(address: string): string {
  const text = new URL(`http://[${address}]`).hostname.slice(1, -1)
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(text)
  if (!mapped) return text
  const groups = [mapped[1], mapped[2]].map((group) => Number.parseInt(group ?? '', 16))
  return groups.flatMap((group) => [group >> 8, group & 0xff]).join('.')
}
