import type { Command } from 'commander'
import type { AcmeSettings } from '../config/index.ts'
import { TunnelError, userError } from '../errors.ts'
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
  const [{ loadAcme }, { DEFAULT_ACME }] = await Promise.all([
    import('../client/index.ts'),
    import('../config/index.ts'),
  ])
  const { revokeCertificate } = await loadAcme()
  const state = await stateOf(globals, { create: false })
  const settings = await settingsOf(options)
  const asked = revokeCertificate({ service, settings: settings ?? DEFAULT_ACME, state, version: VERSION })
  const hosts = await asked.catch((error: unknown) => {
    throw settings === undefined ? withoutFile(error) : error
  })
  for (const line of revokedCertificateLines({ service, hosts }, globals.json === true)) answer.line(line)
}

/** A CA that does not prove to be itself may be one whose root is named in a file that is elsewhere. */
function withoutFile(error: unknown): unknown {
  if (!(error instanceof TunnelError) || error.code !== 'acme_failed') return error
  const detail = `${error.message} (there is no ${FILE} here: if yours has an [acme], name it with -c FILE)`
  return userError('acme_failed', detail, error)
}

/** Undefined where there is no file: quick commands have none, and what it says by default. */
async function settingsOf({ config }: Options): Promise<AcmeSettings | undefined> {
  const { loadClientFile } = await import('../config/index.ts')
  try {
    return (await loadClientFile(config ?? FILE)).acme
  } catch (error) {
    const none = error instanceof TunnelError && error.code === 'not_found'
    if (none && config === undefined) return undefined
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
