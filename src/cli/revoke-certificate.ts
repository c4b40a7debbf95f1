import type { Command } from 'commander'
import type { AcmeSettings } from '../config/index.ts'
import { TunnelError } from '../errors.ts'
import { examples, type Globals, globalsOf, stateOf } from './globals.ts'
import { answer } from './output.ts'
import { VERSION } from './version.ts'

const FILE = 'blindgate.toml'

interface Options {
  config?: string
}

export function addRevokeCertificate(program: Command): void {
  program
    .command('revoke-certificate')
    .description('have the CA revoke the certificate of an https service of this machine, and order another')
    .argument('<service>', 'its name, as `status` shows it')
    .option('-c, --config <file>', `the file with its [acme] (default: "${FILE}", if there is one)`)
    .addHelpText('after', examples('blindgate revoke-certificate web'))
    .action((service: string, options: Options, command: Command) =>
      revokeCertificate(service, options, globalsOf(command)),
    )
}

async function revokeCertificate(service: string, options: Options, globals: Globals): Promise<void> {
  const { loadAcme } = await import('../client/index.ts')
  const { revokeCertificate } = await loadAcme()
  const state = await stateOf(globals, { create: false })
  const settings = await settingsOf(options)
  const hosts = await revokeCertificate({ service, settings, state, version: VERSION })
  for (const line of revokedCertificateLines({ service, hosts }, globals.json === true)) answer.line(line)
}

/** Quick commands have no file, and what it says by default. */
async function settingsOf({ config }: Options): Promise<AcmeSettings> {
  const { DEFAULT_ACME, loadClientFile } = await import('../config/index.ts')
  try {
    return (await loadClientFile(config ?? FILE)).acme
  } catch (error) {
    const none = error instanceof TunnelError && error.code === 'not_found'
    if (none && config === undefined) return DEFAULT_ACME
    throw error
  }
}

export function revokedCertificateLines(
  { service, hosts }: { service: string; hosts: readonly string[] },
  json: boolean,
): string[] {
  if (json) return [JSON.stringify({ service, hosts })]
  return [
    `revoked the certificate of "${service}" for ${hosts.join(', ')}`,
    'it is served no more: a client that runs orders another within seconds, one that is started at its start',
  ]
}
