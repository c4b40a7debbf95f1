import type { Command } from 'commander'
import { examples, globalsOf } from './globals.ts'
import { type QuickOptions, quick } from './quick.ts'

export function addTcp(program: Command): void {
  program
    .command('tcp')
    .description('offer any TCP server: visitors reach it on a port of the gateway')
    .argument('<target>', 'a port of this machine, host:port, [IPv6]:port or unix:/path')
    .option('--port <n>', "the gateway's port (default: the lowest free one of the grant)")
    .option('--name <service>', 'what it is called; replicas have the same (default: tcp-PORT)')
    .option('--gateway <addr>', 'which gateway, where several are joined')
    .option('--drain <time>', 'how long visitors may go on after Ctrl-C (default: "30s")')
    .addHelpText('after', examples('blindgate tcp 22 --port 2222', 'blindgate tcp 192.168.1.5:5432'))
    .action((target: string, options: QuickOptions, command: Command) =>
      quick('tcp', target, options, globalsOf(command)),
    )
}
