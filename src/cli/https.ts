import type { Command } from 'commander'
import { userError } from '../errors.ts'
import { examples, globalsOf } from './globals.ts'
import { type QuickOptions, quick } from './quick.ts'

export function addHttps(program: Command): void {
  program
    .command('https')
    .description(
      "offer a web server by https: visitors reach it on the gateway's tls port by its host, and the gateway cannot read it",
    )
    .argument('<target>', TARGETS)
    .option('--host <host...>', 'hosts that it answers for, "*." for one label')
    .option(
      '--tls <mode>',
      'passthrough: the target speaks TLS itself, with its own certificate; self-signed: a certificate that visitors cannot verify (default: one by ACME)',
    )
    .option('--name <service>', 'what it is called; replicas have the same (default: https-PORT)')
    .option('--gateway <addr>', 'which gateway, where several are joined')
    .option('--drain <time>', 'how long visitors may go on after Ctrl-C (default: "30s")')
    .addHelpText(
      'after',
      examples(
        'blindgate https 8080 --host app.example.com',
        'blindgate https h2c://127.0.0.1:50051 --host grpc.example.com',
        'blindgate https nas.lan:443 --host example.com "*.example.com" --tls passthrough',
      ),
    )
    .action(async (target: string, { tls, ...rest }: QuickOptions & { tls?: string }, command: Command) => {
      if (tls !== undefined && tls !== 'passthrough' && tls !== 'self-signed') {
        throw userError(
          'usage',
          `--tls: ${JSON.stringify(tls)} is not known: write passthrough or self-signed`,
        )
      }
      if (rest.host === undefined) {
        throw userError(
          'usage',
          '--host is missing: https is found by the host that visitors ask for, as in --host app.example.com',
        )
      }
      await quick('https', target, { ...rest, tls }, globalsOf(command))
    })
}

const TARGETS =
  'a port of this machine, host:port, [IPv6]:port, unix:/path, https://host:port or h2c://host:port'
