import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { gatewaysOf } from '../../src/cli/up.ts'
import { rememberGateway } from '../../src/client/index.ts'
import { openState } from '../../src/state/index.ts'

const folder = mkdtempSync(join(tmpdir(), 'bg-up-'))
afterAll(() => rmSync(folder, { recursive: true }))

const pinOf = (byte: number) => `sha256:${Buffer.alloc(32, byte).toString('base64').slice(0, 43)}` as const

describe('the gateways of a file', () => {
  it('are those that stand there, with the domain that the invite to one of them named', async () => {
    const state = await openState(join(folder, 'state'))
    const joined = { addresses: ['vps.example.com:9001'], pin: pinOf(1), domain: 'example.com', name: 'home' }
    await rememberGateway(state, joined, false)
    const gateways = [
      { address: '10.0.0.2:9001', key: pinOf(1) },
      { address: 'other.example:9001', key: pinOf(2) },
    ]
    expect(await gatewaysOf({ gateways }, state, 'x.toml')).toEqual([
      { addresses: ['10.0.0.2:9001'], pin: pinOf(1), domain: 'example.com' },
      { addresses: ['other.example:9001'], pin: pinOf(2) },
    ])
    expect(await gatewaysOf({ gateways: [] }, state, 'x.toml')).toEqual([joined])
  })
})
