import { expect, it } from 'vitest'
import { bodyOf } from '../../src/http1/index.ts'

const CHUNKED = { framing: 'chunked', length: 0 } as const
const BODY = Buffer.from('3\r\nabc\r\n0\r\nX-User: admin\r\nX-Sum: 1\r\n\r\n')

it("a request's trailer fields are left out, at any segmentation: some targets count them among its header fields", () => {
  for (let cut = 0; cut <= BODY.length; cut += 1) {
    const body = bodyOf(CHUNKED, true, false)
    const out: Uint8Array[] = []
    body.push(BODY.subarray(0, cut), 0, out)
    body.push(BODY.subarray(cut), 0, out)
    expect(body.done).toBe(true)
    expect(Buffer.concat(out).toString('latin1')).toBe('3\r\nabc\r\n0\r\n\r\n')
  }
})

it("a response's are passed on", () => {
  const out: Uint8Array[] = []
  bodyOf(CHUNKED).push(BODY, 0, out)
  expect(Buffer.concat(out).toString('latin1')).toBe(BODY.toString('latin1'))
})
