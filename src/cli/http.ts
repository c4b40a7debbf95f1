import { type Command, Option } from 'commander'
import { refuse } from './arguments.ts'
import { examples, globalsOf } from './globals.ts'
import { type QuickOptions, quick } from './quick.ts'

export function addHttp(program: Command): void {
  program
    .command('http')
    .description(
      "offer a web server: visitors reach it on the gateway's http port, and the gateway can read it",
    )
    .argument('<target>', 'a port of this machine, host:port, [IPv6]:port, unix:/path or https://host:port')
    .option(
      '--host <host...>',
      'hosts that it answers for, "*." for one label (default: the gateway chooses)',
    )
    .option('--path <path>', 'only paths that begin with it (default: all)')
    .option('--name <service>', 'what it is called; replicas have the same (default: http-PORT)')
    .option('--gateway <addr>', 'which gateway, where several are joined')
    .option('--drain <time>', 'how long visitors may go on after Ctrl-C (default: "30s")')
    .addOption(new Option('--port <n>').hideHelp())
    .addHelpText(
      'after',
      examples(
        'blindgate http 8080',
        'blindgate http 8080 --host app.example.com --path /api',
        'blindgate http unix:/run/app.sock --name web',
      ),
    )
    .action(async (target: string, options: QuickOptions, command: Command) => {
      refuse(
        options.port,
        "http is reached on the gateway's http port: leave --port out, or use `blindgate tcp`",
      )
      await quick('http', target, options, globalsOf(command))
    })
}
