import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { normalizeHost, routingPath, stripPath } from '../../src/http1/index.ts'
import hosts from './hosts.vectors.json' with { type: 'json' }
import paths from './paths.vectors.json' with { type: 'json' }

describe('the host of a request', () => {
  it.each(hosts.hosts as [string, string | null][])('%j is %j', (text, host) => {
    expect(normalizeHost(text) ?? null).toBe(host)
  })

  it('stays as it is when it is normal', () => {
    for (const [, host] of hosts.hosts as [string, string | null][])
      if (host !== null) expect(normalizeHost(host)).toBe(host)
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.domain(),
          fc.ipV4(),
          fc.ipV6().map((ip) => `[${ip}]`),
        ),
        (text) => {
          const host = normalizeHost(text)
          if (host !== undefined) expect(normalizeHost(host)).toBe(host)
        },
      ),
    )
  })
})

describe('the path that routes are compared with', () => {
  it.each(paths.paths as [string, string | null][])('of %j is %j', (target, path) => {
    expect(routingPath(target) ?? null).toBe(path)
  })

  it('is compared with again to the same end', () => {
    const piece = fc.constantFrom('/', '.', '%2e', '%2f', '%', 'a', '%41', ';', '?', '\\', '%5C', '%25', '41')
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
        const path = routingPath(`/${pieces.join('')}`)
        if (path === undefined) return
        // What a reader that decodes once more, and then removes dot segments, cannot make another route of.
        expect(new URL(path, 'http://a').pathname).toBe(path)
      }),
    )
  })
})

describe('a target without the path of its route', () => {
  it.each(paths.strips as [string, string, string][])('%j without %j is %j', (target, prefix, left) => {
    expect(stripPath(target, prefix)).toBe(left)
  })
})
