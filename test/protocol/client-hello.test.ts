import { randomInt } from 'node:crypto'
import { Duplex } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import { type ConnectionOptions, connect, createServer, getCiphers } from 'node:tls'
import * as fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { normalizeHost } from '../../src/http1/index.ts'
import { CLIENT_HELLO_ALPN_BYTES, CLIENT_HELLO_BYTES, CLIENT_HELLO_RECORDS } from '../../src/limits.ts'
import {
  type ClientHello,
  ClientHelloReader,
  encodeProxyHeader,
  isOnlyAlpn,
  looksLikeTls,
  ProxyReader,
  tlsAlert,
} from '../../src/protocol/index.ts'
import vectors from './client-hello.vectors.json' with { type: 'json' }
import { BAD_NAMES, GOOD_NAMES, helloCase, mutatedHello, outcome } from './hello-cases.ts'
import {
  ALPN,
  alpn,
  extension,
  fromNode,
  hello,
  lengthFields,
  message,
  type Parts,
  parts,
  records,
  SERVER_NAME,
  serverName,
  vector,
} from './hellos.ts'
import { naiveHello } from './naive-hello.ts'
import { cut, segments } from './segments.ts'

const CASES = 50_000
const NAME = 'app.example.com'

interface Vector {
  name: string
  bytes: Buffer
  serverName?: string | undefined
  alpn?: readonly string[]
}

const node = (name: string, options: ConnectionOptions): Vector => ({
  name: `Node's, ${name}`,
  bytes: fromNode(options),
  serverName: options.servername?.toLowerCase(),
  alpn: (options.ALPNProtocols as string[] | undefined) ?? [],
})

/** What clients send. Those of Node are the ones of the Node that runs this: another one, other extensions. */
const real: readonly Vector[] = [
  ...vectors.captured.map(({ name, serverName, alpn, hex }) => ({
    name,
    bytes: Buffer.from(hex, 'hex'),
    serverName: serverName ?? undefined,
    alpn,
  })),
  node('plain', { servername: NAME }),
  node('with upper case and ALPN', { servername: 'App.Example.COM', ALPNProtocols: ['h2', 'http/1.1'] }),
  node('without a name', { servername: '', ALPNProtocols: ['acme-tls/1'] }),
  node('TLS 1.2 alone', { servername: NAME, maxVersion: 'TLSv1.2' }),
  node('TLS 1.3 alone', { servername: NAME, minVersion: 'TLSv1.3', ALPNProtocols: ['h2'] }),
  node('with every cipher', { servername: NAME, ciphers: `${getCiphers().join(':').toUpperCase()}:ALL` }),
  node('with fifty protocols', {
    servername: NAME,
    ALPNProtocols: Array.from({ length: 50 }, (_, index) => `proto/${index}`),
  }),
  node('with the longest name', { servername: GOOD_NAMES.at(-1) ?? '' }),
].map((each) => (each.serverName === '' ? { ...each, serverName: undefined } : each))

const PADDING = 21
/** A hello whose message takes exactly so many bytes. */
function sized(bytes: number): Buffer {
  const bare = message(parts(serverName(NAME), extension(PADDING, 0))).length
  return message(parts(serverName(NAME), extension(PADDING, bytes - bare)))
}
const small = message(parts(serverName(NAME), alpn('h2', 'http/1.1')))
const both = { serverName: NAME, alpn: ['h2', 'http/1.1'] }

const made: readonly Vector[] = [
  {
    name: 'no extensions, as before TLS 1.3',
    bytes: records(message({ ...parts(), extensions: undefined })),
  },
  { name: 'an empty list of extensions', bytes: hello() },
  {
    name: 'GREASE in every place',
    bytes: records(
      message({
        ...parts(
          extension(0x0a0a, 0),
          serverName(NAME),
          alpn(Buffer.of(0x7a, 0x7a), 'h2'),
          extension(0xfafa, 1),
        ),
        ciphers: Buffer.of(0x2a, 0x2a, 0x13, 0x01),
      }),
    ),
    serverName: NAME,
    alpn: ['zz', 'h2'],
  },
  {
    name: 'the outer hello of ECH, by the name that stands there',
    bytes: hello(extension(0xfe0d, 300), serverName('public.example'), alpn('h2')),
    serverName: 'public.example',
    alpn: ['h2'],
  },
  {
    name: 'a session ticket and a pre_shared_key at the end',
    bytes: hello(extension(35, 1500), serverName(NAME), extension(41, 2000)),
    serverName: NAME,
  },
  {
    name: 'an empty session id',
    bytes: records(message({ ...parts(serverName(NAME)), sessionId: Buffer.alloc(0) })),
    serverName: NAME,
  },
  { name: 'the longest message', bytes: records(sized(CLIENT_HELLO_BYTES)), serverName: NAME },
  {
    name: 'the longest message in three records',
    bytes: records(sized(CLIENT_HELLO_BYTES), [6000]),
    serverName: NAME,
  },
  { name: 'records of one byte', bytes: records(small, [1]), ...both },
  { name: 'a record that ends within the message header', bytes: records(small, [2, 16_384]), ...both },
  { name: 'a record that ends within the name', bytes: records(small, [small.indexOf(NAME) + 5]), ...both },
  {
    name: 'as many records as it may have',
    bytes: records(sized(CLIENT_HELLO_RECORDS * 2), [2]),
    serverName: NAME,
  },
  {
    name: 'the longest ALPN list',
    bytes: hello(alpn('a'.repeat(255), 'b'.repeat(253))),
    alpn: ['a'.repeat(255), 'b'.repeat(253)],
  },
  {
    name: 'another record behind it',
    bytes: Buffer.concat([records(small), Buffer.of(22, 3, 3, 0, 1, 16)]),
    ...both,
  },
  {
    name: 'nonsense behind it',
    bytes: Buffer.concat([records(small), Buffer.from('GET / HTTP/1.1\r\n\r\n')]),
    ...both,
  },
  {
    name: 'nonsense behind it in its record',
    bytes: records(Buffer.concat([small, Buffer.alloc(30_000)])),
    ...both,
  },
  {
    name: 'nonsense behind the longest message in its second record',
    bytes: records(Buffer.concat([sized(CLIENT_HELLO_BYTES), Buffer.alloc(16_000)]), [16_000, 16_384]),
    serverName: NAME,
  },
  ...GOOD_NAMES.map((name) => ({
    name: `the name "${name}"`,
    bytes: hello(serverName(name)),
    serverName: name.toLowerCase(),
  })),
]

/** The length up to which a hello of one record is not whole. */
const wholeAt = (bytes: Buffer) => 5 + Math.min(bytes.readUInt16BE(3), 4 + bytes.readUIntBE(6, 3))

const readsAs = ({ serverName, alpn = [] }: Vector): ClientHello => ({
  serverName,
  alpn,
  alpnBytes:
    alpn.length === 0
      ? undefined
      : vector(2, ...alpn.map((each) => vector(1, Buffer.from(each, 'latin1')))).toString('latin1'),
})

describe('the ClientHello reader', () => {
  it.each([...real, ...made])('reads $name', (vector) => {
    const { bytes } = vector
    const expected = readsAs(vector)
    for (const sizes of [[1 << 20], [1], [5, 4, 1, 2], [1460], [9]]) {
      expect(outcome(cut(bytes, sizes))).toEqual(expected)
    }
    const step = bytes.length > 4096 ? 61 : 1
    for (let at = 0; at < bytes.length; at += step) {
      const read = outcome([bytes.subarray(0, at), bytes.subarray(at)])
      if (JSON.stringify(read) !== JSON.stringify(expected))
        expect({ at, read }).toEqual({ at, read: expected })
    }
  })

  it.each(real)('waits for $name while a byte is missing', ({ bytes }) => {
    const reader = new ClientHelloReader()
    for (let at = 0; at < wholeAt(bytes) - 1; at += 1) {
      if (outcome([bytes.subarray(0, at)]) !== 'more') expect(at).toBe('not waited for')
      if (reader.push(bytes.subarray(at, at + 1)) !== undefined) expect(at).toBe('not waited for')
    }
    expect(reader.push(bytes.subarray(wholeAt(bytes) - 1))).toBeDefined()
  })

  it('leaves what it is fed as it was, and keeps none of it in the hello', () => {
    const chunk = hello(serverName(NAME.toUpperCase()), alpn('h2'))
    const before = Buffer.from(chunk)
    const read = outcome([chunk])
    expect(chunk).toEqual(before)
    chunk.fill(0)
    expect(read).toEqual(readsAs({ name: '', bytes: chunk, serverName: NAME, alpn: ['h2'] }))
  })

  it('takes memory for what has come, not for what is announced', () => {
    const longest = records(sized(CLIENT_HELLO_BYTES))
    const allocations = vi.spyOn(Buffer, 'allocUnsafe')
    const taken = () => allocations.mock.calls.reduce((sum, [size]) => sum + size, 0)
    try {
      const reader = new ClientHelloReader()
      reader.push(longest.subarray(0, 10))
      expect(taken()).toBeLessThanOrEqual(512)
      for (let at = 10; at < longest.length - 1; at += 1) {
        reader.push(longest.subarray(at, at + 1))
        if (taken() > 512 + 4 * at) expect({ at, taken: taken() }).toBe('less')
      }
      expect(Math.max(...allocations.mock.calls.map(([size]) => size))).toBe(CLIENT_HELLO_BYTES)
    } finally {
      allocations.mockRestore()
    }
  })

  it('keeps nothing of a hello that is whole in its first chunk', () => {
    const bytes = records(small)
    const allocations = vi.spyOn(Buffer, 'allocUnsafe')
    try {
      expect(new ClientHelloReader().push(bytes)?.serverName).toBe(NAME)
      expect(allocations).not.toHaveBeenCalled()
    } finally {
      allocations.mockRestore()
    }
  })
})

const raw = (type: number, ...content: readonly Uint8Array[]) =>
  hello({ type, content: Buffer.concat(content) })
const changed = (change: Partial<Parts>) => records(message({ ...parts(serverName(NAME)), ...change }))

const refused: readonly (readonly [string, Buffer])[] = [
  ['plain HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n')],
  ['an SSLv2 hello', Buffer.from('802e0100020015000000100100800700c0030080060040020080040080000', 'hex')],
  ['a SOCKS greeting', Buffer.of(5, 1, 0)],
  ['an alert first', Buffer.concat([tlsAlert('decode_error'), records(small)])],
  ['application data first', Buffer.concat([Buffer.of(23, 3, 3, 0, 1, 0), records(small)])],
  ['another major version', Buffer.concat([Buffer.of(22, 2), records(small).subarray(2)])],
  ['an empty record', Buffer.concat([Buffer.of(22, 3, 1, 0, 0), records(small)])],
  [
    'an empty record within',
    Buffer.concat([records(small.subarray(0, 50)), Buffer.of(22, 3, 1, 0, 0), records(small.subarray(50))]),
  ],
  [
    'another record within',
    Buffer.concat([
      records(small.subarray(0, 50)),
      Buffer.of(20, 3, 3, 0, 1, 1),
      records(small.subarray(50)),
    ]),
  ],
  ['a record past the longest', Buffer.concat([Buffer.of(22, 3, 1, 0x40, 1), small])],
  ['another message first', records(Buffer.concat([Buffer.of(0, 0, 0, 0), small]))],
  ['a message a byte past the longest', records(sized(CLIENT_HELLO_BYTES + 1))],
  [
    'a message a byte past the longest, by its header alone',
    records(sized(CLIENT_HELLO_BYTES + 1)).subarray(0, 9),
  ],
  ['a record more than it may have', records(sized(CLIENT_HELLO_RECORDS * 2 + 1), [2])],
  ['bytes behind the extensions', records(message(parts(serverName(NAME)), Buffer.of(0)))],
  ['an empty message', records(Buffer.of(1, 0, 0, 0))],
  ['a message that ends within its random', records(Buffer.of(1, 0, 0, 3, 3, 3, 0))],
  ['a session id over 32 bytes', changed({ sessionId: Buffer.alloc(33) })],
  ['no cipher suite', changed({ ciphers: Buffer.alloc(0) })],
  ['half a cipher suite', changed({ ciphers: Buffer.alloc(3) })],
  ['no compression method', changed({ compressions: Buffer.alloc(0) })],
  ['two names in two extensions', hello(serverName(NAME), serverName('evil.example'))],
  ['ALPN twice', hello(alpn('h2'), serverName(NAME), alpn('h2'))],
  ['a GREASE value twice', hello(extension(0x0a0a, 0), serverName(NAME), extension(0x0a0a, 1))],
  ['two names in one extension', hello(serverName(NAME, 'evil.example'))],
  ['the same name twice', hello(serverName(NAME, NAME))],
  ['a name of an unknown type', hello(serverName({ type: 1, name: NAME }))],
  ['a name of an unknown type before it', hello(serverName({ type: 1, name: 'x' }, NAME))],
  ['a name of an unknown type behind it', hello(serverName(NAME, { type: 1, name: 'x' }))],
  ['an empty list of names', hello(serverName())],
  ['an empty server_name, as servers send it', raw(SERVER_NAME)],
  ['bytes behind the list of names', raw(SERVER_NAME, serverName(NAME).content, Buffer.of(0))],
  ['an empty ALPN extension', raw(ALPN)],
  ['an empty list of protocols', hello(alpn())],
  ['an empty protocol', hello(alpn('h2', ''))],
  ['bytes behind the list of protocols', raw(ALPN, alpn('h2').content, Buffer.of(0))],
  ['an ALPN list a byte past the longest', hello(alpn('a'.repeat(255), 'b'.repeat(254)))],
  ...BAD_NAMES.map((name) => [`the name ${JSON.stringify(name)}`, hello(serverName(name))] as const),
]

describe('what is no ClientHello', () => {
  it.each(refused)('is refused: %s', (_name, bytes) => {
    for (const sizes of [[1 << 20], [1], [5, 4, 1, 2], [9]])
      expect(outcome(cut(bytes, sizes))).toBe('refused')
    const step = bytes.length > 4096 ? 61 : 1
    for (let at = 0; at < bytes.length; at += step) {
      expect(outcome([bytes.subarray(0, at), bytes.subarray(at)])).toBe('refused')
    }
  })

  it('is refused at the first byte that tells', () => {
    for (const first of [0, 0x15, 0x17, 0x47, 0x80]) expect(outcome([Buffer.of(first)])).toBe('refused')
    expect(outcome([Buffer.of(22, 4)])).toBe('refused')
    expect(outcome([Buffer.of(22, 3, 1, 0, 0)])).toBe('refused')
    expect(outcome([Buffer.of(22, 3, 1, 1, 0, 2)])).toBe('refused')
    expect(outcome([Buffer.of(22, 3, 1, 1, 0, 1, 1, 0, 0)])).toBe('refused')
  })

  it('is said in words of ours alone', () => {
    const read = () => new ClientHelloReader().push(hello(serverName('evil\u001b[2J.example')))
    expect(read).toThrow(
      expect.objectContaining({ message: 'a ClientHello has a server_name that is no host name' }),
    )
  })

  const lying = hello(serverName(NAME), alpn('h2', 'http/1.1'), extension(0x1a1a, 3), extension(45, 2))
  it.each(lengthFields(lying))('is a hello whose length of $what lies', ({ at, size, what }) => {
    const length = lying.readUIntBE(at, size)
    for (const lie of [0, 1, length - 2, length - 1, length + 1, length + 2, 256 ** size - 1]) {
      if (lie < 0 || lie === length || lie >= 256 ** size) continue
      const bytes = Buffer.from(lying)
      bytes.writeUIntBE(lie, at, size)
      const read = outcome([bytes])
      expect(outcome(cut(bytes, [1]))).toEqual(read)
      // A message that is longer than what came is waited for; a record may go on behind the hello.
      const outer = what === 'record' || what === 'message'
      if (!outer) expect([lie, read]).toEqual([lie, 'refused'])
      else if (typeof read !== 'string') expect(read).toEqual(outcome([lying]))
    }
  })
})

describe('a hello that is read', () => {
  it('names hosts as a Host field does, in one spelling', () => {
    const characters = fc.constantFrom(...'abcXYZ0179-_.xX'.split(''))
    fc.assert(
      fc.property(fc.string({ unit: characters, minLength: 1, maxLength: 20 }), (name) => {
        const read = outcome([hello(serverName(name))])
        const host = name.endsWith('.') || isAddress(name) ? undefined : normalizeHost(name)
        if (host === undefined) expect(read).toBe('refused')
        else expect(read).toMatchObject({ serverName: host })
      }),
      { numRuns: 3000 },
    )
  })

  it('is the same at every segmentation and in all records', () => {
    const type = fc.integer({ min: 17, max: 65_535 })
    const extensions = fc.uniqueArray(fc.tuple(type, fc.integer({ min: 0, max: 300 })), {
      selector: ([type]) => type,
      maxLength: 12,
    })
    const names = fc.option(fc.constantFrom(...GOOD_NAMES), { nil: undefined })
    const protocols = fc.array(fc.uint8Array({ minLength: 1, maxLength: 20 }), { maxLength: 6 })
    fc.assert(
      fc.property(extensions, names, protocols, segments, segments, (others, name, offered, cuts, sizes) => {
        const list = others.map(([type, length]) => extension(type, length))
        if (name !== undefined) list.splice(list.length / 2, 0, serverName(name))
        if (offered.length > 0) list.push(alpn(...offered))
        const bytes = records(message(parts(...list)), [...sizes, 16_384])
        expect(outcome(cut(bytes, cuts))).toEqual(
          readsAs({
            name: '',
            bytes,
            serverName: name?.toLowerCase(),
            alpn: offered.map((each) => Buffer.from(each).toString('latin1')),
          }),
        )
      }),
      { numRuns: 500 },
    )
  })

  it('comes of no other bytes: any are refused or waited for', () => {
    const framed = fc
      .tuple(fc.uint8Array({ maxLength: 120 }), segments)
      .map(([body, sizes]) => records(Buffer.concat([Buffer.of(1), vector(3, body)]), sizes))
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 80 }), framed), segments, (bytes, sizes) => {
        const expected = naiveHello(Buffer.from(bytes))
        expect(outcome(cut(bytes, sizes))).toEqual(expected)
        expect(outcome([bytes])).toEqual(expected)
      }),
      { numRuns: 1000 },
    )
  })

  it('carries its ALPN in a PROXY header, the longest list too', () => {
    const longest = outcome([
      hello(serverName(GOOD_NAMES.at(-1) ?? ''), alpn('a'.repeat(255), 'b'.repeat(253))),
    ])
    const { serverName: authority, alpnBytes } = longest as ClientHello
    expect(alpnBytes).toHaveLength(CLIENT_HELLO_ALPN_BYTES)
    const end = { address: '2001:db8::1', port: 443 }
    const tlvs = { alpn: alpnBytes, authority, uniqueId: new Uint8Array(128), service: 's'.repeat(255) }
    const header = encodeProxyHeader({ source: end, destination: end, tlvs })
    expect(new ProxyReader().push(header)?.header).toMatchObject({ alpn: alpnBytes, authority })
  })

  it('offers only a protocol if it stands alone', () => {
    const only = (...protocols: string[]) =>
      isOnlyAlpn(
        outcome([hello(...(protocols.length > 0 ? [alpn(...protocols)] : []))]) as ClientHello,
        'acme-tls/1',
      )
    expect(only('acme-tls/1')).toBe(true)
    expect(only()).toBe(false)
    expect(only('h2')).toBe(false)
    expect(only('acme-tls/1', 'h2')).toBe(false)
    expect(only('acme-tls/1', 'acme-tls/1')).toBe(false)
    expect(only('ACME-TLS/1')).toBe(false)
  })

  it('begins with a byte that tells it from plain HTTP', () => {
    expect(real.every(({ bytes }) => looksLikeTls(bytes[0]))).toBe(true)
    expect(looksLikeTls('G'.charCodeAt(0))).toBe(false)
    expect(looksLikeTls(undefined)).toBe(false)
  })
})

const isAddress = (name: string) =>
  normalizeHost(name) !== undefined && /^[\d.]+$/.test(normalizeHost(name) ?? '')

/** The name that a TLS server of Node's sees in a hello; undefined if it sees none, or refuses the hello before that. */
async function seenByNode(bytes: Uint8Array): Promise<string | undefined> {
  let seen: string | undefined
  const server = createServer({
    SNICallback(name, done) {
      seen = name
      done(new Error('that is all'))
    },
  })
  server.on('tlsClientError', () => {})
  const wire = new Duplex({
    read() {},
    write(_chunk, _encoding, done) {
      done()
    },
  })
  server.emit('connection', wire)
  wire.push(bytes)
  // It reads in the next turn, if the hello is one to it.
  for (let turns = 0; turns < 3; turns += 1) await setImmediate()
  wire.destroy()
  return seen
}

describe('to other readers', () => {
  it.each(real)("the host is the same one: a TLS server of Node's, $name", async ({ bytes, serverName }) => {
    expect((await seenByNode(bytes))?.toLowerCase()).toBe(serverName)
  })

  it("mutated hellos name the same host: a TLS server of Node's", async () => {
    const first = randomInt(2 ** 31)
    let same = 0
    for (let seed = first; seed < first + 1000; seed++) {
      const { bytes } = mutatedHello(seed)
      const read = outcome([bytes])
      if (typeof read === 'string') continue
      const seen = await seenByNode(bytes)
      if (seen === undefined) continue
      expect([seed, seen.toLowerCase()]).toEqual([seed, read.serverName])
      same += 1
    }
    expect(same).toBeGreaterThan(200)
  })

  it(`${CASES} mutated hellos say the same: a second reader`, () => {
    // A failure says its seed: `helloCase(SEED)` is that case again.
    const first = randomInt(2 ** 31)
    const outcomes = { more: 0, refused: 0, read: 0 }
    for (let seed = first; seed < first + CASES; seed++) {
      const read = helloCase(seed)
      outcomes[typeof read === 'string' ? read : 'read'] += 1
    }
    expect(outcomes.read).toBeGreaterThan(CASES / 4)
    expect(outcomes.refused).toBeGreaterThan(CASES / 5)
    expect(outcomes.more).toBeGreaterThan(CASES / 100)
  })
})

describe('an alert', () => {
  /** What a TLS client of Node's makes of an answer. */
  const failure = (answer: Uint8Array, options: ConnectionOptions) =>
    new Promise<string | undefined>((resolve) => {
      const wire = new Duplex({
        read() {},
        write(_chunk, _encoding, done) {
          wire.push(answer)
          wire.push(null)
          done()
        },
      })
      const socket = connect({ ...options, socket: wire, servername: NAME })
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code))
    })

  it.each([
    ['unrecognized_name', 112, 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME'],
    ['decode_error', 50, 'ERR_SSL_TLSV1_ALERT_DECODE_ERROR'],
    ['internal_error', 80, 'ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR'],
  ] as const)('%s is understood by clients of TLS 1.2 and 1.3', async (name, number, code) => {
    expect([...tlsAlert(name)]).toEqual([21, 3, 3, 0, 2, 2, number])
    expect(await failure(tlsAlert(name), { minVersion: 'TLSv1.3' })).toBe(code)
    expect(await failure(tlsAlert(name), { maxVersion: 'TLSv1.2' })).toBe(code)
  })
})
