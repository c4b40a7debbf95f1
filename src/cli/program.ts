import { Command } from 'commander'
import { addClients } from './clients.ts'
import { addDemo } from './demo.ts'
import { addDoctor } from './doctor.ts'
import { addGateway } from './gateway.ts'
import { examples, GLOBAL_OPTIONS } from './globals.ts'
import { addHttp } from './http.ts'
import { addHttps } from './https.ts'
import { addInvite } from './invite.ts'
import { addJoin } from './join.ts'
import { addRelease } from './release.ts'
import { addRevoke } from './revoke.ts'
import { addRevokeCertificate } from './revoke-certificate.ts'
import { addStatus } from './status.ts'
import { addTcp } from './tcp.ts'
import { addUp } from './up.ts'
import { VERSION } from './version.ts'

/** In the order of `--help`: the public side, the side behind NAT, both. */
const COMMANDS = [
  addGateway,
  addInvite,
  addClients,
  addRevoke,
  addRelease,
  addJoin,
  addHttp,
  addHttps,
  addTcp,
  addUp,
  addRevokeCertificate,
  addStatus,
  addDoctor,
  addDemo,
] as const

/** For who types `help`, as many programs have it. The list need not say so. */
function addHelp(program: Command): void {
  program
    .command('help', { hidden: true })
    .argument('[command]')
    .action((name?: string) => {
      const command = program.commands.find((each) => each.name() === name)
      if (name !== undefined && command === undefined)
        program.error(`unknown command '${name}'`, { code: 'commander.unknownCommand' })
      ;(command ?? program).help()
    })
}

/**
 * The whole command line. Mistakes are thrown, as `CommanderError` or as TunnelError `usage`; nothing but help is
 * printed here. Command files load what they call only when they run, so that `--help` and small commands are quick.
 */
export function createProgram(): Command {
  const program = new Command('blindgate')
    .description('Reach a server behind NAT through a gateway that cannot read your traffic.')
    .version(VERSION, '-v, --version', 'print the version')
    .helpOption('-h, --help', 'print this')
    .helpCommand(false)
    .exitOverride()
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: true })
    // The failure line says it, once and at the end.
    .configureOutput({ outputError: () => undefined })
    .addHelpText('after', examples('blindgate demo', 'blindgate http 8080', 'blindgate http --help'))
  for (const option of GLOBAL_OPTIONS) program.addOption(option)
  for (const add of COMMANDS) add(program)
  addHelp(program)
  return program
}
