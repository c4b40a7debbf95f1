import { type Command, Option } from 'commander'
import { refuse } from './arguments.ts'
import { examples, globalsOf } from './globals.ts'
import { type QuickOptions, quick } from './quick.ts'

type Options = QuickOptions & { host?: string[]; path?: string }

export function addHttp(program: Command): void {
  program
    .command('http')
    .description(
      "offer a web server: visitors reach it on the gateway's http port, and the gateway can read it",
    )
    .argument('<target>', 'a port of this machine, host:port, [IPv6]:port or unix:/path')
    .option('--name <service>', 'what it is called; replicas have the same (default: http-PORT)')
    .option('--gateway <addr>', 'which gateway, where several are joined')
    .option('--drain <time>', 'how long visitors may go on after Ctrl-C (default: "30s")')
    .addOption(new Option('--host <host...>').hideHelp())
    .addOption(new Option('--path <path>').hideHelp())
    .addOption(new Option('--port <n>').hideHelp())
    .addHelpText('after', examples('blindgate http 8080', 'blindgate http unix:/run/app.sock --name web'))
    .action(async (target: string, { host, path, port, ...options }: Options, command: Command) => {
      const later = 'host and path routing are not in this version yet'
      refuse(host, `${later}: leave --host out; visitors of every host reach this service`)
      refuse(path, `${later}: leave --path out; visitors of every path reach this service`)
      refuse(port, "http is reached on the gateway's http port: leave --port out, or use `blindgate tcp`")
      await quick('http', target, options, globalsOf(command))
    })
}
