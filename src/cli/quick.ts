import { portNumber } from './arguments.ts'
import { type Globals, logOf, stateOf } from './globals.ts'
import { drainMsOf, offer } from './offer.ts'

/** What `http`, `https` and `tcp` have in common. */
export interface QuickOptions {
  name?: string
  gateway?: string
  drain?: string
  host?: string[]
  path?: string
  port?: string
  tls?: 'passthrough' | 'self-signed' | undefined
}

/** Offers one service at one gateway, as a quick command. */
export async function quick(
  type: 'http' | 'https' | 'tcp',
  target: string,
  { name, gateway, drain, host, path, port, tls }: QuickOptions,
  globals: Globals,
): Promise<void> {
  const [config, client] = await Promise.all([import('../config/index.ts'), import('../client/index.ts')])
  const { formatAddress, labelled, parseHosts, parseLabel, parsePath, parseRemote, parseTarget } = config
  const optional = <T>(label: string, text: string | undefined, parse: (text: string) => T): T | undefined =>
    text === undefined ? undefined : labelled('usage', label, text, parse)
  const wish = {
    name: optional('--name', name, parseLabel),
    hosts: host === undefined ? undefined : labelled('usage', '--host', host, parseHosts),
    path: optional('--path', path, parsePath),
    port: optional('--port', port, portNumber),
    tls,
  }
  const said = optional('--gateway', gateway, (text) => formatAddress(parseRemote(text)))
  const parsed = labelled('usage', 'TARGET', target, parseTarget)
  const service = labelled('usage', type, { type, target: parsed, ...wish }, config.serviceSettings)
  const drainMs = await drainMsOf(drain)
  const state = await stateOf(globals, { create: false })
  const chosen = client.chooseGateway(await client.joinedGateways(state), said, '--gateway ADDR')
  const log = await logOf(globals, 'info')
  await offer({
    state,
    gateways: [chosen],
    services: [service],
    trust: client.trustBy({ trust: config.DEFAULT_TRUST, acme: config.DEFAULT_ACME }, state),
    drainMs,
    json: globals.json === true,
    log,
    quick: true,
    async reload() {
      log.warn('SIGHUP: there is no file to read again: `blindgate up` offers the services of a file')
    },
  })
}
