import { describe, expect, test } from 'vitest'
import { PAGES, type Problem } from '../../src/http/index.ts'
import { page } from '../../src/http/pages.ts'

type Options = Parameters<typeof page>[0]

const OPTIONS: Options = {
  problem: 'refused',
  requestId: 'a1-b2',
  accept: undefined,
  head: false,
  close: false,
}

function parts(options: Partial<Options> = {}): { head: string; body: string } {
  const text = page({ ...OPTIONS, ...options }).toString('latin1')
  const end = text.indexOf('\r\n\r\n') + 4
  return { head: text.slice(0, end), body: text.slice(end) }
}

function field(head: string, name: string): string | undefined {
  return new RegExp(`\\r\\n${name}: ([^\\r]*)\\r\\n`).exec(head)?.[1]
}

describe('a page', () => {
  test('says what went wrong in HTML, with the id that the log has, and is not kept by anybody', () => {
    const { head, body } = parts()
    expect(head).toMatch(/^HTTP\/1\.1 502 Bad Gateway\r\n/)
    expect(field(head, 'Content-Type')).toBe('text/html; charset=utf-8')
    expect(field(head, 'Cache-Control')).toBe('no-store')
    expect(field(head, 'X-Request-Id')).toBe('a1-b2')
    expect(body).toContain('<h1>502 Bad Gateway</h1>')
    expect(body).toContain('the server behind this address refused the connection')
    expect(body).toContain('request a1-b2')
  })

  test.each<[accept: string | undefined, json: boolean]>([
    [undefined, false],
    ['*/*', false],
    ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', false],
    ['application/json', true],
    ['Application/JSON; q=1', true],
    ['application/problem+json, */*', true],
    ['application/json, text/html;q=0.5', true],
    ['text/html, application/json', false],
    ['text/plain', false],
  ])('for Accept %s is JSON: %s', (accept, json) => {
    const { head, body } = parts({ accept })
    expect(field(head, 'Content-Type')).toMatch(json ? /^application\/json$/ : /^text\/html/)
    if (!json) return
    expect(JSON.parse(body)).toEqual({
      error: {
        status: 502,
        code: 'refused',
        message: 'the server behind this address refused the connection',
        requestId: 'a1-b2',
      },
    })
  })

  test('has the length that it says, in bytes, also where letters take two', () => {
    for (const accept of [undefined, 'application/json']) {
      const bytes = page({ ...OPTIONS, accept, detail: 'a path that is no path' })
      const text = bytes.toString('latin1')
      const { length } = bytes.subarray(text.indexOf('\r\n\r\n') + 4)
      expect(Number(field(text, 'Content-Length'))).toBe(length)
    }
  })

  test('for HEAD is the same without its body', () => {
    const [whole, bare] = [parts(), parts({ head: true })]
    expect(bare.body).toBe('')
    expect(field(bare.head, 'Content-Length')).toBe(field(whole.head, 'Content-Length'))
  })

  test('carries no script, whatever is in its texts', () => {
    const evil = `<script>alert("1")</script>&'`
    const { body } = parts({ detail: evil })
    expect(body).not.toContain('<script>')
    expect(body).toContain('&#60;script&#62;alert(&#34;1&#34;)&#60;/script&#62;&#38;&#39;')
    expect(JSON.parse(parts({ detail: evil, accept: 'application/json' }).body)).toMatchObject({
      error: { message: expect.stringContaining(evil) },
    })
  })

  test('says when to come again: with every 503, and where a limit knows it', () => {
    expect(field(parts({ problem: 'absent' }).head, 'Retry-After')).toBe('5')
    expect(field(parts({ problem: 'absent', retryAfter: 9 }).head, 'Retry-After')).toBe('9')
    expect(field(parts({ problem: 'too_many_requests', retryAfter: 2 }).head, 'Retry-After')).toBe('2')
    expect(field(parts().head, 'Retry-After')).toBeUndefined()
  })

  test('tells the visitor of a close only where there is one', () => {
    expect(field(parts({ close: true }).head, 'Connection')).toBe('close')
    expect(field(parts().head, 'Connection')).toBeUndefined()
  })

  test('has a status and its reason for every problem', () => {
    for (const problem of Object.keys(PAGES) as Problem[]) {
      const { status, text } = PAGES[problem]
      expect(parts({ problem }).head).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [A-Z][A-Za-z ]+\\r\\n`))
      expect(text).not.toMatch(/[A-Z]{2,}_|\d+\.\d+\.\d+\.\d+/)
    }
  })
})
