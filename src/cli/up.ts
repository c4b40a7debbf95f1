import type { Command } from 'commander'
import type { GatewayEntry } from '../client/index.ts'
import type { ClientFile } from '../config/index.ts'
import { userError } from '../errors.ts'
import type { State } from '../state/index.ts'
import { examples, type Globals, globalsOf, logOf, stateOf } from './globals.ts'
import { drainMsOf, offer } from './offer.ts'

interface Options {
  config: string
  drain?: string
}

export function addUp(program: Command): void {
  program
    .command('up')
    .description(
      'offer the services of a file; its changes are taken over without dropping what stayed the same',
    )
    .option('-c, --config <file>', 'the file', 'blindgate.toml')
    .option('--drain <time>', 'how long visitors may go on after Ctrl-C (default: "30s")')
    .addHelpText('after', examples('blindgate up', 'blindgate up -c /etc/blindgate/blindgate.toml'))
    .action((options: Options, command: Command) => up(options, globalsOf(command)))
}

async function up({ config, drain }: Options, globals: Globals): Promise<void> {
  const [{ loadClientFile }, { trustBy }] = await Promise.all([
    import('../config/index.ts'),
    import('../client/index.ts'),
  ])
  const file = await loadClientFile(config)
  const drainMs = await drainMsOf(drain, file.drainMs)
  const state = await stateOf(globals, { create: false })
  const gateways = await gatewaysOf(file, state, config)
  const log = await logOf(globals, 'info')
  if (file.services.length === 0) log.warn(`${config} has no [[service]]: nothing is offered`)
  await offer({
    state,
    gateways,
    services: file.services,
    acme: file.acme,
    trust: trustBy(file, state),
    drainMs,
    json: globals.json === true,
    log,
    quick: false,
    file: config,
    async reload(client) {
      const changed = await loadClientFile(config)
      // Half a file, as some programs save it, must not drop what is being served.
      if (changed.services.length === 0 && client.status().routes.length > 0) {
        throw userError(
          'config_invalid',
          `${config} has no [[service]] now: to offer nothing, stop blindgate`,
        )
      }
      const { services, acme } = changed
      const trust = trustBy(changed, state)
      client.update(services, await gatewaysOf(changed, state, config), { acme, trust })
      log.info(`${config} is in force: ${changed.services.length} services`)
    },
  })
}

/** Those of the file, which are pinned there; a file without any means the one that is joined. */
export async function gatewaysOf(
  { gateways }: Pick<ClientFile, 'gateways'>,
  state: State,
  config: string,
): Promise<GatewayEntry[]> {
  const { chooseGateway, joinedGateways } = await import('../client/index.ts')
  const joined = await joinedGateways(state)
  if (gateways.length === 0) return [chooseGateway(joined, undefined, `[[gateway]] in ${config}`)]
  return gateways.map(({ address, key }) => {
    // What only its invite said.
    const domain = joined.find(({ pin }) => pin === key)?.domain
    return { addresses: [address], pin: key, ...(domain === undefined ? {} : { domain }) }
  })
}
