import type { Command } from 'commander'
import { userError } from '../errors.ts'
import type { InviteAnswer } from '../gateway/index.ts'
import { INVITE_USES_MAX } from '../limits.ts'
import { wholeNumber } from './arguments.ts'
import { examples, type Globals, globalsOf, logOf, stateOf } from './globals.ts'
import { answer, notes } from './output.ts'

interface Options {
  name?: string
  uses: string
  expires: string
  address?: string
}

export function addInvite(program: Command): void {
  program
    .command('invite')
    .description('on the gateway: make an invite, with which a machine joins')
    .option('--name <name>', 'whom the machine belongs to (default: "home" while there is no other)')
    .option('--uses <n>', 'how many machines may use it', '1')
    .option('--expires <time>', 'how long it is good', '24h')
    .option('--address <host:port>', 'where clients reach this gateway, instead of what it found or was told')
    .addHelpText(
      'after',
      examples('blindgate invite', 'blindgate invite --name office --uses 2 --expires 1h'),
    )
    .action((options: Options, command: Command) => invite(options, globalsOf(command)))
}

async function invite({ name, uses, expires, address }: Options, globals: Globals): Promise<void> {
  const [{ labelled, parseDuration, parseLabel, parseRemote }, { gatewayCommand }] = await Promise.all([
    import('../config/index.ts'),
    import('../gateway/index.ts'),
  ])
  const expiresMs = labelled('usage', '--expires', expires, parseDuration)
  if (expiresMs === 0)
    throw userError('usage', '--expires: an invite that is good for no time is good for nobody')
  if (name !== undefined) labelled('usage', '--name', name, parseLabel)
  if (address !== undefined) labelled('usage', '--address', address, parseRemote)
  const request = {
    command: 'invite' as const,
    uses: labelled('usage', '--uses', uses, wholeNumber(INVITE_USES_MAX)),
    expiresMs,
    ...(name === undefined ? {} : { name }),
    ...(address === undefined ? {} : { address }),
  }
  const state = await stateOf(globals, { create: true })
  const made = (await gatewayCommand(state, request, await logOf(globals, 'warn'))) as InviteAnswer
  if (made.warning !== undefined) notes.line(`warning: ${made.warning}`)
  answer.line(globals.json === true ? inviteJson(made) : made.invite)
}

function inviteJson({ invite, name, expiresAt }: InviteAnswer): string {
  return JSON.stringify({ invite, name, expires: new Date(expiresAt).toISOString() })
}
