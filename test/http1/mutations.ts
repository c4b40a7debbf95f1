/** Chance that can be had again: numbers from a seed (mulberry32). */
export class Chance {
  #state: number

  constructor(seed: number) {
    // All of a large seed counts.
    this.#state = Math.imul(Math.floor(seed / 2 ** 32), 0x9e3779b1) ^ (seed | 0)
  }

  /** From 0 to `bound` - 1. */
  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296) * bound)
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T
  }
}

/** Bytes that readers are known to disagree about. */
const TRICKS = [
  '\r',
  '\n',
  '\r\n',
  '\0',
  '\t',
  ' ',
  '  ',
  ':',
  ': ',
  ',',
  ', ',
  ';',
  ';a=b',
  '"',
  '\\',
  '\x0b',
  '\x0c',
  '\x7f',
  '\x85',
  '\xa0',
  '\xff',
  '_',
  '-',
  '+',
  '0',
  '1',
  'a',
  '0x',
  '#',
  '?',
  '/',
  '//',
  '%2f',
  '%00',
  '*',
  '@',
  '[',
  '\r\n ',
  '\r\n\t',
  '\r\n\r\n',
  '\n\n',
  '0\r\n\r\n',
  '1\r\na\r\n',
  'GET / HTTP/1.1\r\nHost: a\r\n\r\n',
  'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
]

const LINES = [
  'Transfer-Encoding: chunked',
  'transfer-encoding: CHUNKED',
  'Transfer-Encoding: gzip, chunked',
  'Transfer-Encoding: identity',
  'Transfer-Encoding:\tchunked ',
  'Transfer_Encoding: chunked',
  'Transfer-Encoding : chunked',
  'Content-Length: 0',
  'Content-Length: 5',
  'Content-Length: 3 ',
  'Content-Length:\t4',
  'Content-Length: 007',
  'Content-Length:',
  'content_length: 5',
  'Content-Length: +5',
  'Host: b.example',
  'host: a.example',
  'Connection: close',
  'Connection: keep-alive',
  'Connection: Keep-Alive, X-A',
  'Connection: upgrade',
  'Connection: content-length',
  'Connection: transfer-encoding',
  'Upgrade: websocket',
  'Upgrade: h2c',
  'Expect: 100-continue',
  'X-A: b',
  'X-Forwarded-For: 1.2.3.4',
  'x_real_ip: 1.2.3.4',
  'TE: trailers',
  'Trailer: X-A',
  'Keep-Alive: timeout=5',
  'X-Request-Id: 7',
  'X: \xe4\xff',
  'Y:',
  'Z: \t ',
  'Proxy-Connection: keep-alive',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZQ==',
  ' folded',
  '',
]

/** Makes a few changes to messages that are near the borders of the grammar. */
export function mutated(text: string, chance: Chance): string {
  let made = text
  for (let left = chance.below(5); left > 0; left--)
    made = mutations[chance.below(mutations.length)]?.(made, chance) ?? made
  return made
}

type Mutation = (text: string, chance: Chance) => string

function splice(text: string, at: number, removed: number, put: string): string {
  return text.slice(0, at) + put + text.slice(at + removed)
}

/** Where a line begins, at random. */
function lineAt(text: string, chance: Chance): number {
  return text.indexOf('\r\n', chance.below(text.length + 1)) + 2
}

/** Where one of these stands, at random; -1 if none is behind a random place. */
function find(text: string, pattern: RegExp, chance: Chance): number {
  pattern.lastIndex = chance.below(text.length + 1)
  return pattern.exec(text)?.index ?? -1
}

const mutations: readonly Mutation[] = [
  (text, chance) => splice(text, chance.below(text.length + 1), 0, chance.of(TRICKS)),
  (text, chance) => splice(text, chance.below(text.length + 1), 1, chance.of(TRICKS)),
  (text, chance) => splice(text, chance.below(text.length + 1), 1 + chance.below(3), ''),
  (text, chance) => splice(text, chance.below(text.length + 1), 1, String.fromCharCode(chance.below(256))),
  // A whole field more: what most tricks are made of.
  (text, chance) => splice(text, lineAt(text, chance), 0, `${chance.of(LINES)}\r\n`),
  (text, chance) => splice(text, lineAt(text, chance), 0, `${chance.of(LINES)}\r\n`),
  // A line again, elsewhere.
  (text, chance) => {
    const from = lineAt(text, chance)
    const end = text.indexOf('\r\n', from)
    return end < 0 ? text : splice(text, lineAt(text, chance), 0, text.slice(from, end + 2))
  },
  // A line less.
  (text, chance) => {
    const from = lineAt(text, chance)
    const end = text.indexOf('\r\n', from)
    return end < 0 ? text : splice(text, from, end + 2 - from, '')
  },
  // Another end of a line.
  (text, chance) => {
    const at = find(text, /\r\n/g, chance)
    return at < 0
      ? text
      : splice(text, at, 2, chance.of(['\n', '\r', '\r\r\n', '\n\r', ' \r\n', '\t\r\n', '\r\n\r\n']))
  },
  // Another separator.
  (text, chance) => {
    const at = find(text, /[ :,;]/g, chance)
    return at < 0 ? text : splice(text, at, 1, chance.of([' ', '\t', ':', ',', ';', '  ', ' :', '']))
  },
  // Another number.
  (text, chance) => {
    const at = find(text, /\d/g, chance)
    return at < 0 ? text : splice(text, at, 1, chance.of(['0', '1', '5', '9', 'a', 'F', '05', '10', '-1']))
  },
  // Another case.
  (text, chance) => {
    const at = find(text, /[a-z]/gi, chance)
    return at < 0 ? text : splice(text, at, 1, String.fromCharCode(text.charCodeAt(at) ^ 0x20))
  },
  // A piece of it again.
  (text, chance) => {
    const from = chance.below(text.length + 1)
    return splice(text, chance.below(text.length + 1), 0, text.slice(from, from + chance.below(40)))
  },
  // An end before its time.
  (text, chance) => (chance.below(3) === 0 ? text.slice(0, chance.below(text.length + 1)) : text),
]

/** Bytes in pieces: mostly whole, else cut at a few places. */
export function pieces(bytes: Uint8Array, chance: Chance): Uint8Array[] {
  if (chance.below(3) > 0) return [bytes]
  const cuts = Array.from({ length: 1 + chance.below(3) }, () => chance.below(bytes.length + 1)).sort(
    (a, b) => a - b,
  )
  return [0, ...cuts].map((from, index) => bytes.subarray(from, cuts[index] ?? bytes.length))
}
