/** A real gateway in this process, for programs that use the SDK. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { gatewaySettings } from '../../src/config/index.ts'
import { type Gateway, type InviteAnswer, startGateway } from '../../src/gateway/index.ts'
import { identityIn, openState } from '../../src/state/index.ts'

export interface TestGateway {
  readonly gateway: Gateway
  readonly address: string
  readonly visitors: string
  invite(uses?: number): Promise<string>
  close(): Promise<void>
}

export async function gatewayForTest(
  folder = mkdtempSync(join(tmpdir(), 'blindgate-sdk-')),
): Promise<TestGateway> {
  const state = await openState(join(folder, 'gateway'))
  const gateway = await startGateway({
    settings: gatewaySettings({ flags: { http: '127.0.0.1:0', tunnel: '127.0.0.1:0' }, env: {} }),
    state,
    identity: await identityIn(state, 'gateway'),
    version: '0.0.0',
    log: pino({ level: 'silent' }),
  })
  return {
    gateway,
    address: `127.0.0.1:${gateway.clients.port}`,
    visitors: `http://127.0.0.1:${gateway.visitors.port}`,
    async invite(uses = 1) {
      const made = (await gateway.command({
        command: 'invite',
        name: 'home',
        uses,
        expiresMs: 60_000,
      })) as InviteAnswer
      return made.invite
    },
    async close() {
      await gateway.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
