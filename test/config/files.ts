import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect } from 'vitest'
import { type ClientFile, type GatewayFile, loadClientFile, loadGatewayFile } from '../../src/config/index.ts'
import { TunnelError } from '../../src/errors.ts'

const made: string[] = []

afterEach(async () => {
  for (const path of made.splice(0)) await rm(path, { recursive: true, force: true })
})

export async function fileOf(contents: string | Uint8Array, mode = 0o600): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'bg-config-'))
  made.push(folder)
  const path = join(folder, 'x.toml')
  await writeFile(path, contents, { mode })
  return path
}

export async function gatewayFile(toml: string): Promise<GatewayFile> {
  return await loadGatewayFile(await fileOf(toml))
}

export async function clientFile(toml: string): Promise<ClientFile> {
  return await loadClientFile(await fileOf(toml))
}

/** What is said about a file, from after its path: `LINE: what: what to do`. */
export async function complaint(load: (path: string) => Promise<unknown>, path: string): Promise<string> {
  const error = await load(path).then(
    (value) => `took it as ${JSON.stringify(value)}`,
    (error: unknown) => error,
  )
  if (!(error instanceof TunnelError)) throw error instanceof Error ? error : new Error(String(error))
  expect(error).toMatchObject({ code: 'config_invalid', scope: 'process' })
  expect(error.message).not.toContain('\n')
  expect(error.message.startsWith(`${path}:`)).toBe(true)
  return error.message.slice(path.length + 1)
}
