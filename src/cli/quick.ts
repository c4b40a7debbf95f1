import { portNumber } from './arguments.ts'
import { type Globals, logOf, stateOf } from './globals.ts'
import { drainMsOf, offer } from './offer.ts'

/** What `http` and `tcp` have in common. */
export interface QuickOptions {
  name?: string
  gateway?: string
  drain?: string
  port?: string
}

/** Offers one service at one gateway, as a quick command. */
export async function quick(
  type: 'http' | 'tcp',
  target: string,
  { name, gateway, drain, port }: QuickOptions,
  globals: Globals,
): Promise<void> {
  const [config, client] = await Promise.all([import('../config/index.ts'), import('../client/index.ts')])
  const { formatAddress, labelled, parseLabel, parseRemote, parseTarget, serviceSettings } = config
  const optional = <T>(label: string, text: string | undefined, parse: (text: string) => T): T | undefined =>
    text === undefined ? undefined : labelled('usage', label, text, parse)
  const said = {
    name: optional('--name', name, parseLabel),
    port: optional('--port', port, portNumber),
    gateway: optional('--gateway', gateway, (text) => formatAddress(parseRemote(text))),
  }
  const service = labelled('usage', 'TARGET', target, (text) =>
    serviceSettings({ type, target: parseTarget(text), name: said.name, port: said.port }),
  )
  const drainMs = await drainMsOf(drain)
  const state = await stateOf(globals, { create: false })
  const chosen = client.chooseGateway(await client.joinedGateways(state), said.gateway, '--gateway ADDR')
  const log = await logOf(globals, 'info')
  await offer({
    state,
    gateways: [chosen],
    services: [service],
    drainMs,
    json: globals.json === true,
    log,
    quick: true,
    async reload() {
      log.warn('SIGHUP: there is no file to read again: `blindgate up` offers the services of a file')
    },
  })
}
