import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { PAGES } from '../../src/http/index.ts'

it('docs/OPERATIONS.md has every page that a visitor may get, with its status', () => {
  const text = readFileSync(new URL('../../docs/OPERATIONS.md', import.meta.url), 'utf8')
  const rows = [...text.matchAll(/^\| (\d{3}) \| `(\w+)` \|/gm)].map(([, status, code]) => [
    code,
    Number(status),
  ])
  expect(Object.fromEntries(rows)).toEqual(
    Object.fromEntries(Object.entries(PAGES).map(([code, { status }]) => [code, status])),
  )
})
