import { expect, test } from 'vitest'
import { SPLICE_COPY_BYTES } from '../../src/limits.ts'
import { Keep } from '../../src/net/index.ts'

const bytes = (keep: Keep): string => Buffer.concat(keep.chunks).toString('latin1')

test('single bytes are kept in as few pieces as they fill', () => {
  const keep = new Keep()
  let sent = ''
  for (let index = 0; index < 10_000; index += 1) {
    const character = String.fromCharCode(97 + (index % 26))
    sent += character
    keep.push(Buffer.from(character))
  }
  expect(bytes(keep)).toBe(sent)
  expect(keep.bytes).toBe(10_000)
  expect(keep.chunks).toHaveLength(Math.ceil(10_000 / SPLICE_COPY_BYTES))
})

test('large chunks stay what they are, between small ones too, and none is changed', () => {
  const large = Buffer.alloc(SPLICE_COPY_BYTES, 'L')
  const [a, b, c] = [Buffer.from('a'), Buffer.from('b'), Buffer.from('c')]
  const keep = new Keep([a, large])
  keep.push(b)
  keep.push(c)
  expect(keep.chunks[1]).toBe(large)
  expect(bytes(keep)).toBe(`a${large.toString()}bc`)
  expect([a, b, c].map(String)).toEqual(['a', 'b', 'c'])
})

test('what was given away stays as it was when more is kept', () => {
  const keep = new Keep()
  keep.push(Buffer.from('one'))
  keep.push(Buffer.from('two'))
  const taken = keep.take()
  expect(keep.bytes).toBe(0)
  keep.push(Buffer.from('three'))
  expect(Buffer.concat(taken).toString()).toBe('onetwo')
  expect(bytes(keep)).toBe('three')
})
