/**
 * What we accept and pass on, llhttp must see as the same messages with the same bodies. `requestCase` and
 * `responseCase` make one case of a seed and compare; what they throw says the case.
 */
import { METHODS } from 'node:http'
import { Llhttp, type Seen } from './llhttp.ts'
import {
  type Asked,
  bytesOf,
  type Message,
  NOTHING,
  Requests,
  Responses,
  type Text,
  type Transcript,
  textOf,
} from './messages.ts'
import { Chance, mutated, pieces } from './mutations.ts'
import passedRequests from './passed-requests.vectors.json' with { type: 'json' }
import refusedRequests from './refused-requests.vectors.json' with { type: 'json' }

const HOST = 'Host: a.example\r\n'

/** As clients send them: what most cases are made of, so that there is something behind a trick to be smuggled. */
const GOOD_REQUESTS = [
  `GET / HTTP/1.1\r\n${HOST}\r\n`,
  `GET /a?b HTTP/1.1\r\n${HOST}User-Agent: x\r\nAccept: */*\r\n\r\n`,
  `GET http://a.example/x HTTP/1.1\r\n${HOST}\r\n`,
  `GET /old HTTP/1.0\r\n${HOST}Connection: keep-alive\r\n\r\n`,
  `HEAD / HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`,
  `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`,
  `POST /p HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nhello`,
  `POST /p HTTP/1.1\r\n${HOST}Content-Length: 10\r\nExpect: 100-continue\r\n\r\nGET / HTTP`,
  `PUT /q HTTP/1.1\r\n${HOST}Content-Length: 0\r\n\r\n`,
  `POST /c HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
  `POST /c HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n5;a="b"\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-A: b\r\n\r\n`,
  `POST /c HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n${HOST}Trailer: X-A\r\n\r\n03\r\nabc\r\n00\r\nContent-Length: 5\r\nHost: b\r\nX-B: c\r\n\r\n`,
  `GET /ws HTTP/1.1\r\n${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
  `PATCH /d HTTP/1.1\r\n${HOST}Connection: close, X-A\r\nX-A: b\r\nContent-Length: 3\r\n\r\nabc`,
]

const TRICKY_REQUESTS = [
  ...passedRequests.passed.map((each) => each.bytes),
  ...(refusedRequests.refused as { bytes: Text }[])
    .map((each) => textOf(each.bytes))
    .filter((text) => text.length < 1000),
]

const requestReader = new Llhttp('requests')
const responseReader = new Llhttp('responses')
const known = new Set(METHODS)

/** What must not reach a target: of another connection, or said by a visitor of itself. Some come back with an upgrade. */
const HOP = new Set(['keep-alive', 'proxy-connection', 'te', 'proxy-authorization', 'http2-settings'])
const FORWARDING = /^(?:forwarded|x-real-ip|x-forwarded-.*)$/
const FRAMING = /^(?:host|content-length|transfer-encoding|connection)$/

/** Of one case: how many messages were accepted. */
export function requestCase(seed: number): number {
  const chance = new Chance(seed)
  let text = ''
  for (let left = 1 + chance.below(3); left > 0; left--)
    text += chance.below(3) > 0 ? chance.of(GOOD_REQUESTS) : chance.of(TRICKY_REQUESTS)
  text = mutated(text, chance)
  const requests = new Requests(NOTHING)
  for (const piece of pieces(bytesOf(text), chance)) requests.push(piece)
  const { messages } = requests
  let written = ''
  for (const message of messages)
    written += withKnownMethod(message.head.method, message.written) + message.body
  const error = requestReader.read(bytesOf(written), false)
  const wrong = error ?? differs(messages, requestReader.seen, sameRequest)
  if (wrong !== undefined) throw failed(wrong, seed, text, written)
  return messages.length
}

/** llhttp knows no methods but those of its list; to be compared, another one becomes one of them. */
function withKnownMethod(method: string, written: string): string {
  return known.has(method) ? written : `PUT${written.slice(method.length)}`
}

function sameRequest({ head }: Requests['messages'][number], seen: Seen): string | undefined {
  if (seen.method !== (known.has(head.method) ? head.method : 'PUT')) return 'another method'
  if (seen.target !== head.target) return 'another target'
  if (seen.upgrade !== (head.upgrade !== undefined)) return 'an upgrade to one of them'
  let hosts = 0
  for (let at = 0; at < seen.fields.length; at += 2) {
    const name = (seen.fields[at] as string).toLowerCase()
    if (name === 'host') {
      hosts++
      if (seen.fields[at + 1] !== head.hostText) return 'another host'
    }
    if (HOP.has(name) || FORWARDING.test(name.replaceAll('_', '-'))) return `${name} was passed on`
    if (head.upgrade === undefined && (name === 'connection' || name === 'upgrade'))
      return `${name} was passed on`
  }
  return hosts === 1 ? undefined : `${hosts} hosts`
}

const GOOD_RESPONSES = [
  'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n05;x\r\nhello\r\nB\r\n01234567890\r\n0\r\nX-A: b\r\nContent-Length: 1\r\n\r\n',
  'HTTP/1.1 200\r\nContent-Length: 0\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n',
  'HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n',
  'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: "x"\r\n\r\n',
  'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na',
  'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno',
  'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  'HTTP/1.0 200 OK\r\n\r\nuntil the end',
  'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok',
  'HTTP/1.1 200 \xc4\r\nConnection: close\r\n\r\nuntil the end',
  'HTTP/1.1 301 Moved\r\nLocation: /\r\nConnection: close\r\nContent-Length: 0\r\n\r\n',
  'HTTP/1.1 500 Oops\r\nConnection: keep-alive, X-A\r\nKeep-Alive: timeout=5\r\nX-A: b\r\nContent-Length: 3\r\n\r\nabc',
]

const ASKED: readonly Asked[] = [
  { method: 'GET', upgrade: undefined },
  { method: 'GET', upgrade: undefined },
  { method: 'GET', upgrade: 'websocket' },
  { method: 'HEAD', upgrade: undefined },
]

export function responseCase(seed: number): number {
  const chance = new Chance(seed)
  const asked: Asked[] = []
  let text = ''
  for (let left = 1 + chance.below(3); left > 0; left--) {
    asked.push(chance.of(ASKED))
    text += chance.of(GOOD_RESPONSES)
  }
  text = mutated(text, chance)
  const responses = new Responses(asked, { close: chance.below(4) === 0 })
  for (const piece of pieces(bytesOf(text), chance)) responses.push(piece)
  const cut = responses.fault !== undefined
  if (!cut) responses.end()
  const { messages } = responses
  let written = ''
  for (const message of messages) written += message.written + message.body
  const finals = messages.map(
    (_, index) => messages.slice(0, index).filter(({ head }) => !head.interim).length,
  )
  responseReader.bodiless = (index) => asked[finals[index] ?? 0]?.method === 'HEAD'
  // A body that was cut short ends with a reset, not with an end that would be taken for its own.
  const error = responseReader.read(bytesOf(written), messages.at(-1)?.whole === true)
  const wrong = error ?? differs(messages, responseReader.seen, sameResponse)
  if (wrong !== undefined) throw failed(wrong, seed, text, written)
  return messages.length
}

function sameResponse({ head }: Responses['messages'][number], seen: Seen): string | undefined {
  if (seen.status !== head.status) return 'another status'
  return seen.upgrade === (head.upgrade !== undefined) ? undefined : 'an upgrade to one of them'
}

function differs<Head>(
  ours: Transcript<Head>['messages'],
  seen: readonly Seen[],
  sameHead: (message: Message<Head>, seen: Seen) => string | undefined,
): string | undefined {
  if (seen.length !== ours.length) return `${seen.length} messages instead of ${ours.length}`
  for (const [index, message] of ours.entries()) {
    const other = seen[index] as Seen
    const wrong = sameHead(message, other)
    if (wrong !== undefined) return wrong
    // Of a body that was cut short by a fault, less may have been passed on than was found good.
    const same = message.whole ? other.body === message.content : message.content.startsWith(other.body)
    if (!same) return 'another body'
    if (other.whole !== message.whole) return 'whole to one of them'
    for (let at = 0; at < other.trailers.length; at += 2) {
      const name = (other.trailers[at] as string).toLowerCase()
      if (FRAMING.test(name) || FORWARDING.test(name.replaceAll('_', '-'))) return `${name} behind the body`
    }
  }
  return undefined
}

function failed(wrong: string, seed: number, text: string, written: string): Error {
  return new Error(
    `${wrong}, seed ${seed}\n  case ${JSON.stringify(text)}\n  passed on ${JSON.stringify(written)}`,
  )
}
