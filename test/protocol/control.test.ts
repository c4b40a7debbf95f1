import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { REJECT_CODES, SERVICE_CODES, TunnelError, UNREACHED_CODES } from '../../src/errors.ts'
import {
  CHALLENGE_SECONDS_MAX,
  CONTROL_MESSAGE_BYTES,
  CONTROL_TEXT_CHARACTERS,
  DRAIN_MS_MAX,
  HELLO_BYTES,
  KEEPALIVE_SECONDS_MAX,
  KEEPALIVE_SECONDS_MIN,
  RETRY_AFTER_SECONDS_MAX,
  STREAM_WINDOW_MIN_BYTES,
  UNAUTHENTICATED_BYTES,
  URL_CHARACTERS,
  YAMUX_WINDOW_BYTES,
} from '../../src/limits.ts'
import { CHALLENGE_KINDS } from '../../src/protocol/control.ts'
import {
  type ClientMessage,
  ControlReader,
  encodeControl,
  type GatewayMessage,
  isChallengeKind,
  isChallengeToken,
  isRejectCode,
  isServiceCode,
  isServiceType,
  isUnreachedCode,
  type Message,
  packItems,
  rejection,
  SERVICE_TYPES,
} from '../../src/protocol/index.ts'
import { cut, segments } from './segments.ts'

/** A control message as anybody may send one. */
function raw(json: string | Uint8Array): Buffer {
  const body = typeof json === 'string' ? Buffer.from(json) : Buffer.from(json)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length)
  return Buffer.concat([length, body])
}

const read = (side: 'fromClient' | 'fromGateway', value: unknown): Message[] =>
  new ControlReader(side).push(raw(JSON.stringify(value)))

function refusal(act: () => unknown): TunnelError {
  try {
    act()
  } catch (error) {
    if (error instanceof TunnelError) return error
    throw error
  }
  throw new Error('it was accepted')
}

const HELLO = {
  type: 'hello',
  protocol: { min: 1, max: 1 },
  agent: 'blindgate/0.1.0',
  instance: 'a1',
  process: 'b2',
  services: [],
}
const WELCOME = {
  type: 'welcome',
  protocol: 1,
  gateway: { id: 'g1', version: '0.1.0', ids: ['g1'] },
  name: 'home',
  keepalive: 5,
  services: [],
}

// ── Any message of ours ─────────────────────────────────────────────────────────────────────────────────

const word = fc.string({ maxLength: 40, unit: 'binary' })
const id = fc.integer({ min: 0, max: 0xffff_ffff })
const window = fc.integer({ min: STREAM_WINDOW_MIN_BYTES, max: YAMUX_WINDOW_BYTES })
const offer = fc.record(
  {
    name: word,
    type: fc.constantFrom(...SERVICE_TYPES),
    hosts: fc.array(word, { maxLength: 3 }),
    path: word,
    port: fc.integer({ min: 0, max: 65_535 }),
    tls: word,
    share: fc.boolean(),
  },
  { requiredKeys: ['name', 'type'] },
)
const offers = fc.array(offer, { maxLength: 4 })
const refused = fc.record({
  name: word,
  error: fc.record({ code: fc.constantFrom(...SERVICE_CODES), message: word }),
})
const result = fc.oneof(refused, fc.record({ name: word, urls: fc.array(word, { maxLength: 3 }) }))
const results = fc.array(result, { maxLength: 4 })
const ofType = <const T extends string>(type: T) => ({ type: fc.constant(type) })

const clientMessage: fc.Arbitrary<ClientMessage> = fc.oneof(
  fc.record(
    {
      ...ofType('hello'),
      protocol: fc.record({ min: fc.nat(0xffff), max: fc.nat(0xffff) }),
      agent: word,
      instance: word,
      process: word,
      streamWindow: window,
      services: offers,
      enroll: fc.record({
        secret: fc
          .uint8Array({ minLength: 16, maxLength: 16 })
          .map((bytes) => Buffer.from(bytes).toString('base64url')),
      }),
    },
    { requiredKeys: ['type', 'protocol', 'agent', 'instance', 'process', 'services'] },
  ),
  fc.record({ ...ofType('register'), seq: id, services: offers }),
  fc.record(
    { ...ofType('unregister'), seq: id, names: fc.array(word), release: fc.boolean() },
    { requiredKeys: ['type', 'seq', 'names'] },
  ),
  fc.record(
    {
      ...ofType('challenge'),
      seq: id,
      host: word,
      kind: fc.constantFrom(...CHALLENGE_KINDS),
      token: word,
      expires: fc.integer({ min: 1, max: CHALLENGE_SECONDS_MAX }),
    },
    { requiredKeys: ['type', 'seq', 'host', 'kind', 'expires'] },
  ),
  fc.record({ ...ofType('challenge_done'), seq: id }),
  fc.record({ ...ofType('unreached'), stream: id, code: fc.constantFrom(...UNREACHED_CODES) }),
  fc.record({ ...ofType('drain'), deadlineMs: fc.nat(DRAIN_MS_MAX) }),
)
const gatewayMessage: fc.Arbitrary<GatewayMessage> = fc.oneof(
  fc.record(
    {
      ...ofType('welcome'),
      protocol: fc.constant(1 as const),
      gateway: fc.record({ id: word, version: word, ids: fc.array(word) }),
      name: word,
      streamWindow: window,
      keepalive: fc.integer({ min: KEEPALIVE_SECONDS_MIN, max: KEEPALIVE_SECONDS_MAX }),
      services: results,
    },
    { requiredKeys: ['type', 'protocol', 'gateway', 'name', 'keepalive', 'services'] },
  ),
  fc.record(
    {
      ...ofType('reject'),
      code: fc.constantFrom('revoked' as const, 'overloaded' as const),
      message: word,
      final: fc.boolean(),
      retryAfter: fc.nat(RETRY_AFTER_SECONDS_MAX),
    },
    { requiredKeys: ['type', 'code', 'message', 'final'] },
  ),
  fc.record({ ...ofType('registered'), seq: id, services: results }),
  fc.record({ ...ofType('unregistered'), seq: id }),
  fc.record(
    {
      ...ofType('challenge_ready'),
      seq: id,
      error: fc.record({ code: fc.constantFrom(...SERVICE_CODES), message: word }),
    },
    { requiredKeys: ['type', 'seq'] },
  ),
  fc.record({ ...ofType('withdrawn'), services: fc.array(refused) }),
  fc.record({ ...ofType('gateways'), ids: fc.array(word) }),
  fc.record({ ...ofType('drain'), deadlineMs: fc.nat(DRAIN_MS_MAX) }),
)

describe('a control message', () => {
  it('is read as it was written, at every segmentation', () => {
    const sides = [
      ['fromClient', fc.array(clientMessage, { maxLength: 4 })],
      ['fromGateway', fc.array(gatewayMessage, { maxLength: 4 })],
    ] as const
    for (const [side, messages] of sides) {
      fc.assert(
        fc.property(messages as fc.Arbitrary<Message[]>, segments, (sent, sizes) => {
          const reader = new ControlReader(side)
          const bytes = Buffer.concat(sent.map(encodeControl))
          const got = cut(bytes, sizes).flatMap((chunk): Message[] => reader.push(chunk))
          expect(got).toEqual(sent)
        }),
        { numRuns: 150 },
      )
    }
  })

  it('is four bytes of length, big-endian, and JSON', () => {
    const json = '{"type":"unreached","stream":2,"code":"refused"}'
    expect(encodeControl({ type: 'unreached', stream: 2, code: 'refused' })).toEqual(
      Buffer.from(`\0\0\0${String.fromCharCode(json.length)}${json}`, 'latin1'),
    )
  })

  it('does not keep the chunk that it came in', () => {
    const reader = new ControlReader('fromGateway')
    const bytes = encodeControl({ type: 'gateways', ids: ['one'] })
    const first = Buffer.from(bytes.subarray(0, 10))
    expect(reader.push(first)).toEqual([])
    first.fill(0)
    expect(reader.push(bytes.subarray(10))).toEqual([{ type: 'gateways', ids: ['one'] }])
  })

  it('of a later version is skipped, its unknown fields are dropped', () => {
    const reader = new ControlReader('fromGateway')
    const chunk = Buffer.concat([
      raw('{"type":"rotate","when":{"deep":[1]}}'),
      raw('{"type":"constructor"}'),
      raw('{"type":"__proto__"}'),
      raw('{"type":"gateways","ids":["a"],"zone":"b","__proto__":{"final":true},"constructor":1}'),
    ])
    const [message, ...others] = reader.push(chunk)
    expect(others).toEqual([])
    expect(Object.entries(message ?? {})).toEqual([
      ['type', 'gateways'],
      ['ids', ['a']],
    ])
    expect(message).not.toHaveProperty('final')
    expect(Object.prototype).not.toHaveProperty('final')
    expect(reader.received).toBe(4)
  })

  it('from the wrong side is as unknown as any other', () => {
    expect(read('fromClient', WELCOME)).toEqual([])
    expect(read('fromClient', { type: 'reject', code: 'revoked', message: '', final: true })).toEqual([])
    expect(read('fromGateway', HELLO)).toEqual([])
  })

  it.each(['__proto__', 'constructor', 'prototype', 'hasOwnProperty'])(
    'may carry the field %s anywhere without meaning anything',
    (key) => {
      const text = JSON.stringify(HELLO).replace(
        '"services":[]',
        `"${key}":{"enroll":{"secret":"x"}},"services":[]`,
      )
      const [message] = new ControlReader('fromClient').push(raw(text))
      expect(message).toEqual(HELLO)
      expect(Object.getPrototypeOf(message)).toBe(Object.prototype)
      expect((message as { enroll?: unknown }).enroll).toBeUndefined()
    },
  )
})

describe('a number from a peer', () => {
  it.each([
    [-1e308, KEEPALIVE_SECONDS_MIN],
    [0, KEEPALIVE_SECONDS_MIN],
    [7.9, 7],
    [1e308, KEEPALIVE_SECONDS_MAX],
  ])('keepalive %d counts as %d', (sent, counted) => {
    expect(read('fromGateway', { ...WELCOME, keepalive: sent })).toMatchObject([{ keepalive: counted }])
  })

  it.each([
    [-1, STREAM_WINDOW_MIN_BYTES],
    [0, STREAM_WINDOW_MIN_BYTES],
    [65_536, 65_536],
    [2 ** 53, YAMUX_WINDOW_BYTES],
  ])('streamWindow %d counts as %d, from either side', (sent, counted) => {
    expect(read('fromGateway', { ...WELCOME, streamWindow: sent })).toMatchObject([{ streamWindow: counted }])
    expect(read('fromClient', { ...HELLO, streamWindow: sent })).toMatchObject([{ streamWindow: counted }])
  })

  it('streamWindow stays absent where it is', () => {
    expect(read('fromClient', HELLO)[0]).not.toHaveProperty('streamWindow')
    expect(read('fromGateway', WELCOME)[0]).not.toHaveProperty('streamWindow')
  })

  it.each([
    [-5, 0],
    [1e12, RETRY_AFTER_SECONDS_MAX],
  ])('retryAfter %d counts as %d', (sent, counted) => {
    const reject = { type: 'reject', code: 'overloaded', message: '', final: false, retryAfter: sent }
    expect(read('fromGateway', reject)).toMatchObject([{ retryAfter: counted }])
  })

  it.each([
    [-5, 0],
    [1e12, DRAIN_MS_MAX],
  ])('deadlineMs %d counts as %d, from either side', (sent, counted) => {
    for (const side of ['fromClient', 'fromGateway'] as const) {
      expect(read(side, { type: 'drain', deadlineMs: sent })).toEqual([
        { type: 'drain', deadlineMs: counted },
      ])
    }
  })

  it.each([
    [-5, 1],
    [0, 1],
    [1e12, CHALLENGE_SECONDS_MAX],
  ])('expires %d counts as %d', (sent, counted) => {
    const challenge = { type: 'challenge', seq: 1, host: 'a.example.com', kind: 'tls-alpn-01', expires: sent }
    expect(read('fromClient', challenge)).toMatchObject([{ expires: counted }])
  })

  it('that names something is refused where it cannot be right, not bent into another', () => {
    for (const seq of [-1, 1.5, 2 ** 32, '1', null]) {
      expect(refusal(() => read('fromGateway', { type: 'unregistered', seq })).code).toBe('protocol_error')
      expect(
        refusal(() => read('fromClient', { type: 'unreached', stream: seq, code: 'refused' })).code,
      ).toBe('protocol_error')
    }
    for (const port of [-1, 65_536, 80.5]) {
      const services = [{ name: 'a', type: 'tcp', port }]
      expect(refusal(() => read('fromClient', { type: 'register', seq: 1, services })).code).toBe(
        'protocol_error',
      )
    }
  })
})

describe('the token of a challenge', () => {
  it.each([['a'], ['evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA'], ['x'.repeat(255)]])(
    'may be %s',
    (token) => {
      expect(isChallengeToken(token)).toBe(true)
    },
  )

  it.each([[''], ['..'], ['a/b'], ['a%2fb'], ['a?b'], ['a b'], ['ä'], ['a\n'], ['x'.repeat(256)]])(
    'may not be %j',
    (token) => {
      expect(isChallengeToken(token)).toBe(false)
    },
  )
})

describe('a word of a later version', () => {
  it('passes as text, and is none of ours', () => {
    const [reject] = read('fromGateway', { type: 'reject', code: 'quota_spent', message: 'm', final: false })
    const [unreached] = read('fromClient', { type: 'unreached', stream: 2, code: 'asleep' })
    const [register] = read('fromClient', {
      type: 'register',
      seq: 1,
      services: [{ name: 'q', type: 'quic' }],
    })
    const [withdrawn] = read('fromGateway', {
      type: 'withdrawn',
      services: [{ name: 'q', error: { code: 'constructor', message: 'm' } }],
    })
    const [challenge] = read('fromClient', {
      type: 'challenge',
      seq: 1,
      host: 'a.example.com',
      kind: 'dns-account-01',
      expires: 60,
    })
    const ready = { type: 'challenge_ready', seq: 1, error: { code: 'quota_spent', message: 'm' } }
    expect(read('fromGateway', ready)).toEqual([ready])
    expect(challenge).toMatchObject({ kind: 'dns-account-01' })
    expect(isChallengeKind('dns-account-01')).toBe(false)
    expect(reject).toMatchObject({ code: 'quota_spent', final: false })
    expect(unreached).toMatchObject({ code: 'asleep' })
    expect(register).toMatchObject({ services: [{ type: 'quic' }] })
    expect(withdrawn).toMatchObject({ services: [{ error: { code: 'constructor' } }] })
    for (const text of ['quota_spent', 'constructor', '__proto__', 'toString', '']) {
      expect([isRejectCode(text), isServiceCode(text), isUnreachedCode(text), isServiceType(text)]).toEqual([
        false,
        false,
        false,
        false,
      ])
    }
  })

  it('is told apart from every word of this one', () => {
    for (const code of Object.keys(REJECT_CODES)) expect(isRejectCode(code)).toBe(true)
    for (const code of SERVICE_CODES) expect(isServiceCode(code)).toBe(true)
    for (const code of UNREACHED_CODES) expect(isUnreachedCode(code)).toBe(true)
    for (const type of SERVICE_TYPES) expect(isServiceType(type)).toBe(true)
  })
})

describe('a rejection', () => {
  it('is final where dialling again cannot help', () => {
    expect(rejection('revoked', 'gone')).toEqual({
      type: 'reject',
      code: 'revoked',
      message: 'gone',
      final: true,
    })
    expect(rejection('overloaded', 'busy', 30)).toMatchObject({ final: false, retryAfter: 30 })
  })
})

describe('a hostile control message', () => {
  const broken: Record<string, Buffer> = {
    'of no bytes': Buffer.alloc(4),
    'of one byte too many, by its length alone': Buffer.from([0, 1, 0, 1]),
    'of 4 GiB, by its length alone': Buffer.from([0xff, 0xff, 0xff, 0xff]),
    'that is not JSON': raw('hello'),
    'that is half of JSON': raw('{"type":"hello"'),
    'that is not UTF-8': raw(Buffer.from('{"type":"\xff"}', 'latin1')),
    'that begins with a byte order mark': raw('\ufeff{"type":"x"}'),
    'that is an array': raw('[{"type":"hello"}]'),
    'that is a number': raw('1'),
    'that is null': raw('null'),
    'without a type': raw('{}'),
    'whose type is inherited': raw('{"__proto__":{"type":"hello"}}'),
    'whose type is a number': raw('{"type":1}'),
    'whose type is an array of one type': raw('{"type":["hello"]}'),
    'nested 30 000 deep': raw(`{"type":"hello","services":${'['.repeat(30_000)}${']'.repeat(30_000)}}`),
    'with 30 000 services that are none': raw(`{"type":"hello","services":[0${',0'.repeat(30_000)}]}`),
    'with a number past all numbers': raw('{"type":"drain","deadlineMs":1e999}'),
    'with NaN': raw('{"type":"drain","deadlineMs":NaN}'),
    'with a number as text': raw('{"type":"drain","deadlineMs":"1"}'),
    'with half a character in a name': raw('{"type":"unregister","seq":1,"names":["\\ud800"]}'),
    'with the other half': raw('{"type":"unregister","seq":1,"names":["a\\udc00b"]}'),
    'with a name past its bound': raw(
      JSON.stringify({ type: 'unregister', seq: 1, names: ['a'.repeat(CONTROL_TEXT_CHARACTERS + 1)] }),
    ),
    'with a secret of another length': raw(JSON.stringify({ ...HELLO, enroll: { secret: 'x'.repeat(23) } })),
    'with a secret of other characters': raw(
      JSON.stringify({ ...HELLO, enroll: { secret: '+'.repeat(22) } }),
    ),
    'whose services are an object with a length': raw(JSON.stringify({ ...HELLO, services: { length: 3 } })),
    'without what its type needs': raw('{"type":"register","seq":1}'),
  }

  it.each(Object.entries(broken))('%s ends the tunnel, by the peer’s fault', (_name, bytes) => {
    const error = refusal(() => new ControlReader('fromClient').push(bytes))
    expect(error).toMatchObject({ code: 'protocol_error', scope: 'tunnel', remote: true })
    expect(error.message.length).toBeLessThan(300)
  })

  it.each(Object.entries(broken))('%s is refused at one byte at a time as well', (_name, bytes) => {
    const reader = new ControlReader('fromClient')
    expect(refusal(() => cut(bytes, [1]).forEach((byte) => reader.push(byte))).code).toBe('protocol_error')
  })

  it('is refused by the same reader with a url past its bound, an unknown version, a result that is neither', () => {
    for (const change of [
      { services: [{ name: 'a', urls: ['u'.repeat(URL_CHARACTERS + 1)] }] },
      { services: [{ name: 'a' }] },
      { protocol: 2 },
      { gateway: null },
      { keepalive: '5' },
    ]) {
      expect(refusal(() => read('fromGateway', { ...WELCOME, ...change })).code).toBe('protocol_error')
    }
  })

  it('never gets its own text into the sentence, a secret least of all', () => {
    const marker = 'XXsecretXX'
    for (const text of [
      `{"type":"hello","enroll":{"secret":"${marker}"}`,
      marker,
      JSON.stringify({ ...HELLO, enroll: { secret: marker } }),
      JSON.stringify({ ...HELLO, protocol: { min: marker } }),
      JSON.stringify({ type: 'register', seq: 1, services: [{ [marker]: 1, name: marker }] }),
    ]) {
      const error = refusal(() => new ControlReader('fromClient').push(raw(text)))
      expect(error.message).not.toContain(marker)
      expect(error.cause).toBeUndefined()
    }
  })

  it('of the longest length is read, and one byte more is not', () => {
    const fill = (bytes: number) => {
      const json = '{"type":"x","pad":""}'
      return raw(json.replace('""', `"${'p'.repeat(bytes - json.length)}"`))
    }
    expect(new ControlReader('fromClient').push(fill(CONTROL_MESSAGE_BYTES))).toEqual([])
    expect(refusal(() => new ControlReader('fromClient').push(fill(CONTROL_MESSAGE_BYTES + 1))).code).toBe(
      'protocol_error',
    )
    expect(
      refusal(() => encodeControl({ type: 'gateways', ids: ['i'.repeat(CONTROL_MESSAGE_BYTES)] })),
    ).toMatchObject({ code: 'protocol_error', remote: false })
  })

  it('announced long and never sent costs what came, not what was announced', () => {
    const before = process.memoryUsage().arrayBuffers
    const readers = Array.from({ length: 2_000 }, () => {
      const reader = new ControlReader('fromClient')
      reader.push(Buffer.from([0, 1, 0, 0, 0x7b]))
      return reader
    })
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * 1024 * 1024)
    expect(readers.every((reader) => reader.received === 0)).toBe(true)
  })

  it('of any bytes throws TunnelError or nothing', () => {
    const frames = fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      fc.json({ maxDepth: 4 }).map((json) => raw(json)),
      fc
        .tuple(
          fc.constantFrom(HELLO, WELCOME, { type: 'register', seq: 1, services: [] }),
          fc.dictionary(
            fc.constantFrom('services', 'protocol', 'seq', 'enroll', 'streamWindow', 'gateway'),
            fc.jsonValue(),
          ),
        )
        .map(([message, change]) => raw(JSON.stringify({ ...message, ...change }))),
    )
    fc.assert(
      fc.property(fc.array(frames, { maxLength: 3 }), segments, (chunks, sizes) => {
        for (const side of ['fromClient', 'fromGateway'] as const) {
          const reader = new ControlReader(side)
          try {
            for (const chunk of cut(Buffer.concat(chunks), sizes)) reader.push(chunk)
          } catch (error) {
            expect(error).toBeInstanceOf(TunnelError)
          }
        }
      }),
      { numRuns: 400 },
    )
  })
})

describe('a list that is too long for one message', () => {
  const offerOf = (index: number) => ({
    name: `${index}-`.padEnd(63, 'é'),
    type: 'tcp' as const,
    port: index,
  })

  it('is cut into messages that fit, in order and with nothing lost', () => {
    const services = Array.from({ length: 1_500 }, (_, index) => offerOf(index))
    const envelope = { ...HELLO, type: 'hello' as const, services: [] }
    const runs = packItems(services, envelope, HELLO_BYTES)
    expect(runs.flat()).toEqual(services)
    expect(runs.length).toBeGreaterThan(2)
    for (const run of runs) {
      expect(encodeControl({ ...envelope, services: run }).length).toBeLessThanOrEqual(HELLO_BYTES + 4)
    }
    // Not cut finer than needed: one more service would not have fitted.
    const [first = [], second = []] = runs
    const fuller = { ...envelope, services: [...first, ...second.slice(0, 1)] }
    expect(encodeControl(fuller).length).toBeGreaterThan(HELLO_BYTES)
  })

  it('is one message where it fits, an empty list as well', () => {
    expect(packItems([], WELCOME)).toEqual([[]])
    expect(packItems(['a', 'b'], { type: 'gateways', ids: [] })).toEqual([['a', 'b']])
  })

  it('leaves room in a hello for the frames around it', () => {
    expect(HELLO_BYTES + 1024).toBeLessThan(UNAUTHENTICATED_BYTES)
  })
})
