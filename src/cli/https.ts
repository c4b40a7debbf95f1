import type { Command } from 'commander'
import { userError } from '../errors.ts'
import { examples, globalsOf } from './globals.ts'
import { type QuickOptions, quick } from './quick.ts'

export function addHttps(program: Command): void {
  program
    .command('https')
    .description(
      "offer a TLS server: visitors reach it on the gateway's tls port by its host, and the gateway cannot read it",
    )
    .argument('<target>', 'a port of this machine, host:port, [IPv6]:port or unix:/path')
    .option('--host <host...>', 'hosts that it answers for, "*." for one label')
    .option('--tls <mode>', 'passthrough: the target speaks TLS itself, with its own certificate')
    .option('--name <service>', 'what it is called; replicas have the same (default: https-PORT)')
    .option('--gateway <addr>', 'which gateway, where several are joined')
    .option('--drain <time>', 'how long visitors may go on after Ctrl-C (default: "30s")')
    .addHelpText(
      'after',
      examples(
        'blindgate https 8443 --host app.example.com --tls passthrough',
        'blindgate https nas.lan:443 --host example.com "*.example.com" --tls passthrough',
      ),
    )
    .action(async (target: string, options: QuickOptions & { tls?: string }, command: Command) => {
      const { tls, ...rest } = options
      if (tls !== 'passthrough') {
        throw userError(
          'usage',
          'not in this version yet: TLS that ends in the client: add --tls passthrough for a target that speaks TLS itself',
        )
      }
      if (rest.host === undefined) {
        throw userError(
          'usage',
          '--host is missing: https is found by the host that visitors ask for, as in --host app.example.com',
        )
      }
      await quick('https', target, rest, globalsOf(command))
    })
}
