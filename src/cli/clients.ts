import type { Command } from 'commander'
import type { ClientRow } from '../gateway/index.ts'
import { examples, type Globals, globalsOf, logOf, stateOf } from './globals.ts'
import { answer, notes, table } from './output.ts'

export function addClients(program: Command): void {
  program
    .command('clients')
    .description('on the gateway: who is enrolled, since when, connected or not')
    .addHelpText('after', examples('blindgate clients', 'blindgate clients --json'))
    .action((_options: unknown, command: Command) => clients(globalsOf(command)))
}

async function clients(globals: Globals): Promise<void> {
  const { gatewayCommand } = await import('../gateway/index.ts')
  const state = await stateOf(globals, { create: false })
  const log = await logOf(globals, 'warn')
  const { clients } = (await gatewayCommand(state, { command: 'clients' }, log)) as { clients: ClientRow[] }
  for (const { key, warning } of clients) if (warning !== undefined) notes.line(`warning: ${key}: ${warning}`)
  if (globals.json === true) answer.line(JSON.stringify(clients.map(clientJson)))
  else if (clients.length === 0) notes.line('no client is enrolled: `blindgate invite` makes an invite')
  else for (const line of clientTable(clients)) answer.line(line)
}

/** A row as JSON: `enrolled` is ISO 8601, what is not known is empty. */
export function clientJson({ enrolled, ...row }: ClientRow): object {
  const { name, key, instance, address, connected, warning } = row
  const about = { name, key, instance, address, enrolled: new Date(enrolled).toISOString(), connected }
  return warning === undefined ? about : { ...about, warning }
}

export function clientTable(clients: readonly ClientRow[]): string[] {
  return table([
    ['NAME', 'KEY', 'CONNECTED', 'ADDRESS', 'ENROLLED'],
    ...clients.map(({ name, key, connected, address, enrolled }) => [
      name,
      key,
      connected ? 'yes' : 'no',
      address === '' ? '-' : address,
      new Date(enrolled).toISOString().slice(0, 16).replace('T', ' '),
    ]),
  ])
}
