import { readFileSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { configurationDocument } from './document.ts'

const page = new URL('../../docs/CONFIGURATION.md', import.meta.url)

it('docs/CONFIGURATION.md says what the schemas say', () => {
  if (process.env.UPDATE_DOCS !== undefined) writeFileSync(page, configurationDocument())
  expect(readFileSync(page, 'utf8')).toBe(configurationDocument())
})
