import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Talk } from './http.ts'
import { asNodeSees, Echo, NAIVE, type Seen, told } from './naive.ts'
import { type Gateway, heard, World } from './world.ts'

/**
 * What visitors are known to have smuggled past proxies, against the running gateway, with targets that read requests in
 * the ways in which it worked. One gateway and one client serve all of it, so that streams are reused: after each
 * attack somebody else asks, and must get the answer to what they asked.
 */

/** Stands for the host of the target, and is as long, for lengths are said in some of what follows. */
const HOST = 'tX.example.com'
const SMUGGLED = `GET /smuggled HTTP/1.1\r\nHost: ${HOST}\r\nX-Token: smuggled\r\n\r\n`

interface Attack {
  name: string
  send: string
  /** Of the answers that the visitor gets. By default one 400. */
  statuses?: number[]
  /** What Node's parser finds in what the target got. */
  seen?: Seen[]
  methods?: string[]
}

/** A request with a Host; the body follows the empty line. */
function request(line: string, fields: readonly string[] = [], body = ''): string {
  return `${[line, `Host: ${HOST}`, 'X-Token: attack', ...fields].join('\r\n')}\r\n\r\n${body}`
}

const post = (fields: readonly string[], body = ''): string => request('POST /attack HTTP/1.1', fields, body)
const chunked = (body: string): string => post(['Transfer-Encoding: chunked'], body)
const fielded = (field: string): string => request('GET /attack HTTP/1.1', [field])

/** Refused as no proper request, each of them; not a byte of them reaches a target. */
function refused(kind: string, all: Record<string, string>, status = 400): Attack[] {
  return Object.entries(all).map(([name, send]) => ({ name: `${kind}: ${name}`, send, statuses: [status] }))
}

const LENGTH_AND_CHUNKS = refused('both length and chunks', {
  'CL.TE': post(['Content-Length: 6', 'Transfer-Encoding: chunked'], '0\r\n\r\nG'),
  'CL.TE with a request inside': post(
    [`Content-Length: ${SMUGGLED.length + 5}`, 'Transfer-Encoding: chunked'],
    `0\r\n\r\n${SMUGGLED}`,
  ),
  'TE.CL': post(['Transfer-Encoding: chunked', 'Content-Length: 4'], `5c\r\n${SMUGGLED}\r\n0\r\n\r\n`),
  'TE.0': post(['Transfer-Encoding: chunked', 'Content-Length: 0'], `0\r\n\r\n${SMUGGLED}`),
  'a length that chunks contradict, in a GET': request(
    'GET /attack HTTP/1.1',
    ['Content-Length: 5', 'Transfer-Encoding: chunked'],
    '0\r\n\r\n',
  ),
})

const CHUNKED_BODY = `0\r\n\r\n${SMUGGLED}`
const LENGTH = `Content-Length: ${CHUNKED_BODY.length}`

/** TE.TE: two readers of whom one does not take it for chunked. */
const CODINGS = refused(
  'coding',
  Object.fromEntries(
    [
      'Transfer-Encoding: xchunked',
      'Transfer-Encoding: chunkedx',
      'Transfer-Encoding: x',
      'Transfer-Encoding: "chunked"',
      "Transfer-Encoding: 'chunked'",
      'Transfer-Encoding: chunked, identity',
      'Transfer-Encoding: identity',
      'Transfer-Encoding: chunked, chunked',
      'Transfer-Encoding: chunked,',
      'Transfer-Encoding: chunked;q=1',
      'Transfer-Encoding: chunk ed',
      'Transfer-Encoding:',
      'Transfer-Encoding: chunked\r\nTransfer-Encoding: x',
      'Transfer-Encoding: x\r\nTransfer-Encoding: chunked',
      'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked',
      'Transfer-Encoding: chunked\r\nTransfer-encoding: identity',
      'Transfer-Encoding : chunked',
      'Transfer-Encoding\t: chunked',
      ' Transfer-Encoding: chunked',
      '\tTransfer-Encoding: chunked',
      'Transfer-Encoding:\r\n chunked',
      'Transfer-Encoding:\r\n\tchunked',
      'X: x\r\n Transfer-Encoding: chunked',
      'X: x\nTransfer-Encoding: chunked',
      'X: x\rTransfer-Encoding: chunked',
      'X: x\0Transfer-Encoding: chunked',
      'Transfer-Encoding\n: chunked',
      'Transfer-Encoding\r: chunked',
      'Transfer-Encoding: \x0bchunked',
      'Transfer-Encoding: \x0cchunked',
      'Transfer-Encoding: chunked\x0b',
      'Transfer-Encoding: chunked\0',
      'Transfer-Encoding: chunked\n',
      'Transfer-Encoding: chunked\r',
      'Transfer-Encoding:\xa0chunked',
      'Transfer-Encoding: chunked\x85',
      'Transfer-Encoding\0: chunked',
      'Transfer_Encoding: chunked',
      'transfer-encoding_: chunked\r\nTransfer-Encoding: x',
      'Transfer-Encoding[]: chunked',
      '"Transfer-Encoding": chunked',
      'Transfer-Encoding; chunked',
    ].map((field) => [JSON.stringify(field), post([LENGTH, field], CHUNKED_BODY)]),
  ),
)

const LENGTHS = refused(
  'length',
  Object.fromEntries(
    [
      'Content-Length: +4',
      'Content-Length: -4',
      'Content-Length: 0x4',
      'Content-Length: 4 4',
      'Content-Length: 4, 4',
      'Content-Length: 4,4',
      'Content-Length: 4;',
      'Content-Length: 4.0',
      'Content-Length: 4e0',
      'Content-Length: 4_0',
      'Content-Length: \x0b4',
      'Content-Length: 4\x0b',
      'Content-Length: \xb2',
      'Content-Length:',
      'Content-Length: "4"',
      'Content-Length: 99999999999999999999',
      'Content-Length: 18446744073709551620',
      'Content-Length: 4\r\nContent-Length: 4',
      'Content-Length: 4\r\nContent-Length: 0',
      'Content-Length: 0\r\nContent-length: 4',
      'Content-Length : 4',
      'Content-Length\t: 4',
      ' Content-Length: 4',
      'Content-Length:\r\n 4',
      'X: x\nContent-Length: 4',
      'X: x\rContent-Length: 4',
      'Content_Length: 4',
      'content_length: 4\r\nContent-Length: 0',
      'Content-Length\0: 4',
    ].map((field) => [JSON.stringify(field), post([field], `GET ${SMUGGLED}`)]),
  ),
)

const CHUNKS = refused('chunk', {
  'a LF alone behind the size': chunked('5\nhello\r\n0\r\n\r\n'),
  'a CR alone behind the size': chunked('5\rhello\r\n0\r\n\r\n'),
  'two CRs behind the size': chunked('5\r\r\nhello\r\n0\r\n\r\n'),
  'a size with a sign': chunked('+5\r\nhello\r\n0\r\n\r\n'),
  'a negative size': chunked('-5\r\nhello\r\n0\r\n\r\n'),
  'a size with 0x': chunked('0x5\r\nhello\r\n0\r\n\r\n'),
  'a size with an underscore': chunked('5_0\r\nhello\r\n0\r\n\r\n'),
  'a size behind a space': chunked(' 5\r\nhello\r\n0\r\n\r\n'),
  'a size before a space': chunked('5 \r\nhello\r\n0\r\n\r\n'),
  'a size before a tab': chunked('5\t\r\nhello\r\n0\r\n\r\n'),
  'no size': chunked('\r\nhello\r\n0\r\n\r\n'),
  'a size that overflows 64 bits': chunked('10000000000000005\r\nhello\r\n0\r\n\r\n'),
  'a size that overflows 53 bits': chunked('20000000000005\r\nhello\r\n0\r\n\r\n'),
  'no CRLF behind the data': chunked('5\r\nhello0\r\n\r\n'),
  'two bytes of anything behind the data': chunked('5\r\nhelloXX0\r\n\r\n'),
  'a LF alone behind the data': chunked('5\r\nhello\n0\r\n\r\n'),
  'a LF in an extension (TERM.EXT)': chunked('2;\nxx\r\n4c\r\n0\r\n\r\n'),
  'a CR in an extension': chunked(`2;\rxx\r\n0\r\n\r\n${SMUGGLED}`),
  'a NUL in an extension': chunked('5;\0\r\nhello\r\n0\r\n\r\n'),
  'an extension without end': chunked(`5;${'x'.repeat(10_000)}\r\nhello\r\n0\r\n\r\n`),
  'data that is longer than its size (SPILL)': chunked(`5\r\nhello world\r\n0\r\n\r\n${SMUGGLED}`),
  'a LF alone behind the last chunk': chunked(`0\n\r\n${SMUGGLED}`),
  'a LF alone at the end': chunked(`0\r\n\n${SMUGGLED}`),
  'a CR alone at the end': chunked(`0\r\n\r${SMUGGLED}`),
  'a folded trailer': chunked('0\r\nX: x\r\n y\r\n\r\n'),
  'a trailer with a LF alone': chunked('0\r\nX: x\nY: y\r\n\r\n'),
  'a trailer with a NUL': chunked('0\r\nX: \0\r\n\r\n'),
  'a request as a trailer': chunked(`0\r\n${SMUGGLED}`),
})

const HOSTS = refused('host', {
  none: 'GET /attack HTTP/1.1\r\n\r\n',
  'none in HTTP/1.0': 'GET /attack HTTP/1.0\r\n\r\n',
  empty: 'GET /attack HTTP/1.1\r\nHost:\r\n\r\n',
  'two that are the same': `GET /attack HTTP/1.1\r\nHost: ${HOST}\r\nHost: ${HOST}\r\n\r\n`,
  'two that differ': `GET /attack HTTP/1.1\r\nHost: ${HOST}\r\nHost: evil.example\r\n\r\n`,
  'a second one that is folded': `GET /attack HTTP/1.1\r\nHost: ${HOST}\r\nX: x\r\n Host: evil.example\r\n\r\n`,
  'a list': `GET /attack HTTP/1.1\r\nHost: ${HOST}, evil.example\r\n\r\n`,
  'with a user': `GET /attack HTTP/1.1\r\nHost: evil@${HOST}\r\n\r\n`,
  'with a path': `GET /attack HTTP/1.1\r\nHost: ${HOST}/evil\r\n\r\n`,
  'with a port that is none': `GET /attack HTTP/1.1\r\nHost: ${HOST}:80@evil.example\r\n\r\n`,
  'with a port that is too large': `GET /attack HTTP/1.1\r\nHost: ${HOST}:65536\r\n\r\n`,
  'with a tab in it': `GET /attack HTTP/1.1\r\nHost: ${HOST}\tevil.example\r\n\r\n`,
  'with a NUL': `GET /attack HTTP/1.1\r\nHost: ${HOST}\0.evil.example\r\n\r\n`,
  'with a space before the colon': `GET /attack HTTP/1.1\r\nHost : ${HOST}\r\n\r\n`,
  'another one in the URL': request('GET http://evil.example/attack HTTP/1.1'),
  'another port in the URL': request(`GET http://${HOST}:81/attack HTTP/1.1`),
  'a user in the URL': request(`GET http://evil.example@${HOST}/attack HTTP/1.1`),
  'the URL of another scheme': request(`GET gopher://${HOST}/attack HTTP/1.1`),
})

const LINES = refused('line', {
  'two spaces before the target': request('GET  /attack HTTP/1.1'),
  'two spaces before the version': request('GET /attack  HTTP/1.1'),
  'a space behind the version': request('GET /attack HTTP/1.1 '),
  'a space in the target': request('GET /attack /other HTTP/1.1'),
  'a tab instead of a space': request('GET\t/attack HTTP/1.1'),
  'a space before the method': request(' GET /attack HTTP/1.1'),
  'no version': request('GET /attack'),
  'no target': request('GET HTTP/1.1'),
  'a version in lower case': request('GET /attack http/1.1'),
  'a version that goes on': request('GET /attack HTTP/1.1x'),
  'a version of two digits': request('GET /attack HTTP/1.10'),
  'a fragment': request('GET /attack#x HTTP/1.1'),
  'a control character in the target': request('GET /attack\x01 HTTP/1.1'),
  'a NUL in the target': request('GET /attack\0 HTTP/1.1'),
  'a byte over 0x7f in the target': request('GET /att\xe4ck HTTP/1.1'),
  'a CR in the target': request('GET /attack\rX HTTP/1.1'),
  'a LF alone at its end': `GET /attack HTTP/1.1\nHost: ${HOST}\r\n\r\n`,
  'LFs alone everywhere': `GET /attack HTTP/1.1\nHost: ${HOST}\n\n`,
  'a CR alone at its end': `GET /attack HTTP/1.1\rHost: ${HOST}\r\n\r\n`,
  'a folded line behind it': `GET /attack HTTP/1.1\r\n X: x\r\nHost: ${HOST}\r\n\r\n`,
  'a method with a NUL': request('GE\0T /attack HTTP/1.1'),
  'a method with a colon': request('GET: /attack HTTP/1.1'),
  'the target * of a GET': request('GET * HTTP/1.1'),
  'a target without a slash': request('GET attack HTTP/1.1'),
  'a LF alone before it': `\n${fielded('X: x')}`,
  'a TLS hello': '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n',
})

const FIELDS = refused('field', {
  'a LF alone at its end': fielded('X: x\nY: y'),
  'a CR alone in it': fielded('X: x\rY: y'),
  'a NUL in it': fielded('X: x\0y'),
  'a control character in it': fielded('X: x\x1by'),
  folded: fielded('X: x\r\n y'),
  'folded with a tab': fielded('X: x\r\n\ty'),
  'without a colon': fielded('X'),
  'without a name': fielded(': x'),
  'with a space in its name': fielded('X Y: x'),
  'with a parenthesis in its name': fielded('X(: x'),
  'with a byte over 0x7f in its name': fielded('X\xe4: x'),
  'Connection that names the length': post(['Connection: content-length', 'Content-Length: 4'], 'body'),
  'Connection that names the coding': post(
    ['Connection: close, transfer-encoding', 'Transfer-Encoding: chunked'],
    '0\r\n\r\n',
  ),
  'Connection that names Host': fielded('Connection: Host'),
  'Connection that names the length otherwise': fielded('Connection: Content_Length'),
  'Connection that names Cookie': fielded('Connection: cookie'),
  'Connection that names Authorization': fielded('Connection: Authorization'),
  'Connection that names who asks': fielded('Connection: X-Forwarded-For'),
  'an upgrade with a body': post(
    ['Connection: upgrade', 'Upgrade: websocket', `Content-Length: ${SMUGGLED.length}`],
    SMUGGLED,
  ),
  'an upgrade with chunks': post(
    ['Connection: upgrade', 'Upgrade: websocket', 'Transfer-Encoding: chunked'],
    `0\r\n\r\n${SMUGGLED}`,
  ),
  'two upgrades': fielded('Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: other'),
})

const NAMED: Attack[] = [
  ...refused('coding', { 'gzip, chunked': post(['Transfer-Encoding: gzip, chunked'], CHUNKED_BODY) }, 501),
  ...refused(
    'expectation',
    {
      'another one': post(['Expect: 200-ok', 'Content-Length: 4'], 'body'),
      'one with a word before it': post(['Expect: y 100-continue', LENGTH], CHUNKED_BODY),
      two: post(['Expect: 100-continue', 'Expect: 100-continue', LENGTH], CHUNKED_BODY),
    },
    417,
  ),
  ...refused(
    'version',
    {
      '1.2': request('GET /attack HTTP/1.2'),
      '0.9': request('GET /attack HTTP/0.9'),
      '2.0': request('GET /attack HTTP/2.0'),
      'the preface of HTTP/2': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    },
    505,
  ),
  ...refused(
    'method',
    {
      CONNECT: request(`CONNECT ${HOST}:80 HTTP/1.1`),
      'one of a thousand letters': request(`${'A'.repeat(1_000)} /attack HTTP/1.1`),
    },
    501,
  ),
  ...refused('scheme', { https: request(`GET https://${HOST}/attack HTTP/1.1`) }, 421),
  ...refused('HTTP/1.0 with', {
    chunks: request('POST /attack HTTP/1.0', ['Transfer-Encoding: chunked'], CHUNKED_BODY),
    'chunks and a length': request(
      'POST /attack HTTP/1.0',
      ['Transfer-Encoding: chunked', LENGTH],
      CHUNKED_BODY,
    ),
  }),
]

/** Proper requests, whatever they were meant for; `seen` by the target as they are. */
const PASSED: Attack[] = [
  {
    name: 'CL.0: a POST whose body is a request',
    send: post([`Content-Length: ${SMUGGLED.length}`], SMUGGLED),
    seen: [`POST /attack ${SMUGGLED}`],
  },
  {
    name: 'CL.0: a GET whose body is a request',
    send: request('GET /attack HTTP/1.1', [`Content-Length: ${SMUGGLED.length}`], SMUGGLED),
    seen: [`GET /attack ${SMUGGLED}`],
  },
  {
    name: 'CL.0: the same with the connection to be kept and to be closed',
    send: request(
      'GET /attack HTTP/1.1',
      ['Connection: keep-alive, close', `Content-Length: ${SMUGGLED.length}`],
      SMUGGLED,
    ),
    seen: [`GET /attack ${SMUGGLED}`],
  },
  {
    name: 'TE.0: a GET whose chunks hold a request',
    send: request(
      'GET /attack HTTP/1.1',
      ['Transfer-Encoding: chunked'],
      `${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`,
    ),
    seen: [`GET /attack ${SMUGGLED}`],
  },
  {
    name: 'HEAD whose body is a request',
    send: request('HEAD /attack HTTP/1.1', [`Content-Length: ${SMUGGLED.length}`], SMUGGLED),
    methods: ['HEAD'],
    seen: [`HEAD /attack ${SMUGGLED}`],
  },
  { name: 'HEAD', send: request('HEAD /attack HTTP/1.1'), methods: ['HEAD'], seen: ['HEAD /attack '] },
  {
    name: '0.CL: no body, and a request behind it',
    send: post(['Content-Length: 0']) + SMUGGLED,
    statuses: [200, 200],
    seen: ['POST /attack ', 'GET /smuggled '],
  },
  {
    name: 'a POST without a length, and a request behind it',
    send: post([]) + SMUGGLED,
    statuses: [200, 200],
    seen: ['POST /attack ', 'GET /smuggled '],
  },
  {
    name: 'a pipelined pair',
    send: request('GET /attack HTTP/1.1') + SMUGGLED,
    statuses: [200, 200],
    seen: ['GET /attack ', 'GET /smuggled '],
  },
  {
    name: 'a pipelined pair, the first with chunks',
    send: chunked('5\r\nhello\r\n0\r\n\r\n') + SMUGGLED,
    statuses: [200, 200],
    seen: ['POST /attack hello', 'GET /smuggled '],
  },
  {
    name: 'a pipelined pair, the second no proper request',
    send: request('GET /attack HTTP/1.1') + post([LENGTH, 'Transfer-Encoding: chunked'], CHUNKED_BODY),
    statuses: [200, 400],
    seen: ['GET /attack '],
  },
  {
    name: 'a request behind one that closes',
    send: request('GET /attack HTTP/1.1', ['Connection: close']) + SMUGGLED,
    seen: ['GET /attack '],
  },
  {
    name: 'a request behind one of HTTP/1.0',
    send: request('GET /attack HTTP/1.0', ['Connection: keep-alive']) + SMUGGLED,
    seen: ['GET /attack '],
  },
  {
    name: 'a request behind an upgrade that was refused',
    send:
      request('GET /attack HTTP/1.1', [
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      ]) + SMUGGLED,
    seen: ['GET /attack '],
  },
  {
    name: 'an upgrade to h2c, and a request behind it',
    send:
      request('GET /attack HTTP/1.1', [
        'Connection: Upgrade, HTTP2-Settings',
        'Upgrade: h2c',
        'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA',
      ]) + SMUGGLED,
    statuses: [200, 200],
    seen: ['GET /attack ', 'GET /smuggled '],
  },
  {
    name: 'an upgrade that Connection does not name',
    send: request('GET /attack HTTP/1.1', ['Upgrade: websocket']) + SMUGGLED,
    statuses: [200, 200],
    seen: ['GET /attack ', 'GET /smuggled '],
  },
  {
    name: 'chunks with extensions, which are dropped',
    send: chunked(`5;a=b;c="0\\r\\n"\r\nhello\r\n0;x=${'y'.repeat(100)}\r\n\r\n`),
    seen: ['POST /attack hello'],
  },
  {
    name: 'chunk sizes with leading zeros and capitals',
    send: chunked('0000A\r\nhelloworld\r\n000\r\n\r\n'),
    seen: ['POST /attack helloworld'],
  },
  {
    name: 'trailers that speak of framing, routing and who asks',
    send:
      chunked(
        '5\r\nhello\r\n0\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\nHost: evil.example\r\nX-Forwarded-For: 1.2.3.4\r\nX: x\r\n\r\n',
      ) + SMUGGLED,
    statuses: [200, 200],
    seen: ['POST /attack hello', 'GET /smuggled '],
  },
  {
    name: 'a coding in other letters, behind a tab',
    send: post(['tRANSFER-eNCODING:\tChunked \t'], '5\r\nhello\r\n0\r\n\r\n'),
    seen: ['POST /attack hello'],
  },
  {
    name: 'a length with zeros before it',
    send: post(['Content-Length:\t0004 '], 'body'),
    seen: ['POST /attack body'],
  },
  {
    name: 'a URL with the same host',
    send: request(`GET http://${HOST}/attack?a=b HTTP/1.1`),
    seen: ['GET /attack?a=b '],
  },
  {
    name: 'a URL with the same host and no path',
    send: request(`GET http://${HOST}?a=b HTTP/1.1`),
    seen: ['GET /?a=b '],
  },
  { name: 'OPTIONS *', send: request('OPTIONS * HTTP/1.1'), seen: ['OPTIONS * '] },
  {
    name: 'a target that looks like another host',
    send: request('GET //evil.example/attack HTTP/1.1'),
    seen: ['GET //evil.example/attack '],
  },
  {
    name: 'empty lines before a request',
    send: `\r\n\r\n${request('GET /attack HTTP/1.1')}`,
    seen: ['GET /attack '],
  },
  {
    name: 'fields that Connection names, which are dropped',
    send: request('GET /attack HTTP/1.1', [
      'Connection: x-gone, keep-alive, te',
      'X-Gone: x',
      'TE: trailers',
    ]),
    seen: ['GET /attack '],
  },
  {
    name: 'who asks, in an answer of its own',
    send: request('GET /attack HTTP/1.1', [
      'X_Forwarded_For: 1.2.3.4',
      'X-Real_IP: 1.2.3.4',
      'Forwarded: for=x',
    ]),
    seen: ['GET /attack '],
  },
  {
    name: 'a login of the connection',
    send: request('GET /attack HTTP/1.1', ['Authorization: Negotiate alice']),
    seen: ['GET /attack '],
  },
  {
    name: 'a login of the connection, and a request behind it',
    send: request('GET /attack HTTP/1.1', ['Authorization: Negotiate alice']) + SMUGGLED,
    statuses: [200, 200],
    seen: ['GET /attack ', 'GET /smuggled '],
  },
]

const ATTACKS: Attack[] = [
  ...LENGTH_AND_CHUNKS,
  ...CODINGS,
  ...LENGTHS,
  ...CHUNKS,
  ...HOSTS,
  ...LINES,
  ...FIELDS,
  ...NAMED,
  ...PASSED,
]

const KINDS = ['node', ...(Object.keys(NAIVE) as (keyof typeof NAIVE)[])] as const
type Kind = (typeof KINDS)[number]
const hostOf = (kind: Kind): string => HOST.replace('X', String(KINDS.indexOf(kind)))

const world = new World()
afterAll(() => world.close())
const targets = new Map<string, Echo>()
let gateway: Gateway
let innocents = 0
/** Of the gateway's log, before the first attack. */
let logged = 0

beforeAll(async () => {
  gateway = await world.gateway()
  await world.join('home', gateway)
  const services: string[] = []
  for (const kind of KINDS) {
    const echo = world.with(kind === 'node' ? await Echo.node() : await Echo.naive(NAIVE[kind]))
    targets.set(kind, echo)
    services.push(
      `[[service]]\nname = "${kind}"\ntype = "http"\nhost = ["${hostOf(kind)}"]\ntarget = "127.0.0.1:${echo.port}"\n`,
    )
  }
  const file = world.path('blindgate.toml')
  writeFileSync(file, services.join('\n'), { mode: 0o600 })
  const program = world.start('home', ['up', '-c', file])
  await heard(program, 'out', new RegExp(`(?:^http://\\S+ → \\S+\\n){${KINDS.length}}`, 'm'))
  logged = gateway.program.err.length
})

/** Somebody else, who must get the answers to what they ask and nothing else. */
async function innocent(host: string): Promise<void> {
  const token = `visitor-${innocents++}`
  const path = `/innocent/${token}`
  const talk = await Talk.to(gateway.visitors)
  for (const round of ['first', 'second']) {
    const target = `${path}/${round}`
    const answer = await talk.ask(host, target, [`X-Token: ${token}`])
    const headers = new Map([['x-token', token]])
    expect(answer).toMatchObject({ status: 200, body: told({ method: 'GET', target, headers }, 'nobody') })
  }
  expect(talk.rest).toBe('')
  talk.close()
}

const isAttack = (seen: Seen): boolean => !seen.includes(' /innocent/')

function echoOf(kind: Kind): Echo {
  const echo = targets.get(kind)
  if (echo === undefined) throw new Error('each kind has its target')
  return echo
}

/** What Node's parser finds in what reached the target, but for what others asked. */
async function reached(echo: Echo): Promise<Seen[]> {
  const all = await Promise.all(Array.from(echo.received.values(), asNodeSees))
  return all.flat().filter(isAttack)
}

async function expectHarmless(
  { send, statuses, seen = [], methods = [] }: Attack,
  kind: Kind,
): Promise<void> {
  const echo = echoOf(kind)
  const host = hostOf(kind)
  const own = (text: string): string => text.replaceAll(HOST, host)
  const wanted = statuses ?? [seen.length === 0 ? 400 : 200]
  echo.forget()
  const talk = await Talk.to(gateway.visitors)
  talk.say(own(send))
  const got: number[] = []
  for (const [index] of wanted.entries()) got.push((await talk.answer(methods[index])).status)
  expect(got, kind).toEqual(wanted)
  await innocent(host)
  if ((wanted.at(-1) ?? 0) >= 400) await talk.visitor.ended
  expect(talk.rest, kind).toBe('')
  talk.close()
  await innocent(host)
  expect(await reached(echo), kind).toEqual(seen.map(own))
  if (kind === 'node') expect(echo.seen.filter(isAttack)).toEqual(seen.map(own))
}

describe('whatever a target takes for a request, a visitor harms nobody by', () => {
  it.each(ATTACKS.map((attack) => [attack.name, attack] as const))('%s', async (_name, attack) => {
    for (const kind of KINDS) await expectHarmless(attack, kind)
  })
})

describe('an answer of which more comes than was asked for', () => {
  it.each([
    ['to HEAD, with a body', 'HEAD /attack HTTP/1.1', 200, 'HEAD'],
    ['a 204, with a body', 'GET /nothing HTTP/1.1', 204, 'GET'],
  ] as const)('%s, ends its stream', async (_name, line, status, method) => {
    const host = hostOf('talkative')
    const before = await gateway.gauge('blindgate_errors_total\\{code="desync"\\}')
    for (let round = 0; round < 10; round++) {
      const talk = await Talk.to(gateway.visitors, request(line).replaceAll(HOST, host))
      expect((await talk.answer(method)).status).toBe(status)
      talk.close()
      await innocent(host)
    }
    expect(await gateway.gauge('blindgate_errors_total\\{code="desync"\\}')).toBe(before + 10)
  })
})

it('who asks is what the gateway says, whatever the visitor says', async () => {
  const echo = echoOf('node')
  echo.forget()
  const lies = [
    'X-Forwarded-For: 1.2.3.4',
    'X_Forwarded_For: 1.2.3.4',
    'x-forwarded_for: 1.2.3.4',
    'X-Real-IP: 1.2.3.4',
    'X_REAL_IP: 1.2.3.4',
    'Forwarded: for=1.2.3.4',
    'X-Forwarded-Host: evil.example',
    'X-Forwarded-Proto: https',
    'X-Forwarded-Whatever: evil',
    'X-Request-Id: with spaces and "quotes"',
    'X_Request_Id: evil',
  ]
  const talk = await Talk.to(gateway.visitors)
  expect((await talk.ask(hostOf('node'), '/', lies)).status).toBe(200)
  const [sent = ''] = [...echo.received.values()].filter((text) => text !== '')
  const said = sent.split('\r\n').filter((line) => /^(?:x.(?:forwarded|real|request)|forwarded)/i.test(line))
  expect(said).toEqual([
    'X-Forwarded-For: 127.0.0.1',
    'X-Real-IP: 127.0.0.1',
    'X-Forwarded-Proto: http',
    `X-Forwarded-Host: ${hostOf('node')}`,
    expect.stringMatching(/^X-Request-Id: [A-Za-z0-9._-]{1,64}$/),
  ])
  talk.close()
})

it('all of this went over streams that were used again, and nobody is left', async () => {
  const served = KINDS.reduce((sum, kind) => sum + echoOf(kind).connections, 0)
  // Two visitors for each attack on each target, who had more than a connection of their own.
  expect(innocents).toBeGreaterThan(2 * ATTACKS.length * KINDS.length)
  expect(served).toBeLessThan(innocents / 2)
  await gateway.reaches('blindgate_visitors', 0)
  expect(gateway.program.err.slice(logged)).not.toMatch(/"level":"(?:error|warn)"/)
})
