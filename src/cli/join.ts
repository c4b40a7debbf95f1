import type { Command } from 'commander'
import { userError } from '../errors.ts'
import { INVITE_TEXT_CHARACTERS } from '../limits.ts'
import { examples, type Globals, globalsOf, logOf, stateOf } from './globals.ts'
import { answer } from './output.ts'
import { askHidden, readAll } from './prompt.ts'
import { VERSION } from './version.ts'

interface Options {
  replace?: true
}

export function addJoin(program: Command): void {
  program
    .command('join')
    .description('enroll this machine at a gateway, and pin the key of that gateway')
    .argument(
      '[invite]',
      'what `blindgate invite` printed; "-" reads it from stdin; without it you are asked',
    )
    .option('--replace', 'accept that a gateway known here has another key now')
    .addHelpText('after', examples('blindgate join', 'blindgate join - < invite.txt', 'blindgate join bg1_…'))
    .action((invite: string | undefined, options: Options, command: Command) =>
      join(invite, options, globalsOf(command)),
    )
}

async function join(said: string | undefined, { replace }: Options, globals: Globals): Promise<void> {
  const text = await inviteText(said)
  const [client, { decodeInvite, samePin }, { identityIn, instanceId }] = await Promise.all([
    import('../client/index.ts'),
    import('../identity/index.ts'),
    import('../state/index.ts'),
  ])
  const invite = decodeInvite(text)
  const state = await stateOf(globals, { create: true })
  const known = (await client.joinedGateways(state)).some(({ pin }) => samePin(pin, invite.pin))
  const entry = await client.join({
    invite,
    identity: await identityIn(state, 'client'),
    instance: instanceId(state.path),
    state,
    version: VERSION,
    log: await logOf(globals, 'warn'),
    replace: replace === true,
  })
  const [gateway = ''] = entry.addresses
  const { name = '', pin } = entry
  answer.line(
    globals.json === true
      ? JSON.stringify({ gateway, name, key: pin })
      : `${known ? 'already ' : ''}joined ${gateway} as "${name}" (gateway key ${pin} pinned)`,
  )
}

/** The invite as typed, as piped, or as asked for without showing it. */
async function inviteText(said: string | undefined): Promise<string> {
  if (said !== undefined && said !== '-') return said
  if (said === '-') return readAll(process.stdin, INVITE_TEXT_CHARACTERS)
  if (process.stdin.isTTY) return askHidden('invite (not shown): ', process.stdin, process.stderr)
  throw userError('usage', 'no invite: give it, or "-" to read it from stdin')
}
