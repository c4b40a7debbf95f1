import { randomInt } from 'node:crypto'
import type { Logger } from 'pino'
import { formatAddress } from '../../../config/index.ts'
import { ACME_DNS_LOOK_MS, ACME_DNS_LOOKS, ACME_DNS_SILENT_LOOKS } from '../../../limits.ts'
import { AcmeError } from '../acme-error.ts'
import type { Clock } from '../clock.ts'
import { type DnsServer, exchange } from './exchange.ts'
import { readAnswer, type TxtRecord, txtQuery } from './messages.ts'

/**
 * Resolves when every server that answers shows `record`: a CA asks any of them, and one that has it not yet costs a
 * failed order. Servers that do not answer us may still answer the CA; when none does, nothing can be known, and that
 * is said. Rejects with an AcmeError when one goes on without it.
 */
export async function shown(
  record: TxtRecord,
  servers: readonly DnsServer[],
  { clock, signal, log }: { clock: Clock; signal: AbortSignal; log: Logger },
): Promise<void> {
  for (let look = 1; ; look++) {
    const answers = await Promise.all(servers.map((server) => showsIt(server, record, signal)))
    signal.throwIfAborted()
    const without = servers.filter((_server, at) => answers[at] === 'no')
    if (without.length === 0 && answers.includes('yes')) return
    if (without.length === 0 && look >= ACME_DNS_SILENT_LOOKS) {
      log.warn(
        { record: record.name },
        `no name server of ${record.name} answers here, so nobody knows whether the CA will find its record`,
      )
      return
    }
    if (look >= ACME_DNS_LOOKS) {
      const names = without.map(formatAddress).join(', ')
      throw new AcmeError(
        'local',
        `${names} does not show the TXT record of ${record.name} after ${(look * ACME_DNS_LOOK_MS) / 60_000} minutes: check [acme.dns]`,
      )
    }
    await clock.sleep(ACME_DNS_LOOK_MS, signal)
  }
}

async function showsIt(
  server: DnsServer,
  { name, value }: TxtRecord,
  signal: AbortSignal,
): Promise<'yes' | 'no' | 'silent'> {
  const id = randomInt(0x10000)
  const answer = await exchange(server, txtQuery(name, id), signal).catch(() => undefined)
  const read = answer === undefined ? undefined : readAnswer(answer, id)
  // It answers, but not for this zone.
  if (read === undefined || !['NOERROR', 'NXDOMAIN'].includes(read.code)) return 'silent'
  return read.texts.includes(value) ? 'yes' : 'no'
}
