import { resolve } from 'node:path'
import type { Logger } from 'pino'
import type {
  Client,
  ClientOptions,
  ClientService,
  ClientTrust,
  GatewayEntry,
  ServiceOutcome,
} from '../client/index.ts'
import type { AcmeSettings } from '../config/index.ts'
import { isErrorCode, type TunnelError, userError } from '../errors.ts'
import { DRAIN_MS, DRAIN_MS_MAX } from '../limits.ts'
import type { State } from '../state/index.ts'
import { collectWhenIdle } from './idle-collection.ts'
import { answer } from './output.ts'
import { reloaded, untilEnded } from './running.ts'
import { VERSION } from './version.ts'
import { watchFile } from './watch.ts'

/** Said once, where the service starts. */
const READABLE = 'plain http: the gateway can read this'

/** What a person is told of a type, beside its URL. */
const REMARKS: Partial<Record<ServiceOutcome['type'], string>> = {
  http: READABLE,
  https: 'the gateway cannot read this',
}

export interface Offer {
  state: State
  gateways: GatewayEntry[]
  services: ClientService[]
  acme?: AcmeSettings | undefined
  trust: ClientTrust
  drainMs: number
  json: boolean
  log: Logger
  /** A quick command ends when its service is refused; `up` goes on with the others and asks again. */
  quick: boolean
  reload(client: Client): Promise<void>
  /** A file whose change is as good as a SIGHUP. */
  file?: string
}

/** Offers services until somebody ends it, and prints where visitors reach them. */
export async function offer(options: Offer): Promise<void> {
  const { state, gateways, services, acme, trust, drainMs, log, file } = options
  const [{ Client }, { identityIn, instanceId }] = await Promise.all([
    import('../client/index.ts'),
    import('../state/index.ts'),
  ])
  const identity = await identityIn(state, 'client')
  const about: ClientOptions = {
    identity,
    instance: instanceId(state.path),
    version: VERSION,
    gateways,
    services,
    acme,
    log,
    state,
    trust,
    file: file === undefined ? undefined : resolve(file),
  }
  const client = new Client(about)
  const reload = () => options.reload(client)
  const stopWatching =
    file === undefined ? undefined : watchFile(file, log, () => void reloaded({ reload }, log))
  if (!answer.terminal && services.some(({ type }) => type === 'http')) log.info(READABLE)
  try {
    collectWhenIdle()
    await untilEnded(
      {
        drain: () => client.drain(drainMs),
        close: () => client.close(),
        reload,
        work: () => served(client, options),
      },
      log,
    )
  } finally {
    stopWatching?.()
  }
}

/** How long a drain may take. Flag over environment over file over default. Throws `usage`, `config_invalid`. */
export async function drainMsOf(flag: string | undefined, fileMs?: number): Promise<number> {
  const { labelled, parseDuration } = await import('../config/index.ts')
  const variable = process.env['BLINDGATE_DRAIN'] || undefined
  const said =
    flag !== undefined
      ? labelled('usage', '--drain', flag, parseDuration)
      : variable !== undefined
        ? labelled('config_invalid', 'BLINDGATE_DRAIN', variable, parseDuration)
        : fileMs
  return Math.min(said ?? DRAIN_MS, DRAIN_MS_MAX)
}

/** Starts the client and prints its answers. Rejects when there is nothing left to offer. */
function served(client: Client, { json, quick }: Offer): Promise<never> {
  return new Promise((_resolve, reject: (error: TunnelError) => void) => {
    const printed = new Set<string>()
    client.on('service', (outcome) => {
      if (outcome.error !== undefined && quick) reject(refusedError(outcome))
      for (const line of outcomeLines(outcome, { terminal: answer.terminal, json })) {
        // A gateway that comes back says again what was printed already.
        if (!printed.has(line)) answer.line(line)
        printed.add(line)
      }
    })
    client.on('failed', (error) => {
      if (client.hopeless) reject(error)
    })
    client.start()
  })
}

/** What stdout says of a service: a line per URL, none when it was refused. */
export function outcomeLines(outcome: ServiceOutcome, form: { terminal: boolean; json: boolean }): string[] {
  const { gateway, name, type, target, urls = [] } = outcome
  const remark = REMARKS[type] === undefined ? '' : `     (${REMARKS[type]})`
  return urls.map((url) => {
    if (form.json) return JSON.stringify({ url, target, name, type, gateway })
    return form.terminal ? `  ${url}  →  ${target}${remark}` : `${url} → ${target}`
  })
}

function refusedError({ name, gateway, error }: ServiceOutcome): TunnelError {
  const { code, message } = error ?? { code: '', message: '' }
  return userError(
    isErrorCode(code) ? code : 'bad_service',
    `service "${name}" is refused by ${gateway}: ${message} (${code})`,
  )
}
