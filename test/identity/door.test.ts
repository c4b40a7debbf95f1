import { expect, it, vi } from 'vitest'

const loaded = vi.hoisted(() => new Set<string>())
vi.mock('@peculiar/x509', async (original) => {
  loaded.add('@peculiar/x509')
  return original()
})
vi.mock('reflect-metadata', async (original) => {
  loaded.add('reflect-metadata')
  return original()
})

it('makes its certificate without what makes others, which would stay in memory', async () => {
  const { createIdentity, decodeInvite, readIdentity } = await import('../../src/identity/index.ts')
  expect([typeof decodeInvite, typeof readIdentity]).toEqual(['function', 'function'])
  createIdentity()
  expect([...loaded]).toEqual([])
})
