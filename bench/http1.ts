import { performance } from 'node:perf_hooks'
import {
  bodyOf,
  HeadReader,
  RequestHead,
  ResponseHead,
  writeRequest,
  writeResponse,
} from '../src/http1/index.ts'
import type { Measurement } from './measurement.ts'
import { recordTable } from './report.ts'

/** What Chrome sends for a page's picture, with a session's cookies. */
const BROWSER = Buffer.from(
  [
    'GET /assets/images/header-2x.webp?v=20240611 HTTP/1.1',
    'Host: app.example.com',
    'Connection: keep-alive',
    'sec-ch-ua-platform: "Linux"',
    'User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36',
    'sec-ch-ua: "Google Chrome";v="131", "Chromium";v="131", "Not_A Brand";v="24"',
    'sec-ch-ua-mobile: ?0',
    'Accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8',
    'Sec-Fetch-Site: same-origin',
    'Sec-Fetch-Mode: no-cors',
    'Sec-Fetch-Dest: image',
    'Referer: https://app.example.com/dashboard',
    'Accept-Encoding: gzip, deflate, br, zstd',
    'Accept-Language: en-US,en;q=0.9,de;q=0.8',
    'Cookie: session=3f1c9b6ad0f24e0f8a9d2f0c5b7e1a43; theme=dark; _ga=GA1.1.1234567890.1718100000',
    '',
    '',
  ].join('\r\n'),
  'latin1',
)
const SHORT = Buffer.from(
  'GET / HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: curl/8.9.1\r\nAccept: */*\r\n\r\n',
  'latin1',
)
const RESPONSE = Buffer.from(
  [
    'HTTP/1.1 200 OK',
    'Server: nginx',
    'Date: Tue, 11 Jun 2024 10:00:00 GMT',
    'Content-Type: image/webp',
    'Content-Length: 48213',
    'Last-Modified: Mon, 10 Jun 2024 08:00:00 GMT',
    'Connection: keep-alive',
    'ETag: "6666b2c0-bc55"',
    'Cache-Control: public, max-age=31536000, immutable',
    'Accept-Ranges: bytes',
    '',
    '',
  ].join('\r\n'),
  'latin1',
)
const ADDED = {
  added: 'X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: app.example.com\r\n',
}
const ASKED = { method: 'GET', upgrade: undefined }
const CHUNK = Buffer.concat([
  Buffer.from('4000\r\n', 'latin1'),
  Buffer.alloc(0x4000, 'x'),
  Buffer.from('\r\n', 'latin1'),
])
const CHUNKED = Buffer.concat([CHUNK, CHUNK, CHUNK, CHUNK, Buffer.from('0\r\n\r\n', 'latin1')])
const SMALL = Buffer.from(`${'1a\r\nabcdefghijklmnopqrstuvwxyz\r\n'.repeat(100)}0\r\n\r\n`, 'latin1')

const reader = new HeadReader()
const MAX = 32 * 1024

function parse(bytes: Uint8Array): RequestHead {
  const head = reader.push(bytes, 0, MAX)
  if (head === undefined) throw new Error('a head that is not whole')
  return new RequestHead(head, reader.scanner)
}

function respond(bytes: Uint8Array): ResponseHead {
  const head = reader.push(bytes, 0, MAX)
  if (head === undefined) throw new Error('a head that is not whole')
  return new ResponseHead(head, reader.scanner, ASKED)
}

const out: Uint8Array[] = []
function dechunk(bytes: Uint8Array): void {
  const body = bodyOf({ framing: 'chunked', length: 0 })
  body.push(bytes, 0, out)
  out.length = 0
  if (!body.done) throw new Error('a body that is not whole')
}

/** Each does one thing once; `bytes` are what it looks at. */
const CASES: readonly { name: string; bytes: number; once: () => void }[] = [
  { name: 'browser head, parsed', bytes: BROWSER.length, once: () => parse(BROWSER) },
  {
    name: 'browser head, parsed and written',
    bytes: BROWSER.length,
    once: () => writeRequest(parse(BROWSER), ADDED),
  },
  { name: 'curl head, parsed', bytes: SHORT.length, once: () => parse(SHORT) },
  {
    name: 'curl head, parsed and written',
    bytes: SHORT.length,
    once: () => writeRequest(parse(SHORT), ADDED),
  },
  { name: 'response head, parsed', bytes: RESPONSE.length, once: () => respond(RESPONSE) },
  {
    name: 'response head, parsed and written',
    bytes: RESPONSE.length,
    once: () => writeResponse(respond(RESPONSE), { close: false }),
  },
  { name: '64 KiB in chunks of 16 KiB', bytes: CHUNKED.length, once: () => dechunk(CHUNKED) },
  { name: '100 chunks of 26 bytes', bytes: SMALL.length, once: () => dechunk(SMALL) },
]

export const http1: Measurement = {
  name: 'http1',
  about: 'the HTTP/1.1 parser and framer alone, on one core: heads and bodies per second, best round',
  run({ rounds }) {
    const best = CASES.map(() => 0)
    // Each round has all of them, so that a busy moment of the machine is not one case's alone.
    for (let round = 0; round < rounds; round++) {
      for (const [index, { once }] of CASES.entries()) {
        perSecond(once, 50)
        best[index] = Math.max(best[index] ?? 0, perSecond(once, 200))
      }
    }
    const results = CASES.map(({ name, bytes }, index) => ({
      name,
      perSecond: Math.round(best[index] ?? 0),
      MBperSecond: Math.round(((best[index] ?? 0) * bytes) / 1e6),
    }))
    return Promise.resolve({ tables: [recordTable(results)], goals: [], figures: results })
  },
}

function perSecond(once: () => void, ms: number): number {
  let times = 0
  const start = performance.now()
  let now = start
  while (now - start < ms) {
    for (let left = 200; left > 0; left--) once()
    times += 200
    now = performance.now()
  }
  return (times * 1000) / (now - start)
}
