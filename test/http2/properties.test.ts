import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HttpFault } from '../../src/http1/index.ts'
import { readRequest } from '../../src/http2/head.ts'
import { HTTP_HEAD_BYTES } from '../../src/limits.ts'
import { ask, World } from './world.ts'

const token = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9a-z-]{1,20}$/)
/** Names that nobody on the way has a meaning for. */
const name = token.map((text) => `q-${text}`)
const value = fc.stringMatching(/^[\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]{0,30}[\x21-\x7e\x80-\xff])?$/)
const path = fc.stringMatching(/^\/[\x21\x22\x24-\x7e]{0,40}$/)
const method = fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'PROPFIND', 'M-SEARCH')

interface Seen {
  method: string
  url: string
  headers: [string, string][]
  body: string
}

describe('any request by HTTP/2', () => {
  test('is the same at its target: method, path, fields and body', async () => {
    const world = new World()
    world.http((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        const { rawHeaders } = request
        const headers = rawHeaders.flatMap((text, at) =>
          at % 2 === 0 ? [[text.toLowerCase(), rawHeaders[at + 1] ?? '']] : [],
        )
        const body = Buffer.concat(chunks).toString('base64')
        response.end(JSON.stringify({ method: request.method, url: request.url, headers, body }))
      })
    })
    const visitor = await world.visitor()
    await fc.assert(
      fc.asyncProperty(
        method,
        path,
        fc.dictionary(name, fc.array(value, { minLength: 1, maxLength: 3 }), { maxKeys: 8 }),
        fc.option(fc.uint8Array({ maxLength: 40_000 }), { nil: undefined }),
        fc.boolean(),
        async (verb, target, fields, body, sized) => {
          const length = body !== undefined && sized ? { 'content-length': body.length } : {}
          const answer = await ask(visitor, { ':method': verb, ':path': target, ...fields, ...length }, body)
          expect(answer.status).toBe(200)
          const seen = JSON.parse(answer.body.toString('utf8')) as Seen
          expect(seen).toMatchObject({ method: verb, url: target })
          expect(Buffer.from(seen.body, 'base64').equals(body ?? Buffer.alloc(0))).toBe(true)
          const sent = Object.entries(fields).flatMap(([key, list]) => list.map((text) => `${key}: ${text}`))
          const got = seen.headers
            .filter(([key]) => key.startsWith('q-'))
            .map(([key, text]) => `${key}: ${text}`)
          expect(got).toEqual(sent)
        },
      ),
      { numRuns: 300 },
    )
    await world.close()
  })

  test('whatever its fields say becomes one head of as many fields, or none', () => {
    const any = fc.string({
      unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)),
      maxLength: 12,
    })
    const wild = fc.oneof(
      any,
      fc.constantFrom(
        '\r\n',
        '\r\n\r\n',
        ' HTTP/1.1\r\n',
        'GET / HTTP/1.1',
        ': ',
        '\n',
        '\0',
        'Č',
        'chunked',
      ),
      token,
    )
    const text = fc.array(wild, { maxLength: 4 }).map((parts) => parts.join(''))
    const key = fc.oneof(
      text,
      fc.constantFrom('content-length', 'transfer-encoding', 'host', 'te', 'expect', 'connection', 'cookie'),
    )
    fc.assert(
      fc.property(
        fc.oneof(method, text),
        fc.oneof(
          path,
          text.map((rest) => `/${rest}`),
          text,
        ),
        fc.oneof(fc.constant('x'), text),
        fc.array(fc.tuple(key, text), { maxLength: 5 }),
        fc.boolean(),
        (verb, target, authority, list, ended) => {
          const raw = [
            ':method',
            verb,
            ':scheme',
            'https',
            ':path',
            target,
            ':authority',
            authority,
            ...list.flat(),
          ]
          let head: ReturnType<typeof readRequest>['head']
          try {
            head = readRequest(raw, ended, HTTP_HEAD_BYTES).head
          } catch (error) {
            expect(error).toBeInstanceOf(HttpFault)
            return
          }
          expect(head.method).toBe(verb)
          expect(head.target).toBe(target)
          expect(head.hostText).toBe(authority)
          const lines = Buffer.from(head.bytes).toString('latin1').split('\r\n')
          // The request line, Host, and the empty lines at the end.
          const cookies = list.filter(([each]) => each === 'cookie').length
          const gone = list.filter(([each]) => each === 'te' || each === 'host').length
          const sized = list.some(([each]) => each === 'content-length')
          const joined = cookies > 1 ? cookies - 1 : 0
          expect(lines.length).toBe(4 + list.length - gone - joined + (!ended && !sized ? 1 : 0))
          expect(lines.every((line) => !/[\r\n\0]/.test(line))).toBe(true)
        },
      ),
      { numRuns: 20_000 },
    )
  })
})
