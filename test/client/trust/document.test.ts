/** docs/TRUST.md claims nothing that no test holds: the tests that it names are there. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '..', '..', '..')
const page = readFileSync(new URL('../../../docs/TRUST.md', import.meta.url), 'utf8')
const claims = page
  .slice(page.indexOf('## Held by'))
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| claim'))

describe('docs/TRUST.md', () => {
  it('has a test for each of its claims', () => {
    expect(claims.length).toBeGreaterThan(10)
    let named = 0
    const missing = claims.flatMap((line) => {
      const parts = line.split('; ').flatMap((part) => part.split('`: '))
      let file = ''
      return parts.flatMap((part) => {
        file = /`(test\/\S+\.ts)$/.exec(part)?.[1] ?? file
        const name = /"(.*)"/.exec(part)?.[1]
        if (name === undefined) return []
        named += 1
        const there = existsSync(join(root, file)) && readFileSync(join(root, file), 'utf8').includes(name)
        return there ? [] : [`${file}: ${name}`]
      })
    })
    expect(missing).toEqual([])
    expect(named).toBeGreaterThan(20)
    expect(claims.filter((line) => !/`test\/\S+\.ts`: "/.test(line))).toEqual([])
  })
})
