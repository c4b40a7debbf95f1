import { type ChildProcess, fork } from 'node:child_process'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { Logger } from 'pino'
import type { GatewayFlags, GatewaySettings } from '../config/index.ts'
import type { Gateway } from '../gateway/index.ts'
import { examples, type Globals, globalsOf, logOf, stateOf } from './globals.ts'
import { collectWhenIdle } from './idle-collection.ts'
import { answer, notes, type Output } from './output.ts'
import { forEver, untilEnded } from './running.ts'
import { VERSION } from './version.ts'

type Options = GatewayFlags & { config?: string }

export function addGateway(program: Command): void {
  program
    .command('gateway')
    .description('run the gateway, on a machine that visitors and clients can reach')
    .option('-c, --config <file>', 'read settings from this file; SIGHUP reads it again')
    .option('--http <addr>', 'where visitors connect (default: ":9000")')
    .option(
      '--tls <addr>',
      'where visitors connect by TLS, routed by the host they ask for, and clients too (default: nowhere)',
    )
    .option('--tunnel <addr>', 'where clients connect (default: ":9001", or where --tls is)')
    .option('--admin <addr>', 'where /healthz, /readyz and /metrics are (default: nowhere)')
    .option('--address <host:port>', 'where clients reach this gateway from outside; invites carry it')
    .option('--domain <domain>', 'services without a host are reached at SERVICE.DOMAIN')
    .option(
      '--access-log <form>',
      'a line for each http request on stderr: json or combined (default: "off")',
    )
    .option(
      '--workers <n>',
      'processes that serve visitors: a number up to 64, or "auto" for one a core (default: "1")',
    )
    .option('--drain <time>', 'how long visitors may go on after Ctrl-C (default: "30s")')
    .addHelpText(
      'after',
      examples(
        'blindgate gateway',
        'blindgate gateway --http :80 --admin 127.0.0.1:9002 --address vps.example.com:9001',
        'blindgate gateway --http :80 --domain example.com --access-log combined',
        'blindgate gateway --http :80 --tls :443 --workers auto',
        'blindgate gateway -c gateway.toml',
      ),
    )
    .action((options: Options, command: Command) => gateway(options, globalsOf(command)))
}

async function gateway({ config, ...flags }: Options, globals: Globals): Promise<void> {
  const [{ gatewaySettings, loadGatewayFile }, { startGateway }, { identityIn }] = await Promise.all([
    import('../config/index.ts'),
    import('../gateway/index.ts'),
    import('../state/index.ts'),
  ])
  const read = async (): Promise<GatewaySettings> => {
    const file = config === undefined ? undefined : await loadGatewayFile(config)
    return gatewaySettings({ flags, env: process.env, file })
  }
  const settings = await read()
  const state = await stateOf(globals, { create: true })
  const log = await logOf(globals, 'info')
  const identity = await identityIn(state, 'gateway')
  const running = await startGateway({
    settings,
    state,
    identity,
    version: VERSION,
    log,
    access: (text, done) => process.stderr.write(text, () => done()),
    fork: (worker) => forkWorker(worker, globals),
  })
  collectWhenIdle()
  await untilEnded(
    {
      drain: () => running.drain(settings.drainMs),
      close: () => running.close(),
      async reload() {
        if (config === undefined) {
          log.warn('SIGHUP: there is no file to read again: start with -c gateway.toml')
          return
        }
        const later = await running.reload(await read())
        log.info(`${config} is in force${later.length === 0 ? '' : `; a restart takes ${later.join(', ')}`}`)
      },
      async work() {
        const everywhere = settings.listen
        const lines = startLines(
          {
            visitors: bound(running.visitors, everywhere.http),
            tls: running.tls && bound(running.tls, everywhere.tls ?? running.tls),
            clients: bound(running.clients, everywhere.tunnel ?? everywhere.tls ?? running.clients),
            admin: running.admin && bound(running.admin, everywhere.admin ?? running.admin),
            key: running.pin,
          },
          { terminal: answer.terminal, json: globals.json === true },
        )
        for (const line of lines) answer.line(line)
        // Who pins it by hand finds it in the journal too.
        if (!answer.terminal) log.info({ key: running.pin }, 'the key that clients pin')
        await firstInvite(running, log, globals.json === true ? [notes] : [answer, notes])
        await forEver()
      },
    },
    log,
  )
}

/** Its stderr is ours, where its log goes; what it has to say otherwise it says to us. */
function forkWorker(worker: number, globals: Globals): ChildProcess {
  return fork(join(import.meta.dirname, 'worker.js'), [JSON.stringify({ worker, globals })], {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
}

interface Address {
  host: string
  port: number
}

/** Without a host it is every address, which people know as 0.0.0.0. */
function bound({ host, port }: Address, said: { host?: string | undefined }): Address {
  return { host: said.host === undefined ? '0.0.0.0' : host, port }
}

/** What stdout says at the start: a line per listener. */
export function startLines(
  at: {
    visitors: Address
    tls: Address | undefined
    clients: Address
    admin: Address | undefined
    key: string
  },
  form: { terminal: boolean; json: boolean },
): string[] {
  const visitors = [
    `http://${text(at.visitors)}`,
    ...(at.tls === undefined ? [] : [`https://${text(at.tls)}`]),
  ]
  const clients = text(at.clients)
  const admin = at.admin === undefined ? undefined : `http://${text(at.admin)}`
  if (form.json) {
    return [
      ...visitors.map((url) => ({ listener: 'visitors', url })),
      { listener: 'clients', address: clients, key: at.key },
      ...(admin === undefined ? [] : [{ listener: 'admin', url: admin }]),
    ].map((line) => JSON.stringify(line))
  }
  if (!form.terminal) {
    return [
      ...visitors.map((url) => `visitors ${url}`),
      `clients ${clients}`,
      ...(admin === undefined ? [] : [`admin ${admin}`]),
    ]
  }
  return [
    `blindgate gateway ${VERSION}`,
    ...visitors.map((url) => `  visitors   ${url}`),
    `  clients    ${clients.padEnd(17)} key ${at.key}`,
    ...(admin === undefined ? [] : [`  admin      ${admin}`]),
  ]
}

function text({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/**
 * While nobody is enrolled, says how to begin. The invite itself is shown to a person or to nobody: a service's
 * output goes to a journal.
 */
export async function firstInvite(
  gateway: Pick<Gateway, 'nobodyEnrolled' | 'firstInvite'>,
  log: Pick<Logger, 'info'>,
  outputs: readonly Output[],
): Promise<void> {
  if (!gateway.nobodyEnrolled) return
  const person = outputs.find(({ terminal }) => terminal)
  const invite = person === undefined ? undefined : await gateway.firstInvite()
  if (person === undefined) {
    log.info('no client is enrolled yet: `blindgate invite` on this machine makes an invite')
  } else if (invite === undefined) {
    person.line('No client is enrolled yet. An invite carries the address of this gateway, so say it:')
    person.line('  blindgate invite --address HOST:PORT')
  } else {
    person.line('No client is enrolled yet. On the machine behind NAT:')
    person.line(`  npx blindgate join ${invite}   (one use, 24 h; shown only on a terminal)`)
  }
}
