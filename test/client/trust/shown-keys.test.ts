import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { ShownKeys } from '../../../src/client/trust/shown-keys.ts'
import { pinOfHash } from '../../../src/identity/index.ts'
import { SHOWN_KEYS, SHOWN_KEYS_MS } from '../../../src/limits.ts'
import { openState, type State } from '../../../src/state/index.ts'

let folder: string
let state: State
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'blindgate-test-'))
  state = await openState(join(folder, 'state'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function pin(number: number) {
  const hash = Buffer.alloc(32)
  hash.writeUInt32BE(number)
  return pinOfHash(hash)
}

it('remembers keys over a restart, as long as a certificate may be valid', async () => {
  const keys = new ShownKeys(state)
  expect(await keys.list()).toEqual([])
  await keys.add([pin(1)], 0)
  await keys.add([pin(2)], 1_000)
  expect(await new ShownKeys(state).list()).toEqual([pin(1), pin(2)])
  await keys.add([pin(3)], SHOWN_KEYS_MS + 500)
  expect(await keys.list()).toEqual([pin(2), pin(3)])
})

it('writes nothing that it has already, and keeps a bounded number', async () => {
  const keys = new ShownKeys(state)
  await keys.add([pin(0)], 0)
  await state.write('shown-keys.json.copy', (await state.read('shown-keys.json')) ?? '')
  await keys.add([pin(0)], 5)
  expect(await state.read('shown-keys.json')).toEqual(await state.read('shown-keys.json.copy'))
  await keys.add(
    Array.from({ length: SHOWN_KEYS + 10 }, (_, each) => pin(each + 1)),
    10,
  )
  const kept = await keys.list()
  expect(kept).toHaveLength(SHOWN_KEYS)
  expect(kept.at(-1)).toBe(pin(SHOWN_KEYS + 10))
})
