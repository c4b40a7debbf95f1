/**
 * Mutated hellos, each made from a seed: what the reader says of one, at any segmentation, is what a second
 * reader says of it. `helloCase(seed)` throws with the seed where they differ.
 */
import { isDeepStrictEqual } from 'node:util'
import { TunnelError } from '../../src/errors.ts'
import { ClientHelloReader } from '../../src/protocol/index.ts'
import { Chance, pieces } from '../http1/mutations.ts'
import vectors from './client-hello.vectors.json' with { type: 'json' }
import {
  ALPN,
  alpn,
  type Extension,
  extension,
  message,
  messageIn,
  type Parts,
  partsOf,
  records,
  SERVER_NAME,
  serverName,
} from './hellos.ts'
import { naiveHello, type Outcome } from './naive-hello.ts'

/** Feeds chunk by chunk until there is a hello. Anything thrown but a fault of the visitor comes through. */
export function outcome(chunks: Iterable<Uint8Array>): Outcome {
  const reader = new ClientHelloReader()
  try {
    for (const chunk of chunks) {
      const hello = reader.push(chunk)
      if (hello !== undefined) return hello
    }
    return 'more'
  } catch (error) {
    const fault = error instanceof TunnelError && error.code === 'bad_message'
    if (!fault || error.scope !== 'visitor' || !error.remote) throw error
    return 'refused'
  }
}

const GOOD: readonly Parts[] = vectors.captured.map(({ hex }) => partsOf(messageIn(Buffer.from(hex, 'hex'))))

/** Names that are none, or that two readers could take for two things. */
export const BAD_NAMES = [
  '',
  '.',
  'app.example.com.',
  '.app.example.com',
  'app..example.com',
  'app\0.example.com',
  'app.example.com\0',
  'app.example.com\0.evil.example',
  'app example.com',
  'app.example.com:443',
  'app.example.com/',
  '*.example.com',
  'b\xfccher.example',
  '192.0.2.1',
  '127.1',
  '1',
  '0x7f.1',
  '0x',
  '1.2.3.0x1f',
  '::1',
  '2001:db8::1',
  '[2001:db8::1]',
  `${'a'.repeat(64)}.example`,
  `app.${'a'.repeat(64)}`,
  `${'a.'.repeat(126)}ab`,
  'a'.repeat(300),
  `${'a'.repeat(59)}.`.repeat(5),
]
export const GOOD_NAMES = [
  'app.example.com',
  'APP.Example.COM',
  'localhost',
  'a',
  '_acme-challenge.under_score.example',
  'xn--bcher-kva.example',
  '-a-.b',
  '1.2.3.4.example',
  '0x7f.0x1g',
  '3com',
  'a.1b',
  `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`,
]

type Change = (hello: Parts, chance: Chance) => Parts

const withExtensions = (change: (list: Extension[], chance: Chance) => void): Change => {
  return (hello, chance) => {
    const list = [...(hello.extensions ?? [])]
    change(list, chance)
    return { ...hello, extensions: list }
  }
}

/** In the place of the one of its type, or somewhere. */
function put(list: Extension[], made: Extension, chance: Chance): void {
  const at = list.findIndex(({ type }) => type === made.type)
  if (at >= 0) list[at] = made
  else list.splice(chance.below(list.length + 1), 0, made)
}

/** What changes the parts: the lengths around them are right again. */
const CHANGES: readonly Change[] = [
  withExtensions((list, chance) => put(list, serverName(chance.of(GOOD_NAMES)), chance)),
  withExtensions((list, chance) => put(list, serverName(chance.of(BAD_NAMES)), chance)),
  withExtensions((list, chance) => put(list, serverName(chance.of(GOOD_NAMES), 'evil.example'), chance)),
  withExtensions((list, chance) => put(list, serverName({ type: 1, name: 'x' }, 'evil.example'), chance)),
  withExtensions((list, chance) => put(list, serverName('a.example', { type: 1, name: 'x' }), chance)),
  withExtensions((list, chance) => put(list, alpn(chance.of(['h2', 'acme-tls/1', 'x'.repeat(255)])), chance)),
  withExtensions((list, chance) => put(list, alpn('h2', chance.of(['', 'http/1.1', '\0\xff'])), chance)),
  withExtensions((list, chance) => put(list, { type: ALPN, content: Buffer.alloc(chance.below(4)) }, chance)),
  withExtensions((list, chance) =>
    put(list, { type: SERVER_NAME, content: Buffer.alloc(chance.below(7)) }, chance),
  ),
  // One again, elsewhere; one less; two that change places.
  withExtensions((list, chance) => {
    const again = list[chance.below(list.length + 1)] ?? serverName('evil.example')
    list.splice(chance.below(list.length + 1), 0, again)
  }),
  withExtensions((list, chance) => void list.splice(chance.below(list.length + 1), 1)),
  withExtensions((list, chance) => {
    const from = chance.below(list.length + 1)
    const [moved] = list.splice(from, 1)
    if (moved !== undefined) list.splice(chance.below(list.length + 1), 0, moved)
  }),
  withExtensions((list, chance) =>
    put(list, extension(0xff00 + chance.below(8), chance.below(chance.of([8, 2000, 16_000]))), chance),
  ),
  (hello) => ({ ...hello, extensions: undefined }),
  (hello, chance) => ({ ...hello, sessionId: Buffer.alloc(chance.of([0, 32, 33])) }),
  (hello, chance) => ({ ...hello, ciphers: Buffer.alloc(chance.of([0, 1, 2, 3, 300])) }),
  (hello, chance) => ({ ...hello, compressions: Buffer.alloc(chance.below(3)) }),
]

type ByteChange = (bytes: Buffer, chance: Chance) => Buffer

function splice(bytes: Buffer, at: number, removed: number, put: Uint8Array): Buffer {
  return Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(at + removed)])
}

/** Mostly among the lengths at the beginning. */
const place = (bytes: Buffer, chance: Chance) =>
  chance.below(chance.below(2) === 0 ? Math.min(bytes.length, 150) : bytes.length)

/** What changes bytes and minds no length. */
const BYTE_CHANGES: readonly ByteChange[] = [
  (bytes, chance) => splice(bytes, place(bytes, chance), 1, Buffer.of(chance.below(256))),
  (bytes, chance) => splice(bytes, place(bytes, chance), 1, Buffer.of(chance.of([0, 1, 3, 16, 22, 0xff]))),
  (bytes, chance) => {
    const at = place(bytes, chance)
    return splice(bytes, at, 1, Buffer.of(((bytes[at] ?? 0) + chance.of([1, -1, 2, -2])) & 0xff))
  },
  (bytes, chance) => splice(bytes, place(bytes, chance), chance.below(4), Buffer.alloc(chance.below(4))),
  (bytes, chance) => bytes.subarray(0, chance.below(bytes.length + 1)),
]

const BEHIND = [
  Buffer.of(22, 3, 3, 0, 4, 1, 0, 0, 0),
  Buffer.of(20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 1, 0),
  Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  Buffer.of(0),
]

/** A case of its own for each seed. */
export function mutatedHello(seed: number): { bytes: Buffer; chunks: Uint8Array[] } {
  const chance = new Chance(seed)
  let hello = chance.of(GOOD)
  for (let left = chance.below(3); left > 0; left--) hello = chance.of(CHANGES)(hello, chance)
  let content = message(hello, chance.below(20) === 0 ? chance.of(BEHIND) : undefined)
  if (chance.below(4) === 0) content = chance.of(BYTE_CHANGES)(content, chance)
  if (chance.below(8) === 0) content = Buffer.concat([content, chance.of(BEHIND)])
  let bytes = records(content, recordSizes(content, chance))
  if (chance.below(8) === 0) bytes = Buffer.concat([bytes, chance.of(BEHIND)])
  if (chance.below(6) === 0) bytes = chance.of(BYTE_CHANGES)(bytes, chance)
  return { bytes, chunks: pieces(bytes, chance) }
}

function recordSizes(content: Buffer, chance: Chance): number[] {
  if (chance.below(3) > 0) return [16_384]
  // Single bytes are dear: mostly for the first few.
  if (chance.below(100) === 0) return [1]
  return [1 + chance.below(5), 1 + chance.below(5), 1 + chance.below(content.length), 16_384]
}

/** Compares, and says what came of it. */
export function helloCase(seed: number): Outcome {
  const { bytes, chunks } = mutatedHello(seed)
  let ours: Outcome | Error
  try {
    ours = outcome(chunks)
  } catch (error) {
    ours = error as Error
  }
  const theirs = naiveHello(bytes)
  if (ours instanceof Error || !isDeepStrictEqual(ours, theirs)) {
    const said = ours instanceof Error ? String(ours.stack) : JSON.stringify(ours)
    throw new Error(`seed ${seed}: ${said} instead of ${JSON.stringify(theirs)}\n  ${bytes.toString('hex')}`)
  }
  return ours
}
