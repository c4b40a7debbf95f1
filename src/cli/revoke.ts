import type { Command } from 'commander'
import { examples, type Globals, globalsOf, logOf, stateOf } from './globals.ts'
import { answer } from './output.ts'

interface Revoked {
  keys: string[]
  names: string[]
  routes: string[]
}

export function addRevoke(program: Command): void {
  program
    .command('revoke')
    .description('on the gateway: take away the access of a name or of one key, at once')
    .argument('<name-or-key>', 'a name takes all its machines and routes; a key only that machine')
    .addHelpText('after', examples('blindgate revoke office', 'blindgate revoke sha256:…'))
    .action((target: string, _options: unknown, command: Command) => revoke(target, globalsOf(command)))
}

async function revoke(target: string, globals: Globals): Promise<void> {
  const { gatewayCommand } = await import('../gateway/index.ts')
  const state = await stateOf(globals, { create: false })
  const log = await logOf(globals, 'warn')
  const revoked = (await gatewayCommand(state, { command: 'revoke', target }, log)) as Revoked
  for (const line of revokedLines(revoked, globals.json === true)) answer.line(line)
}

export function revokedLines({ keys, names, routes }: Revoked, json: boolean): string[] {
  if (json) return [JSON.stringify({ keys, names, routes })]
  return [
    ...names.map((name) => `revoked "${name}"`),
    ...keys.map((key) => `revoked ${key}`),
    ...routes.map((route) => `released ${route}`),
  ]
}
